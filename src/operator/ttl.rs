//! `ttlSecondsAfterFinished`: finished objects are deleted when their time has come.
//!
//! An Unknown is never deleted: it waits for a person. Before a deletion the object is read
//! anew, and the deletion is tied to the UID and the version that was read.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DeleteParams, Preconditions};
use kube::{Client, ResourceExt};
use tracing::{info, warn};

use super::fault::{Failure, bounded};
use super::registry::Key;
use crate::api::{Phase, RemoteCommand};

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

/// When an object is to be deleted; `None` for never.
fn moment(object: &RemoteCommand) -> Option<Timestamp> {
    let seconds = object.spec.ttl_seconds_after_finished?;
    let status = object.status.as_ref()?;
    let done = matches!(status.phase, Phase::Succeeded | Phase::Failed);
    let deleted = object.metadata.deletion_timestamp.is_some();
    let current = Some(status.observed_generation) == object.metadata.generation;
    if !done || deleted || !current {
        return None;
    }
    let completion = status.completion_time.as_ref()?.0;
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
