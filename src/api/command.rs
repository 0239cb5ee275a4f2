//! `RemoteCommand`: one command on one host.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::host::{HostRef, RemoteHostSpec};
use super::limits::{Output, Retry, Timeouts};
use super::rules;
use super::status::RemoteCommandStatus;
use super::value::{EnvVar, Stdin, ValueSource};

/// What to run, where, and within which bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "remotecommand.dev",
    version = "v1alpha1",
    kind = "RemoteCommand",
    doc = "One command on one host, run over SSH, and in its status what is known of it.",
    namespaced,
    derive = "PartialEq",
    status = "RemoteCommandStatus",
    shortname = "rcmd",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(
        name = "Host",
        type_ = "string",
        json_path = ".spec['hostRef','host']['name','address']"
    ),
    printcolumn(name = "Exit", type_ = "integer", json_path = ".status.exitCode"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Run", type_ = "integer", json_path = ".status.run", priority = 1),
    printcolumn(name = "Attempt", type_ = "integer", json_path = ".status.attempt", priority = 1),
    printcolumn(name = "Evidence", type_ = "string", json_path = ".status.evidence", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    selectable = ".spec.hostRef.name",
    selectable = ".spec.managedBy",
    selectable = ".status.phase",
    selectable = ".status.reason",
    validation = rules::short_name(),
    validation = rules::resolution_of_unknown()
)]
#[x_kube(validation = rules::one_host(), validation = rules::one_program())]
#[x_kube(validation = rules::interpreter_needs_script(), validation = rules::program_named())]
#[x_kube(validation = rules::verify_with_verifiable(), validation = rules::direct_with_direct())]
#[x_kube(validation = rules::no_shell_no_environment(), validation = rules::working_directory())]
#[x_kube(validation = rules::forced_command_alone())]
#[x_kube(validation = rules::forced_command_unchecked(), validation = rules::direct_program())]
#[x_kube(validation = rules::run_as(), validation = rules::overlap())]
#[x_kube(validation = rules::no_repeat_of_non_idempotent())]
#[x_kube(validation = rules::exit_codes_disjoint())]
#[x_kube(validation = rules::immutable("runPolicy"), validation = rules::immutable("idempotency"))]
#[x_kube(validation = rules::immutable("managedBy"))]
#[x_kube(validation = rules::frozen("hostRef"), validation = rules::frozen("host"))]
#[x_kube(validation = rules::frozen("command"), validation = rules::frozen("script"))]
#[x_kube(validation = rules::frozen("scriptFrom"))]
#[x_kube(validation = rules::frozen("interpreter"), validation = rules::frozen("env"))]
#[x_kube(validation = rules::frozen("stdin"), validation = rules::frozen("workingDirectory"))]
#[x_kube(validation = rules::frozen("runAs"), validation = rules::frozen("execution"))]
#[x_kube(validation = rules::frozen("direct"), validation = rules::frozen("verify"))]
#[x_kube(validation = rules::frozen("successExitCodes"))]
pub struct RemoteCommandSpec {
    /// The RemoteHost to run on, of the same namespace. Exactly one of hostRef and host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ref: Option<HostRef>,
    /// The machine to run on, described in place: the fields of RemoteHost.spec. Exactly one of
    /// hostRef and host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<RemoteHostSpec>,
    /// The program and its arguments. No shell reads them: $VAR, $(VAR), globs and quotes arrive
    /// as they are written. At most 256 words of 128 KiB each. Exactly one of command,
    /// script and scriptFrom.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[schemars(inner(length(max = 131_071), regex(pattern = rules::NO_NUL)))]
    pub command: Option<Vec<String>>,
    /// Text of a script, run from a private file by interpreter, or else by what its own first
    /// line names after #!, or else by /bin/sh. At most 256 KiB. Exactly one of command, script
    /// and scriptFrom.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144), regex(pattern = rules::NO_NUL))]
    pub script: Option<String>,
    /// Where the text of a script is read from at each launch, instead of script: at most 1 MiB,
    /// with execution Direct 256 KiB. Of a ConfigMap only what is in its data. Exactly one of
    /// command, script and scriptFrom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script_from: Option<ValueSource>,
    /// The program that runs the script, and its arguments, whatever the script's first line
    /// says. Only with script and scriptFrom. Unset: what the script's first line names after
    /// #!, as Linux reads it (all that follows the program is one argument), or else /bin/sh.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[schemars(inner(length(min = 1, max = 4096), regex(pattern = rules::NO_NUL)))]
    pub interpreter: Option<Vec<String>>,
    /// Environment variables of the command. At most 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map"))]
    #[schemars(extend("x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Option<Vec<EnvVar>>,
    /// What the command reads on its standard input. Unset: nothing, as from /dev/null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Stdin>,
    /// Absolute path of the directory the command starts in. Unset: the login's home.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096), regex(pattern = rules::NO_NUL))]
    pub working_directory: Option<String>,
    /// Another user of the host to run as, reached by `sudo -n`. Where sudo does not allow that,
    /// nothing is started (RunAsRestricted). Unset: the login itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = rules::NO_NUL))]
    pub run_as: Option<String>,
    /// Recorded keeps a record on the host, which outlives links and operators. Direct runs on
    /// the SSH channel itself, leaves nothing behind and resumes nothing. Default Recorded.
    #[serde(default)]
    pub execution: Execution,
    /// How a Direct command reaches the far side. Only with execution Direct.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct: Option<Direct>,
    /// How safe it is to run the command again when nobody knows what became of it.
    /// NonIdempotent: it starts at most once per run, and a person decides. Idempotent: it is
    /// tried again. Verifiable: spec.verify is asked whether that is needed. It cannot change.
    /// Default NonIdempotent.
    #[serde(default)]
    pub idempotency: Idempotency,
    /// The check of a Verifiable command. It only reads. Required with idempotency Verifiable,
    /// refused otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// How long each kind of waiting may last.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// When and how often to try again.
    #[serde(default)]
    pub retry: Retry,
    /// Exit codes that count as success. Default [0], at most 64.
    #[serde(default = "zero")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 0)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub success_exit_codes: Vec<i32>,
    /// What becomes of the command's output.
    #[serde(default)]
    pub output: Output,
    /// What a change of the spec does. Once: what the command is and where it runs cannot
    /// change. OnChange: such a change starts a new run after the current one. It cannot change.
    /// Default Once.
    #[serde(default)]
    pub run_policy: RunPolicy,
    /// Who carries the command out; an operator leaves objects with a value other than its own
    /// alone. It cannot change. Default remotecommand.dev/operator.
    #[serde(default = "this_operator")]
    #[schemars(length(min = 1, max = 253))]
    pub managed_by: String,
    /// A wish: true holds the next launch; what has started is not touched. Set it with a patch
    /// and leave it out of manifests. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// A wish: true ends the current run, and every further one while it is true. For a run that
    /// has seen it, it is final. Set it with a patch and leave it out of manifests. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// A wish: a value that is not empty and differs from status.observedRerunToken asks for one
    /// more run. Taking it away asks for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = rules::NO_NUL))]
    pub rerun_token: Option<String>,
    /// A person's word on an attempt whose end is unknown. Accepted only while status shows
    /// Unknown for exactly that attempt; used once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Seconds after the end of the run until the object is deleted; one that is Unknown is
    /// never deleted. Unset: kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_finished: Option<i32>,
}

