//! All machines: the one place where the operator and the command line get a [`super::Host`].
//!
//! Machines are kept apart by scope (the namespace), so that nobody's connection is used with
//! another's credentials.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::contact::{Contact, Contacts, same_way};
use super::machine::Machine;
use super::networks::Denied;
use super::spools::Spools;
use super::ssh::{Dialer, Link};
use super::{Host, HostFacts, Lookup, Transport};
use crate::core::connection::Connection;
use crate::core::fault::Fault;

/// Every machine this process speaks to.
#[derive(Default)]
pub struct Hosts {
    dialer: Dialer,
    machines: Mutex<HashMap<Key, Arc<Machine>>>,
    contacts: Contacts,
    spools: Spools,
}

type Key = (String, Connection);

impl Hosts {
    pub fn new() -> Self {
        Self::default()
    }

    /// With other bounds on the use of a connection's keys than the usual ones, in bytes: where
    /// we begin a key exchange, and from where on no new command is given to it. To show what
    /// the SSH library does at its own.
    pub fn with_wear(rekey: usize, worn: u64) -> Self {
        Self { dialer: Dialer::with_wear(rekey, worn), ..Self::default() }
    }

    /// With another place on disk for output of Direct commands that is not read yet.
    #[must_use]
    pub fn spooling(self, spools: Spools) -> Self {
        Self { spools, ..self }
    }

    /// That connect to nothing in these networks. What is dialled from a jump host is out of
    /// their reach.
    #[must_use]
    pub fn denying(self, denied: Denied) -> Self {
        Self { dialer: self.dialer.denying(denied), ..self }
    }

    /// The verbs on a machine. Nothing is dialled before it is used.
    pub fn host(
        &self,
        scope: &str,
        connection: &Connection,
        lookup: Arc<dyn Lookup>,
    ) -> Arc<dyn Host> {
        self.machine(scope, connection, lookup)
    }

    /// The bare way to a machine. Nothing is dialled before it is used.
    pub fn transport(
        &self,
        scope: &str,
        connection: &Connection,
        lookup: Arc<dyn Lookup>,
    ) -> Arc<dyn Transport> {
        Arc::new(Link(self.machine(scope, connection, lookup).pool.clone()))
    }

    /// Makes a real connection (or uses the one that stands) and exchanges a ping. Nothing
    /// is run: an account with a forced command would run it.
    ///
    /// # Errors
    /// The fault of the stage that failed.
    pub async fn check(
        &self,
        scope: &str,
        connection: &Connection,
        lookup: Arc<dyn Lookup>,
    ) -> Result<HostFacts, Fault> {
        self.machine(scope, connection, lookup).pool.check().await
    }

    /// Looks again at once, with new connections, at every machine of the scope whose way
    /// leads over something of this name: a RemoteHost, a Secret or a ConfigMap that changed.
    pub fn poke(&self, scope: &str, name: &str) {
        let leads_over = |connection: &Connection| leads_over(connection, name);
        self.each(scope, leads_over, Machine::poke);
    }

    /// Takes a changed object's word for it that what stood in the way may be mended: a forced
    /// command, a server that did not answer. Refused credentials and good connections stay.
    pub fn reconsider(&self, scope: &str, whose: Whose<'_>) {
        self.each(scope, |connection| whose.is(connection), Machine::reconsider);
    }

    /// Looks again at once with new connections, because somebody asks for it: also at credentials
    /// that were refused, within what a server is given to refuse.
    pub fn ask_again(&self, scope: &str, whose: Whose<'_>) {
        // Kept by name: a machine that nobody has used for long is forgotten, a refusal is not.
        match whose {
            Whose::RemoteHost(name) => self.dialer.ask_again(scope, name),
            Whose::Way(way) => {
                way.hops.iter().for_each(|hop| self.dialer.ask_again(scope, &hop.name))
            }
        }
        self.each(scope, |connection| whose.is(connection), Machine::poke);
    }

    fn each(&self, scope: &str, is_meant: impl Fn(&Connection) -> bool, tell: impl Fn(&Machine)) {
        for ((of, connection), machine) in self.lock().iter() {
            if of == scope && is_meant(connection) {
                tell(machine);
            }
        }
    }

    /// Forgets what this process remembers of an object of the scope: it is gone, and nobody
    /// asks after it again.
    pub fn forget(&self, scope: &str, uid: &str) {
        for ((of, _), machine) in self.lock().iter() {
            if of == scope {
                machine.forget(uid);
            }
        }
    }

    /// The last contact with the machine, whoever used it, whatever limits were set on it.
    pub fn contact(&self, scope: &str, connection: &Connection) -> watch::Receiver<Contact> {
        self.contacts.contact(scope, connection)
    }

    /// Commands and verbs on the machine's connections at this moment, whatever limits were
    /// set on them.
    pub fn active_sessions(&self, scope: &str, connection: &Connection) -> usize {
        let machines = self.lock();
        let to_it =
            machines.iter().filter(|((of, way), _)| of == scope && same_way(way, connection));
        to_it.map(|(_, machine)| machine.pool.sessions()).sum()
    }

    /// Ends every connection in order, within seconds. Commands on the hosts live on.
    pub async fn shutdown(&self) {
        let machines: Vec<_> = self.lock().drain().map(|(_, machine)| machine).collect();
        futures::future::join_all(machines.iter().map(|machine| machine.pool.shut())).await;
    }

    fn machine(
        &self,
        scope: &str,
        connection: &Connection,
        lookup: Arc<dyn Lookup>,
    ) -> Arc<Machine> {
        let mut machines = self.lock();
        machines.retain(|_, machine| Arc::strong_count(machine) > 1 || machine.is_used());
        let key = (scope.to_owned(), connection.clone());
        let machine = machines.entry(key).or_insert_with(|| {
            let contact = self.contacts.noted(scope, connection);
            let pool = self.dialer.pool(scope, connection.clone().bounded(), lookup, contact);
            let spools = self.spools.clone();
            Arc::new(Machine::new(pool, connection.state_directory.clone(), spools))
        });
        machine.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Machine>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which machines are meant.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// The RemoteHost of this name, and what is reached over it.
    RemoteHost(&'a str),
    /// What this connection leads to, whatever limits are set on it.
    Way(&'a Connection),
}

impl Whose<'_> {
    fn is(self, connection: &Connection) -> bool {
        match self {
            Self::RemoteHost(name) => connection.hops.iter().any(|hop| hop.name == name),
            Self::Way(way) => same_way(way, connection),
        }
    }
}

fn leads_over(connection: &Connection, name: &str) -> bool {
    connection.hops.iter().any(|hop| {
        let map = hop.host_keys.config_map.as_ref().map(|(map, _)| map.as_str());
        hop.name == name || hop.credentials == name || map == Some(name)
    })
}
