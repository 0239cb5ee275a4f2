//! The memory of refused credentials. A refusal is never hammered: sshd punishes the source
//! address (PerSourcePenalties), so one bad credential could lock every command out of a host.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::auth::Credentials;
use crate::core::connection::Hop;
use crate::core::fault::Fault;

/// Refused credentials, by (host, user, content): each rests at least 30 s, longer each time.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<HashMap<[u8; 32], Rest>>);

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
    pub(super) fn check(
        &self,
        hop: &Hop,
        credentials: &Credentials,
    ) -> Result<(), (Fault, Instant)> {
        let rests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match rests.get(&breaker_key(hop, &credentials.digest)) {
            Some(rest) if Instant::now() < rest.until => Err((rest.fault.clone(), rest.until)),
            _ => Ok(()),
        }
    }

    /// Key under which [`Breaker::settle`] remembers; the credentials are used up by then.
    pub(super) fn key(hop: &Hop, credentials: &Credentials) -> [u8; 32] {
        breaker_key(hop, &credentials.digest)
    }

    /// Remembers a refusal, or forgets it after a success.
    pub(super) fn settle(&self, key: [u8; 32], refusal: Option<&Fault>) {
        let mut rests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        rests.retain(|_, rest| now < rest.until + LONGEST_PAUSE);
        let Some(fault) = refusal else {
            rests.remove(&key);
            return;
        };
        let before = rests.get(&key).map_or(FIRST_PAUSE / 2, |rest| rest.pause);
        let pause = (before * 2).min(LONGEST_PAUSE);
        rests.insert(key, Rest { until: now + pause, pause, fault: fault.clone() });
    }
}

fn breaker_key(hop: &Hop, digest: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{:?}", (&hop.address, hop.port, &hop.user)));
    hash.update(digest);
    hash.finalize().into()
}
