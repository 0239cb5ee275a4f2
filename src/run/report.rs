//! What `run` has to say at the end, as JSON: for `--report` and `-o json`.

use serde::Serialize;

use super::documents::Key;
use super::exit::ExitCode;
use super::origin;
use crate::core::phase::{Phase, Summary};
use crate::core::record::{OutputSeen, StreamSeen, Survivor};
use crate::follow::Tails;

/// The report of all commands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The exit code of the program.
    pub code: u8,
    /// In file order.
    pub commands: Vec<CommandReport>,
}

/// What became of one command; the fields are called as those of `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandReport {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The exit code of the program if this were its only command.
    pub code: u8,
    pub phase: Phase,
    pub reason: String,
    pub message: String,
    pub run: i32,
    pub attempt: i32,
    /// The machine that the last attempt was made on, or is to be.
    pub host: Machine,
    /// When the command was started, if it was.
    pub started: When,
    /// Set when the run had ended before this program began, which started nothing then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_before: Option<EndedBefore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The run ended in doubt although a stop was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stop_requested: bool,
    /// Processes that outlived the command on purpose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_running: Vec<Survivor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<jiff::Timestamp>,
    /// What was read of the output by this program; none when an earlier one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
}

/// The output of a command.
#[derive(Debug, Serialize)]
pub struct Output {
    pub stdout: Stream,
    pub stderr: Stream,
}

/// One stream of it.
#[derive(Debug, Serialize)]
pub struct Stream {
    /// Length in bytes.
    pub bytes: u64,
    /// The end of it, as text.
    pub tail: String,
    /// More was written than `output.sizeLimit` lets be kept.
    pub truncated: bool,
}

impl Output {
    /// From what the host said and what was read.
    pub fn new(seen: &OutputSeen, tails: Tails) -> Self {
        let stream =
            |seen: &StreamSeen, tail| Stream { bytes: seen.bytes, tail, truncated: seen.truncated };
        Self {
            stdout: stream(&seen.stdout, tails.stdout),
            stderr: stream(&seen.stderr, tails.stderr),
        }
    }
}

/// How far a command has come, where, and by whom.
#[derive(Debug)]
pub struct Reached {
    pub run: i32,
    pub attempt: i32,
    pub machine: Machine,
    pub started: Started,
}

/// A machine, and how it is got at.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The RemoteHost's name, or the address of an inline host.
    pub name: String,
    /// `user@address:port`; none for this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The machines that it is reached over, in dialling order, in the same shape.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<String>,
}

impl Machine {
    /// From the text of a connection.
    pub fn new(name: &str, connection: &str) -> Self {
        let mut via = origin::way(connection);
        let address = via.pop();
        let name = if address.is_none() { origin::THIS_MACHINE } else { name };
        Self { name: name.to_owned(), address, via }
    }
}

/// When a command was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum When {
    /// Not at all, as far as is known.
    #[default]
    Never,
    /// By an earlier process.
    Earlier,
    /// By this one.
    Now,
}

/// When a command was started, and whether it had ended before.
#[derive(Debug, Default)]
pub struct Started {
    pub when: When,
    pub ended_before: Option<EndedBefore>,
}

/// The end of a run that this program only tells again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndedBefore {
    /// When it was concluded.
    pub time: jiff::Timestamp,
    /// Where, as `user@address:port`.
    #[serde(rename = "host")]
    pub machine: String,
    /// Absolute path of the file it was started from, or `stdin`.
    pub file: String,
}

impl CommandReport {
    /// From a summary.
    pub fn new(
        (namespace, name): &Key,
        uid: &str,
        reached: Reached,
        summary: Summary,
        code: ExitCode,
    ) -> Self {
        Self {
            namespace: namespace.clone(),
            name: name.clone(),
            uid: uid.to_owned(),
            code: code.number(),
            phase: summary.phase,
            reason: summary.reason,
            message: summary.message,
            run: reached.run,
            attempt: reached.attempt,
            host: reached.machine,
            started: reached.started.when,
            ended_before: reached.started.ended_before,
            evidence: summary.evidence.map(|evidence| evidence.word()),
            exit_code: summary.exit_code,
            signal: summary.signal,
            stop_requested: summary.stop_requested,
            left_running: summary.left_running,
            start_time: summary.start_time,
            completion_time: summary.completion_time,
            output: None,
        }
    }
}
