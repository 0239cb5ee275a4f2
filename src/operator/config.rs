//! The operator's options.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;

use super::denial::Denial;
use super::lookup::SecretLabel;
use crate::api::duration::InvalidDuration;
use crate::api::quantity::{InvalidQuantity, Quantity};
use crate::host::spools::Spools;
use crate::output::budget::LogLimits;

/// Options of `remote-command operator`.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Carry out the objects of this namespace only [default: all namespaces]
    #[arg(
        long,
        env = "REMOTE_COMMAND_NAMESPACE",
        value_name = "NAMESPACE",
        value_parser = NonEmpty::new()
    )]
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
    /// Where output of Direct commands waits until it is logged, in files without a name [default:
    /// in the state directory]
    #[arg(long, env = "REMOTE_COMMAND_SPOOL_DIR", value_name = "DIRECTORY")]
    pub spool_dir: Option<PathBuf>,
    /// How much of it may wait in all; what a command writes beyond its share is cut off, and
    /// status says so
    #[arg(
        long,
        env = "REMOTE_COMMAND_SPOOL_LIMIT",
        value_name = "SIZE",
        default_value = "4Gi",
        value_parser = size
    )]
    pub spool_limit: u64,
    /// Address of /metrics, /livez and /readyz
    #[arg(
        long,
        env = "REMOTE_COMMAND_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub listen: SocketAddr,
    /// Who this operator is in its Lease [default: kept in the state directory]
    // An empty holder is how a Lease says that nobody holds it.
    #[arg(
        long,
        env = "REMOTE_COMMAND_IDENTITY",
        value_name = "NAME",
        value_parser = NonEmpty::new()
    )]
    pub identity: Option<String>,
    /// Name of the Lease by which one of several operators leads
    #[arg(
        long,
        env = "REMOTE_COMMAND_LEASE_NAME",
        value_name = "NAME",
        default_value = "remote-command-operator",
        value_parser = NonEmpty::new()
    )]
    pub lease_name: String,
    /// Namespace of the Lease [default: that of --namespace, or the operator's own]
    #[arg(
        long,
        env = "REMOTE_COMMAND_LEASE_NAMESPACE",
        value_name = "NAMESPACE",
        value_parser = NonEmpty::new()
    )]
    pub lease_namespace: Option<String>,
    /// How long another operator waits without seeing a renewal before it takes over, in whole
    /// seconds
    #[arg(
        long,
        env = "REMOTE_COMMAND_LEASE_DURATION",
        value_name = "DURATION",
        default_value = "15s",
        value_parser = whole_seconds
    )]
    pub lease_duration: Duration,
    /// How long renewals may fail before leadership is reported to be in doubt [default: two
    /// thirds of --lease-duration]
    #[arg(
        long,
        env = "REMOTE_COMMAND_RENEW_DEADLINE",
        value_name = "DURATION",
        value_parser = duration
    )]
    pub renew_deadline: Option<Duration>,
    /// Pause between two tries to get or renew the Lease
    #[arg(
        long,
        env = "REMOTE_COMMAND_RETRY_PERIOD",
        value_name = "DURATION",
        default_value = "2s",
        value_parser = duration
    )]
    pub retry_period: Duration,
    /// After how long a silent watch is begun anew, in whole seconds: so long a change can go
    /// unnoticed when the connection to the API server is dead and nobody says so
    #[arg(
        long,
        env = "REMOTE_COMMAND_WATCH_TIMEOUT",
        value_name = "DURATION",
        default_value = "60s",
        value_parser = whole_seconds
    )]
    pub watch_timeout: Duration,
    /// How much log the output of one attempt may make in a second, in bytes as they are written
    /// to stdout; what comes faster is written later, and waits on the host. 0: no limit
    #[arg(
        long,
        env = "REMOTE_COMMAND_LOG_RATE",
        value_name = "SIZE",
        default_value = "4Mi",
        value_parser = size_or_none
    )]
    pub log_rate: u64,
    /// How much log the output of one attempt may make in all; the log says how much is left out
    /// beyond that (kind outputOmitted), and the host keeps it. 0: no limit
    #[arg(
        long,
        env = "REMOTE_COMMAND_LOG_LIMIT",
        value_name = "SIZE",
        default_value = "1Gi",
        value_parser = size_or_none
    )]
    pub log_limit: u64,
    /// Read only Secrets that carry this label [default: all that are referred to]
    #[arg(long, env = "REMOTE_COMMAND_SECRET_LABEL", value_name = "KEY=VALUE")]
    pub secret_label: Option<SecretLabel>,
    /// Connect to no host in this network, given as a CIDR; repeat it for more, or write `none`.
    /// What is reached through a jump host is out of its reach [default: loopback, link-local
    /// and unspecified addresses, and those of the API server]
    #[arg(long, env = "REMOTE_COMMAND_DENY_NETWORK", value_name = "CIDR", value_delimiter = ',')]
    pub deny_network: Vec<Denial>,
}

/// Why options do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    #[error("--renew-deadline ({0:?}) must be shorter than --lease-duration ({1:?})")]
    RenewDeadline(Duration, Duration),
    #[error("--retry-period ({0:?}) must be shorter than --renew-deadline ({1:?})")]
    RetryPeriod(Duration, Duration),
    #[error("--deny-network none leaves nothing to deny: give it alone, or networks")]
    DenyNetwork,
}

