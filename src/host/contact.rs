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
    /// When a connection was last made, by this machine's clock.
    pub connected: Option<Timestamp>,
}

/// Where the pools of one way note their contacts.
pub(super) type Noted = Arc<watch::Sender<Contact>>;

/// Notes that a connection was made, or why it was not.
pub(super) fn note(noted: &Noted, outcome: Result<HostFacts, Fault>) {
    let connected = outcome.is_ok().then(Timestamp::now);
    noted.send_modify(|contact| {
        contact.connected = connected.or(contact.connected);
        contact.last = Some(outcome);
    });
}

/// The last contacts with all machines.
#[derive(Default)]
pub(super) struct Contacts(Mutex<HashMap<Way, Noted>>);

/// Scope and hops. The limits on the target may be a command's own, and are no other machine.
#[derive(PartialEq, Eq, Hash)]
struct Way(String, Vec<Hop>);

impl Contacts {
    /// Where contacts over this connection are noted.
    pub(super) fn of(&self, scope: &str, connection: &Connection) -> Noted {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, noted| Arc::strong_count(noted) > 1 || noted.receiver_count() > 0);
        all.entry(way(scope, connection)).or_default().clone()
    }
}

/// True when both lead to the same machine in the same way.
pub(super) fn same_way(one: &Connection, other: &Connection) -> bool {
    way("", one) == way("", other)
}

fn way(scope: &str, connection: &Connection) -> Way {
    let mut hops = connection.hops.clone();
    if let Some(target) = hops.last_mut() {
        let (connect, handshake, authenticate) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        target.timeouts = HopTimeouts { connect, handshake, authenticate };
    }
    Way(scope.to_owned(), hops)
}
