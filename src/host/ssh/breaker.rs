//! The memory of refused credentials. A refusal is never hammered: sshd punishes the source
//! address (PerSourcePenalties), so one bad credential could lock every command out of a host.
//! So credentials that no answer is known of are offered by one at a time, and within what a
//! server is given to refuse ([`Budget`]).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Turns, OwnedMutexGuard};
use tokio::time::Instant;

use super::auth::Credentials;
use super::budget::{Budget, Offer};
use super::place::Place;
use crate::core::connection::Hop;
use crate::core::fault::{Cause, Fault, Standing};
use crate::host::account;

/// Refused credentials, each by whose they are, for which server and user, and by content: they
/// rest at least 30 s, longer each time.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    memory: Mutex<Memory>,
    budget: Budget,
}

/// Whose credentials, for which server and user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Login {
    scope: String,
    place: Place,
    user: String,
    digest: [u8; 32],
}

impl Login {
    pub(super) fn new(scope: &str, place: &Place, hop: &Hop, credentials: &Credentials) -> Self {
        let (scope, place, user) = (scope.to_owned(), place.clone(), hop.user.clone());
        Self { scope, place, user, digest: credentials.digest }
    }
}

#[derive(Debug, Default)]
struct Memory {
    rests: HashMap<Login, Rest>,
    /// When they were last accepted.
    accepted: HashMap<Login, Instant>,
    /// When somebody last asked to offer refused ones again, by scope and name of the host.
    asked: HashMap<(String, String), Instant>,
    /// Held while they are offered for the first time.
    trying: HashMap<Login, Arc<Turns<()>>>,
}

#[derive(Debug)]
struct Rest {
    since: Instant,
    until: Instant,
    pause: Duration,
    fault: Fault,
}

/// Leave to offer credentials. Unless they are known to be accepted nobody else offers the same
/// meanwhile.
#[derive(Debug)]
pub(super) struct Leave {
    login: Login,
    first: Option<(OwnedMutexGuard<()>, Offer)>,
}

const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// How many refused, and how many accepted credentials are remembered. Those that are the
/// longest ago are forgotten first.
const REMEMBERED: usize = 4096;

impl Breaker {
    /// The earlier refusal, while it rests, or that the server has refused too many.
    ///
    /// # Errors
    /// What stands in the way, and when the credentials may be tried again.
    pub(super) fn check(&self, login: &Login) -> Result<(), (Fault, Instant)> {
        if self.is_accepted(login)? {
            return Ok(());
        }
        self.budget.check(&login.scope, &login.place)
    }

    /// Waits until the credentials may be offered: by many once they were accepted, by one at a
    /// time before.
    ///
    /// # Errors
    /// As for [`Breaker::check`].
    pub(super) async fn turn(&self, login: Login) -> Result<Leave, (Fault, Instant)> {
        let turns = {
            let mut memory = self.lock();
            memory.trying.retain(|_, turns| Arc::strong_count(turns) > 1);
            memory.trying.entry(login.clone()).or_default().clone()
        };
        if self.is_accepted(&login)? {
            return Ok(Leave { login, first: None });
        }
        let turn = turns.lock_owned().await;
        if self.is_accepted(&login)? {
            return Ok(Leave { login, first: None });
        }
        let offer = self.budget.take(&login.scope, &login.place).await?;
        Ok(Leave { login, first: Some((turn, offer)) })
    }

    /// Remembers a refusal, or that they were accepted.
    pub(super) fn settle(&self, leave: Leave, refusal: Option<&Fault>) {
        let Leave { login, first } = leave;
        let mut memory = self.lock();
        let now = Instant::now();
        memory.rests.retain(|_, rest| now < rest.until + LONGEST_PAUSE);
        memory.accepted.retain(|_, last| now < *last + LONGEST_PAUSE);
        let Some(fault) = refusal else {
            memory.rests.remove(&login);
            memory.accepted.insert(login, now);
            bound(&mut memory.accepted, |last| *last);
            return;
        };
        memory.accepted.remove(&login);
        let before = memory.rests.get(&login).map_or(FIRST_PAUSE / 2, |rest| rest.pause);
        // Credentials of an account that may not be used were accepted.
        let pause = match fault.cause {
            Cause::Standing(Standing::HostUnusable) => account::REST,
            Cause::Standing(_) | Cause::Transient(_) | Cause::Ours(_) => {
                (before * 2).min(LONGEST_PAUSE)
            }
        };
        let (scope, place) = (login.scope.clone(), login.place.clone());
        let rest = Rest { since: now, until: now + pause, pause, fault: fault.clone() };
        memory.rests.insert(login, rest);
        bound(&mut memory.rests, |rest| rest.until);
        drop(memory);
        match first {
            Some((_turn, offer)) => offer.refused(),
            None => self.budget.refused(&scope, &place),
        }
    }

    /// Somebody asks to offer again what the host of this name has refused up to now.
    pub(super) fn ask_again(&self, scope: &str, name: &str) {
        let mut memory = self.lock();
        let now = Instant::now();
        memory.asked.retain(|_, asked| now < *asked + LONGEST_PAUSE);
        memory.asked.insert((scope.to_owned(), name.to_owned()), now);
        bound(&mut memory.asked, |asked| *asked);
    }

