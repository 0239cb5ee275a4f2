//! What an object and the hosts it refers to ask for, made anew at every turn.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use sha2::{Digest as _, Sha256};

use super::admission::HostKey;
use super::asking::Word;
use super::following::Source;
use crate::api::plan::limits_where_valid;
use crate::api::{self, Place, RemoteCommand, RemoteHost};
use crate::core::bounds::{WAYS_BYTES, stored_bytes};
use crate::core::connection::Connection;
use crate::core::plan::{Asked, Hold, HoldKind, Plan};

/// Everything a turn is decided from, besides the stage.
#[derive(Debug)]
pub struct Wishes {
    pub plan: Plan,
    pub asked: Asked,
    /// How the host is reached now; `None` while that cannot be said.
    pub connection: Option<Connection>,
    /// Where a place is needed.
    pub host: HostKey,
    /// How many places there are.
    pub concurrency: usize,
    pub source: Source,
    /// Changes with the objects that describe the way, and when somebody asks to look again.
    pub word: String,
}

/// What `object` asks for, with the hosts as they are in `hosts`.
pub fn wishes(object: &RemoteCommand, hosts: &Store<RemoteHost>) -> Wishes {
    let namespace = object.namespace().unwrap_or_default();
    let resolve = |name: &str| find(hosts, &namespace, name);
    let mut asked = api::asked(object);
    let way = api::connection_of(object, &resolve);
    let connection = way.map_err(|error| asked.hold = Some(error.hold())).ok();
    if let Some(connection) = &connection {
        asked.connection = serde_json::to_string(connection).unwrap_or_default();
        asked.poke = poke(object, connection, &resolve);
        asked.hold = too_long(&asked.connection);
    }
    let plan = api::plan(object).unwrap_or_else(|invalid| {
        asked.hold = Some(invalid.hold());
        nothing(object)
    });
    let (host, concurrency) = places(object, &namespace, &resolve);
    let tail = usize::try_from(object.spec.output.tail_bytes).unwrap_or_default();
    let source = Source {
        namespace,
        name: object.name_any(),
        host: plan.host.clone(),
        tail_bytes: tail,
        log: object.spec.output.log,
    };
    let word = asked.poke.clone();
    Wishes { plan, asked, connection, host, concurrency, source, word }
}

impl Wishes {
    /// Something else that tells of a mend when it changes. It is kept in the stage, so that a
    /// long text is told by its digest.
    pub fn may_be_mended_by(&mut self, versions: &str) {
        self.asked.poke.push_str(versions);
        if self.asked.poke.len() > LONGEST_POKE {
            let digest = Sha256::digest(self.asked.poke.as_bytes());
            self.asked.poke = STANDARD_NO_PAD.encode(digest);
        }
    }

    /// The same with a reason not to launch.
    pub fn hold(&mut self, hold: Hold) {
        self.asked.hold = Some(hold);
    }
}

/// A RemoteHost as the watch shows it.
pub fn find(hosts: &Store<RemoteHost>, namespace: &str, name: &str) -> Option<RemoteHost> {
    let host = hosts.get(&ObjectRef::new(name).within(namespace))?;
    Some(RemoteHost::clone(&host))
}

/// Bytes of what tells of a mend.
const LONGEST_POKE: usize = 256;

/// The way is kept in status with each attempt, and a status has room for so much only.
fn too_long(connection: &str) -> Option<Hold> {
    let bytes = stored_bytes(connection);
    (bytes > WAYS_BYTES).then(|| Hold {
        kind: HoldKind::Invalid,
        reason: "InvalidSpec".to_owned(),
        message: format!(
            "the host keys of all hosts on the way take {bytes} bytes in status; they may take \
             {WAYS_BYTES}: put more into config maps (hostKeys.configMapKeyRef)"
        ),
    })
}

/// Changes when a host on the way is changed, re-created, or becomes ready (which it also does
/// when its Secret is mended), and when somebody asks to look at it again.
fn poke(object: &RemoteCommand, connection: &Connection, resolve: api::Resolve<'_>) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    if let Ok(Place::Inline(_)) = api::place(&object.spec) {
        let _ = write!(text, "{:?};", Word::of(&object.metadata));
    }
    for host in connection.hops.iter().filter_map(|hop| resolve(&hop.name)) {
        let status = host.status.unwrap_or_default();
        let ready = status.conditions.into_iter().flatten().find(|c| c.type_ == "Ready");
        let word = Word::of(&host.metadata);
        let ready = ready.map(|ready| (ready.status, ready.last_transition_time.0));
        let _ = write!(text, "{:?} {word:?} {ready:?};", host.metadata.uid);
    }
    text
}

/// Whose places the command takes, and how many there are.
fn places(object: &RemoteCommand, namespace: &str, resolve: api::Resolve<'_>) -> (HostKey, usize) {
    let (host, concurrency) = match api::place(&object.spec) {
        Ok(Place::Named(name)) => {
            (name.to_owned(), resolve(name).map_or(1, |host| host.spec.concurrency))
        }
        Ok(Place::Inline(host)) => {
            (format!("{}@{}:{}", host.user, host.address, host.port), host.concurrency)
        }
        Err(_) => (String::new(), 1),
    };
    let key = HostKey { namespace: namespace.to_owned(), host };
    (key, usize::try_from(concurrency).unwrap_or(1))
}

/// Stands for a spec that cannot be carried out: it runs nothing.
fn nothing(object: &RemoteCommand) -> Plan {
    let host = api::place(&object.spec).map(|place| place.name().to_owned()).unwrap_or_default();
    let limits = limits_where_valid(&object.spec);
    Plan { limits, ..Plan::plain(&object.uid().unwrap_or_default(), &host, &[]) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::runtime::reflector::store;
    use serde_json::json;

    use super::*;

    fn wished(spec: serde_json::Value) -> Wishes {
        let object = json!({
            "metadata": {"namespace": "ns", "name": "a", "uid": "a"}, "spec": spec,
        });
        let object: RemoteCommand = serde_json::from_value(object).unwrap();
        let (hosts, _writer) = store();
        wishes(&object, &hosts)
    }

    #[test]
    fn a_spec_that_cannot_be_carried_out_still_has_its_limits() {
        let wished = wished(json!({
            "hostRef": {"name": "db-1"}, "command": ["true"],
            "timeouts": {"queue": "3s", "cleanup": "4s"}, "output": {"sizeLimit": "much"},
        }));
        assert_eq!(wished.asked.hold.unwrap().reason, "InvalidSpec");
        assert_eq!(wished.plan.limits.queue, Duration::from_secs(3));
        assert_eq!(wished.plan.limits.cleanup, Duration::from_secs(4));
    }

    #[test]
    fn a_way_that_leaves_no_room_for_a_result_is_refused_before_anything_starts() {
        let host = |known: String| {
            json!({
                "address": "a", "user": "u", "hostKeys": {"knownHosts": known},
                "credentials": {"secretRef": {"name": "s"}},
            })
        };
        let fits = wished(json!({"host": host("x".repeat(100_000)), "command": ["true"]}));
        assert_eq!(fits.asked.hold, None);
        let huge = wished(json!({"host": host("x".repeat(600_000)), "command": ["true"]}));
        let hold = huge.asked.hold.unwrap();
        assert_eq!(hold.reason, "InvalidSpec");
        assert!(hold.message.contains("configMapKeyRef"), "{}", hold.message);
    }
}
