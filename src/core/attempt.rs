//! One attempt: an entry that was, or may have been, launched, and where it is.
//!
//! [`Place`] is an enum so that what cannot be true together cannot be written together.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::action::{Entry, Kind, StopReason};
use super::fault::Cause;
use super::outcome::{Doubt, Evidence, Fate, Loss};
use super::record::{Identity, ProcessIds, Survivor};
use super::stage::{Next, is_false};

/// One entry that was, or may have been, launched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attempt {
    pub entry: Entry,
    /// True for `execution: Direct`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub direct: bool,
    /// The host as Prepare found it; its uptime is raised to the highest that was saved.
    pub identity: Identity,
    /// How the host was reached, opaque.
    pub connection: String,
    /// The host's name as users knew it at the launch.
    pub host: String,
    /// What the launch was for; wanted again should it turn out that it never started.
    #[serde(default, skip_serializing_if = "Next::is_ordinary")]
    pub purpose: Next,
    /// The limits as they were at the launch.
    pub bounds: Bounds,
    /// Known from the first sight of the claim on; kept for a host that forgets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<ProcessIds>,
    /// When the launch was saved.
    pub launched: Timestamp,
    /// When it was first seen started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// What the idle limit compares the next probes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// Set from the first unanswered contact until the next answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertain: Option<Uncertain>,
    pub place: Place,
    /// Processes that outlived an ordinary end on purpose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_running: Vec<Survivor>,
}

/// The limits an attempt was launched with, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bounds {
    pub execution_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    pub termination_ms: u64,
    /// Exit codes that count as success, as they were at the launch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<i32>,
}

/// How much output there was at some uptime.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quiet {
    /// Both streams together.
    pub bytes: u64,
    pub uptime_ms: u64,
}

/// The host does not answer for this attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Uncertain {
    /// The first contact that was not answered.
    pub since: Timestamp,
    /// What the last kind of fault was.
    pub cause: Cause,
    /// For people.
    pub message: String,
}

/// Where an attempt is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Place {
    /// The launch may be under way. No claim was seen.
    Launching,
    /// The claim was seen.
    Running,
    /// The command is gone, its supervisor is not, and the exit record is awaited.
    Finishing { since: Timestamp },
    /// Supervisor and command were gone without an exit record; the second read decides.
    Vanished,
    /// It is being ended.
    Stopping(Stop),
    /// What became of it is not known, and parts of it may be alive.
    Lost(Loss),
    /// As [`Place::Lost`]; the host is searched and what is found is ended.
    Fencing { loss: Loss, stop: Stop },
    /// Nothing of it can start any more or has to be ended.
    Ended(Fate),
}

/// A stop under way. It is saved before the first signal is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stop {
    pub reason: StopReason,
    /// When it was decided.
    pub asked: Timestamp,
    /// When the host was first known to have sent TERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signalled: Option<Timestamp>,
    /// When KILL was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed: Option<Timestamp>,
    /// The entry's claim was seen taken, so that no launch can win it any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub claimed: bool,
    /// The entry's claim was seen free last: a launch under way could still win it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub takeable: bool,
    /// What KILL did not end; empty also while it was not tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub survivors: Vec<Survivor>,
    /// The host cannot show that the tree is gone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unverifiable: bool,
    /// When the tree was first seen gone, while its exit record and the end of its output are
    /// waited for: whoever writes these is no part of the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Timestamp>,
}

impl Attempt {
    /// True once nothing of it can start any more or has to be ended.
    pub fn is_fenced(&self) -> bool {
        self.fate().is_some()
    }

    /// How it ended, once it has.
    pub fn fate(&self) -> Option<&Fate> {
        match &self.place {
            Place::Ended(fate) => Some(fate),
            Place::Launching
            | Place::Running
            | Place::Finishing { .. }
            | Place::Vanished
            | Place::Stopping(_)
            | Place::Lost(_)
            | Place::Fencing { .. } => None,
        }
    }

    /// The stop under way.
    pub fn stop(&self) -> Option<&Stop> {
        match &self.place {
            Place::Stopping(stop) | Place::Fencing { stop, .. } => Some(stop),
            Place::Launching
            | Place::Running
            | Place::Finishing { .. }
            | Place::Vanished
            | Place::Lost(_)
            | Place::Ended(_) => None,
        }
    }

