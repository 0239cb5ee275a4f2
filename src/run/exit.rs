//! What the exit code of `remote-command run` means.

use std::process;

use crate::core::outcome::{Ending, Failure, Outcome, Success};

/// The end of the program, as a number. Shells use up to 128 + 64 for signals, ssh uses 255,
/// and sysexits.h 64 to 78; the ones in here collide with none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// The command's own exit code; there is a record of it. 128 + n for signal n.
    Own(u8),
    /// Nobody knows how the command ended, or whether it did.
    Unknown,
    /// The command never started, and will not.
    NotStarted,
    /// It was stopped by `timeouts.execution` or `timeouts.idle`.
    TimedOut,
    /// It was stopped because somebody asked for it.
    Cancelled,
    /// The command line or a document cannot be understood or carried out.
    BadInput,
    /// It was left before its end; running again goes on from there.
    StillRunning,
    /// Another `run` of the same command is at work.
    Busy,
    /// This program could not do its own part: keep its state, write all output or the report.
    Trouble,
}

/// The table shown by `run --help`.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  other  the command's own; there is a record of it on the host (128 + n for signal n). 0 and 1
         also for a person's resolution, as Succeeded and as Failed
  221    Unknown: nobody knows how it ended
  222    it never started, and will not
  223    it was stopped at a time limit
  224    it was cancelled
  225    the command line or a document is wrong
  226    it has not ended and was left; running this again goes on from there
  227    another `run` of the same command is at work
  228    this program could not do its own part: keep its state, write all output or the report.
         Also when the output is not all there because output.sizeLimit cut it
With several commands: that of the first one in file order whose code is not 0. A command may
itself end with any of these numbers; the last line on stderr and --report tell them apart.";

impl ExitCode {
    /// The number the process ends with.
    pub fn number(self) -> u8 {
        match self {
            Self::Own(code) => code,
            Self::Unknown => 221,
            Self::NotStarted => 222,
            Self::TimedOut => 223,
            Self::Cancelled => 224,
            Self::BadInput => 225,
            Self::StillRunning => 226,
            Self::Busy => 227,
            Self::Trouble => 228,
        }
    }

    /// What the end of a run is told as.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome.ending {
            Ending::Unknown(_) => Self::Unknown,
            Ending::Succeeded(Success::Completed) => Self::own(outcome, 0),
            Ending::Succeeded(Success::Verified | Success::Resolved) => Self::Own(0),
            Ending::Failed(failure) => match failure {
                Failure::NonZeroExit
                | Failure::Signaled
                | Failure::CommandNotFound
                | Failure::PermissionDenied
                | Failure::Resolved => Self::own(outcome, 1),
                Failure::ExecutionTimeout | Failure::IdleTimeout => Self::TimedOut,
                Failure::Cancelled => Self::Cancelled,
                Failure::VerifyFailed
                | Failure::QueueTimeout
                | Failure::ConnectTimeout
                | Failure::HandshakeTimeout
                | Failure::AuthenticationTimeout
                | Failure::ConnectionRefused
                | Failure::NameResolutionFailed
                | Failure::HostKeyUnknown
                | Failure::HostKeyMismatch
                | Failure::HostKeyRevoked
                | Failure::PolicyDenied
                | Failure::AuthenticationRejected
                | Failure::CredentialsInvalid
                | Failure::NoCommonAlgorithm
                | Failure::HostUnusable
                | Failure::ForcedCommand
                | Failure::RunAsRestricted
                | Failure::ProcessLimit
                | Failure::EnvironmentRefused
                | Failure::ArgumentsTooLong
                | Failure::HostChanged => Self::NotStarted,
            },
        }
    }

    fn own(outcome: &Outcome, without: u8) -> Self {
        Self::Own(outcome.exit_code.map_or(without, |code| u8::try_from(code).unwrap_or(u8::MAX)))
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::{EXIT_CODES_HELP, ExitCode};

    #[test]
    fn the_help_names_every_code() {
        use ExitCode::{
            BadInput, Busy, Cancelled, NotStarted, StillRunning, TimedOut, Trouble, Unknown,
        };
        let all = [Unknown, NotStarted, TimedOut, Cancelled, BadInput, StillRunning, Busy, Trouble];
        for code in all {
            let line = format!("\n  {}    ", code.number());
            assert!(EXIT_CODES_HELP.contains(&line), "{code:?} is not in the help");
        }
    }
}
