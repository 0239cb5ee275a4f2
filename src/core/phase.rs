//! The phase, its reason and the conditions, read off the stage by one pure function.
//!
//! Not here: the conditions' wire form and their times. Messages never hold anything that
//! ticks, so that equal stages have equal summaries and nothing is written at rest.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::action::StopReason;
use super::fault::{Cause, Standing};
use super::foreign::printable;
use super::outcome::{Ending, Evidence, Outcome};
use super::plan::{HoldKind, Plan};
use super::record::Survivor;
use super::stage::{Attempt, Next, Place, Stage, Waiting, WaitingOn};

/// The most characters of a message in status. Names, text of a spec and of a host are in it, and
/// a stage may be older than the rule that these are cleaned where they come from.
pub const MESSAGE_CHARS: usize = 1024;

/// The reason while a connection is being made for the next launch.
pub const CONNECTING: &str = "Connecting";

/// The one enum in status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

/// A condition's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Truth {
    True,
    False,
    Unknown,
}

/// What status says about an object, apart from output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub phase: Phase,
    /// One CamelCase word.
    pub reason: String,
    /// For people.
    pub message: String,
    pub evidence: Option<Evidence>,
    /// The exit of the attempt that the outcome rests on.
    pub exit_code: Option<i32>,
    /// Signal name without SIG.
    pub signal: Option<String>,
    /// When the current or last attempt of this run was first seen started.
    pub start_time: Option<Timestamp>,
    /// When the outcome was concluded.
    pub completion_time: Option<Timestamp>,
    /// The run ended in doubt although a stop was asked for.
    pub stop_requested: bool,
    /// Processes that outlived the command on purpose.
    pub left_running: Vec<Survivor>,
    /// The conditions of these names. Their reason and message are the summary's own, but
    /// for Ready and Reconciling while `deleting` is set.
    pub accepted: Truth,
    pub finished: Truth,
    pub succeeded: Truth,
    pub ready: Truth,
    pub reconciling: Truth,
    pub stalled: Truth,
    /// HostReachable, by the last contact.
    pub host_reachable: HostReachable,
    /// Set while the object is being deleted: what Ready and Reconciling say instead.
    pub deleting: Option<Cleanup>,
}

/// The conditions of one row of the phase table.
#[derive(Clone, Copy)]
struct Conditions {
    accepted: Truth,
    finished: Truth,
    succeeded: Truth,
    ready: Truth,
    reconciling: Truth,
    stalled: Truth,
}

/// The HostReachable condition, by the last contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReachable {
    pub status: Truth,
    /// The fault's reason; `Connected` or `NotAsked` without one.
    pub reason: String,
    pub message: String,
}

/// Phase, reason and message of a run without an outcome when its deletion began: they stay
/// while the attempt under them is revoked, stopped and swept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AsItWas {
    pub phase: Phase,
    pub reason: String,
    pub message: String,
    pub accepted: bool,
}

/// The reason and message of Ready and Reconciling while deleting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// CleaningUp, CleanupBlocked or Abandoned.
    pub reason: &'static str,
    pub message: String,
}

impl Phase {
    /// The word shown in status.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        }
    }
}

/// What status says about this stage.
pub fn summary(plan: &Plan, stage: &Stage) -> Summary {
    let own = stage.current.as_ref().filter(|a| a.entry.run == stage.run);
    let deleting = cleanup(plan, stage);
    let was = stage.deleting.as_ref().and_then(|deleting| deleting.shown.as_ref());
    let shown = match (&stage.outcome, was, own) {
        (Some(outcome), _, _) => ended(outcome),
        (None, Some(was), _) => was.shown(),
        (None, None, Some(attempt)) if is_followed(stage, attempt) => running(stage, attempt),
        (None, None, _) => pending(plan, stage),
    };
    let outcome = stage.outcome.as_ref();
    let live = own.filter(|a| !a.is_verify());
    let conditions = shown.conditions.while_deleting(deleting.is_some());
    let evidence = match outcome {
        Some(outcome) => outcome.evidence,
        None => live.and_then(Attempt::evidence),
    };
    Summary {
        phase: shown.phase,
        reason: shown.reason.to_owned(),
        message: printable(&shown.message, MESSAGE_CHARS),
        evidence,
        exit_code: outcome.and_then(|o| o.exit_code),
        signal: outcome.and_then(|o| o.signal.clone()),
        start_time: start_time(stage, live),
        completion_time: outcome.map(|o| o.time),
        stop_requested: stage.stop_requested(),
        left_running: live.map(|a| a.left_running.clone()).unwrap_or_default(),
        accepted: conditions.accepted,
        finished: conditions.finished,
        succeeded: conditions.succeeded,
        ready: conditions.ready,
        reconciling: conditions.reconciling,
        stalled: conditions.stalled,
        host_reachable: host_reachable(plan, stage),
        deleting,
    }
}

