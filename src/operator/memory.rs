//! What the status writer knows to be stored, and so what somebody else has written since.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use serde_json::Value;

use super::put::Known;
use crate::api::{RemoteCommand, RemoteCommandStatus};

/// What is known of the statuses of supervised objects, by UID.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    stored: HashMap<String, Known>,
    /// With a write under way, whose answer is not known yet.
    busy: HashSet<String>,
}

/// Whose status a version of an object shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Author {
    /// Ours, or it cannot be told: nothing was written since it is supervised.
    Ourselves,
    /// A write of ours is under way, which this may be.
    Unsettled,
    /// Another one than ours was written after ours, and differs in these fields.
    Another(Vec<String>),
}

impl Memory {
    /// What was written last.
    pub fn stored(&self, uid: &str) -> Option<Known> {
        self.kept().stored.get(uid).cloned()
    }

    /// Whether exactly this is stored.
    pub fn has(&self, uid: &str, status: &RemoteCommandStatus) -> bool {
        self.kept().stored.get(uid).is_some_and(|known| known.status == *status)
    }

    /// Whether a write is under way.
    pub fn is_busy(&self, uid: &str) -> bool {
        self.kept().busy.contains(uid)
    }

    /// Whether no write at all is under way.
    pub fn is_idle(&self) -> bool {
        self.kept().busy.is_empty()
    }

    /// A write begins.
    pub fn begin(&self, uid: &str) {
        self.kept().busy.insert(uid.to_owned());
    }

    /// A write has ended, with this stored by it; `None` when what is stored is not known.
    pub fn settle(&self, uid: &str, stored: Option<Known>) {
        let mut kept = self.kept();
        kept.busy.remove(uid);
        match stored {
            Some(known) => kept.stored.insert(uid.to_owned(), known),
            None => kept.stored.remove(uid),
        };
    }

    /// Forgets what was written.
    pub fn forget(&self, uid: &str) {
        self.kept().stored.remove(uid);
    }

    /// Who has written the status that `object` shows. Versions of an object grow.
    pub fn author(&self, object: &RemoteCommand) -> Author {
        let (Some(uid), Some(version)) = (object.uid(), object.resource_version()) else {
            return Author::Ourselves;
        };
        let kept = self.kept();
        let Some(known) = kept.stored.get(&uid) else { return Author::Ourselves };
        let number = |version: &str| version.parse::<u64>().ok();
        let later = number(&version) > number(&known.resource_version);
        if !later || object.status.as_ref() == Some(&known.status) {
            Author::Ourselves
        } else if kept.busy.contains(&uid) {
            Author::Unsettled
        } else {
            Author::Another(differing(&known.status, object.status.as_ref()))
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Every change is complete when the lock is released, whatever panicked since.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of the fields in which two statuses differ.
pub fn differing(ours: &RemoteCommandStatus, theirs: Option<&RemoteCommandStatus>) -> Vec<String> {
    let fields = |status: Option<&RemoteCommandStatus>| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (ours, theirs) = (fields(Some(ours)), fields(theirs));
    let mut names: Vec<String> = ours.keys().chain(theirs.keys()).cloned().collect();
    names.retain(|name| ours.get(name) != theirs.get(name));
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Phase;

    fn object(version: &str, phase: &str) -> RemoteCommand {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "uid": "a", "resourceVersion": version},
            "spec": {"hostRef": {"name": "db-1"}, "command": ["true"]},
            "status": {"phase": phase, "observedGeneration": 1},
        }))
        .unwrap()
    }

    fn known(version: &str, phase: Phase) -> Known {
        let status =
            RemoteCommandStatus { phase, observed_generation: 1, ..RemoteCommandStatus::default() };
        Known { resource_version: version.to_owned(), status, displaced: Vec::new() }
    }

    #[test]
    fn a_later_version_with_another_status_than_ours_is_somebody_elses() {
        let memory = Memory::default();
        let forged = object("9", "Succeeded");
        assert_eq!(memory.author(&forged), Author::Ourselves, "nothing is known yet");
        memory.begin("a");
        memory.settle("a", Some(known("8", Phase::Running)));
        assert_eq!(memory.author(&forged), Author::Another(vec!["phase".to_owned()]));
        assert_eq!(memory.author(&object("9", "Running")), Author::Ourselves, "of the spec");
        assert_eq!(memory.author(&object("7", "Succeeded")), Author::Ourselves, "older than ours");
        memory.begin("a");
        assert_eq!(memory.author(&forged), Author::Unsettled, "it may be ours");
        memory.settle("a", Some(known("10", Phase::Running)));
        assert_eq!(memory.author(&forged), Author::Ourselves, "it is put right");
    }
}
