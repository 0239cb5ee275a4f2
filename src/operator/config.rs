//! The operator's options.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// Options of `remote-command operator`.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Carry out the objects of this namespace only [default: all namespaces]
    #[arg(long, env = "REMOTE_COMMAND_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Where it is noted how far each command's output has been logged, and who this operator
    /// is, so that it goes on after a restart; one operator at a time can use it
    #[arg(
        long,
        env = "REMOTE_COMMAND_STATE_DIRECTORY",
        value_name = "DIRECTORY",
        default_value = "/var/lib/remote-command"
    )]
    pub state_directory: PathBuf,
    /// Address of /metrics, /livez and /readyz
    #[arg(
        long,
        env = "REMOTE_COMMAND_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub listen: SocketAddr,
    /// Who this operator is in its Lease [default: kept in the state directory]
    #[arg(long, env = "REMOTE_COMMAND_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// Name of the Lease by which one of several operators leads
    #[arg(
        long,
        env = "REMOTE_COMMAND_LEASE_NAME",
        value_name = "NAME",
        default_value = "remote-command-operator"
    )]
    pub lease_name: String,
    /// Namespace of the Lease [default: that of --namespace, or the operator's own]
    #[arg(long, env = "REMOTE_COMMAND_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// How long another operator waits without seeing a renewal before it takes over
    #[arg(
        long,
        env = "REMOTE_COMMAND_LEASE_DURATION",
        value_name = "DURATION",
        default_value = "15s",
        value_parser = duration
    )]
    pub lease_duration: Duration,
    /// How long renewals may fail before leadership is reported to be in doubt
    #[arg(
        long,
        env = "REMOTE_COMMAND_RENEW_DEADLINE",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = duration
    )]
    pub renew_deadline: Duration,
    /// Pause between two tries to get or renew the Lease
    #[arg(
        long,
        env = "REMOTE_COMMAND_RETRY_PERIOD",
        value_name = "DURATION",
        default_value = "2s",
        value_parser = duration
    )]
    pub retry_period: Duration,
}

fn duration(text: &str) -> Result<Duration, crate::api::duration::InvalidDuration> {
    crate::api::Duration::new(text).get()
}
