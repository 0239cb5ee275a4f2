//! What a host's record says.
//!
//! These types are the meaning of the shim's report lines; the lines themselves
//! are read in [`parse_exit`] and in `shim`. An [`ExitRecord`] has no public
//! constructor: a `Failed` that rests on one cannot be made from a transport fault.

use serde::{Deserialize, Serialize};

use super::action::StopReason;
use super::bounds::WORD_CHARS;
use super::fault::Fault;
use super::foreign::printable;

/// Who the host is, as read by Prepare.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Machine id, or what stands for it.
    pub machine: String,
    /// Boot id + pid namespace + start time of pid 1. Empty when the host cannot tell.
    pub boot: String,
    /// Id of the record store, made when the store was.
    pub store: String,
    /// Milliseconds since boot by the host's own clock (on Linux that counts suspend).
    pub uptime_ms: u64,
    /// True when start times can be had: losses can be told from silence.
    pub can_tell: bool,
}

/// A process, safe against pid reuse within one boot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of /proc/PID/stat); 0 when unknown.
    pub start: u64,
}

/// The processes of a claimed entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessIds {
    /// The boot identity they belong to; in another boot they name nobody.
    #[serde(default)]
    pub boot: String,
    pub supervisor: ProcessId,
    pub command: ProcessId,
}

/// Whether a process with the recorded pid and start time exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Life {
    Alive,
    Gone,
    /// The host offers no start times.
    CannotTell,
}

/// How a command ended. Only [`parse_exit`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitRecord {
    code: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    start: StartFailure,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_uptime_ms: Option<u64>,
}

/// Why the program itself never ran although the entry was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StartFailure {
    /// It ran.
    None,
    /// No such program, or no such working directory.
    CommandNotFound,
    /// It may not be executed, or the working directory not be entered.
    PermissionDenied,
}

impl ExitRecord {
    /// Exit code; 128+n where the shell can only say so.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// Signal name without SIG, when it ended by one.
    pub fn signal(&self) -> Option<&str> {
        self.signal.as_deref()
    }

    /// Host uptime at the end, milliseconds; `None` when the host did not say.
    pub fn ended_uptime_ms(&self) -> Option<u64> {
        self.ended_uptime_ms
    }

    /// The same end, of a program that could not be started.
    #[must_use]
    pub fn but(self, start: StartFailure) -> Self {
        Self { start, ..self }
    }

    /// Whether the program could be started at all.
    pub fn start_failure(&self) -> StartFailure {
        self.start
    }
}

/// A process that was found and could not be, or was not to be, ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Survivor {
    pub pid: u32,
    pub uid: u32,
    /// Its command name (not its arguments: they may hold secrets). Where too many were found to
    /// name them all, on the last one: how many there are beside the others.
    pub command: String,
}

/// What the host answered about one entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostRecord {
    pub boot: String,
    pub store: String,
    pub uptime_ms: u64,
    pub entry: EntrySeen,
    pub tree: Tree,
    pub output: OutputSeen,
}

impl HostRecord {
    /// Whether nothing more is to be awaited of the output of a command that ended with
    /// `exit`: both streams have ended, or two seconds have passed since, for a child in the
    /// background may hold a stream open for ever. By the host's clock, within one boot.
    pub fn output_is_over(&self, exit: &ExitRecord) -> bool {
        let waited = exit
            .ended_uptime_ms
            .is_none_or(|ended| self.uptime_ms >= ended.saturating_add(OUTPUT_GRACE_MS));
        self.output.has_ended() || waited
    }
}

/// How long after an exit the end of output is waited for, in host time.
const OUTPUT_GRACE_MS: u64 = 2_000;

/// The state of the entry itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EntrySeen {
    /// No entry with this token. Proves nothing.
    Wiped,
    /// Prepared and not claimed yet. Proves nothing about a launch still under way.
    Unclaimed,
    /// The claim was taken by Revoke: it never started and never will.
    Revoked,
    /// The claim was taken by a process that was about to become the command.
    Claimed(Claimed),
}

/// A claimed entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claimed {
    pub processes: ProcessIds,
    pub supervisor: Life,
    pub command: Life,
    /// Whoever keeps the deadline on the host.
    pub watch: Life,
    /// Present once the end is on record.
    pub exit: Option<ExitRecord>,
    /// The stop mark: why we (or the host's own deadline) ended it.
    pub stop: Option<StopReason>,
    /// Host uptime at the claim, milliseconds.
    pub claimed_uptime_ms: u64,
}