/// Phase, reason and message with the conditions of the same row.
struct Shown<'a> {
    phase: Phase,
    reason: &'a str,
    message: String,
    conditions: Conditions,
}

impl Conditions {
    const UNDER_WAY: Self = Self {
        accepted: Truth::True,
        finished: Truth::False,
        succeeded: Truth::Unknown,
        ready: Truth::Unknown,
        reconciling: Truth::True,
        stalled: Truth::False,
    };

    /// Waiting for somebody to mend something.
    const STALLED: Self = Self {
        ready: Truth::False,
        reconciling: Truth::False,
        stalled: Truth::True,
        ..Self::UNDER_WAY
    };

    fn of_end(succeeded: Truth) -> Self {
        let good = succeeded == Truth::True;
        Self {
            accepted: Truth::True,
            finished: Truth::True,
            succeeded,
            ready: if good { Truth::True } else { Truth::False },
            reconciling: Truth::False,
            stalled: if good { Truth::False } else { Truth::True },
        }
    }

    fn while_deleting(self, deleting: bool) -> Self {
        if deleting {
            Self { ready: Truth::False, reconciling: Truth::True, stalled: Truth::False, ..self }
        } else {
            self
        }
    }
}

impl AsItWas {
    /// What this stage is shown as; `None` once it has an outcome, which stays by itself.
    pub fn of(plan: &Plan, stage: &Stage) -> Option<Self> {
        let Summary { phase, reason, message, accepted, .. } = summary(plan, stage);
        let accepted = accepted == Truth::True;
        stage.outcome.is_none().then_some(Self { phase, reason, message, accepted })
    }

    fn shown(&self) -> Shown<'_> {
        let accepted = if self.accepted { Truth::True } else { Truth::False };
        Shown {
            phase: self.phase,
            reason: &self.reason,
            message: self.message.clone(),
            conditions: Conditions { accepted, ..Conditions::UNDER_WAY },
        }
    }
}

fn ended(outcome: &Outcome) -> Shown<'_> {
    let (phase, succeeded) = match outcome.ending {
        Ending::Succeeded(_) => (Phase::Succeeded, Truth::True),
        Ending::Failed(_) => (Phase::Failed, Truth::False),
        Ending::Unknown(_) => (Phase::Unknown, Truth::Unknown),
    };
    Shown {
        phase,
        reason: outcome.ending.reason(),
        message: outcome.message.clone(),
        conditions: Conditions::of_end(succeeded),
    }
}

/// True for an attempt that is followed, as opposed to one that is only made sure of before
/// another may start.
pub(super) fn is_followed(stage: &Stage, attempt: &Attempt) -> bool {
    if stage.next == Next::PersonsRetry {
        return false;
    }
    match &attempt.place {
        Place::Launching
        | Place::Running
        | Place::Finishing { .. }
        | Place::Vanished
        | Place::Stopping(_) => true,
        Place::Fencing { stop, .. } => {
            stop.reason != StopReason::Fenced || stage.cancelled.is_some()
        }
        Place::Lost(_) | Place::Ended(_) => false,
    }
}

fn running<'a>(stage: &Stage, attempt: &'a Attempt) -> Shown<'a> {
    let host = &attempt.host;
    let stop = attempt.stop().map(|stop| stop.reason).filter(|r| *r != StopReason::Deleted);
    let stopping = stop.is_some() || stage.cancelled.is_some();
    let (reason, message) = if stopping {
        ("Stopping", format!("being stopped on {host}"))
    } else if let Some(uncertain) = &attempt.uncertain {
        ("Reattaching", format!("{host} cannot be asked: {}", uncertain.message))
    } else if attempt.is_verify() {
        ("Verifying", format!("the check runs on {host}"))
    } else {
        match &attempt.place {
            Place::Finishing { .. } | Place::Vanished => {
                ("Finishing", format!("ended on {host}, the exit is being read"))
            }
            Place::Launching => ("Running", format!("being started on {host}")),
            Place::Running
            | Place::Stopping(_)
            | Place::Lost(_)
            | Place::Fencing { .. }
            | Place::Ended(_) => ("Running", format!("running on {host}")),
        }
    };
    Shown { phase: Phase::Running, reason, message, conditions: Conditions::UNDER_WAY }
}

fn pending<'a>(plan: &Plan, stage: &'a Stage) -> Shown<'a> {
    let host = &plan.host;
    let unfenced = stage.current.as_ref().filter(|a| !a.is_fenced());
    let (reason, message, conditions) = if let Some(earlier) = unfenced {
        let host = &earlier.host;
        let message = earlier.why_not_made_sure_of().unwrap_or_else(|| {
            format!("making sure that nothing of the earlier attempt is alive on {host}")
        });
        ("PreviousAttemptUncertain", message, Conditions::UNDER_WAY)
    } else if stage.queue.suspended_since.is_some() {
        ("Suspended", "suspended by its spec".to_owned(), Conditions::UNDER_WAY)
    } else if let Some(waiting) = &stage.waiting {
        (waiting.reason(), waiting.message.clone(), waiting.conditions())
    } else if stage.not_before.is_some() {
        let message = format!("another attempt on {host} follows, {}", starts(stage.starts));
        ("BackingOff", message, Conditions::UNDER_WAY)
    } else if stage.run == 0 {
        ("Queued", format!("to be run on {host}"), Conditions::UNDER_WAY)
    } else {
        (CONNECTING, format!("connecting to {host}"), Conditions::UNDER_WAY)
    };
    Shown { phase: Phase::Pending, reason, message, conditions }
}

