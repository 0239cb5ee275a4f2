//! At most a few handshakes with one host at a time, over all namespaces and users.
//!
//! sshd drops unauthenticated connections at random beyond MaxStartups (10 by default).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::connection::Hop;
use crate::core::fault::{Fault, Transient};

const AT_ONCE: usize = 4;

/// The gates of all hosts.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<HashMap<(String, u16), Arc<Semaphore>>>);

impl Gate {
    /// Waits for a turn, at most as long as four handshakes may take.
    ///
    /// # Errors
    /// `Throttled` when no turn came.
    pub(super) async fn enter(&self, hop: &Hop) -> Result<OwnedSemaphorePermit, Fault> {
        let gate = {
            let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            gates.retain(|_, gate| {
                Arc::strong_count(gate) > 1 || gate.available_permits() < AT_ONCE
            });
            let gate = gates.entry((hop.address.clone(), hop.port));
            gate.or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
        };
        let limits = &hop.timeouts;
        let limit = (limits.connect + limits.handshake + limits.authenticate) * 4;
        match tokio::time::timeout(limit, gate.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                let message = format!("no turn for a handshake with {} in {limit:?}", hop.address);
                Err(Fault::new(Transient::Throttled, message))
            }
        }
    }
}
