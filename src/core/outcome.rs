//! How an attempt ended, and how a run did.
//!
//! The types keep doubt and results apart: a [`Loss`] can only become a [`Doubt`], and a
//! [`Failure`] that rests on an exit needs the [`ExitRecord`] that only the record parser
//! makes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::action::StopReason;
use super::fault::{Cause, Standing, Transient};
use super::record::ExitRecord;

/// Nobody can say how the attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Loss {
    /// The host is in another boot and has no exit record.
    LostByReboot,
    /// Same boot, both processes gone, no exit record.
    LostNoRecord,
    /// The entry is gone.
    RecordWiped,
    /// The host went back to an earlier state of the same boot.
    HostRolledBack,
    /// The channel that carried a Direct command is gone.
    ConnectionLost,
}

/// The end of an attempt that can neither start nor go on any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Fate {
    /// Revoked, or turned away by the host.
    NeverStarted,
    /// The host's record has the end.
    Exited(ExitRecord),
    /// The server reported the end on the channel (Direct).
    Received(ExitRecord),
    /// We, or the host's own deadline, ended it.
    Stopped {
        reason: StopReason,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<ExitRecord>,
    },
    /// Lost; what may have been left of it is gone.
    Lost(Loss),
}

/// What is known about the process, and how it was learned: the words of `status.evidence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Evidence {
    /// Revoked, or turned away: it did not start and never will.
    NeverStarted,
    /// The host's record has an exit code.
    Exited,
    /// The host's record has a signal.
    Signaled,
    /// The server told the end on the channel (Direct).
    ExitStatusReceived,
    /// Ended for a reason that stands on the host, and nothing of it is alive.
    StoppedByUs,
    /// The process is there: boot identity, pid and start time agree.
    StillRunning,
    /// The process is gone, and its supervisor about to record the end.
    Finishing,
    /// The host is in another boot and has no exit record.
    LostByReboot,
    /// Same boot, both processes gone, no exit record.
    LostNoRecord,
    /// The entry is gone from the host.
    RecordWiped,
    /// The host went back to an earlier state of the same boot.
    HostRolledBack,
    /// The channel that carried it is gone (Direct).
    ConnectionLost,
    /// The host cannot be asked.
    Unreachable,
    /// Another machine answers at its address.
    WrongHost,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcome {
    pub ending: Ending,
    /// For people.
    pub message: String,
    /// When it was concluded.
    pub time: Timestamp,
    /// What it rests on; none when nothing was ever launched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal name without SIG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
}

/// The three ends of a run, each with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ending {
    Succeeded(Success),
    Failed(Failure),
    Unknown(Doubt),
}

/// Why a run succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Success {
    /// The exit code counts as success.
    Completed,
    /// The check found the effect in place.
    Verified,
    /// A person said so.
    Resolved,
}

/// Why a run failed: never a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Failure {
    /// The exit code does not count as success.
    NonZeroExit,
    /// A signal that was not ours ended it.
    Signaled,
    /// Stopped after `timeouts.execution`, in host time.
    ExecutionTimeout,
    /// Stopped after `timeouts.idle` without output.
    IdleTimeout,
    /// Stopped, or not begun, because `spec.cancel` was set.
    Cancelled,
    /// The host has no such program or working directory.
    CommandNotFound,
    /// The program may not be executed, or its directory not be entered.
    PermissionDenied,
    /// The check before the first attempt could not tell: nothing started.
    VerifyFailed,
    /// A person said so.
    Resolved,
    // From here on: only when every attempt of the run never started.
    /// Not launched within `timeouts.queue`, for a reason that has no word of its own here.
    QueueTimeout,
    /// As the [`Transient`] or [`Standing`] of the same name, and so are those that follow.
    ConnectTimeout,
    HandshakeTimeout,
    AuthenticationTimeout,
    ConnectionRefused,
    NameResolutionFailed,
    HostKeyUnknown,
    HostKeyMismatch,
    HostKeyRevoked,
    PolicyDenied,
    AuthenticationRejected,
    CredentialsInvalid,
    NoCommonAlgorithm,
    HostUnusable,
    ForcedCommand,
    RunAsRestricted,
    ProcessLimit,
    EnvironmentRefused,
    ArgumentsTooLong,
    /// The host was not the one any more that had been prepared.
    HostChanged,
}

