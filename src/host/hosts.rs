//! All machines: the one place where the operator and the command line get a [`super::Host`].
//!
//! Machines are kept apart by scope (the namespace), so that nobody's connection is used with
//! another's credentials.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::direct::DirectHost;
use super::recorded::{Recorded, Shells};
use super::ssh::{Dialer, Link, Pool};
use super::{Chunk, Host, HostFacts, Lookup, Material, Stream, Transport};
use crate::core::action::{Action, Entry, Seen};
use crate::core::connection::Connection;
use crate::core::fault::Fault;
use crate::core::plan::{Execution, Plan};
use crate::journal::Saved;
use crate::shim::Account;

/// Every machine this process speaks to.
#[derive(Default)]
pub struct Hosts {
    dialer: Dialer,
    machines: Mutex<HashMap<Key, Arc<Machine>>>,
}

type Key = (String, Connection);

/// One machine, as reached with one set of parameters from one scope.
struct Machine {
    pool: Arc<Pool>,
    direct: Arc<DirectHost>,
    shells: Arc<Shells>,
    /// As whom the recorded commands run, by UID: an entry alone does not say it.
    run_as: Mutex<HashMap<String, Option<String>>>,
}

impl Machine {
    fn new(pool: Arc<Pool>, state_directory: Option<String>) -> Self {
        let account = Account { state_directory, ..Account::default() };
        let shells = Shells::new(Arc::new(Link(pool.clone())), account);
        Self {
            direct: Arc::new(DirectHost::new(pool.clone())),
            shells: Arc::new(shells),
            run_as: Mutex::default(),
            pool,
        }
    }

    fn recorded(&self, run_as: Option<String>) -> Recorded {
        Recorded::new(self.shells.clone(), run_as)
    }

    fn run_as(&self) -> MutexGuard<'_, HashMap<String, Option<String>>> {
        self.run_as.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers as whom the object's commands run, until they are swept.
    fn remember(&self, plan: &Plan, action: &Action) {
        let mut users = self.run_as();
        match action {
            Action::Sweep { uid, .. } => drop(users.remove(uid)),
            Action::Prepare { entry }
            | Action::Launch { entry, .. }
            | Action::Probe { entry }
            | Action::Terminate { entry, .. }
            | Action::Kill { entry, .. }
            | Action::Revoke { entry, .. } => {
                users.insert(entry.uid.clone(), plan.program.run_as.clone());
            }
        }
    }
}

#[async_trait]
impl Host for Machine {
    async fn act(&self, plan: &Plan, action: &Saved<Action>, material: Option<Material>) -> Seen {
        match &plan.execution {
            Execution::Direct(direct) => {
                self.direct.act(plan, direct, action.get(), material).await
            }
            Execution::Recorded => {
                self.remember(plan, action.get());
                self.recorded(plan.program.run_as.clone()).act(plan, action, material).await
            }
        }
    }

    async fn read(
        &self,
        entry: &Entry,
        stream: Stream,
        offset: u64,
        max: u32,
    ) -> Result<Chunk, Fault> {
        // Only Prepare of a recorded entry fills in the machine.
        if entry.machine.is_empty() {
            return Ok(self.direct.read(entry, stream, offset, max));
        }
        let run_as = self.run_as().get(&entry.uid).cloned().flatten();
        self.recorded(run_as).read(entry, stream, offset, max).await
    }
}

impl Hosts {
    pub fn new() -> Self {
        Self::default()
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
        for ((of, connection), machine) in self.lock().iter() {
            if of == scope && leads_over(connection, name) {
                machine.pool.poke();
                machine.direct.poke();
            }
        }
    }

    /// Commands and verbs on the machine's connections at this moment.
    pub fn active_sessions(&self, scope: &str, connection: &Connection) -> usize {
        let key = (scope.to_owned(), connection.clone());
        self.lock().get(&key).map_or(0, |machine| machine.pool.sessions())
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
            let pool = self.dialer.pool(connection.clone(), lookup);
            Arc::new(Machine::new(pool, connection.state_directory.clone()))
        });
        machine.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Machine>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    fn is_used(&self) -> bool {
        !self.pool.is_idle() || !self.direct.is_empty()
    }
}

fn leads_over(connection: &Connection, name: &str) -> bool {
    connection.hops.iter().any(|hop| {
        let map = hop.host_keys.config_map.as_ref().map(|(map, _)| map.as_str());
        hop.name == name || hop.credentials == name || map == Some(name)
    })
}
