//! At most a few handshakes with one server at a time, over all namespaces and users, and each
//! namespace its share of them.
//!
//! sshd drops unauthenticated connections at random beyond MaxStartups (10 by default). A server
//! is known by the whole way to it: what answers at the end of a jump host of somebody's own
//! is not the server that others reach directly at that address, and holds up nobody else.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::place::Place;
use crate::core::fault::{Fault, Transient};

/// Handshakes with one server at once.
const AT_ONCE: usize = 6;
/// Of one scope: never more than half, so that one that is slow leaves room for another.
const SHARE: usize = AT_ONCE / 2;
/// After this long a turn no longer counts among those at once, whatever limits its spec has: the
/// usual limits of connecting, handshake and authentication (10 s each) end before. It goes on
/// counting for its own scope until it ends.
const TURN: Duration = Duration::from_secs(30);
/// How long a turn is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The gates of all servers.
#[derive(Debug, Default)]
pub(super) struct Gate(Arc<Mutex<Doors>>);

type Doors = HashMap<Place, Door>;

/// The gate of one server.
#[derive(Debug, Default)]
struct Door {
    /// Those inside, by whose they are and since when.
    inside: Vec<Guest>,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
    /// Numbers those inside.
    admitted: u64,
}

#[derive(Debug)]
struct Guest {
    number: u64,
    scope: String,
    since: Instant,
}

#[derive(Debug)]
struct Waiting {
    scope: String,
    admit: oneshot::Sender<u64>,
}

/// A turn at the gate; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    doors: Arc<Mutex<Doors>>,
    place: Place,
    /// Set once it is inside.
    number: Option<u64>,
    granted: oneshot::Receiver<u64>,
}

impl Gate {
    /// Waits for a turn, a minute at most. Whose scope has the fewest inside goes first.
    ///
    /// # Errors
    /// `Throttled` when no turn came.
    pub(super) async fn enter(&self, scope: &str, place: &Place) -> Result<Turn, Fault> {
        let until = Instant::now() + PATIENCE;
        let mut turn = self.queue(scope, place);
        loop {
            let look = self.admit(place).map_or(until, |look| look.min(until));
            tokio::select! {
                biased;
                granted = &mut turn.granted => {
                    turn.number = granted.ok();
                    return Ok(turn);
                }
                () = sleep_until(look) => {}
            }
            if Instant::now() >= until {
                let message = format!("no turn for a handshake with {place} in {PATIENCE:?}");
                return Err(Fault::new(Transient::Throttled, message));
            }
        }
    }

    fn queue(&self, scope: &str, place: &Place) -> Turn {
        let (admit, granted) = oneshot::channel();
        let mut doors = lock(&self.0);
        let door = doors.entry(place.clone()).or_default();
        door.waiting.push_back(Waiting { scope: scope.to_owned(), admit });
        Turn { doors: self.0.clone(), place: place.clone(), number: None, granted }
    }

    /// Lets in who may go in now; the moment from which on another one may.
    fn admit(&self, place: &Place) -> Option<Instant> {
        lock(&self.0).get_mut(place).and_then(Door::admit)
    }
}

impl Door {
    fn admit(&mut self) -> Option<Instant> {
        self.waiting.retain(|waiting| !waiting.admit.is_closed());
        let now = Instant::now();
        while self.counted(now) < AT_ONCE {
            let Some(next) = self.next() else { break };
            let Some(Waiting { scope, admit }) = self.waiting.remove(next) else { break };
            self.admitted += 1;
            let number = self.admitted;
            if admit.send(number).is_ok() {
                self.inside.push(Guest { number, scope, since: now });
            }
        }
        let ends = self.inside.iter().map(|guest| guest.since + TURN);
        ends.filter(|end| *end > now).min()
    }

    /// How many of those inside have not been there for long.
    fn counted(&self, now: Instant) -> usize {
        self.inside.iter().filter(|guest| now < guest.since + TURN).count()
    }

