//! How `run` gets at machines: over SSH, or with `--local` this one.

use std::sync::Arc;

use crate::host::Host;
use crate::host::local::Local;
use crate::host::recorded::{Recorded, Shells};
use crate::reach::Ways;
use crate::shim::Account;
use crate::step::Reach;

/// The connection text of commands that run on this machine.
pub const LOCAL: &str = "local";

/// The machines that the commands of one namespace run on.
pub struct Machines {
    /// Over SSH, with what the files hold.
    pub ways: Ways,
    /// This one.
    pub local: Arc<dyn Host>,
}

impl Reach for Machines {
    fn host(&self, connection: &str) -> Arc<dyn Host> {
        if connection == LOCAL { Arc::clone(&self.local) } else { self.ways.host(connection) }
    }
}

/// This machine as a host, for `--local`.
pub fn this_machine(run_as: Option<String>) -> Arc<dyn Host> {
    let shells = Shells::new(Arc::new(Local::default()), Account::default());
    Arc::new(Recorded::new(Arc::new(shells), run_as))
}
