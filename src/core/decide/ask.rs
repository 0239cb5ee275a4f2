//! What to ask the host next, and when.
//!
//! The pace is worked out from ages, so that asking again writes nothing.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::action::{Action, Seen};
use crate::core::backoff;
use crate::core::fault::{Cause, Standing};
use crate::core::outcome::{Loss, Outcome};
use crate::core::stage::{Attempt, Place, after};

use super::Turn;

/// How long after a launch was saved its claim is waited for before it is revoked.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(3);
/// Between two probes of a running command: soon after the launch, and later on.
const PROBE_PACE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Between two contacts with a host that does not answer.
pub(super) const SILENCE_PACE: (Duration, Duration) =
    (Duration::from_millis(500), Duration::from_secs(30));
/// The same when what is wrong stays until somebody mends it.
pub(super) const STANDING_PACE: Duration = Duration::from_secs(5 * 60);
/// The same for what is mended on the host, where no object tells of it: a disk that was full, a
/// password that had expired.
const MENDED_THERE_PACE: Duration = Duration::from_secs(60);
/// The same where each look runs a command of somebody's.
const FORCED_PACE: Duration = Duration::from_secs(3600);
/// Between two contacts about an end that is in doubt.
const DOUBT_PACE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));
/// When something is about to be complete.
const SOON: Duration = Duration::from_millis(100);

