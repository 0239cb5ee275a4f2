//! What the SSH tests share: a way to a server on loopback, secrets in memory, and an exec
//! followed to its end.
#![allow(dead_code, reason = "every test binary uses a part of this")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use remote_command::core::connection::{Connection, Hop, HopTimeouts, HostKeys, KeepAlive};
use remote_command::core::fault::Fault;
use remote_command::host::{
    Event, ExecChannel, Input, Lookup, LookupError, SecretValues, Transport,
};
use zeroize::Zeroizing;

use crate::support::sshd::Sshd;

/// Secrets of a namespace, all with the same content; counts how often they were read.
#[derive(Default)]
pub struct Secrets {
    values: Mutex<BTreeMap<String, String>>,
    reads: Mutex<usize>,
}

impl Secrets {
    pub fn with_key(key: &str) -> Arc<Self> {
        Self::of(&[("ssh-privatekey", key)])
    }

    pub fn of(values: &[(&str, &str)]) -> Arc<Self> {
        let secrets = Self::default();
        secrets.set(values);
        Arc::new(secrets)
    }

    pub fn set(&self, values: &[(&str, &str)]) {
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        *self.values.lock().unwrap() = values;
    }

    pub fn reads(&self) -> usize {
        *self.reads.lock().unwrap()
    }
}

#[async_trait]
impl Lookup for Secrets {
    async fn secret(&self, name: &str) -> Result<SecretValues, LookupError> {
        *self.reads.lock().unwrap() += 1;
        let values = self.values.lock().unwrap();
        if values.is_empty() {
            return Err(LookupError::SecretNotFound(name.to_owned()));
        }
        let wiped = |value: &String| Zeroizing::new(value.clone().into_bytes());
        Ok(values.iter().map(|(key, value)| (key.clone(), wiped(value))).collect())
    }

    async fn config_map(&self, name: &str, key: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::ConfigMapNotFound(name.to_owned(), key.to_owned()))
    }
}

/// A way to a server on loopback, to be varied.
#[derive(Clone)]
pub struct Way(Connection);

impl Way {
    pub fn to(sshd: &Sshd) -> Self {
        let way = Self::to_port(sshd.port(), sshd.user());
        way.trusting(&sshd.known_hosts_line().unwrap())
    }

    pub fn to_port(port: u16, user: &str) -> Self {
        let second = Duration::from_secs(1);
        let hop = Hop {
            name: "local".to_owned(),
            address: "127.0.0.1".to_owned(),
            port,
            user: user.to_owned(),
            host_keys: HostKeys::default(),
            credentials: "key".to_owned(),
            timeouts: HopTimeouts {
                connect: 5 * second,
                handshake: 5 * second,
                authenticate: 5 * second,
            },
            keep_alive: KeepAlive { interval: 15 * second, missed: 3 },
        };
        Self(Connection { hops: vec![hop], state_directory: None, sessions: 8 })
    }

    pub fn trusting(mut self, known_hosts: &str) -> Self {
        self.hop().host_keys.known_hosts = Some(known_hosts.to_owned());
        self
    }

    pub fn pinning(mut self, fingerprint: &str) -> Self {
        self.hop().host_keys = HostKeys::default();
        self.hop().host_keys.fingerprints = vec![fingerprint.to_owned()];
        self
    }

    pub fn limits(mut self, connect: u64, handshake: u64, authenticate: u64) -> Self {
        self.hop().timeouts = HopTimeouts {
            connect: Duration::from_millis(connect),
            handshake: Duration::from_millis(handshake),
            authenticate: Duration::from_millis(authenticate),
        };
        self
    }

    pub fn keep_alive(mut self, interval: u64, missed: u32) -> Self {
        self.hop().keep_alive = KeepAlive { interval: Duration::from_millis(interval), missed };
        self
    }

    pub fn sessions(mut self, sessions: u32) -> Self {
        self.0.sessions = sessions;
        self
    }

    pub fn user(mut self, user: &str) -> Self {
        self.hop().user = user.to_owned();
        self
    }

    /// The same target, reached over another machine.
    pub fn via(mut self, jump: &Way) -> Self {
        let mut hops = jump.0.hops.clone();
        hops.append(&mut self.0.hops);
        self.0.hops = hops;
        self
    }

    pub fn hop(&mut self) -> &mut Hop {
        self.0.hops.last_mut().unwrap()
    }

    pub fn connection(&self) -> Connection {
        self.0.clone()
    }
}

/// How an exec ended, with all it said.
#[derive(Debug, Default)]
pub struct End {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub status: Option<u32>,
    pub signal: Option<String>,
    pub closed: bool,
    pub detached: bool,
    pub lost: Option<Fault>,
}

/// Longer than anything here may take.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Runs a line without input, to its end.
pub async fn run(transport: &dyn Transport, line: &str) -> End {
    match transport.open(line).await {
        Ok(channel) => {
            channel.input.send(Input::Eof).await.unwrap();
            finish(channel).await
        }
        Err(fault) => End { lost: Some(fault), ..End::default() },
    }
}

/// Follows a channel to its end.
pub async fn finish(mut channel: ExecChannel) -> End {
    let mut end = End::default();
    let all = async {
        while let Some(event) = channel.events.recv().await {
            match event {
                Event::Stdout(bytes) => end.stdout.extend(bytes),
                Event::Stderr(bytes) => end.stderr.extend(bytes),
                Event::ExitStatus(status) => end.status = Some(status),
                Event::ExitSignal(name) => end.signal = Some(name),
                Event::Closed => end.closed = true,
                Event::Detached => end.detached = true,
                Event::Lost(fault) => end.lost = Some(fault),
            }
        }
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
    end
}
