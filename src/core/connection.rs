//! How a machine is reached: the parameters a connection is made with.
//!
//! A value of this is kept (as JSON text) with each attempt, because an attempt is
//! followed with the parameters it was launched with, whatever became of the
//! `RemoteHost` since. It names Secrets and ConfigMaps and never holds their content.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most that connecting, handshake and authentication may take each, whatever a spec says:
/// what waits for a host keeps its place in front of it.
pub const LONGEST_STAGE: Duration = Duration::from_secs(300);

/// The way to a machine: zero or more jump hosts, then the target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// In dialling order; the last one is the target. Never empty.
    pub hops: Vec<Hop>,
    /// Where records are kept on the target; `None` for the defaults.
    pub state_directory: Option<String>,
    /// Sessions used at once on one connection to the target.
    pub sessions: u32,
}

impl Connection {
    /// The same with limits within bounds. What is kept with an attempt may be of a time without.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        for hop in &mut self.hops {
            let limits = &mut hop.timeouts;
            limits.connect = limits.connect.min(LONGEST_STAGE);
            limits.handshake = limits.handshake.min(LONGEST_STAGE);
            limits.authenticate = limits.authenticate.min(LONGEST_STAGE);
        }
        self
    }

    /// True when both lead to the same machine as the same user, by the same way.
    pub fn leads_where(&self, other: &Self) -> bool {
        self.hops.iter().map(Hop::place).eq(other.hops.iter().map(Hop::place))
    }
}

impl Hop {
    /// The machine and who logs in there, as `user@address:port`.
    pub fn place(&self) -> String {
        let Self { user, address, port, .. } = self;
        if address.contains(':') {
            format!("{user}@[{address}]:{port}")
        } else {
            format!("{user}@{address}:{port}")
        }
    }
}

/// One machine on the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hop {
    /// The RemoteHost's name, or the address of an inline host; for messages.
    pub name: String,
    /// DNS name or IP address.
    pub address: String,
    pub port: u16,
    pub user: String,
    pub host_keys: HostKeys,
    /// The Secret with `ssh-privatekey`, `ssh-certificate`, `passphrase`, `password`.
    pub credentials: String,
    pub timeouts: HopTimeouts,
    pub keep_alive: KeepAlive,
}

/// Where the host's keys are known from. At least one source is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostKeys {
    /// OpenSSH known_hosts text.
    pub known_hosts: Option<String>,
    /// A ConfigMap's name and key with the same.
    pub config_map: Option<(String, String)>,
    /// `SHA256:...` as `ssh-keygen -l` prints them.
    pub fingerprints: Vec<String>,
}

/// The bounds of each stage of making a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HopTimeouts {
    /// Name resolution and TCP (or the jump's direct-tcpip channel).
    pub connect: Duration,
    /// Banner and key exchange.
    pub handshake: Duration,
    pub authenticate: Duration,
}

/// Keepalive on the SSH level; a silent peer is given up after `missed` intervals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeepAlive {
    pub interval: Duration,
    pub missed: u32,
}