impl Turn<'_> {
    pub(super) fn next_action(&mut self) -> (Option<Action>, Option<Timestamp>) {
        if self.stage.deleting.is_some() {
            return self.clean_up();
        }
        if let Some(attempt) = self.worth_asking() {
            return self.ask(attempt);
        }
        if self.stage.outcome.is_some() {
            let wake = self.another_run_is_wanted().then_some(self.now.at);
            return (None, wake);
        }
        if let Some(attempt) = self.unfenced() {
            // A Direct attempt that nobody can look for stands in the way until a limit.
            let queue = self.queue_ends();
            return (None, earliest(queue, self.patience_ends(attempt)));
        }
        self.launch_or_wait()
    }

    /// The attempt about which the host may still have something to say.
    fn worth_asking(&self) -> Option<&Attempt> {
        let open = self.stage.outcome.as_ref().is_none_or(Outcome::is_unknown);
        self.unfenced().filter(|a| open && !matches!(a.place, Place::Lost(_)))
    }

    pub(super) fn ask(&self, attempt: &Attempt) -> (Option<Action>, Option<Timestamp>) {
        let verb = self.verb_for(attempt);
        let due = match self.seen {
            Seen::Nothing => true,
            // Of a store elsewhere: nothing new about this attempt.
            Seen::Unreachable(_) | Seen::Swept { .. } | Seen::Unswept { .. } => false,
            Seen::Prepared { .. }
            | Seen::Refused { .. }
            | Seen::Host { .. }
            | Seen::Direct { .. } => self.changed() && !matches!(verb, Action::Probe { .. }),
        };
        if due { (Some(verb), None) } else { (None, Some(self.next_contact(attempt))) }
    }

    /// The verb that brings this attempt nearer to its end.
    fn verb_for(&self, attempt: &Attempt) -> Action {
        let entry = attempt.entry.clone();
        let ends_unclaimed = !attempt.direct
            && (self.reason_to_end().is_some()
                || self.now.at >= after(attempt.launched, LAUNCH_PATIENCE));
        let revoke = || {
            let (boot, store) = (attempt.identity.boot.clone(), attempt.identity.store.clone());
            Action::Revoke { entry: entry.clone(), boot, store }
        };
        match &attempt.place {
            Place::Launching if ends_unclaimed => revoke(),
            // A launch that is still under way could win an entry that went back in time, or
            // was made anew by a late Prepare.
            Place::Fencing { loss: Loss::HostRolledBack, stop } if !stop.claimed => revoke(),
            Place::Fencing { stop, .. } if stop.takeable => revoke(),
            Place::Stopping(stop) | Place::Fencing { stop, .. } => {
                let (reason, processes) = (stop.reason, attempt.processes.clone());
                let grace_ms = attempt.bounds.termination_ms;
                if stop.gone.is_some() {
                    return Action::Probe { entry };
                }
                let searching = matches!(attempt.place, Place::Fencing { .. });
                if stop.killed.is_some() {
                    Action::Kill { entry, reason, processes }
                } else if stop.signalled.is_none() || searching {
                    Action::Terminate { entry, reason, processes, grace_ms }
                } else {
                    Action::Probe { entry }
                }
            }
            Place::Launching
            | Place::Running
            | Place::Finishing { .. }
            | Place::Vanished
            | Place::Lost(_)
            | Place::Ended(_) => Action::Probe { entry },
        }
    }

    /// When to ask next: at the pace that suits the attempt, or when a limit runs out.
    fn next_contact(&self, attempt: &Attempt) -> Timestamp {
        let resolve = self.plan.limits.resolve;
        let open = self.stage.outcome.is_none();
        let finishing = match &attempt.place {
            Place::Finishing { since } if open => Some(after(*since, resolve)),
            Place::Finishing { .. }
            | Place::Launching
            | Place::Running
            | Place::Vanished
            | Place::Stopping(_)
            | Place::Lost(_)
            | Place::Fencing { .. }
            | Place::Ended(_) => None,
        };
        let direct = attempt.direct && attempt.place == Place::Running;
        let queue = self.queue_ends().filter(|_| self.is_pending());
        let limits = [
            self.patience_ends(attempt),
            finishing,
            attempt.grace_ends(),
            direct.then(|| attempt.execution_ends()),
            queue,
        ];
        let paced = after(self.now.at, self.pace(attempt));
        limits.into_iter().fold(paced, |soonest, limit| match limit {
            Some(limit) if limit > self.now.at => soonest.min(limit),
            Some(_) | None => soonest,
        })
    }

    fn pace(&self, attempt: &Attempt) -> Duration {
        if attempt.stop_seen_through().is_some() && attempt.uncertain.is_none() {
            return SOON;
        }
        if self.stage.outcome.is_some() {
            let since = self.stage.outcome.as_ref().map(|outcome| outcome.time);
            return self.by_age(since, DOUBT_PACE);
        }
        if let Some(uncertain) = &attempt.uncertain {
            return match uncertain.cause {
                cause @ Cause::Standing(_) => standing_pace(cause),
                Cause::Transient(_) | Cause::Ours(_) => {
                    let nominal = self.by_age(Some(uncertain.since), SILENCE_PACE);
                    backoff::jittered(nominal, self.now.seed)
                }
            };
        }
        if let Some(stop) = attempt.stop().filter(|stop| stop.failed()) {
            return self.by_age(stop.killed, DOUBT_PACE);
        }
        if self.soon {
            return SOON;
        }
        let since = attempt.stop().map_or(attempt.launched, |stop| stop.asked);
        self.by_age(Some(since), PROBE_PACE)
    }

    pub(super) fn by_age(
        &self,
        since: Option<Timestamp>,
        bounds: (Duration, Duration),
    ) -> Duration {
        let age = since.map(|since| self.now.at.duration_since(since));
        let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
        backoff::by_age(age, bounds.0, bounds.1)
    }
}

/// How often a standing fault is looked at again by itself. What a host refuses is cheap to ask
/// again over a connection that stands, and a network that is denied costs the lookup of a name; a
/// login or a key that is refused is dear.
pub(super) fn standing_pace(cause: Cause) -> Duration {
    match cause {
        Cause::Standing(
            Standing::HostUnusable
            | Standing::RunAsRestricted
            | Standing::EnvironmentRefused
            | Standing::ArgumentsTooLong
            | Standing::PolicyDenied,
        ) => MENDED_THERE_PACE,
        Cause::Standing(Standing::ForcedCommand) => FORCED_PACE,
        Cause::Standing(
            Standing::HostKeyUnknown
            | Standing::HostKeyMismatch
            | Standing::HostKeyRevoked
            | Standing::AuthenticationRejected
            | Standing::CredentialsInvalid
            | Standing::NoCommonAlgorithm,
        )
        | Cause::Transient(_)
        | Cause::Ours(_) => STANDING_PACE,
    }
}

/// The earlier of two moments that may not come.
pub(super) fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
