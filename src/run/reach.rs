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
pub fn this_machine() -> Arc<dyn Host> {
    let shells = Shells::new(Arc::new(Local::default()), Account::default());
    Arc::new(Recorded::new(Arc::new(shells)))
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::core::action::{Action, Entry, Kind, Seen};
    use crate::core::plan::Plan;
    use crate::journal::Saved;

    /// What the spec says by now is for the next attempt: it may name another user.
    fn plan() -> Plan {
        Plan::plain("uid", "local", &["true"])
    }

    /// Guards against an attempt that reads as wiped because the spec names another user by now.
    #[tokio::test]
    async fn an_attempt_is_looked_for_in_the_store_of_the_user_it_was_launched_as() {
        let entry = Entry {
            uid: "uid".to_owned(),
            run: 1,
            attempt: 1,
            kind: Kind::Command,
            token: "0".repeat(32),
            machine: String::new(),
            run_as: Some("-nobody-has-such-a-name".to_owned()),
        };
        let probe = Saved::for_test(Action::Probe { entry });
        let seen = this_machine().act(&plan(), &probe, None).await;
        let Seen::Unreachable(fault) = seen else { panic!("{seen:?}") };
        assert_eq!(fault.reason(), "RunAsRestricted");
    }
}