/// What was looked for and found of the attempt's process tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Tree {
    /// This verb did not look.
    Unsearched,
    /// Two scans in a row found nothing.
    Empty,
    /// These are alive. After an exit record: left running on purpose.
    Alive(Vec<Survivor>),
    /// The host offers no way to look.
    CannotTell,
}

/// How much output there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OutputSeen {
    pub stdout: StreamSeen,
    pub stderr: StreamSeen,
}

impl OutputSeen {
    /// Whether nothing will be added to either stream.
    pub fn has_ended(&self) -> bool {
        self.stdout.ended && self.stderr.ended
    }

    /// The same with `limit` bytes of each stream at most; what was more is truncated.
    #[must_use]
    pub fn within(self, limit: u64) -> Self {
        let within = |stream: StreamSeen| {
            let truncated = stream.truncated || stream.bytes > limit;
            StreamSeen { bytes: stream.bytes.min(limit), truncated, ..stream }
        };
        Self { stdout: within(self.stdout), stderr: within(self.stderr) }
    }
}

/// The largest number that is believed of a host: beyond it neither JSON nor a clock in
/// milliseconds has any use for one, and sums of several do not overflow.
pub const LARGEST: u64 = 1 << 53;

/// A number of a host's report: decimal digits and nothing else, [`LARGEST`] at most. What is
/// beyond is refused, and neither cut nor wrapped.
pub fn number(word: &str) -> Option<u64> {
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|number| digits && *number <= LARGEST)
}

/// A process's number: `pid_t` is signed and has 32 bits where it is largest, and 0 is no process
/// but, to kill(2), a whole group.
pub fn pid(word: &str) -> Option<u32> {
    number(word).filter(|pid| *pid > 0 && i32::try_from(*pid).is_ok())?.try_into().ok()
}

/// An exit code as a shell has it: one byte (POSIX `wait`).
fn exit_code(word: &str) -> Option<i32> {
    number(word).and_then(|code| u8::try_from(code).ok()).map(i32::from)
}

/// Which of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StreamSeen {
    /// Bytes that can be read.
    pub bytes: u64,
    /// More was written than the limit lets be kept, or than came over a Direct channel.
    pub truncated: bool,
    /// The end was reached: nothing will be added.
    pub ended: bool,
}

/// What is known of a Direct attempt by the operator that holds its channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DirectSeen {
    /// Nothing that tells the command was ever sent: the channel or the exec was refused, or
    /// the account's shell did not run our line; or what had been sent ended before it became
    /// the command. The fault says why.
    NeverStarted(Fault),
    /// The channel is open.
    Running,
    /// The server reported the end (RFC 4254, 6.10).
    Exited(ExitRecord),
    /// The channel or connection ended without a status, or a former operator held it.
    Lost,
}

/// Reads the exit record's fixed-length line; anything else is "not yet".
///
/// The shape is `TOKEN CODE SIGNAL START UPTIME STOP TOKEN CODE .` where SIGNAL is `-` or a
/// name, START one of `ran`, `notfound`, `denied`, UPTIME milliseconds since boot (0 when the
/// host cannot tell) and STOP the stop mark that stood when it was written, or `-`; padding is
/// white space.
pub fn parse_exit(text: &str, token: &str) -> Option<ExitRecord> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [head, code, signal, start, uptime, _stop, tail, again, "."] = words.as_slice() else {
        return None;
    };
    if *head != token || *tail != token || code != again {
        return None;
    }
    let start = match *start {
        "ran" => StartFailure::None,
        "notfound" => StartFailure::CommandNotFound,
        "denied" => StartFailure::PermissionDenied,
        _ => return None,
    };
    Some(ExitRecord {
        code: exit_code(code)?,
        signal: (*signal != "-").then(|| printable(signal, WORD_CHARS)),
        start,
        ended_uptime_ms: Some(number(uptime)?).filter(|uptime| *uptime > 0),
    })
}

/// The exit as an SSH server reported it (RFC 4254, 6.10): a status or a signal.
pub fn exit_from_channel(status: Result<u32, String>) -> ExitRecord {
    match status {
        Ok(code) => ExitRecord {
            code: i32::try_from(code).unwrap_or(i32::MAX),
            signal: None,
            start: StartFailure::None,
            ended_uptime_ms: None,
        },
        Err(signal) => ExitRecord {
            code: 128 + number_of(&signal),
            signal: Some(printable(&signal, WORD_CHARS)),
            start: StartFailure::None,
            ended_uptime_ms: None,
        },
    }
}

