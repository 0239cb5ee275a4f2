//! How machines are got at, and what the way to them needs: the same for the operator and `run`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::core::action::{Action, Entry, Seen};
use crate::core::connection::Connection;
use crate::core::fault::{Fault, Ours};
use crate::core::plan::{Hold, Plan};
use crate::host::hosts::Hosts;
use crate::host::{Chunk, Host, Lookup, LookupError, Material, Stream};
use crate::journal::Saved;
use crate::step::{Reach, hold};

/// The ways out of one namespace.
pub struct Ways {
    hosts: Arc<Hosts>,
    namespace: String,
    lookup: Arc<dyn Lookup>,
}

impl Ways {
    /// Reaches machines with what `lookup` finds in `namespace`.
    pub fn new(hosts: Arc<Hosts>, namespace: &str, lookup: Arc<dyn Lookup>) -> Self {
        Self { hosts, namespace: namespace.to_owned(), lookup }
    }

    /// Where Secrets and ConfigMaps are found.
    pub fn lookup(&self) -> &dyn Lookup {
        self.lookup.as_ref()
    }

    /// What the way needs and cannot be found, if anything.
    ///
    /// # Errors
    /// [`LookupError::Unavailable`] when it could not be asked for.
    pub async fn missing(&self, connection: &Connection) -> Result<Option<Hold>, LookupError> {
        for hop in &connection.hops {
            let mut found = self.lookup.secret(&hop.credentials).await.map(drop);
            if let (Ok(()), Some((name, key))) = (&found, &hop.host_keys.config_map) {
                found = self.lookup.config_map(name, key).await.map(drop);
            }
            match found {
                Ok(()) => {}
                Err(unavailable @ LookupError::Unavailable(_)) => return Err(unavailable),
                Err(missing) => return Ok(Some(hold(&missing))),
            }
        }
        Ok(None)
    }
}

impl Reach for Ways {
    fn host(&self, connection: &str) -> Arc<dyn Host> {
        match serde_json::from_str::<Connection>(connection) {
            Ok(way) => self.hosts.host(&self.namespace, &way, Arc::clone(&self.lookup)),
            Err(failure) => Arc::new(Nowhere(failure.to_string())),
        }
    }
}

/// Stands for a connection that cannot be read: nothing can be asked there.
struct Nowhere(String);

impl Nowhere {
    fn fault(&self) -> Fault {
        let message = format!("how the host was reached cannot be read: {}", self.0);
        Fault::new(Ours::ProtocolError, message)
    }
}

#[async_trait]
impl Host for Nowhere {
    async fn act(&self, _: &Plan, _: &Saved<Action>, _: Option<Material>) -> Seen {
        Seen::Unreachable(self.fault())
    }

    async fn read(&self, _: &Entry, _: Stream, _: u64, _: u32) -> Result<Chunk, Fault> {
        Err(self.fault())
    }
}
