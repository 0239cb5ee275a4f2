//! `ttlSecondsAfterFinished`: finished objects are deleted when their time has come.
//!
//! An Unknown is never deleted: it waits for a person. Before a deletion the object is read
//! anew, and the deletion is tied to the UID and the version that was read.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DeleteParams, Preconditions};
use kube::{Client, ResourceExt};
use tracing::{info, warn};

use super::fault::{Failure, bounded};
use super::registry::Key;
use super::stage;
use crate::api::{MANAGED_BY, RemoteCommand};

/// When which object is to go.
#[derive(Debug, Default)]
pub struct Expiry {
    due: BTreeSet<(Timestamp, Key)>,
    /// By UID, to find an object's place in `due` again.
    moments: HashMap<String, Timestamp>,
}

impl Expiry {
    /// Takes note of an object's time, which may have changed.
    pub fn note(&mut self, object: &RemoteCommand) {
        let Some(key) = Key::of(object) else { return };
        if let Some(former) = self.moments.remove(&key.uid) {
            self.due.remove(&(former, key.clone()));
        }
        if let Some(moment) = moment(object) {
            self.moments.insert(key.uid.clone(), moment);
            self.due.insert((moment, key));
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, uid: &str) {
        if let Some(former) = self.moments.remove(uid) {
            self.due.retain(|(moment, key)| *moment != former || key.uid != uid);
        }
    }

    /// Forgets all objects but these, by UID.
    pub fn keep(&mut self, uids: &HashSet<String>) {
        self.moments.retain(|uid, _| uids.contains(uid));
        self.due.retain(|(_, key)| uids.contains(&key.uid));
    }

    /// When the next object is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(moment, _)| *moment)
    }

    /// Takes out the objects that are due by `now`.
    pub fn take(&mut self, now: Timestamp) -> Vec<Key> {
        let mut taken = Vec::new();
        while self.next().is_some_and(|moment| moment <= now) {
            let Some((_, key)) = self.due.pop_first() else { break };
            self.moments.remove(&key.uid);
            taken.push(key);
        }
        taken
    }
}

/// When an object is to be deleted; `None` for never, and for one of another manager.
fn moment(object: &RemoteCommand) -> Option<Timestamp> {
    if object.spec.managed_by != MANAGED_BY {
        return None;
    }
    let seconds = object.spec.ttl_seconds_after_finished?;
    let deleted = object.metadata.deletion_timestamp.is_some();
    let observed = object.status.as_ref()?.observed_generation;
    if deleted || object.metadata.generation.is_none_or(|generation| observed < generation) {
        return None;
    }
    // What the status says beside the record may be written by anybody.
    let stage = stage::read(object).ok().filter(stage::is_over)?;
    let completion = stage.outcome?.time;
    completion.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok()
}

/// Deletes an object whose time has come, if it still has.
pub async fn expire(client: Client, key: Key) {
    let api = Api::<RemoteCommand>::namespaced(client, &key.namespace);
    match delete(&api, &key).await {
        Ok(true) => {
            info!(namespace = key.namespace, name = key.name, "deleted: its TTL has passed")
        }
        // A changed or missing object is seen by the watch, which notes its time anew.
        Ok(false) | Err(Failure::Conflict | Failure::Missing) => {}
        Err(failure) => {
            warn!(namespace = key.namespace, name = key.name, %failure, "TTL deletion failed");
        }
    }
}

async fn delete(api: &Api<RemoteCommand>, key: &Key) -> Result<bool, Failure> {
    let Some(live) = bounded(api.get_opt(&key.name)).await? else { return Ok(false) };
    let due = moment(&live).is_some_and(|moment| moment <= Timestamp::now());
    if live.uid().as_deref() != Some(key.uid.as_str()) || !due {
        return Ok(false);
    }
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: live.metadata.uid,
            resource_version: live.metadata.resource_version,
        }),
        ..DeleteParams::default()
    };
    bounded(api.delete(&key.name, &parameters)).await.map(|_| true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::outcome::{Ending, Outcome, Success};
    use crate::core::stage::Stage;

    fn ended(uid: &str, manager: &str) -> RemoteCommand {
        let object = json!({
            "metadata": {"namespace": "ns", "name": uid, "uid": uid, "generation": 1},
            "spec": {"hostRef": {"name": "db-1"}, "command": ["true"], "managedBy": manager,
                     "ttlSecondsAfterFinished": 60},
            "status": {"phase": "Succeeded", "observedGeneration": 1,
                       "completionTime": "2025-01-02T03:04:05Z"},
        });
        let mut object: RemoteCommand = serde_json::from_value(object).unwrap();
        let outcome = Outcome {
            ending: Ending::Succeeded(Success::Completed),
            message: String::new(),
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
            evidence: None,
            exit_code: None,
            signal: None,
        };
        let ended = Stage { revision: 1, run: 1, outcome: Some(outcome), ..Stage::default() };
        object.status.as_mut().unwrap().stage = Some(stage::record(&ended).unwrap());
        object
    }

    /// Guards a command that runs against whoever writes to its status that it has ended.
    #[test]
    fn an_object_expires_by_the_record_and_not_by_what_is_written_beside_it() {
        let mut object = ended("a", MANAGED_BY);
        let running = Stage { revision: 1, run: 1, ..Stage::default() };
        object.status.as_mut().unwrap().stage = Some(stage::record(&running).unwrap());
        assert_eq!(moment(&object), None);
        object.status.as_mut().unwrap().stage = None;
        assert_eq!(moment(&object), None);
    }

    #[test]
    fn an_object_of_another_manager_never_expires() {
        let mut expiry = Expiry::default();
        expiry.note(&ended("a", "example.com/other"));
        assert_eq!(expiry.next(), None);
        expiry.note(&ended("a", MANAGED_BY));
        assert_eq!(expiry.next(), Some("2026-01-02T03:05:05Z".parse().unwrap()));
    }

    #[test]
    fn an_object_that_is_not_there_any_more_is_forgotten() {
        let mut expiry = Expiry::default();
        for uid in ["a", "b"] {
            expiry.note(&ended(uid, MANAGED_BY));
        }
        expiry.keep(&HashSet::from(["b".to_owned()]));
        let due: Vec<String> =
            expiry.take(Timestamp::now()).into_iter().map(|key| key.uid).collect();
        assert_eq!(due, ["b"]);
        assert_eq!(expiry.moments.len(), 0);
    }
}
