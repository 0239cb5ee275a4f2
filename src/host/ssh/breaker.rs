//! The memory of refused credentials. A refusal is never hammered: sshd punishes the source
//! address (PerSourcePenalties), so one bad credential could lock every command out of a host.
//! So credentials that no answer is known of are offered by one at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Mutex as Turns, OwnedMutexGuard};
use tokio::time::Instant;

use super::auth::Credentials;
use crate::core::connection::Hop;
use crate::core::fault::Fault;

/// Refused credentials, by (host, user, content): each rests at least 30 s, longer each time.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    rests: HashMap<[u8; 32], Rest>,
    /// When they were last accepted.
    accepted: HashMap<[u8; 32], Instant>,
    /// Held while they are offered for the first time.
    trying: HashMap<[u8; 32], Arc<Turns<()>>>,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    pause: Duration,
    fault: Fault,
}

const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

impl Breaker {
    /// The earlier refusal, while it rests.
    ///
    /// # Errors
    /// The refusal, and when the credentials may be tried again.
    pub(super) fn check(&self, key: [u8; 32]) -> Result<(), (Fault, Instant)> {
        match self.lock().rests.get(&key) {
            Some(rest) if Instant::now() < rest.until => Err((rest.fault.clone(), rest.until)),
            _ => Ok(()),
        }
    }

    /// Waits until the credentials may be offered by whoever holds the answer, until
    /// [`Breaker::settle`]: by many once they were accepted, by one at a time before.
    ///
    /// # Errors
    /// As for [`Breaker::check`].
    pub(super) async fn turn(
        &self,
        key: [u8; 32],
    ) -> Result<Option<OwnedMutexGuard<()>>, (Fault, Instant)> {
        let turns = {
            let mut memory = self.lock();
            memory.trying.retain(|_, turns| Arc::strong_count(turns) > 1);
            memory.trying.entry(key).or_default().clone()
        };
        let known = || self.check(key).map(|()| self.lock().accepted.contains_key(&key));
        if known()? {
            return Ok(None);
        }
        let turn = turns.lock_owned().await;
        Ok(if known()? { None } else { Some(turn) })
    }

    /// Key under which these credentials are remembered for a host and its user.
    pub(super) fn key(hop: &Hop, credentials: &Credentials) -> [u8; 32] {
        breaker_key(hop, &credentials.digest)
    }

    /// Remembers a refusal, or that they were accepted.
    pub(super) fn settle(&self, key: [u8; 32], refusal: Option<&Fault>) {
        let mut memory = self.lock();
        let now = Instant::now();
        memory.rests.retain(|_, rest| now < rest.until + LONGEST_PAUSE);
        memory.accepted.retain(|_, last| now < *last + LONGEST_PAUSE);
        let Some(fault) = refusal else {
            memory.rests.remove(&key);
            memory.accepted.insert(key, now);
            return;
        };
        memory.accepted.remove(&key);
        let before = memory.rests.get(&key).map_or(FIRST_PAUSE / 2, |rest| rest.pause);
        let pause = (before * 2).min(LONGEST_PAUSE);
        memory.rests.insert(key, Rest { until: now + pause, pause, fault: fault.clone() });
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn breaker_key(hop: &Hop, digest: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{:?}", (&hop.address, hop.port, &hop.user)));
    hash.update(digest);
    hash.finalize().into()
}
