//! What `run` has to say at the end, as JSON: for `--report` and `-o json`.

use serde::Serialize;

use super::documents::Key;
use super::exit::ExitCode;
use crate::core::phase::Summary;
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
    pub phase: &'static str,
    pub reason: String,
    pub message: String,
    pub run: i32,
    pub attempt: i32,
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

/// How far a command has come: run and attempt.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    pub run: i32,
    pub attempt: i32,
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
            phase: summary.phase.word(),
            reason: summary.reason,
            message: summary.message,
            run: reached.run,
            attempt: reached.attempt,
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
