//! What users write, and what they read: `RemoteCommand` and `RemoteHost`.
//!
//! The types are the schema: field comments are what `kubectl explain` shows, defaults and
//! rules are what the API server applies. From a spec a pure function makes a plan
//! ([`plan`]); from what is known another makes a status ([`conditions`]). Not here: I/O of
//! any kind, and what to do next (`core`).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub mod bounds;
pub mod command;
pub mod conditions;
pub mod connection;
pub mod crd;
pub mod duration;
pub mod host;
pub mod invalid;
pub mod limits;
pub mod pace;
pub mod plan;
pub mod quantity;
mod rules;
mod sentences;
pub mod status;
pub mod value;

pub use command::{
    Direct, DirectShell, Execution, Idempotency, RemoteCommand, RemoteCommandSpec, Resolution,
    ResolutionVerdict, RunPolicy, Verify,
};
pub use connection::{Resolve, ViaError, connection, connection_of};
pub use duration::Duration;
pub use host::{
    Credentials, HostKeys, HostRef, HostTimeouts, KeepAlive, RemoteHost, RemoteHostSpec,
    RemoteHostStatus, SecretRef,
};
pub use invalid::InvalidSpec;
pub use limits::{Backoff, Output, Retry, Timeouts};
pub use plan::{Place, asked, place, plan};
pub use quantity::Quantity;
pub use status::{
    AttemptStatus, OutputStatus, Phase, ProcessStatus, RemoteCommandStatus, StageRecord,
    StreamStatus,
};
pub use value::{EnvVar, KeyRef, Stdin, ValueSource};

/// The API group of both kinds.
pub const GROUP: &str = "remotecommand.dev";

/// The only served version.
pub const VERSION: &str = "v1alpha1";

/// The annotation whose change is a person's word to look at a host again, at once: on a RemoteHost,
/// or on a RemoteCommand with an inline host.
pub const CHECK: &str = "remotecommand.dev/check";

/// The annotation's value, of which the first 128 characters count.
pub fn check_word(metadata: &ObjectMeta) -> Option<String> {
    let value = metadata.annotations.as_ref()?.get(CHECK)?;
    Some(value.chars().take(128).collect())
}

/// The value of `spec.managedBy` that this operator acts on.
pub const MANAGED_BY: &str = "remotecommand.dev/operator";
