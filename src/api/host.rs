//! `RemoteHost`: how a machine is reached.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::pace;
use super::rules;
use super::value::KeyRef;

/// How a machine is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "remotecommand.dev",
    version = "v1alpha1",
    kind = "RemoteHost",
    doc = "How a machine is reached over SSH. Commands name it by spec.hostRef.",
    namespaced,
    derive = "PartialEq",
    status = "RemoteHostStatus",
    shortname = "rhost",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Sessions",
        type_ = "integer",
        json_path = ".status.activeSessions",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    ),
    validation = rules::short_name(),
    validation = rules::no_jump_to_itself()
)]
#[x_kube(validation = rules::address(), validation = rules::user(), validation = rules::state_directory())]
pub struct RemoteHostSpec {
    /// DNS name or IP address of the machine; IPv6 without brackets.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::ADDRESS))]
    pub address: String,
    /// TCP port of its SSH server. Default 22.
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,
    /// The login on the machine.
    #[schemars(length(min = 1, max = 256), regex(pattern = rules::USER))]
    pub user: String,
    /// Where the machine's host keys are known from. At least one source: there is no way to
    /// accept just any key.
    pub host_keys: HostKeys,
    /// What the login is proven with.
    pub credentials: Credentials,
    /// Another RemoteHost of the namespace over which this one is reached (a jump host). Chains
    /// are fine, cycles are refused (ViaCycle). Unset: reached directly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via_ref: Option<HostRef>,
    /// Limits for each stage of making a connection.
    #[serde(default)]
    pub timeouts: HostTimeouts,
    /// How a dead connection is noticed.
    #[serde(default)]
    pub keep_alive: KeepAlive,
    /// How many SSH sessions are used at once on one connection; sshd's MaxSessions is 10.
    /// Default 8, at most 1000.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 1000))]
    pub sessions_per_connection: i32,
    /// How many commands run at once on this host; 1 is one at a time, in the order they came.
    /// Those that wait say HostBusy and name the one that runs. Inline hosts with the same
    /// address, port and user count together. Default 8, at most 10000.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrency: i32,
    /// Absolute path of the directory on the machine where records are kept. Unset:
    /// $XDG_STATE_HOME or $HOME/.local/state, or else /var/tmp/remote-command-UID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = rules::NO_NUL))]
    pub state_directory: Option<String>,
}

/// Where the host's keys are known from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::some_host_key(), validation = rules::fingerprints())]
pub struct HostKeys {
    /// Lines of an OpenSSH known_hosts file: hashed names, patterns, @cert-authority and
    /// @revoked are understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 131_072), regex(pattern = rules::NO_NUL))]
    pub known_hosts: Option<String>,
    /// A key of a ConfigMap in the same namespace with such lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// Fingerprints of host keys as `ssh-keygen -l` prints them: SHA256: and 43 characters.
    /// At most 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 50), regex(pattern = rules::FINGERPRINT)))]
    pub fingerprints: Option<Vec<String>>,
}

/// What the login is proven with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// A Secret of any type in the same namespace, read by key: ssh-privatekey, optionally with
    /// ssh-certificate and passphrase, or password.
    pub secret_ref: SecretRef,
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = rules::OBJECT_NAME))]
    pub name: String,
}

/// A RemoteHost of the same namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostRef {
    /// Name of the RemoteHost.
    #[schemars(length(min = 1, max = 63), regex(pattern = rules::OBJECT_NAME))]
    pub name: String,
}

/// Limits for each stage of making a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostTimeouts {
    /// Name resolution and TCP connection. Then ConnectTimeout. Default 10s, at most 5m.
    #[serde(default = "ten_seconds")]
    #[x_kube(validation = pace::stage())]
    pub connect: Duration,
    /// SSH banner and key exchange. Then HandshakeTimeout. Default 10s, at most 5m.
    #[serde(default = "ten_seconds")]
    #[x_kube(validation = pace::stage())]
    pub handshake: Duration,
    /// SSH authentication. Then AuthenticationTimeout. Default 10s, at most 5m.
    #[serde(default = "ten_seconds")]
    #[x_kube(validation = pace::stage())]
    pub authenticate: Duration,
}

impl Default for HostTimeouts {
    fn default() -> Self {
        Self { connect: ten_seconds(), handshake: ten_seconds(), authenticate: ten_seconds() }
    }
}

/// How a dead connection is noticed: questions that any live SSH server answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeepAlive {
    /// Time between two questions. Default 15s, at least 1s, at most 10m.
    #[serde(default = "interval")]
    #[x_kube(validation = pace::keep_alive())]
    pub interval: Duration,
    /// How many questions may stay unanswered before the connection is given up. Default 3, at
    /// most 100.
    #[serde(default = "missed")]
    #[schemars(range(min = 1, max = 100))]
    pub missed: i32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { interval: interval(), missed: missed() }
    }
}

fn port() -> i32 {
    22
}
fn eight() -> i32 {
    8
}
fn ten_seconds() -> Duration {
    Duration::new("10s")
}
fn interval() -> Duration {
    Duration::new("15s")
}
fn missed() -> i32 {
    3
}

/// What is known of the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::generation_grows())]
pub struct RemoteHostStatus {
    /// The generation of the spec this status speaks of; -1 while the operator has not seen the
    /// object.
    #[serde(default = "super::status::unseen")]
    pub observed_generation: i64,
    /// Ready, Reconciling and Stalled, by the last contact.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map"))]
    #[schemars(extend("x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Option<Vec<Condition>>,
    /// The SSH server's identification string.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub server_version: Option<String>,
    /// SHA256 fingerprint of the host key the server showed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub host_key_fingerprint: Option<String>,
    /// When a connection was last made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_connected_time: Option<Time>,
    /// How many sessions were in use when the status was last written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_sessions: Option<i32>,
}

impl Default for RemoteHostStatus {
    fn default() -> Self {
        Self {
            observed_generation: super::status::unseen(),
            conditions: None,
            server_version: None,
            host_key_fingerprint: None,
            last_connected_time: None,
            active_sessions: None,
        }
    }
}
