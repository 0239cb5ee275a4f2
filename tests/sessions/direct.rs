//! One machine to which Direct commands go, and attempts on it.

use std::sync::Arc;

use remote_command::core::action::{Action, Entry, Expect, Kind, Seen};
use remote_command::core::plan::{Direct, Execution, Plan};
use remote_command::core::record::{DirectSeen, ExitRecord};
use remote_command::host::hosts::Hosts;
use remote_command::host::{Host, Material, Stream};
use remote_command::journal::Saved;
use zeroize::Zeroizing;

use crate::odd::Server;
use crate::sessions::{LIMIT, Secrets, Way};
use crate::support::sshd::{Kind as Key, Sshd};
use crate::support::until;

pub fn plan(argv: &[&str]) -> Plan {
    let direct = Direct { no_shell: false, forced_command: false, may_overlap: false };
    Plan { execution: Execution::Direct(direct), ..Plan::plain("uid", "local", argv) }
}

pub fn entry(attempt: i32, kind: Kind) -> Entry {
    let token = format!("{attempt:032x}");
    let (uid, machine) = ("uid".to_owned(), String::new());
    Entry { uid, run: 1, attempt, kind, token, machine, run_as: None }
}

/// One machine, and attempts on it.
pub struct Machine {
    pub host: Arc<dyn Host>,
}

impl Machine {
    pub fn of(hosts: &Hosts, sshd: &Sshd) -> Self {
        let secrets = Secrets::with_key(&sshd.private_key(Key::Ed25519).unwrap());
        Self { host: hosts.host("default", &Way::to(sshd).connection(), secrets) }
    }

    pub fn of_odd(hosts: &Hosts, server: &Server) -> Self {
        let way = Way::to_port(server.port, "somebody").trusting(&server.known_hosts);
        let secrets = Secrets::with_key(&server.client_key);
        Self { host: hosts.host("default", &way.connection(), secrets) }
    }

    pub async fn prepare(&self, plan: &Plan, attempt: i32) -> Seen {
        self.act(plan, Action::Prepare { entry: entry(attempt, Kind::Command) }).await
    }

    pub async fn act(&self, plan: &Plan, action: Action) -> Seen {
        self.host.act(plan, &Saved::for_test(action), None).await
    }

    pub async fn launch_with(&self, plan: &Plan, entry: &Entry, material: Material) -> DirectSeen {
        let expect = Expect { boot: String::new(), store: String::new(), latest_uptime_ms: 0 };
        let launch = Action::Launch { entry: entry.clone(), expect };
        direct_of(self.host.act(plan, &Saved::for_test(launch), Some(material)).await)
    }

    pub async fn launch(&self, plan: &Plan, entry: &Entry) -> DirectSeen {
        self.launch_with(plan, entry, Material::default()).await
    }

    pub async fn probe(&self, plan: &Plan, entry: &Entry) -> DirectSeen {
        direct_of(self.act(plan, Action::Probe { entry: entry.clone() }).await)
    }

    pub async fn end(&self, plan: &Plan, entry: &Entry) -> DirectSeen {
        let running = async || self.probe(plan, entry).await != DirectSeen::Running;
        until(LIMIT, "the command ends", running).await.unwrap();
        self.probe(plan, entry).await
    }

    pub async fn output(&self, entry: &Entry, stream: Stream) -> String {
        let mut all = Vec::new();
        loop {
            let chunk = self.host.read(entry, stream, all.len() as u64, 5000).await.unwrap();
            if chunk.bytes.is_empty() {
                return String::from_utf8(all).unwrap();
            }
            all.extend(chunk.bytes);
        }
    }

    /// Launches, waits for the end, and gives exit code and both streams.
    pub async fn run(
        &self,
        plan: &Plan,
        attempt: i32,
        material: Material,
    ) -> (i32, String, String) {
        let (exit, out, err) = self.exit(plan, attempt, material).await;
        (exit.code(), out, err)
    }

    /// The same, with all that is known of the exit.
    pub async fn exit(
        &self,
        plan: &Plan,
        attempt: i32,
        material: Material,
    ) -> (ExitRecord, String, String) {
        let entry = entry(attempt, Kind::Command);
        self.launch_with(plan, &entry, material).await;
        let DirectSeen::Exited(exit) = self.end(plan, &entry).await else {
            panic!("{:?}", self.probe(plan, &entry).await)
        };
        let out = self.output(&entry, Stream::Stdout).await;
        (exit, out, self.output(&entry, Stream::Stderr).await)
    }
}

pub fn direct_of(seen: Seen) -> DirectSeen {
    match seen {
        Seen::Direct { seen, .. } => seen,
        other => panic!("{other:?}"),
    }
}

pub fn value(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}
