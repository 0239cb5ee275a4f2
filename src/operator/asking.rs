//! Words to look at a host again: an object that describes one was changed, or its annotation
//! `remotecommand.dev/check`.
//!
//! What is known of a host is forgotten before anybody who waits for it is woken, so that none of
//! them is told the old answer. RemoteHosts are compared as they change; an inline host's words
//! are kept here, because its command's supervisor may come and go.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::runtime::reflector::Store;

use super::wishes::find;
use crate::api::{self, Place, RemoteCommand, RemoteHost, check_word};
use crate::host::hosts::{Hosts, Whose};

/// What an object that describes a host said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    generation: Option<i64>,
    check: Option<String>,
}

impl Word {
    /// The object's word now.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self { generation: metadata.generation, check: check_word(metadata) }
    }

    /// Makes the next look at the machines a new one, as far as this word is another than the
    /// `former` one.
    pub fn tell(&self, former: &Self, hosts: &Hosts, scope: &str, whose: Whose<'_>) {
        if self.check != former.check {
            hosts.ask_again(scope, whose);
        } else if self.generation != former.generation {
            hosts.reconsider(scope, whose);
        }
    }
}

/// The last words of commands with inline hosts, by UID.
#[derive(Debug, Default)]
pub struct Words(Mutex<HashMap<String, Word>>);

impl Words {
    /// Takes note of a version of a command; the first one says nothing.
    pub fn heed(&self, object: &RemoteCommand, hosts: &Hosts, known: &Store<RemoteHost>) {
        let inline = matches!(api::place(&object.spec), Ok(Place::Inline(_)));
        let (Some(uid), Some(namespace), true) = (object.uid(), object.namespace(), inline) else {
            return;
        };
        let word = Word::of(&object.metadata);
        let former = self.kept().insert(uid, word.clone());
        let Some(former) = former.filter(|former| *former != word) else { return };
        let resolve = |name: &str| find(known, &namespace, name);
        if let Ok(way) = api::connection_of(object, &resolve) {
            word.tell(&former, hosts, &namespace, Whose::Way(&way));
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.kept().remove(uid);
    }

    /// Forgets all objects but these, by UID.
    pub fn keep(&self, uids: &HashSet<String>) {
        self.kept().retain(|uid, _| uids.contains(uid));
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Word>> {
        // Every change is complete when the lock is released, whatever panicked since.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