/// Why nobody can say how a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Doubt {
    /// As the [`Loss`] of the same name, and so are the next three.
    LostByReboot,
    LostNoRecord,
    RecordWiped,
    HostRolledBack,
    /// The host could not be asked within `timeouts.resolve`.
    Unreachable,
    /// Only another machine answered within `timeouts.resolve`.
    WrongHost,
    /// As the [`Loss`] of the same name.
    ConnectionLost,
    /// Processes of it are alive and could not be ended.
    SurvivorsRemain,
    /// The check after a loss could not tell.
    VerifyInconclusive,
    /// An earlier attempt may be alive, so no other was begun.
    PreviousAttemptUncertain,
}

/// An ended attempt, as shown in `status.attempts`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PastAttempt {
    pub run: i32,
    pub attempt: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Timestamp>,
    pub evidence: Evidence,
    /// One CamelCase word.
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
}

impl Outcome {
    /// True for an end in doubt, which later evidence may still replace.
    pub fn is_unknown(&self) -> bool {
        match self.ending {
            Ending::Unknown(_) => true,
            Ending::Succeeded(_) | Ending::Failed(_) => false,
        }
    }
}

impl Ending {
    /// The phase it is, as shown in status.
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded(_) => "Succeeded",
            Self::Failed(_) => "Failed",
            Self::Unknown(_) => "Unknown",
        }
    }

    /// The reason shown in status, one CamelCase word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Succeeded(s) => s.reason(),
            Self::Failed(f) => f.reason(),
            Self::Unknown(d) => d.reason(),
        }
    }
}

impl Success {
    /// The reason shown in status: one CamelCase word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Verified => "Verified",
            Self::Resolved => "Resolved",
        }
    }
}

impl Failure {
    /// The reason shown in status: one CamelCase word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NonZeroExit => "NonZeroExit",
            Self::Signaled => "Signaled",
            Self::ExecutionTimeout => "ExecutionTimeout",
            Self::IdleTimeout => "IdleTimeout",
            Self::Cancelled => "Cancelled",
            Self::CommandNotFound => "CommandNotFound",
            Self::PermissionDenied => "PermissionDenied",
            Self::VerifyFailed => "VerifyFailed",
            Self::Resolved => "Resolved",
            Self::QueueTimeout => "QueueTimeout",
            Self::ConnectTimeout => "ConnectTimeout",
            Self::HandshakeTimeout => "HandshakeTimeout",
            Self::AuthenticationTimeout => "AuthenticationTimeout",
            Self::ConnectionRefused => "ConnectionRefused",
            Self::NameResolutionFailed => "NameResolutionFailed",
            Self::HostKeyUnknown => "HostKeyUnknown",
            Self::HostKeyMismatch => "HostKeyMismatch",
            Self::HostKeyRevoked => "HostKeyRevoked",
            Self::PolicyDenied => "PolicyDenied",
            Self::AuthenticationRejected => "AuthenticationRejected",
            Self::CredentialsInvalid => "CredentialsInvalid",
            Self::NoCommonAlgorithm => "NoCommonAlgorithm",
            Self::HostUnusable => "HostUnusable",
            Self::ForcedCommand => "ForcedCommand",
            Self::RunAsRestricted => "RunAsRestricted",
            Self::ProcessLimit => "ProcessLimit",
            Self::EnvironmentRefused => "EnvironmentRefused",
            Self::ArgumentsTooLong => "ArgumentsTooLong",
            Self::HostChanged => "HostChanged",
        }
    }

    /// What a run that never started fails with at its queue limit, for the fault it last
    /// met. Faults that say little to a person are just the limit itself.
    pub fn at_queue_limit(cause: Cause) -> Self {
        match cause {
            Cause::Transient(t) => match t {
                Transient::NameResolutionFailed => Self::NameResolutionFailed,
                Transient::ConnectionRefused => Self::ConnectionRefused,
                Transient::ConnectTimeout => Self::ConnectTimeout,
                Transient::HandshakeTimeout => Self::HandshakeTimeout,
                Transient::AuthenticationTimeout => Self::AuthenticationTimeout,
                Transient::ProcessLimit => Self::ProcessLimit,
                Transient::HostUnreachable
                | Transient::Throttled
                | Transient::ConnectionLost
                | Transient::ChannelRefused
                | Transient::ReplyTimeout
                | Transient::WrongHost => Self::QueueTimeout,
            },
            Cause::Standing(s) => match s {
                Standing::HostKeyUnknown => Self::HostKeyUnknown,
                Standing::HostKeyMismatch => Self::HostKeyMismatch,
                Standing::HostKeyRevoked => Self::HostKeyRevoked,
                Standing::PolicyDenied => Self::PolicyDenied,
                Standing::AuthenticationRejected => Self::AuthenticationRejected,
                Standing::CredentialsInvalid => Self::CredentialsInvalid,
                Standing::NoCommonAlgorithm => Self::NoCommonAlgorithm,
                Standing::HostUnusable => Self::HostUnusable,
                Standing::ForcedCommand => Self::ForcedCommand,
                Standing::RunAsRestricted => Self::RunAsRestricted,
                Standing::EnvironmentRefused => Self::EnvironmentRefused,
                Standing::ArgumentsTooLong => Self::ArgumentsTooLong,
            },
            Cause::Ours(_) => Self::QueueTimeout,
        }
    }
}

