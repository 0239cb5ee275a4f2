//! What to start next, and what keeps it waiting. Nothing here runs while an earlier
//! attempt may be alive.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::action::{Action, Entry, Expect, Kind, Seen};
use crate::core::backoff;
use crate::core::fault::Cause;
use crate::core::outcome::Fate;
use crate::core::plan::{Execution, Idempotency};
use crate::core::record::Identity;
use crate::core::stage::{Attempt, Bounds, Next, Place, WaitingOn, after};

use super::Turn;
use super::ask::{STANDING_PACE, earliest, standing_pace};

/// A launch is refused by the host when it arrives later than this after its Prepare.
const LAUNCH_VALID_MS: u64 = 10 * 60 * 1000;
/// For how much of such an interval its beginning may still be used: a fifth, and a minute.
const STANDING_WINDOW: (u32, Duration) = (5, Duration::from_secs(60));

impl Turn<'_> {
    /// The next step of a run that waits and whose earlier attempt is fenced.
    pub(super) fn launch_or_wait(&mut self) -> (Option<Action>, Option<Timestamp>) {
        if self.asked.suspend {
            return (None, None);
        }
        let limit = self.queue_ends();
        if let Some(hold) = &self.asked.hold {
            let on = WaitingOn::Hold(hold.kind, hold.reason.clone());
            let message = hold.message.clone();
            self.wait_on(on, message.clone());
            if let Some(waiting) = &mut self.stage.waiting {
                waiting.message = message;
            }
            let overdue = self.stage.waiting.as_ref().and_then(|w| w.overdue_at());
            return (None, earliest(limit, overdue));
        }
        if let Some(until) = self.stage.not_before.filter(|until| self.now.at < *until) {
            return (None, earliest(limit, Some(until)));
        }
        match self.seen {
            Seen::Prepared { entry, identity, connection }
                if self.is_wanted(entry, identity) && *connection == self.asked.connection =>
            {
                (Some(self.launch(entry.clone(), identity.clone())), None)
            }
            Seen::Unreachable(_) => (None, earliest(limit, Some(self.next_try()))),
            Seen::Nothing => match self.too_early() {
                Some(slot) => (None, earliest(limit, Some(slot))),
                None => (Some(self.prepare()), None),
            },
            Seen::Prepared { .. }
            | Seen::Refused { .. }
            | Seen::Host { .. }
            | Seen::Direct { .. }
            | Seen::Swept { .. }
            | Seen::Unswept { .. } => {
                if self.changed() {
                    (Some(self.prepare()), None)
                } else {
                    (None, earliest(limit, Some(after(self.now.at, Duration::from_secs(1)))))
                }
            }
        }
    }

    /// When to try again after a fault: by its kind and by how long it has lasted.
    fn next_try(&self) -> Timestamp {
        let retry = &self.plan.retry;
        let Some(waiting) = &self.stage.waiting else { return after(self.now.at, retry.initial) };
        let since = Duration::try_from(self.now.at.duration_since(waiting.since));
        let elapsed = since.unwrap_or_default();
        if waiting.on.is_standing() {
            let pace = waiting.on.pace();
            return after(waiting.since, pace.saturating_mul(slot(elapsed, pace) + 1));
        }
        let nominal = backoff::by_age(elapsed, retry.initial, retry.max);
        after(self.now.at, backoff::jittered(nominal, self.now.seed))
    }

    /// The moment before which a standing fault is left alone; `None` when it may be tried. A
    /// changed `poke` is always a reason to try: somebody may have mended it.
    fn too_early(&self) -> Option<Timestamp> {
        let waiting = self.stage.waiting.as_ref().filter(|w| w.on.is_standing())?;
        let since = Duration::try_from(self.now.at.duration_since(waiting.since));
        let elapsed = since.unwrap_or_default();
        let pace = waiting.on.pace();
        let passed = slot(elapsed, pace);
        let since = elapsed.saturating_sub(pace.saturating_mul(passed));
        let window = (pace / STANDING_WINDOW.0).min(STANDING_WINDOW.1);
        let open = passed > 0 && since < window;
        if open || waiting.poke != self.asked.poke { None } else { Some(self.next_try()) }
    }

    /// What comes next: the command, or the check where the class asks for one.
    fn next_kind(&self) -> Kind {
        let after_loss = matches!(
            self.stage.last_start.as_ref().map(|last| &last.fate),
            Some(Fate::Lost(_) | Fate::Stopped { .. })
        );
        let unchecked = self.stage.starts == 0 || after_loss;
        match (self.plan.idempotency, self.stage.next) {
            (Idempotency::Verifiable, Next::Ordinary)
                if unchecked && self.plan.verify.is_some() =>
            {
                Kind::Verify
            }
            (
                Idempotency::Verifiable | Idempotency::Idempotent | Idempotency::NonIdempotent,
                Next::Ordinary | Next::CheckedAbsent | Next::PersonsRetry,
            ) => Kind::Command,
        }
    }

    /// A check carries the number of the attempt it stands before, or after.
    fn next_number(&self, kind: Kind) -> i32 {
        match kind {
            Kind::Command => self.stage.attempt.saturating_add(1),
            Kind::Verify if self.stage.starts == 0 => self.stage.attempt.saturating_add(1),
            Kind::Verify => self.stage.attempt,
        }
    }

    fn prepare(&self) -> Action {
        let kind = self.next_kind();
        let hidden = self.now.secret.wrapping_add(self.stage.entries.into());
        let token = format!("{:016x}{:016x}", backoff::mix(self.now.seed), backoff::mix(hidden));
        let attempt = self.next_number(kind);
        let (uid, run, machine) = (self.plan.uid.clone(), self.stage.run, String::new());
        let run_as = self.plan.program.run_as.clone();
        Action::Prepare { entry: Entry { uid, run, attempt, kind, token, machine, run_as } }
    }

    /// True for what was prepared for the launch that is due. A Direct one names no machine: the
    /// spec may have changed from one way to the other meanwhile.
    fn is_wanted(&self, entry: &Entry, identity: &Identity) -> bool {
        let kind = self.next_kind();
        entry.uid == self.plan.uid
            && identity.machine.is_empty() == self.is_direct()
            && entry.run == self.stage.run
            && entry.kind == kind
            && entry.attempt == self.next_number(kind)
            && entry.run_as == self.plan.program.run_as
    }

    /// Saves the launch intent; the Launch goes with it and is never given again.
    fn launch(&mut self, entry: Entry, identity: Identity) -> Action {
        let entry = Entry { machine: identity.machine.clone(), ..entry };
        let (boot, store) = (identity.boot.clone(), identity.store.clone());
        let latest_uptime_ms = identity.uptime_ms.saturating_add(LAUNCH_VALID_MS);
        let (bounds, direct) = (self.bounds_of(entry.kind), self.is_direct());
        let stage = &mut self.stage;
        let purpose = std::mem::take(&mut stage.next);
        if entry.kind == Kind::Command {
            stage.attempt = entry.attempt;
            stage.starts = stage.starts.saturating_add(1);
        }
        stage.entries = stage.entries.saturating_add(1);
        stage.waiting = None;
        stage.not_before = None;
        stage.follow(Attempt {
            entry: entry.clone(),
            direct,
            identity,
            connection: self.asked.connection.clone(),
            host: self.plan.host.clone(),
            purpose,
            bounds,
            processes: None,
            launched: self.now.at,
            started: None,
            quiet: None,
            uncertain: None,
            place: Place::Launching,
            left_running: Vec::new(),
        });
        Action::Launch { entry, expect: Expect { boot, store, latest_uptime_ms } }
    }

    fn is_direct(&self) -> bool {
        matches!(self.plan.execution, Execution::Direct(_))
    }

    fn bounds_of(&self, kind: Kind) -> Bounds {
        let limits = &self.plan.limits;
        let termination_ms = milliseconds(limits.termination);
        let success = self.plan.success_exit_codes.clone();
        let check = self.plan.verify.as_ref().filter(|_| kind == Kind::Verify);
        match check {
            Some(verify) => {
                let execution_ms = milliseconds(verify.timeout);
                Bounds { execution_ms, idle_ms: None, termination_ms, success }
            }
            None => Bounds {
                execution_ms: milliseconds(limits.execution),
                idle_ms: limits.idle.map(milliseconds),
                termination_ms,
                success,
            },
        }
    }
}

impl WaitingOn {
    /// True for what stays until somebody mends it.
    pub fn is_standing(&self) -> bool {
        match self {
            Self::Fault(Cause::Standing(_)) => true,
            Self::Fault(Cause::Transient(_) | Cause::Ours(_))
            | Self::HostChanged
            | Self::Hold(..) => false,
        }
    }

    /// How often a standing fault is looked at again by itself.
    fn pace(&self) -> Duration {
        match self {
            Self::Fault(cause) => standing_pace(*cause),
            Self::HostChanged | Self::Hold(..) => STANDING_PACE,
        }
    }
}

/// How many intervals of a standing fault have passed.
fn slot(elapsed: Duration, pace: Duration) -> u32 {
    let passed = elapsed.as_secs().checked_div(pace.as_secs()).unwrap_or_default();
    u32::try_from(passed).unwrap_or(u32::MAX - 1)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
