//! How many refusals of credentials a server is given, over all namespaces.
//!
//! sshd punishes the source address, which is the operator's and not a tenant's: 5 s for each
//! connection whose credentials it refused, enforced from 15 s on (PerSourcePenalties, OpenSSH
//! 9.8). So a server has to refuse at most three in half a minute, whoever they are from, and
//! whoever had fewest refused goes first. Credentials that it is known to accept are not
//! counted.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::place::Place;
use crate::core::fault::{Fault, Transient};

/// Refusals of one server in a [`WINDOW`].
const BURST: usize = 3;
const WINDOW: Duration = Duration::from_secs(30);
/// How long it is remembered whose refusals they were.
const MEMORY: Duration = Duration::from_secs(600);
/// Servers that are remembered at once: beyond, those whose last refusal is the longest ago are
/// forgotten.
const SERVERS: usize = 4096;
/// Refusals of one server that are remembered.
const REFUSALS: usize = 64;
/// How long the answers to others' credentials are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The refusals of all servers.
#[derive(Debug, Default)]
pub(super) struct Budget(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    servers: Mutex<HashMap<Place, Account>>,
    answered: Notify,
}

#[derive(Debug, Default)]
struct Account {
    refusals: VecDeque<(Instant, String)>,
    /// Offers that no answer has come to, by whose they are.
    open: Vec<String>,
}

/// An offer of credentials that the server may refuse. It is paid for when it does, and else
/// costs nothing.
#[derive(Debug)]
pub(super) struct Offer {
    shared: Arc<Shared>,
    place: Place,
    scope: String,
}

/// Why an offer may not be made now.
enum Denied {
    /// Others' offers have no answer yet.
    Awaited,
    /// Too many were refused: until this moment at least.
    Spent(Instant),
}

impl Budget {
    /// Whether an offer could be made now, or soon.
    ///
    /// # Errors
    /// `Throttled`, and when there will be room for one.
    pub(super) fn check(&self, scope: &str, place: &Place) -> Result<(), (Fault, Instant)> {
        let servers = self.0.lock();
        match servers.get(place).map(|account| account.room(scope, Instant::now())) {
            Some(Err(Denied::Spent(until))) => Err((throttled(place), until)),
            Some(Ok(()) | Err(Denied::Awaited)) | None => Ok(()),
        }
    }

    /// Room for an offer, after those before it were answered.
    ///
    /// # Errors
    /// As for [`Budget::check`].
    pub(super) async fn take(&self, scope: &str, place: &Place) -> Result<Offer, (Fault, Instant)> {
        let latest = Instant::now() + PATIENCE;
        loop {
            let answered = self.0.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            match self.try_take(scope, place) {
                Ok(offer) => return Ok(offer),
                Err(Denied::Spent(until)) => return Err((throttled(place), until)),
                Err(Denied::Awaited) => {}
            }
            if timeout_at(latest, answered).await.is_err() {
                return Err((throttled(place), Instant::now()));
            }
        }
    }

    /// The server refused what it was known to accept.
    pub(super) fn refused(&self, scope: &str, place: &Place) {
        let mut servers = self.0.lock();
        note(&mut servers, scope, place);
        tidy(&mut servers);
    }

    fn try_take(&self, scope: &str, place: &Place) -> Result<Offer, Denied> {
        let mut servers = self.0.lock();
        let account = servers.entry(place.clone()).or_default();
        account.room(scope, Instant::now())?;
        account.open.push(scope.to_owned());
        let (place, scope) = (place.clone(), scope.to_owned());
        Ok(Offer { shared: Arc::clone(&self.0), place, scope })
    }
}

impl Offer {
    /// The server refused it.
    pub(super) fn refused(self) {
        note(&mut self.shared.lock(), &self.scope, &self.place);
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let mut servers = self.shared.lock();
        if let Some(account) = servers.get_mut(&self.place)
            && let Some(at) = account.open.iter().position(|scope| *scope == self.scope)
        {
            account.open.swap_remove(at);
        }
        tidy(&mut servers);
        drop(servers);
        self.shared.answered.notify_waiters();
    }
}

impl Account {
    /// Whether there is room for one more refusal of this scope. Each that it had before, and
    /// each offer of its own without an answer, has it leave as many to others.
    fn room(&self, scope: &str, now: Instant) -> Result<(), Denied> {
        let had = self.refusals.iter().filter(|(_, whose)| whose == scope).count();
        let own = self.open.iter().filter(|whose| *whose == scope).count();
        let lately = self.refusals.iter().map(|(at, _)| *at + WINDOW);
        let lately: Vec<Instant> = lately.filter(|until| now < *until).collect();
        let allowed = BURST.saturating_sub((had + own).min(BURST - 1));
        if lately.len() + self.open.len() < allowed {
            return Ok(());
        }
        // So many have to grow old first.
        let without_open = BURST.saturating_sub(had.min(BURST - 1));
        match lately.len().checked_sub(without_open).and_then(|at| lately.get(at)) {
            Some(until) => Err(Denied::Spent(*until)),
            None => Err(Denied::Awaited),
        }
    }