impl Doubt {
    /// The reason shown in status: one CamelCase word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::LostByReboot => "LostByReboot",
            Self::LostNoRecord => "LostNoRecord",
            Self::RecordWiped => "RecordWiped",
            Self::HostRolledBack => "HostRolledBack",
            Self::Unreachable => "Unreachable",
            Self::WrongHost => "WrongHost",
            Self::ConnectionLost => "ConnectionLost",
            Self::SurvivorsRemain => "SurvivorsRemain",
            Self::VerifyInconclusive => "VerifyInconclusive",
            Self::PreviousAttemptUncertain => "PreviousAttemptUncertain",
        }
    }

    /// The doubt that an unanswering host leaves.
    pub fn of_silence(cause: Cause) -> Self {
        if cause == Cause::Transient(Transient::WrongHost) {
            Self::WrongHost
        } else {
            Self::Unreachable
        }
    }
}

impl From<Loss> for Doubt {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::LostByReboot => Self::LostByReboot,
            Loss::LostNoRecord => Self::LostNoRecord,
            Loss::RecordWiped => Self::RecordWiped,
            Loss::HostRolledBack => Self::HostRolledBack,
            Loss::ConnectionLost => Self::ConnectionLost,
        }
    }
}

impl From<Loss> for Evidence {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::LostByReboot => Self::LostByReboot,
            Loss::LostNoRecord => Self::LostNoRecord,
            Loss::RecordWiped => Self::RecordWiped,
            Loss::HostRolledBack => Self::HostRolledBack,
            Loss::ConnectionLost => Self::ConnectionLost,
        }
    }
}

impl Fate {
    /// The evidence this fate is.
    pub fn evidence(&self) -> Evidence {
        match self {
            Self::NeverStarted => Evidence::NeverStarted,
            Self::Exited(exit) if exit.signal().is_some() => Evidence::Signaled,
            Self::Exited(_) => Evidence::Exited,
            Self::Received(_) => Evidence::ExitStatusReceived,
            Self::Stopped { .. } => Evidence::StoppedByUs,
            Self::Lost(loss) => (*loss).into(),
        }
    }

    /// The loss, when it is one.
    pub fn loss(&self) -> Option<Loss> {
        match self {
            Self::Lost(loss) => Some(*loss),
            Self::NeverStarted | Self::Exited(_) | Self::Received(_) | Self::Stopped { .. } => None,
        }
    }

    /// The exit that is on record, also of a stopped attempt.
    pub fn exit(&self) -> Option<&ExitRecord> {
        match self {
            Self::Exited(exit) | Self::Received(exit) => Some(exit),
            Self::Stopped { exit, .. } => exit.as_ref(),
            Self::NeverStarted | Self::Lost(_) => None,
        }
    }
}

impl Evidence {
    /// The word shown in status.
    pub fn word(self) -> &'static str {
        match self {
            Self::NeverStarted => "NeverStarted",
            Self::Exited => "Exited",
            Self::Signaled => "Signaled",
            Self::ExitStatusReceived => "ExitStatusReceived",
            Self::StoppedByUs => "StoppedByUs",
            Self::StillRunning => "StillRunning",
            Self::Finishing => "Finishing",
            Self::LostByReboot => "LostByReboot",
            Self::LostNoRecord => "LostNoRecord",
            Self::RecordWiped => "RecordWiped",
            Self::HostRolledBack => "HostRolledBack",
            Self::ConnectionLost => "ConnectionLost",
            Self::Unreachable => "Unreachable",
            Self::WrongHost => "WrongHost",
        }
    }
}