fn zero() -> Vec<i32> {
    vec![0]
}

fn this_operator() -> String {
    super::MANAGED_BY.to_owned()
}

/// Where the truth about an attempt is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Execution {
    #[default]
    Recorded,
    Direct,
}

/// How a Direct command reaches the far side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Direct {
    /// Posix: the account has a POSIX shell. None: the words go to the device as they are; they
    /// may hold letters, digits and _@%+=:,./- only, and script, scriptFrom, env, stdin,
    /// workingDirectory and runAs are refused. Default Posix.
    #[serde(default)]
    pub shell: DirectShell,
    /// True when the account runs one fixed command whatever is asked for: exactly one exec per
    /// attempt, and none for checks. The words of command are sent as they are (it may read them
    /// as SSH_ORIGINAL_COMMAND), with characters as for shell None, and stdin follows. script,
    /// scriptFrom, env, workingDirectory, runAs and idempotency Verifiable are refused. Default false.
    #[serde(default)]
    pub forced_command: bool,
}

/// What understands the words on the far side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DirectShell {
    #[default]
    Posix,
    None,
}

/// How safe it is to run the command again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Idempotency {
    #[default]
    NonIdempotent,
    Idempotent,
    Verifiable,
}

/// The read-only check of a Verifiable command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// Its program and arguments; it must only read. Exit code 100 means that the effect is in
    /// place and nothing needs doing, 101 that it is not; anything else cannot tell. It is asked
    /// before the first attempt and after a lost one.
    #[schemars(length(min = 1, max = 256))]
    #[schemars(inner(length(max = 131_071), regex(pattern = rules::NO_NUL)))]
    pub command: Vec<String>,
    /// How long it may run. Default 30s.
    #[serde(default = "half_a_minute")]
    pub timeout: Duration,
}

fn half_a_minute() -> Duration {
    Duration::new("30s")
}

/// What a change of a frozen field does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RunPolicy {
    #[default]
    Once,
    OnChange,
}

/// A person's word on an attempt whose end is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resolution {
    /// The run, as status.run shows it.
    #[schemars(range(min = 1))]
    pub run: i32,
    /// The attempt, as status.attempt shows it; 0 when it shows none, because the run waits for
    /// what may be left of an earlier one.
    #[schemars(range(min = 0))]
    pub attempt: i32,
    /// Succeeded and Failed end the run so. Retry asks for another attempt, after what may be
    /// left of this one was stopped.
    #[serde(rename = "as")]
    pub verdict: ResolutionVerdict,
}

/// What a person says of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResolutionVerdict {
    Succeeded,
    Failed,
    Retry,
}