    fn forget(&mut self, now: Instant) {
        self.refusals.retain(|(at, _)| now < *at + MEMORY);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Account>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn note(servers: &mut HashMap<Place, Account>, scope: &str, place: &Place) {
    let account = servers.entry(place.clone()).or_default();
    account.refusals.push_back((Instant::now(), scope.to_owned()));
    if account.refusals.len() > REFUSALS {
        account.refusals.pop_front();
    }
}

/// Forgets what is long ago, and what is more than can be remembered.
fn tidy(servers: &mut HashMap<Place, Account>) {
    let now = Instant::now();
    servers.retain(|_, account| {
        account.forget(now);
        !account.refusals.is_empty() || !account.open.is_empty()
    });
    if servers.len() > SERVERS {
        let idle = servers.iter().filter(|(_, account)| account.open.is_empty());
        let last = |account: &Account| account.refusals.back().map(|(at, _)| *at);
        let oldest = idle.min_by_key(|(_, account)| last(account)).map(|(place, _)| place.clone());
        oldest.map(|place| servers.remove(&place));
    }
}

fn throttled(place: &Place) -> Fault {
    let message = format!(
        "{place} has refused credentials lately, and punishes the address they come from: \
         others are offered later"
    );
    Fault::new(Transient::Throttled, message)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn here() -> Place {
        Place::direct("10.0.0.1", 22)
    }

    fn take(budget: &Budget, scope: &str) -> Option<Offer> {
        budget.take(scope, &here()).now_or_never().and_then(Result::ok)
    }

    /// Has one offer of each refused; whether it could be made.
    fn refused<'a>(budget: &Budget, scopes: impl IntoIterator<Item = &'a str>) -> Vec<bool> {
        let offers = scopes.into_iter().map(|scope| take(budget, scope));
        offers.map(|offer| offer.map(Offer::refused).is_some()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_of_one_scope_slow_down_it_alone() {
        let budget = Budget::default();
        assert_eq!(refused(&budget, ["theirs"; 4]), [true, true, false, false]);
        let (fault, until) = budget.check("theirs", &here()).unwrap_err();
        assert_eq!(fault.cause, Transient::Throttled.into());
        assert!(until > Instant::now() && until <= Instant::now() + WINDOW);
        let ours = take(&budget, "ours").unwrap();
        drop(ours);
        tokio::time::advance(WINDOW).await;
        assert_eq!(refused(&budget, ["theirs"; 2]), [true, false], "one at a time from here on");
        assert!(take(&budget, "ours").is_some());
    }

    /// Guards against the operator's address being shut out, whoever brings it about.
    #[tokio::test(start_paused = true)]
    async fn whoever_they_are_from_a_server_refuses_three_in_half_a_minute_at_most() {
        let budget = Budget::default();
        let scopes: Vec<String> = (0..50).map(|n| format!("scope {n}")).collect();
        let mut count = 0;
        for _ in 0..10 {
            let made = refused(&budget, scopes.iter().map(String::as_str));
            count += made.into_iter().filter(|made| *made).count();
            tokio::time::advance(Duration::from_secs(3)).await;
        }
        assert_eq!(count, BURST);
    }

    #[tokio::test(start_paused = true)]
    async fn who_had_nothing_refused_goes_before_those_who_had() {
        let budget = Budget::default();
        assert_eq!(refused(&budget, ["a", "b", "c"]), [true; 3]);
        assert!(take(&budget, "ours").is_none(), "there is no room for anybody");
        tokio::time::advance(WINDOW / 2).await;
        assert!(budget.check("ours", &here()).is_err());
        tokio::time::advance(WINDOW / 2).await;
        assert_eq!(refused(&budget, ["a", "b", "c"]), [true, true, false]);
        assert!(take(&budget, "ours").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn offers_without_an_answer_are_waited_for_and_cost_nothing_when_accepted() {
        let budget = Budget::default();
        for _ in 0..100 {
            let held: Vec<_> = ["a", "b", "c"].map(|scope| take(&budget, scope).unwrap()).into();
            let place = here();
            let mut waiting = std::pin::pin!(budget.take("ours", &place));
            assert!(waiting.as_mut().now_or_never().is_none());
            drop(held);
            assert!(waiting.await.is_ok());
        }
        assert!(budget.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_servers_are_remembered_than_there_is_room_for() {
        let budget = Budget::default();
        for n in 0..SERVERS + 10 {
            let place = Place::direct(&format!("host-{n}"), 22);
            budget.take("a", &place).await.unwrap().refused();
        }
        assert_eq!(budget.0.lock().len(), SERVERS);
    }
}