impl Config {
    /// How long renewals may fail before leadership is in doubt.
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline.unwrap_or(self.lease_duration * 2 / 3)
    }

    /// What the log of each attempt may take.
    pub fn log_limits(&self) -> LogLimits {
        LogLimits { rate: self.log_rate, total: self.log_limit }
    }

    /// Where output of Direct commands waits.
    pub fn spools(&self) -> Spools {
        let own = || self.state_directory.join("spool");
        Spools::in_directory(self.spool_dir.clone().unwrap_or_else(own), self.spool_limit)
    }

    /// Whether the options go together.
    ///
    /// # Errors
    /// [`Unsound`]: which do not.
    pub fn check(&self) -> Result<(), Unsound> {
        let renew = self.renew_deadline();
        if renew >= self.lease_duration {
            return Err(Unsound::RenewDeadline(renew, self.lease_duration));
        }
        if self.retry_period >= renew {
            return Err(Unsound::RetryPeriod(self.retry_period, renew));
        }
        if self.deny_network.len() > 1 && self.deny_network.contains(&Denial::Nothing) {
            return Err(Unsound::DenyNetwork);
        }
        Ok(())
    }
}

/// Why a text is no whole number of seconds.
#[derive(Clone, Debug, thiserror::Error)]
enum NotWhole {
    #[error(transparent)]
    Invalid(#[from] InvalidDuration),
    #[error("write whole seconds, for example 15s")]
    Fraction,
}

fn size(text: &str) -> Result<u64, InvalidQuantity> {
    Quantity::new(text).bytes()
}

fn duration(text: &str) -> Result<Duration, InvalidDuration> {
    crate::api::Duration::new(text).get()
}

/// A number of bytes, or 0 for no limit.
fn size_or_none(text: &str) -> Result<u64, InvalidQuantity> {
    if text == "0" { Ok(0) } else { Quantity::new(text).bytes() }
}

/// What goes over the wire in whole seconds.
fn whole_seconds(text: &str) -> Result<Duration, NotWhole> {
    let duration = duration(text)?;
    if duration.subsec_nanos() == 0 { Ok(duration) } else { Err(NotWhole::Fraction) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        config: Config,
    }

    fn typed(options: &[&str]) -> Result<Config, String> {
        let typed = Typed::try_parse_from([&["operator"], options].concat());
        typed.map(|typed| typed.config).map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_lease_lasts_longer_than_its_renewals_may_fail_and_those_longer_than_one_takes() {
        assert_eq!(typed(&[]).unwrap().check(), Ok(()));
        let short = typed(&["--lease-duration=4s", "--retry-period=1s"]).unwrap();
        assert_eq!(short.check(), Ok(()), "the deadline follows the duration");
        let late = typed(&["--renew-deadline=15s"]).unwrap().check();
        assert!(matches!(late, Err(Unsound::RenewDeadline(..))), "{late:?}");
        let rare = typed(&["--retry-period=10s"]).unwrap().check();
        assert!(matches!(rare, Err(Unsound::RetryPeriod(..))), "{rare:?}");
    }

    #[test]
    fn networks_are_denied_one_by_one_or_none_of_them() {
        let two = typed(&["--deny-network=10.0.0.0/8", "--deny-network=fd00::/8,::1"]).unwrap();
        assert_eq!((two.deny_network.len(), two.check()), (3, Ok(())));
        assert_eq!(typed(&["--deny-network=none"]).unwrap().check(), Ok(()));
        let both = typed(&["--deny-network=none", "--deny-network=::1"]).unwrap();
        assert_eq!(both.check(), Err(Unsound::DenyNetwork));
        for text in ["", "None", "example.com", "10.0.0.0/40"] {
            assert!(typed(&[&format!("--deny-network={text}")]).is_err(), "{text}");
        }
        assert!(typed(&["--secret-label=a"]).unwrap_err().contains("KEY=VALUE"));
    }

    #[test]
    fn what_is_counted_in_whole_seconds_is_written_so() {
        for duration in ["500ms", "1.5s", "0s"] {
            let refused = typed(&[&format!("--lease-duration={duration}")]);
            assert!(refused.is_err(), "{duration}");
        }
        assert!(typed(&["--watch-timeout=1500ms"]).unwrap_err().contains("whole seconds"));
    }

    #[test]
    fn the_log_of_an_attempt_is_bounded_unless_somebody_says_otherwise() {
        let limits = |options: &[&str]| typed(options).map(|config| config.log_limits());
        let usual = LogLimits { rate: 4 << 20, total: 1 << 30 };
        assert_eq!(limits(&[]), Ok(usual));
        let none = limits(&["--log-rate=0", "--log-limit=0"]);
        assert_eq!(none, Ok(LogLimits::default()));
        assert_eq!(limits(&["--log-limit=64Ki"]).unwrap().total, 64 << 10);
        for size in ["-1", "4MB", "2Ti", ""] {
            assert!(limits(&[&format!("--log-rate={size}")]).is_err(), "{size}");
        }
    }
}
