//! The status of a `RemoteCommand`: what is known, and how it is known.
//!
//! Nothing in it is ever null: what is not known is absent. Words that may grow in number
//! (`reason`, `evidence`) are bounded strings, so that an older definition in the cluster
//! cannot refuse a newer operator's status; `phase` is the only enum.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;

/// The summary of everything else in the status.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Phase {
    /// Not launched yet.
    #[default]
    Pending,
    /// Launched, or may have been; the end is not known yet.
    Running,
    /// The host has a record of success, or a person said so.
    Succeeded,
    /// The host has a record of failure, it certainly never started, or a person said so.
    Failed,
    /// It may have started and nobody knows how it ended.
    Unknown,
}

impl Phase {
    /// The word in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        }
    }
}

/// What is known of the command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::generation_grows_without_record())]
#[x_kube(validation = rules::run_stays())]
#[x_kube(validation = rules::attempt_stays())]
#[x_kube(validation = rules::run_grows_by_one())]
#[x_kube(validation = rules::attempt_grows_by_one())]
#[x_kube(validation = rules::phase_needs_run())]
#[x_kube(validation = rules::stage_grows())]
#[x_kube(validation = rules::revision_grows_slowly())]
#[x_kube(validation = rules::outcome_is_final())]
pub struct RemoteCommandStatus {
    /// The generation of the spec this status speaks of; -1 while the operator has not seen the
    /// object.
    #[serde(default = "unseen")]
    pub observed_generation: i64,
    /// Pending, Running, Succeeded, Failed or Unknown. Succeeded and Failed are only said with
    /// evidence from the host, when it certainly never started, or on a person's word; Unknown
    /// means that it may have started and nobody knows how it ended.
    #[serde(default)]
    pub phase: Phase,
    /// Why the phase is what it is, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// Number of the current run, from 1. A run is one request to execute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub run: Option<i32>,
    /// Number of the current attempt, from 1 in each run. An attempt is one launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub attempt: Option<i32>,
    /// What is known about the attempt's process, and how it was learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub evidence: Option<String>,
    /// Exit code of the command; 128+n where the host's shell can only say so of signal n.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Name of the signal that ended the command, without SIG.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub signal: Option<String>,
    /// When the current or last attempt of the run was first seen started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the current run was seen to have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// When the current run was asked for; timeouts.queue counts from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_request_time: Option<Time>,
    /// The spec.rerunToken that has been acted on last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub observed_rerun_token: Option<String>,
    /// True when a stop of the attempt was asked for and could not be verified yet; it is carried
    /// out as soon as the host answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_requested: Option<bool>,
    /// Processes which the command left running when it ended by itself. They are left alone.
    /// The first 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub left_running: Option<Vec<ProcessStatus>>,
    /// The output of the current attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputStatus>,
    /// The last 10 attempts, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 10))]
    pub attempts: Option<Vec<AttemptStatus>>,
    /// Accepted, HostReachable, Finished, Succeeded, Ready, Reconciling and Stalled. Finished
    /// becomes True on every end, Succeeded on success only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map"))]
    #[schemars(extend("x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
    /// The operator's own durable record of the attempt, written before each action on the host.
    /// Leave it alone: whoever may write it can make the operator believe anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageRecord>,
}

/// The `observedGeneration` of an object that the operator has not seen.
pub(super) fn unseen() -> i64 {
    -1
}

impl Default for RemoteCommandStatus {
    fn default() -> Self {
        Self {
            observed_generation: unseen(),
            phase: Phase::Pending,
            reason: None,
            message: None,
            run: None,
            attempt: None,
            evidence: None,
            exit_code: None,
            signal: None,
            start_time: None,
            completion_time: None,
            run_request_time: None,
            observed_rerun_token: None,
            stop_requested: None,
            left_running: None,
            output: None,
            attempts: None,
            conditions: None,
            stage: None,
        }
    }
}

/// A process on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// Process id.
    pub pid: i64,
    /// User id it runs as.
    pub uid: i64,
    /// Its command name, without arguments.
    #[schemars(length(max = 256))]
    pub command: String,
}

impl OutputStatus {
    /// Of an attempt of which no output was seen yet; `open` where some may come.
    pub fn unseen(open: bool) -> Self {
        let none = StreamStatus { bytes: 0, tail: Some(String::new()), truncated: false };
        Self { stdout: none.clone(), stderr: none, open, location: None }
    }
}

/// The output of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputStatus {
    /// Standard output.
    #[serde(default)]
    pub stdout: StreamStatus,
    /// Standard error.
    #[serde(default)]
    pub stderr: StreamStatus,
    /// True while more output may come: the command runs, or a process it left behind still
    /// holds a stream open.
    #[serde(default)]
    pub open: bool,
    /// Where the whole output is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub location: Option<String>,
}

/// One stream of output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStatus {
    /// How many bytes there are.
    #[serde(default)]
    pub bytes: i64,
    /// The end of it: at most spec.output.tailBytes bytes; bytes that are no UTF-8 are shown as
    /// replacement characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub tail: Option<String>,
    /// True when there was more than is shown: spec.output.sizeLimit was reached, or the channel
    /// of a Direct command did not come to an orderly end.
    #[serde(default)]
    pub truncated: bool,
}

/// An attempt, in short.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptStatus {
    /// Number of its run.
    pub run: i32,
    /// Its number within the run.
    pub attempt: i32,
    /// When it was launched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it was seen to have ended, or was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// What is known about its process, and how it was learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub evidence: Option<String>,
    /// How it ended, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Its exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it, without SIG.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub signal: Option<String>,
}

/// The durable record of the attempt, as the operator that wrote it understands it.
///
/// The numbers and `over` are here for the rules of the schema: they fence the rest of the
/// status by what the operator itself has recorded, and not by what somebody wrote beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageRecord {
    /// Version of the record's format.
    pub version: i32,
    /// Grows with every change of the record.
    pub revision: i64,
    /// True once the run has ended in a way that is known: the outcome in status is final from
    /// then on. An end in doubt (Unknown) is not: evidence may still replace it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over: Option<bool>,
    /// The run's number, from 1; 0 before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub run: Option<i32>,
    /// The attempt's number within the run, from 1; 0 before the first launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub attempt: Option<i32>,
    /// The record itself, as JSON text that only the operator reads: one field and not many,
    /// because the API server keeps a list of all fields and their owners.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1_048_576))]
    pub record: Option<String>,
    /// Fields of other versions of the operator, kept unread.
    #[serde(flatten)]
    pub rest: BTreeMap<String, serde_json::Value>,
}