    /// The stop under way, when all that it was to end was seen gone.
    pub fn stop_seen_through(&self) -> Option<&Stop> {
        self.stop().filter(|stop| stop.gone.is_some())
    }

    /// The stop under way, to be carried on.
    pub fn stop_mut(&mut self) -> Option<&mut Stop> {
        match &mut self.place {
            Place::Stopping(stop) | Place::Fencing { stop, .. } => Some(stop),
            Place::Launching
            | Place::Running
            | Place::Finishing { .. }
            | Place::Vanished
            | Place::Lost(_)
            | Place::Ended(_) => None,
        }
    }

    /// True for a Direct one that nobody can ask about any more: only a person can say that it
    /// is over.
    pub(super) fn is_beyond_asking(&self) -> bool {
        let lost = matches!(self.place, Place::Lost(_));
        self.direct && (lost || self.stop().is_some_and(Stop::failed))
    }

    /// What stands in the way of making sure of it; `None` when nothing is known to.
    pub(super) fn why_not_made_sure_of(&self) -> Option<String> {
        let host = &self.host;
        if self.stop().is_some_and(Stop::failed) {
            Some(self.what_survives())
        } else if self.is_beyond_asking() {
            let only = "only a person can say that the earlier attempt is over";
            Some(format!("its connection to {host} was lost, and {only}"))
        } else {
            let silence = &self.uncertain.as_ref()?.message;
            Some(format!("{host} does not answer, so the earlier attempt may be alive: {silence}"))
        }
    }

    /// What KILL did not end.
    pub(super) fn what_survives(&self) -> String {
        let survivors = self.stop().map(|stop| stop.survivors.as_slice()).unwrap_or_default();
        let named: Vec<String> = survivors
            .iter()
            .map(|s| format!("{} ({}, user {})", s.pid, s.command, s.uid))
            .collect();
        if named.is_empty() {
            format!("{} cannot show that the process tree is gone", self.host)
        } else {
            format!("alive on {} after KILL: {}", self.host, named.join(", "))
        }
    }

    /// True for the check of a Verifiable command.
    pub fn is_verify(&self) -> bool {
        self.entry.kind == Kind::Verify
    }

    /// What is known about it, and how; `None` while nothing was seen of its launch.
    pub fn evidence(&self) -> Option<Evidence> {
        if let (Some(uncertain), false) = (&self.uncertain, self.is_fenced()) {
            return Some(match Doubt::of_silence(uncertain.cause) {
                Doubt::WrongHost => Evidence::WrongHost,
                Doubt::Unreachable
                | Doubt::LostByReboot
                | Doubt::LostNoRecord
                | Doubt::RecordWiped
                | Doubt::HostRolledBack
                | Doubt::ConnectionLost
                | Doubt::SurvivorsRemain
                | Doubt::VerifyInconclusive
                | Doubt::PreviousAttemptUncertain => Evidence::Unreachable,
            });
        }
        match &self.place {
            Place::Launching => None,
            Place::Stopping(stop) if stop.gone.is_some() => Some(Evidence::Finishing),
            Place::Running | Place::Stopping(_) => Some(Evidence::StillRunning),
            Place::Finishing { .. } | Place::Vanished => Some(Evidence::Finishing),
            Place::Lost(loss) | Place::Fencing { loss, .. } => Some((*loss).into()),
            Place::Ended(fate) => Some(fate.evidence()),
        }
    }

    /// True when the host cannot tell a loss from silence: no boot identity or no start times.
    pub fn cannot_tell(&self) -> bool {
        self.identity.boot.is_empty() || !self.identity.can_tell
    }
}

impl Stop {
    /// A stop that was decided on and not carried out.
    pub fn new(reason: StopReason, asked: Timestamp) -> Self {
        Self {
            reason,
            asked,
            signalled: None,
            killed: None,
            claimed: false,
            takeable: false,
            survivors: Vec::new(),
            unverifiable: false,
            gone: None,
        }
    }

    /// True when KILL was answered and the tree was not shown to be gone.
    pub fn failed(&self) -> bool {
        self.unverifiable || !self.survivors.is_empty()
    }
}