fn starts(n: u32) -> String {
    match n {
        0 => "nothing has started yet".to_owned(),
        1 => "1 start so far".to_owned(),
        n => format!("{n} starts so far"),
    }
}

impl Waiting {
    /// The reason shown in status, one CamelCase word.
    pub fn reason(&self) -> &str {
        match &self.on {
            WaitingOn::Fault(cause) => cause.reason(),
            WaitingOn::HostChanged => "HostChanged",
            WaitingOn::Hold(_, reason) => reason,
        }
    }

    fn conditions(&self) -> Conditions {
        match &self.on {
            WaitingOn::Fault(Cause::Standing(Standing::PolicyDenied)) => {
                Conditions { accepted: Truth::False, ..Conditions::STALLED }
            }
            on if on.is_standing() => Conditions::STALLED,
            WaitingOn::Fault(_) | WaitingOn::HostChanged | WaitingOn::Hold(HoldKind::Busy, _) => {
                Conditions::UNDER_WAY
            }
            WaitingOn::Hold(HoldKind::Invalid, _) => {
                Conditions { accepted: Truth::False, ..Conditions::STALLED }
            }
            WaitingOn::Hold(HoldKind::Missing, _) => {
                let truth = |b| if b { Truth::True } else { Truth::False };
                Conditions {
                    accepted: Truth::False,
                    reconciling: truth(!self.overdue),
                    stalled: truth(self.overdue),
                    ..Conditions::UNDER_WAY
                }
            }
        }
    }
}

fn start_time(stage: &Stage, live: Option<&Attempt>) -> Option<Timestamp> {
    let past = stage.attempts.iter().rev().filter(|past| past.run == stage.run);
    live.and_then(|a| a.started).or_else(|| past.into_iter().find_map(|past| past.start_time))
}

fn host_reachable(plan: &Plan, stage: &Stage) -> HostReachable {
    let live = stage.current.as_ref().filter(|a| !a.is_fenced());
    let host = live.map_or(&plan.host, |a| &a.host);
    let silent = live.and_then(|a| a.uncertain.as_ref());
    let blocked = stage.deleting.as_ref().and_then(|d| d.blocked.as_ref());
    if let Some(uncertain) = silent.or(blocked) {
        let message = printable(&uncertain.message, MESSAGE_CHARS);
        let reason = uncertain.cause.reason().to_owned();
        return HostReachable { status: Truth::False, reason, message };
    }
    let answered = |cause: &Cause| matches!(cause, Cause::Standing(s) if s.is_answer_to_launch());
    if let Some(Waiting { on: WaitingOn::Fault(cause), message, .. }) = &stage.waiting
        && !answered(cause)
    {
        let message = printable(message, MESSAGE_CHARS);
        return HostReachable { status: Truth::False, reason: cause.reason().to_owned(), message };
    }
    if stage.current.is_some() {
        let message = format!("{host} answered");
        HostReachable { status: Truth::True, reason: "Connected".to_owned(), message }
    } else {
        let message = format!("{host} was not asked yet");
        HostReachable { status: Truth::Unknown, reason: "NotAsked".to_owned(), message }
    }
}

fn cleanup(plan: &Plan, stage: &Stage) -> Option<Cleanup> {
    let deleting = stage.deleting.as_ref()?;
    let live = stage.current.as_ref().filter(|a| !a.is_fenced());
    let silence = live.and_then(|a| a.uncertain.as_ref()).or(deleting.blocked.as_ref());
    let survivors = live.and_then(Attempt::stop).is_some_and(|stop| stop.failed());
    let last = stage.current.as_ref();
    let own = last.map_or(plan.host.as_str(), |a| &a.host);
    let host = stage.unswept().next().map_or(own, |left| left.host);
    Some(if !deleting.abandoned.is_empty() {
        Cleanup { reason: "Abandoned", message: deleting.abandoned.join("; ") }
    } else if let Some(uncertain) = silence {
        let message = format!("{host} cannot be cleaned: {}", uncertain.message);
        Cleanup { reason: "CleanupBlocked", message }
    } else if survivors {
        let message = format!("processes on {host} could not be ended");
        Cleanup { reason: "CleanupBlocked", message }
    } else {
        Cleanup { reason: "CleaningUp", message: format!("cleaning up on {host}") }
    })
}
