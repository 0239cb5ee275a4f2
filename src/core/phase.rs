//! The phase and its reasons, read off the stage by one pure function.
//!
//! Conditions are made from a [`Summary`] elsewhere; messages never hold anything that
//! ticks, so that two summaries of one stage are equal.

use super::plan::Plan;
use super::stage::Stage;

/// The one enum in status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// The conditions of these names. Reason and message are the summary's own,
    /// but for `deleting` and `host_reachable`.
    pub accepted: Truth,
    pub finished: Truth,
    pub succeeded: Truth,
    pub ready: Truth,
    pub reconciling: Truth,
    pub stalled: Truth,
    pub host_reachable: HostReachable,
    /// Set while the object is being deleted: the reason of Ready and Reconciling.
    pub deleting: Option<Cleanup>,
}

/// The HostReachable condition, by the last contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReachable {
    pub status: Truth,
    /// The fault's reason; `Connected` or `NotAsked` without one.
    pub reason: String,
    pub message: String,
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
    let _ = (plan, stage);
    Summary {
        phase: Phase::Pending,
        reason: "Queued".to_owned(),
        message: "waiting to be looked at".to_owned(),
        accepted: Truth::True,
        finished: Truth::False,
        succeeded: Truth::Unknown,
        ready: Truth::Unknown,
        reconciling: Truth::True,
        stalled: Truth::False,
        host_reachable: HostReachable {
            status: Truth::Unknown,
            reason: "NotAsked".to_owned(),
            message: "the host was not asked yet".to_owned(),
        },
        deleting: None,
    }
}
