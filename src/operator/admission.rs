//! Places on a host: at most `concurrency` commands at once, first come first served.
//!
//! A supervisor draws a [`Ticket`] before the first launch of a run and keeps it until the
//! attempt has ended. Dropping the ticket gives the place to the next one waiting. An attempt
//! that already lives (after a restart of the operator) takes its place without waiting, even
//! above the limit: it is there, whatever the limit says.
//!
//! Not here: a promise. Two operators, or a lowered limit, can have more on a host at once;
//! what keeps a command from starting twice is its claim on the host.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many of those who wait are woken when a place is given back.
const WOKEN: usize = 8;

/// Which host is meant: a RemoteHost of a namespace, or the address of an inline one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostKey {
    pub namespace: String,
    /// The RemoteHost's name, or `user@address:port`.
    pub host: String,
}

/// Who asks for a place.
#[derive(Clone, Debug)]
pub struct Guest {
    pub uid: String,
    /// `namespace/name`, named to those who wait.
    pub name: String,
    /// Woken when a place is free.
    pub wake: Arc<Notify>,
}

/// All hosts' places.
#[derive(Debug, Default)]
pub struct Admission {
    hosts: Mutex<HashMap<HostKey, Places>>,
}

#[derive(Debug, Default)]
struct Places {
    held: Vec<Guest>,
    waiting: VecDeque<Guest>,
}

/// A place, or a number in the queue for one.
#[derive(Debug)]
pub struct Ticket {
    admission: Arc<Admission>,
    key: HostKey,
    uid: String,
}

impl Admission {
    /// Joins the queue of a host.
    pub fn queue(self: &Arc<Self>, key: HostKey, guest: Guest) -> Ticket {
        self.join(key, guest, |places, guest| places.waiting.push_back(guest))
    }

    /// Takes a place at once, for an attempt that is already on the host.
    pub fn occupy(self: &Arc<Self>, key: HostKey, guest: Guest) -> Ticket {
        self.join(key, guest, |places, guest| places.held.push(guest))
    }

    fn join(
        self: &Arc<Self>,
        key: HostKey,
        guest: Guest,
        enter: impl FnOnce(&mut Places, Guest),
    ) -> Ticket {
        let uid = guest.uid.clone();
        let mut hosts = self.lock();
        let places = hosts.entry(key.clone()).or_default();
        places.remove(&uid);
        enter(places, guest);
        drop(hosts);
        Ticket { admission: Arc::clone(self), key, uid }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HostKey, Places>> {
        // Every change below is complete when the lock is released, whatever panicked since.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Takes a place if it is our turn under `limit`.
    ///
    /// # Errors
    /// The name (`namespace/name`) of a command in the way: one that holds a place, or one
    /// that is before us in the queue.
    pub fn enter(&self, limit: usize) -> Result<(), String> {
        let mut hosts = self.admission.lock();
        let Some(places) = hosts.get_mut(&self.key) else { return Ok(()) };
        if places.held.iter().any(|guest| guest.uid == self.uid) {
            return Ok(());
        }
        let free = limit.max(1).saturating_sub(places.held.len());
        let before = places.waiting.iter().position(|guest| guest.uid == self.uid).unwrap_or(0);
        if before < free {
            if let Some(guest) = places.waiting.remove(before) {
                places.held.push(guest);
            }
            return Ok(());
        }
        let blocker = places.held.first().or_else(|| places.waiting.front());
        Err(blocker.map(|guest| guest.name.clone()).unwrap_or_default())
    }

    /// The host this ticket is for.
    pub fn key(&self) -> &HostKey {
        &self.key
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut hosts = self.admission.lock();
        let Some(places) = hosts.get_mut(&self.key) else { return };
        places.remove(&self.uid);
        // Those at the end of a long queue look again at leisure: waking them all would make
        // them all say who is before them now.
        for guest in places.waiting.iter().take(WOKEN) {
            guest.wake.notify_one();
        }
        if places.held.is_empty() && places.waiting.is_empty() {
            hosts.remove(&self.key);
        }
    }
}

impl Places {
    fn remove(&mut self, uid: &str) {
        self.held.retain(|guest| guest.uid != uid);
        self.waiting.retain(|guest| guest.uid != uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> HostKey {
        HostKey { namespace: "ns".to_owned(), host: "db-1".to_owned() }
    }

    fn guest(uid: &str) -> Guest {
        Guest { uid: uid.to_owned(), name: format!("ns/{uid}"), wake: Arc::new(Notify::new()) }
    }

    #[test]
    fn the_second_waits_and_is_told_who_is_in_the_way() {
        let admission = Arc::new(Admission::default());
        let first = admission.queue(key(), guest("a"));
        let second = admission.queue(key(), guest("b"));
        assert_eq!(first.enter(1), Ok(()));
        assert_eq!(second.enter(1), Err("ns/a".to_owned()));
        drop(first);
        assert_eq!(second.enter(1), Ok(()));
    }

    #[test]
    fn nobody_overtakes() {
        let admission = Arc::new(Admission::default());
        let first = admission.queue(key(), guest("a"));
        let second = admission.queue(key(), guest("b"));
        assert_eq!(second.enter(1), Err("ns/a".to_owned()));
        assert_eq!(first.enter(1), Ok(()));
    }

    #[test]
    fn a_live_attempt_has_its_place_without_asking() {
        let admission = Arc::new(Admission::default());
        let waiting = admission.queue(key(), guest("a"));
        let _one = admission.occupy(key(), guest("b"));
        let _two = admission.occupy(key(), guest("c"));
        assert_eq!(waiting.enter(2), Err("ns/b".to_owned()));
        assert_eq!(waiting.enter(3), Ok(()));
    }

    #[tokio::test]
    async fn a_place_given_back_wakes_those_who_wait() {
        let admission = Arc::new(Admission::default());
        let first = admission.queue(key(), guest("a"));
        assert_eq!(first.enter(1), Ok(()));
        let second = guest("b");
        let wake = Arc::clone(&second.wake);
        let _second = admission.queue(key(), second);
        drop(first);
        tokio::time::timeout(std::time::Duration::from_secs(5), wake.notified()).await.unwrap();
    }
}
