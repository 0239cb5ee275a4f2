//! Who is supervised: one task per object UID, never two.
//!
//! Objects are keyed by UID: a deleted and re-created object of the same name is another one.
//! A supervisor that has nothing left to do ends; the next version of its object starts it
//! again. A panic ends one supervisor, not the operator, and that one is started again later.

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::ResourceExt;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::error;

use crate::api::RemoteCommand;

/// How long a supervisor that panicked is left alone.
const AFTER_PANIC: Duration = Duration::from_secs(60);

/// Which object is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub uid: String,
    pub namespace: String,
    pub name: String,
}

impl Key {
    /// The key of an object that the API server has stored.
    pub fn of(object: &RemoteCommand) -> Option<Self> {
        Some(Self {
            uid: object.uid()?,
            namespace: object.namespace()?,
            name: object.metadata.name.clone()?,
        })
    }
}

/// A supervisor's view of its object.
#[derive(Debug)]
pub struct Seat {
    pub key: Key,
    /// The latest version seen.
    pub object: watch::Receiver<Arc<RemoteCommand>>,
    /// Something it may be waiting for has changed.
    pub poke: Arc<Notify>,
}

/// The supervisors, by UID.
#[derive(Debug, Default)]
pub struct Registry {
    supervised: HashMap<String, Supervised>,
    tasks: JoinSet<Ended>,
}

#[derive(Debug)]
struct Supervised {
    key: Key,
    object: watch::Sender<Arc<RemoteCommand>>,
    poke: Arc<Notify>,
    task: AbortHandle,
    rests_until: Option<Instant>,
}

/// How a supervisor ended, and with which version in view.
#[derive(Debug)]
struct Ended {
    uid: String,
    /// `None` after a panic.
    last: Option<Option<String>>,
}

/// How the supervision of an object ended.
#[derive(Debug)]
pub enum End {
    /// Nothing is left to be done before the object changes.
    Rested(Key),
    /// A later version than the one it last saw is at hand: it must be started again.
    Outdated(Arc<RemoteCommand>),
    /// It panicked. It is started again later.
    Panicked(Arc<RemoteCommand>),
}

impl Registry {
    /// Shows a version of an object to its supervisor, which is started if there is none:
    /// `start` is called before this returns, so that places are taken in the order of calls.
    pub fn show<F>(&mut self, object: Arc<RemoteCommand>, start: impl FnOnce(Seat) -> F)
    where
        F: Future<Output = Arc<RemoteCommand>> + Send + 'static,
    {
        let Some(key) = Key::of(&object) else { return };
        if let Some(known) = self.supervised.get(&key.uid) {
            known.object.send_replace(object);
            return;
        }
        let (sender, receiver) = watch::channel(object);
        let poke = Arc::new(Notify::new());
        let seat = Seat { key: key.clone(), object: receiver, poke: Arc::clone(&poke) };
        // A panic in here would be the caller's, who looks at all objects.
        let started = catch_unwind(AssertUnwindSafe(|| start(seat))).ok();
        let uid = key.uid.clone();
        let task = self.tasks.spawn(async move {
            let last = match started {
                Some(work) => AssertUnwindSafe(work).catch_unwind().await.ok(),
                None => None,
            };
            Ended { uid, last: last.map(|object| object.metadata.resource_version.clone()) }
        });
        let supervised =
            Supervised { key: key.clone(), object: sender, poke, task, rests_until: None };
        self.supervised.insert(key.uid, supervised);
    }

    /// Waits for a supervisor that ends; `None` when it was stopped. Pends while none runs.
    pub async fn ended(&mut self) -> Option<End> {
        let ended = match self.tasks.join_next().await {
            Some(Ok(ended)) => ended,
            // Aborted by `stop`, which has forgotten it.
            Some(Err(_)) => return None,
            None => std::future::pending().await,
        };
        let Some(last) = ended.last else {
            error!(uid = ended.uid, "a supervisor panicked; it is started again later");
            let known = self.supervised.get_mut(&ended.uid)?;
            known.rests_until = Some(Instant::now() + AFTER_PANIC);
            return Some(End::Panicked(known.object.borrow().clone()));
        };
        let known = self.supervised.remove(&ended.uid)?;
        let object = known.object.borrow().clone();
        let is_latest = object.metadata.resource_version == last;
        Some(if is_latest { End::Rested(known.key) } else { End::Outdated(object) })
    }