    fn held(&self, scope: &str) -> usize {
        self.inside.iter().filter(|guest| guest.scope == scope).count()
    }

    /// Who goes in next: of those whose scope has room in its share, the first one of the scope
    /// that has the fewest inside.
    fn next(&self) -> Option<usize> {
        let held = self.waiting.iter().map(|waiting| self.held(&waiting.scope)).enumerate();
        let fewest = held.filter(|(_, held)| *held < SHARE).min_by_key(|(_, held)| *held);
        fewest.map(|(at, _)| at)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut doors = lock(&self.doors);
        self.granted.close();
        // It may have been let in and not have learned of it.
        let number = self.number.or_else(|| self.granted.try_recv().ok());
        let Some(door) = doors.get_mut(&self.place) else { return };
        door.inside.retain(|guest| Some(guest.number) != number);
        door.admit();
        if door.inside.is_empty() && door.waiting.is_empty() {
            doors.remove(&self.place);
        }
    }
}

fn lock(doors: &Mutex<Doors>) -> MutexGuard<'_, Doors> {
    doors.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn here() -> Place {
        Place::direct("10.0.0.1", 22)
    }

    /// A turn, if there is one at once.
    fn enter(gate: &Gate, scope: &str) -> Option<Turn> {
        gate.enter(scope, &here()).now_or_never().map(Result::unwrap)
    }

    #[tokio::test(start_paused = true)]
    async fn no_scope_has_more_than_half_of_the_turns() {
        let gate = Gate::default();
        let theirs: Vec<_> = (0..10).filter_map(|_| enter(&gate, "theirs")).collect();
        assert_eq!(theirs.len(), SHARE);
        let ours: Vec<_> = (0..10).filter_map(|_| enter(&gate, "ours")).collect();
        assert_eq!(ours.len(), AT_ONCE - SHARE);
        assert!(enter(&gate, "a third").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn whose_scope_has_the_fewest_inside_goes_first() {
        let gate = Gate::default();
        let mut inside: Vec<_> = ["a", "a", "a", "b", "b", "b"]
            .iter()
            .map(|scope| enter(&gate, scope).unwrap())
            .collect();
        let place = here();
        let mut second = std::pin::pin!(gate.enter("b", &place));
        assert!(second.as_mut().now_or_never().is_none());
        let mut third = std::pin::pin!(gate.enter("c", &place));
        assert!(third.as_mut().now_or_never().is_none());
        inside.pop();
        // It came later, and has none.
        let _third = third.as_mut().now_or_never().unwrap().unwrap();
        assert!(second.as_mut().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_takes_long_holds_up_its_own_scope_only() {
        let gate = Gate::default();
        let began = Instant::now();
        let slow: Vec<_> =
            (0..3).flat_map(|_| ["a", "b"]).map(|scope| enter(&gate, scope).unwrap()).collect();
        assert_eq!(slow.len(), AT_ONCE);
        let ours = gate.enter("ours", &here()).await.unwrap();
        assert_eq!(began.elapsed(), TURN);
        let refused = gate.enter("a", &here()).await.unwrap_err();
        assert_eq!(refused.cause, Transient::Throttled.into());
        assert_eq!(began.elapsed(), TURN + PATIENCE);
        drop(slow);
        drop(ours);
        assert!(enter(&gate, "a").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_leaves_nothing_behind() {
        let gate = Gate::default();
        let inside: Vec<_> = (0..3).filter_map(|_| enter(&gate, "a")).collect();
        assert!((0..100).all(|_| enter(&gate, "a").is_none()));
        drop(inside);
        assert!(lock(&gate.0).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_behind_a_jump_host_is_another_server() {
        let gate = Gate::default();
        let behind = Place::direct("10.0.0.9", 22).then("10.0.0.1", 22);
        let mut held = Vec::new();
        for scope in ["a", "b"] {
            for _ in 0..SHARE {
                held.push(gate.enter(scope, &behind).await.unwrap());
            }
        }
        assert!(enter(&gate, "a").is_some());
    }
}