    /// Lets credentials for the host of this name be offered once more at once, if somebody has
    /// asked for it since they were refused. What a server is given to refuse stays as it is.
    pub(super) fn forgive(&self, login: &Login, name: &str) {
        let mut memory = self.lock();
        let asked = memory.asked.get(&(login.scope.clone(), name.to_owned())).copied();
        let Some(asked) = asked else { return };
        if let Some(rest) = memory.rests.get_mut(login).filter(|rest| rest.since < asked) {
            rest.until = rest.until.min(asked);
        }
    }

    /// # Errors
    /// The earlier refusal, while it rests.
    fn is_accepted(&self, login: &Login) -> Result<bool, (Fault, Instant)> {
        let memory = self.lock();
        match memory.rests.get(login) {
            Some(rest) if Instant::now() < rest.until => Err((rest.fault.clone(), rest.until)),
            _ => Ok(memory.accepted.contains_key(login)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the one that is the longest ago where there are too many.
fn bound<K: Clone + Eq + Hash, V>(map: &mut HashMap<K, V>, when: impl Fn(&V) -> Instant) {
    if map.len() > REMEMBERED {
        let oldest = map.iter().min_by_key(|(_, value)| when(value)).map(|(key, _)| key.clone());
        oldest.map(|key| map.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(scope: &str, user: &str) -> Login {
        let place = Place::direct("10.0.0.1", 22);
        let (scope, user) = (scope.to_owned(), user.to_owned());
        Login { scope, place, user, digest: [0; 32] }
    }

    fn rejected() -> Fault {
        Fault::new(Standing::AuthenticationRejected, "refused")
    }

    async fn refuse(breaker: &Breaker, login: Login) -> bool {
        let Ok(leave) = breaker.turn(login).await else { return false };
        breaker.settle(leave, Some(&rejected()));
        true
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_namespace_was_refused_rests_for_that_one_only() {
        let breaker = Breaker::default();
        assert!(refuse(&breaker, login("theirs", "root")).await);
        assert!(breaker.check(&login("theirs", "root")).is_err());
        assert!(breaker.check(&login("ours", "root")).is_ok());
    }

    /// Guards against a tenant with bad credentials for many users of a host, who would have
    /// sshd shut the operator's address out.
    #[tokio::test(start_paused = true)]
    async fn credentials_known_to_be_accepted_go_on_however_many_others_are_refused() {
        let breaker = Breaker::default();
        let ours = login("ours", "deploy");
        let leave = breaker.turn(ours.clone()).await.unwrap();
        breaker.settle(leave, None);
        let mut refused = 0;
        for n in 0..100 {
            refused += usize::from(refuse(&breaker, login("theirs", &format!("user-{n}"))).await);
        }
        assert_eq!(refused, 2);
        let leave = breaker.turn(ours).await.unwrap();
        assert!(leave.first.is_none(), "nothing stands in its way");
        let new = breaker.turn(login("new", "deploy")).await;
        assert!(new.is_ok(), "and there is room for a first try of others");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_has_refused_credentials_offered_once_more_within_what_a_server_is_given() {
        let breaker = Breaker::default();
        let login = || login("ours", "root");
        assert!(refuse(&breaker, login()).await);
        breaker.forgive(&login(), "db-1");
        assert!(!refuse(&breaker, login()).await, "nobody has asked");
        tokio::time::advance(Duration::from_secs(1)).await;
        breaker.ask_again("theirs", "db-1");
        breaker.ask_again("ours", "db-2");
        breaker.forgive(&login(), "db-1");
        assert!(!refuse(&breaker, login()).await, "or for another host");
        breaker.ask_again("ours", "db-1");
        breaker.forgive(&login(), "db-1");
        assert!(refuse(&breaker, login()).await);
        breaker.forgive(&login(), "db-1");
        assert!(!refuse(&breaker, login()).await, "one word is for one try");
        tokio::time::advance(Duration::from_secs(1)).await;
        breaker.ask_again("ours", "db-1");
        breaker.forgive(&login(), "db-1");
        assert!(!refuse(&breaker, login()).await, "the server has refused enough for now");
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_that_may_not_be_used_is_looked_at_again_each_minute() {
        let breaker = Breaker::default();
        for _ in 0..5 {
            let leave = breaker.turn(login("ours", "root")).await.unwrap();
            breaker.settle(leave, Some(&account::unusable("System is booting up")));
            assert!(breaker.check(&login("ours", "root")).is_err());
            tokio::time::advance(Duration::from_secs(60)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_much_is_remembered() {
        let breaker = Breaker::default();
        for n in 0..REMEMBERED + 5 {
            let user = format!("user-{n}");
            let leave = breaker.turn(login("ours", &user)).await.unwrap();
            breaker.settle(leave, None);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let memory = breaker.lock();
        assert_eq!(memory.accepted.len(), REMEMBERED);
        assert!(!memory.accepted.contains_key(&login("ours", "user-0")), "the oldest are gone");
    }
}