/// A signal's number by the name SSH has for it (RFC 4254, 6.10), where all systems agree on
/// it; 0 for others.
fn number_of(signal: &str) -> i32 {
    match signal {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "SEGV" => 11,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_on_a_channel_has_the_code_that_a_shell_would_give_it() {
        let exit = |signal: &str| exit_from_channel(Err(signal.to_owned()));
        assert_eq!((exit("KILL").code(), exit("KILL").signal()), (137, Some("KILL")));
        assert_eq!(exit("TERM").code(), 143);
        assert_eq!(exit("X@example.org").code(), 128, "a name nobody knows");
    }

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn parse(text: &str) -> Option<ExitRecord> {
        parse_exit(&text.replace("TOKEN", TOKEN), TOKEN)
    }

    #[test]
    fn no_number_of_a_host_is_beyond_use() {
        assert_eq!(number("9007199254740992"), Some(LARGEST));
        for word in ["9007199254740993", "18446744073709551616", "-1", "", "1 "] {
            assert_eq!(number(word), None, "{word:?}");
        }
        assert_eq!(parse("TOKEN 0 - ran 18446744073709551615 - TOKEN 0 ."), None);
    }

    #[test]
    fn a_signals_name_is_foreign_text() {
        let exit = exit_from_channel(Err(format!("TERM\n\u{1b}[31m{}", "x".repeat(20_000))));
        let shown = exit.signal().unwrap();
        assert!(shown.starts_with("TERM\u{fffd}\u{fffd}[31m") && shown.len() < 400, "{shown}");
        let exit = parse("TOKEN 1 \u{202e}X ran 1 - TOKEN 1 .").unwrap();
        assert_eq!(exit.signal(), Some("\u{fffd}X"));
    }

    #[test]
    fn no_more_output_is_believed_than_may_be_kept() {
        let mut seen = OutputSeen::default();
        (seen.stdout.bytes, seen.stderr.bytes) = (LARGEST, 5);
        let seen = seen.within(10);
        assert_eq!((seen.stdout.bytes, seen.stdout.truncated), (10, true));
        assert_eq!((seen.stderr.bytes, seen.stderr.truncated), (5, false));
    }

    #[test]
    fn a_whole_record_is_read() {
        let exit = parse("TOKEN 3 - ran 4711 - TOKEN 3 .   \n").unwrap();
        assert_eq!((exit.code(), exit.signal(), exit.ended_uptime_ms()), (3, None, Some(4711)));
        assert_eq!(exit.start_failure(), StartFailure::None);
        let exit = parse("TOKEN 143 TERM ran 1 Cancelled TOKEN 143 .").unwrap();
        assert_eq!((exit.code(), exit.signal()), (143, Some("TERM")));
        let exit = parse("TOKEN 127 - notfound 0 - TOKEN 127 .").unwrap();
        assert_eq!(exit.start_failure(), StartFailure::CommandNotFound);
        assert_eq!(exit.ended_uptime_ms(), None);
    }

    #[test]
    fn every_torn_record_reads_as_not_yet() {
        let whole = "TOKEN 143 TERM ran 4711 Cancelled TOKEN 143 .".replace("TOKEN", TOKEN);
        for cut in 0..whole.len() {
            let head = &whole[..cut];
            assert_eq!(parse_exit(head, TOKEN), None, "{head:?}");
            let blank = format!("{head}{}", " ".repeat(whole.len() - cut));
            assert_eq!(parse_exit(&blank, TOKEN), None, "{blank:?}");
            let tail = &whole[cut + 1..];
            assert_eq!(parse_exit(tail, TOKEN), None, "{tail:?}");
        }
    }

    #[test]
    fn a_record_of_another_token_or_of_two_codes_is_none() {
        assert_eq!(parse("ffff 0 - ran 1 - ffff 0 ."), None);
        assert_eq!(parse("TOKEN 0 - ran 1 - TOKEN 1 ."), None);
        assert_eq!(parse("TOKEN 0 - ran 1 - TOKEN 0 . TOKEN"), None);
        assert_eq!(parse("TOKEN x - ran 1 - TOKEN x ."), None);
        assert_eq!(parse(""), None);
    }
}
