//! How `run` gets at machines: over SSH, or with `--local` this one.

use std::sync::Arc;

use async_trait::async_trait;

use crate::core::action::{Action, Entry, Seen};
use crate::core::connection::Connection;
use crate::core::fault::{Fault, Ours};
use crate::core::plan::Plan;
use crate::host::hosts::Hosts;
use crate::host::local::Local;
use crate::host::recorded::{Recorded, Shells};
use crate::host::{Chunk, Host, Lookup, Material, Stream};
use crate::journal::Saved;
use crate::shim::Account;
use crate::step::Reach;

/// The connection text of commands that run on this machine.
pub const LOCAL: &str = "local";

/// The machines that the commands of one namespace run on.
pub struct Machines {
    pub hosts: Arc<Hosts>,
    pub namespace: String,
    pub lookup: Arc<dyn Lookup>,
    pub local: Arc<dyn Host>,
}

impl Reach for Machines {
    fn host(&self, connection: &str) -> Arc<dyn Host> {
        if connection == LOCAL {
            return Arc::clone(&self.local);
        }
        match serde_json::from_str::<Connection>(connection) {
            Ok(way) => self.hosts.host(&self.namespace, &way, Arc::clone(&self.lookup)),
            Err(error) => Arc::new(Nowhere(error.to_string())),
        }
    }
}

/// This machine as a host, for `--local`.
pub fn this_machine(run_as: Option<String>) -> Arc<dyn Host> {
    let shells = Shells::new(Arc::new(Local::default()), Account::default());
    Arc::new(Recorded::new(Arc::new(shells), run_as))
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
