//! What was last learned of the way to a machine, by whoever used it.
//!
//! It is a hint for those who report on the machine. Nothing about a command follows from it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::HostFacts;
use crate::core::connection::{Connection, Hop, HopTimeouts};
use crate::core::fault::Fault;

/// The last contact with a machine.
#[derive(Clone, Debug, Default)]
pub struct Contact {
    /// How the last try to connect ended; `None` before the first.
    pub last: Option<Result<HostFacts, Fault>>,
    /// How many tries have ended.
    pub tries: u64,
    /// When a connection was last made, by this machine's clock.
    pub connected: Option<Timestamp>,
    /// How often a connection over this machine to another one was not made: either may be why.
    pub doubts: u64,
}

/// Where it is noted what comes of dialling one way.
pub(crate) struct Noted {
    machine: Arc<watch::Sender<Contact>>,
    /// In dialling order.
    jumps: Vec<Arc<watch::Sender<Contact>>>,
}

impl Noted {
    /// A connection was made: what each machine on the way said of itself, in dialling order.
    pub(super) fn made(&self, facts: impl IntoIterator<Item = HostFacts>) {
        let connected = Some(Timestamp::now());
        for (machine, facts) in self.jumps.iter().chain([&self.machine]).zip(facts) {
            machine.send_modify(|contact| {
                contact.connected = connected;
                contact.tries += 1;
                contact.last = Some(Ok(facts));
            });
        }
    }

    /// No connection was made.
    pub(super) fn failed(&self, fault: &Fault) {
        self.machine.send_modify(|contact| {
            contact.tries += 1;
            contact.last = Some(Err(fault.clone()));
        });
        for jump in &self.jumps {
            jump.send_modify(|contact| contact.doubts += 1);
        }
    }
}

/// The last contacts with all machines.
#[derive(Default)]
pub(super) struct Contacts(Mutex<HashMap<Way, Arc<watch::Sender<Contact>>>>);

/// Scope and hops. The limits on the target may be a command's own, and are no other machine.
#[derive(PartialEq, Eq, Hash)]
struct Way(String, Vec<Hop>);

impl Contacts {
    /// Where it is noted what comes of dialling this connection.
    pub(super) fn noted(&self, scope: &str, connection: &Connection) -> Noted {
        let hops = &connection.hops;
        let jumps = (1..hops.len()).filter_map(|count| hops.get(..count));
        let jumps = jumps.map(|hops| self.of(scope, hops)).collect();
        Noted { machine: self.of(scope, hops), jumps }
    }

    /// The last contact with the machine that this connection leads to.
    pub(super) fn contact(&self, scope: &str, connection: &Connection) -> watch::Receiver<Contact> {
        self.of(scope, &connection.hops).subscribe()
    }

    fn of(&self, scope: &str, hops: &[Hop]) -> Arc<watch::Sender<Contact>> {
        let mut hops = hops.to_vec();
        if let Some(target) = hops.last_mut() {
            let (connect, handshake, authenticate) =
                (Duration::ZERO, Duration::ZERO, Duration::ZERO);
            target.timeouts = HopTimeouts { connect, handshake, authenticate };
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, noted| Arc::strong_count(noted) > 1 || noted.receiver_count() > 0);
        all.entry(Way(scope.to_owned(), hops)).or_default().clone()
    }
}

/// True when both lead to the same machine in the same way.
pub(super) fn same_way(one: &Connection, other: &Connection) -> bool {
    let (Some((one, before)), Some((other, also))) =
        (one.hops.split_last(), other.hops.split_last())
    else {
        return false;
    };
    before == also
        && one.name == other.name
        && (&one.address, one.port, &one.user) == (&other.address, other.port, &other.user)
        && one.credentials == other.credentials
        && one.host_keys == other.host_keys
        && one.keep_alive == other.keep_alive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::connection::{HostKeys, KeepAlive};
    use crate::core::fault::Transient;

    fn hop(name: &str, seconds: u64) -> Hop {
        let limit = Duration::from_secs(seconds);
        Hop {
            name: name.to_owned(),
            address: name.to_owned(),
            port: 22,
            user: "deploy".to_owned(),
            host_keys: HostKeys::default(),
            credentials: "ssh".to_owned(),
            timeouts: HopTimeouts { connect: limit, handshake: limit, authenticate: limit },
            keep_alive: KeepAlive { interval: limit, missed: 3 },
        }
    }

    fn way(hops: Vec<Hop>, sessions: u32) -> Connection {
        Connection { hops, state_directory: None, sessions }
    }

    fn facts(name: &str) -> HostFacts {
        let (server_version, host_key_fingerprint) = (name.to_owned(), String::new());
        HostFacts { server_version, host_key_fingerprint }
    }

    #[test]
    fn a_commands_own_limits_do_not_make_it_another_machine() {
        let contacts = Contacts::default();
        let mut short = hop("db-1", 10);
        short.timeouts.connect = Duration::from_secs(1);
        let (host, command) = (way(vec![hop("db-1", 10)], 8), way(vec![short], 8));
        let contact = contacts.contact("ns", &host);
        let elsewhere = contacts.contact("other", &host);
        contacts.noted("ns", &command).made([facts("db-1")]);
        assert!(contact.has_changed().unwrap());
        assert!(!elsewhere.has_changed().unwrap());
        assert!(same_way(&host, &command));
        assert!(!same_way(&host, &way(vec![hop("db-2", 10)], 8)));
    }

    #[test]
    fn what_a_connection_over_a_jump_host_tells_of_the_jump_host() {
        let contacts = Contacts::default();
        let jump = contacts.contact("ns", &way(vec![hop("bastion", 10)], 8));
        let inner = way(vec![hop("bastion", 10), hop("db-1", 10)], 8);
        let target = contacts.contact("ns", &inner);
        let noted = contacts.noted("ns", &inner);
        noted.failed(&Fault::new(Transient::ConnectionRefused, "refused"));
        assert!(matches!(target.borrow().last, Some(Err(_))));
        assert!(jump.borrow().last.is_none(), "it may be the target's fault");
        assert_eq!(jump.borrow().doubts, 1);
        noted.made([facts("bastion"), facts("db-1")]);
        assert_eq!(jump.borrow().last, Some(Ok(facts("bastion"))));
        assert_eq!(target.borrow().last, Some(Ok(facts("db-1"))));
    }
}
