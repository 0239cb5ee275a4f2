//! The bounds of a command: time limits, retries, output. They may change at any time; a
//! changed time limit counts from the next launch.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::duration::Duration;
use super::pace;
use super::quantity::Quantity;
use super::rules;

/// How long each kind of waiting may last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// From the run's request to its launch, not counting time in which it is suspended. Then it
    /// is Failed with what kept it waiting, or QueueTimeout. Default 1h.
    #[serde(default = "queue")]
    pub queue: Duration,
    /// Name resolution and TCP connection to the host. Unset: the host's own limit; at most 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = pace::stage())]
    pub connect: Option<Duration>,
    /// SSH banner and key exchange with the host. Unset: the host's own limit; at most 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = pace::stage())]
    pub handshake: Option<Duration>,
    /// SSH authentication to the host. Unset: the host's own limit; at most 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = pace::stage())]
    pub authenticate: Option<Duration>,
    /// How long the command may run, in the host's time without suspend; enforced on the host
    /// even while the operator is away. Then it is stopped and Failed/ExecutionTimeout.
    /// Default 1h.
    #[serde(default = "execution")]
    pub execution: Duration,
    /// How long the command may be silent, writing no output. Then it is stopped and
    /// Failed/IdleTimeout. Unset: for ever. Judged by the record on the host, so it has no
    /// effect with execution Direct.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
    /// Grace from the TERM signal to the KILL signal, whenever the command is stopped.
    /// Default 30s.
    #[serde(default = "termination")]
    pub termination: Duration,
    /// How long to go on asking about an attempt whose state is uncertain before the phase
    /// becomes Unknown. Default 1h.
    #[serde(default = "resolve")]
    pub resolve: Duration,
    /// How long deletion waits for a host that cannot be cleaned. Then the object goes, and an
    /// Event names what stays where. Default 10m.
    #[serde(default = "cleanup")]
    pub cleanup: Duration,
}

fn queue() -> Duration {
    Duration::new("1h")
}
fn execution() -> Duration {
    Duration::new("1h")
}
fn termination() -> Duration {
    Duration::new("30s")
}
fn resolve() -> Duration {
    Duration::new("1h")
}
fn cleanup() -> Duration {
    Duration::new("10m")
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            queue: queue(),
            connect: None,
            handshake: None,
            authenticate: None,
            execution: execution(),
            idle: None,
            termination: termination(),
            resolve: resolve(),
            cleanup: cleanup(),
        }
    }
}

/// When and how often to try again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How many attempts that may have started follow the first one: 3 means at most 4 starts.
    /// An attempt that certainly never started does not count. Default 3, at most 1000.
    #[serde(default = "limit")]
    #[schemars(range(min = 0, max = 1000))]
    pub limit: i32,
    /// The pauses between attempts, and between tries to reach the host.
    #[serde(default)]
    pub backoff: Backoff,
    /// Exit codes after which another attempt is wanted. Not with idempotency NonIdempotent, and
    /// none of spec.successExitCodes. Unset: none. At most 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(range(min = 0)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub exit_codes: Option<Vec<i32>>,
    /// True: another attempt may run beside a lost one that may still be running. Only with
    /// execution Direct, and not with idempotency NonIdempotent. Default false.
    #[serde(default)]
    pub may_overlap: bool,
}

fn limit() -> i32 {
    3
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: limit(), backoff: Backoff::default(), exit_codes: None, may_overlap: false }
    }
}

/// Pauses that double from one try to the next, with some randomness.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = rules::backoff_order())]
pub struct Backoff {
    /// The first pause. Default 2s, at least 100ms.
    #[serde(default = "initial")]
    #[x_kube(validation = pace::pause())]
    pub initial: Duration,
    /// The longest pause. Default 2m, at least 100ms.
    #[serde(default = "max")]
    #[x_kube(validation = pace::pause())]
    pub max: Duration,
}

fn initial() -> Duration {
    Duration::new("2s")
}
fn max() -> Duration {
    Duration::new("2m")
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: initial(), max: max() }
    }
}

/// What becomes of the command's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// How many bytes from the end of each stream are kept in status. Default 4096, at most
    /// 65536; 0 keeps none.
    #[serde(default = "tail_bytes")]
    #[schemars(range(min = 0, max = 65_536))]
    pub tail_bytes: i32,
    /// How many bytes of each stream are kept on the host. What comes after is read, counted and
    /// dropped; the command does not notice. Default 1Gi, at most 1Ti.
    #[serde(default = "size_limit")]
    pub size_limit: Quantity,
    /// Whether each line goes to the operator's log. Default true.
    #[serde(default = "log")]
    pub log: bool,
}

fn tail_bytes() -> i32 {
    4096
}
fn size_limit() -> Quantity {
    Quantity::new("1Gi")
}
fn log() -> bool {
    true
}

impl Default for Output {
    fn default() -> Self {
        Self { tail_bytes: tail_bytes(), size_limit: size_limit(), log: log() }
    }
}
