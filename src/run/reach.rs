//! How `run` gets at machines: over SSH, or with `--local` this one.

use std::sync::Arc;

use crate::core::connection::Connection;
use crate::host::Host;
use crate::host::local::Local;
use crate::host::recorded::{Recorded, Shells};
use crate::reach::Ways;
use crate::shim::Account;
use crate::step::Reach;

/// The connection text of commands that run on this machine.
pub const LOCAL: &str = "local";

/// The machines that one command runs on.
pub struct Machines {
    /// Over SSH, with what the files hold.
    pub ways: Ways,
    /// This one.
    pub local: Arc<dyn Host>,
    /// The connection that the files describe now.
    pub now: String,
}

impl Reach for Machines {
    fn host(&self, connection: &str) -> Arc<dyn Host> {
        if connection == LOCAL {
            Arc::clone(&self.local)
        } else {
            self.ways.host(&as_written_now(connection, &self.now))
        }
    }
}

/// An attempt's connection with the keys, names of credentials and limits that the files have for
/// the same way now, so that mending one of these helps an attempt that is under way, too. Where
/// its records are stays as it was.
fn as_written_now(connection: &str, now: &str) -> String {
    let read = |text: &str| serde_json::from_str::<Connection>(text).ok();
    let (Some(own), Some(now)) = (read(connection), read(now)) else {
        return connection.to_owned();
    };
    if !own.leads_where(&now) {
        return connection.to_owned();
    }
    let mended = Connection { state_directory: own.state_directory, ..now };
    serde_json::to_string(&mended).unwrap_or_else(|_| connection.to_owned())
}

/// This machine as a host, for `--local`.
pub fn this_machine() -> Arc<dyn Host> {
    let shells = Shells::new(Arc::new(Local::default()), Account::default());
    Arc::new(Recorded::new(Arc::new(shells)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::action::{Action, Entry, Kind, Seen};
    use crate::core::connection::{Hop, HopTimeouts, HostKeys, KeepAlive};
    use crate::core::plan::Plan;
    use crate::journal::Saved;

    fn connection(address: &str, fingerprint: &str, state_directory: &str) -> String {
        let second = Duration::from_secs(1);
        let timeouts = HopTimeouts { connect: second, handshake: second, authenticate: second };
        let fingerprints = vec![fingerprint.to_owned()];
        let hop = Hop {
            name: "h".to_owned(),
            address: address.to_owned(),
            port: 22,
            user: "u".to_owned(),
            host_keys: HostKeys { fingerprints, ..HostKeys::default() },
            credentials: "s".to_owned(),
            timeouts,
            keep_alive: KeepAlive { interval: second, missed: 3 },
        };
        let state_directory = Some(state_directory.to_owned());
        let way = Connection { hops: vec![hop], state_directory, sessions: 8 };
        serde_json::to_string(&way).unwrap()
    }

    /// Guards against an attempt that is asked about with a host key that was mended since.
    #[test]
    fn an_attempt_is_followed_with_the_keys_of_the_files_where_its_records_are() {
        let (was, now) = (connection("a", "old", "/then"), connection("a", "new", "/now"));
        assert_eq!(as_written_now(&was, &now), connection("a", "new", "/then"));
        let elsewhere = connection("b", "new", "/now");
        assert_eq!(as_written_now(&was, &elsewhere), was);
    }

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