    /// Waits until no supervisor runs. One that panicked and rests has ended.
    pub async fn all_ended(&mut self) {
        while !self.tasks.is_empty() {
            self.ended().await;
        }
    }

    /// Forgets those whose rest after a panic is over; gives their objects.
    pub fn rested(&mut self) -> Vec<Arc<RemoteCommand>> {
        let now = Instant::now();
        let over = |s: &Supervised| s.rests_until.is_some_and(|until| until <= now);
        let uids: Vec<String> =
            self.supervised.iter().filter(|(_, s)| over(s)).map(|(uid, _)| uid.clone()).collect();
        let taken = uids.iter().filter_map(|uid| self.supervised.remove(uid));
        taken.map(|known| known.object.borrow().clone()).collect()
    }

    /// Wakes the supervisors of a namespace: something they refer to has changed.
    pub fn poke(&self, namespace: &str) {
        for known in self.supervised.values().filter(|known| known.key.namespace == namespace) {
            known.poke.notify_one();
        }
    }

    /// Ends the supervision of an object that is gone. What runs on its host is not touched.
    pub fn stop(&mut self, uid: &str) {
        if let Some(known) = self.supervised.remove(uid) {
            known.task.abort();
        }
    }

    /// The objects that are supervised.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.supervised.values().map(|known| &known.key)
    }

    /// Ends all supervision and waits until it has ended.
    pub async fn shutdown(&mut self) {
        self.supervised.clear();
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn object(uid: &str) -> Arc<RemoteCommand> {
        let object = serde_json::json!({
            "metadata": {"namespace": "ns", "name": uid, "uid": uid, "resourceVersion": "1"},
            "spec": {"hostRef": {"name": "db-1"}, "command": ["true"]},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn supervised(registry: &Registry) -> Vec<String> {
        let mut uids: Vec<String> = registry.keys().map(|key| key.uid.clone()).collect();
        uids.sort();
        uids
    }

    async fn ended(registry: &mut Registry) -> Option<End> {
        tokio::time::timeout(Duration::from_secs(5), registry.ended()).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_that_panics_at_its_start_ends_alone_and_is_started_again_later() {
        let mut registry = Registry::default();
        let fails = |_: Seat| -> std::future::Ready<Arc<RemoteCommand>> { panic!("at its start") };
        registry.show(object("a"), fails);
        registry.show(object("b"), |_| std::future::pending());
        let Some(End::Panicked(panicked)) = ended(&mut registry).await else { unreachable!() };
        assert_eq!(panicked.name_any(), "a", "so that it can be told");
        assert_eq!(supervised(&registry), ["a", "b"]);
        registry.show(object("a"), |_| -> std::future::Ready<_> { unreachable!("it rests") });
        assert!(registry.rested().is_empty());

        tokio::time::advance(AFTER_PANIC).await;
        let rested = registry.rested();
        assert_eq!(rested.iter().map(|object| object.name_any()).collect::<Vec<_>>(), ["a"]);
        registry.show(object("a"), |seat| ready(seat.object.borrow().clone()));
        assert!(matches!(ended(&mut registry).await, Some(End::Rested(_))));
        assert_eq!(supervised(&registry), ["b"]);
    }

    #[tokio::test]
    async fn the_end_of_all_supervisors_is_not_waited_for_once_the_last_has_panicked() {
        let mut registry = Registry::default();
        registry.show(object("a"), |_| async { panic!("while it supervises") });
        registry.show(object("b"), |seat| ready(seat.object.borrow().clone()));
        let limit = Duration::from_secs(5);
        tokio::time::timeout(limit, registry.all_ended()).await.unwrap();
        tokio::time::timeout(limit, registry.all_ended()).await.unwrap();
    }

    #[tokio::test]
    async fn supervisors_take_their_seats_in_the_order_in_which_they_are_shown() {
        let mut registry = Registry::default();
        let mut taken = Vec::new();
        for uid in ["c", "a", "b"] {
            registry.show(object(uid), |seat| {
                taken.push(seat.key.uid);
                std::future::pending()
            });
        }
        assert_eq!(taken, ["c", "a", "b"]);
    }
}
