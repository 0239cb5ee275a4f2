//! Whether an end is asked for while its supervisor is busy with something that can wait.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;

use crate::api::RemoteCommand;

/// Hears of a cancel or a deletion that was not known when the turn began.
pub struct Hearing {
    object: watch::Receiver<Arc<RemoteCommand>>,
    known: Ends,
}

/// Whether a cancel and a deletion are asked for.
type Ends = (bool, bool);

impl Hearing {
    /// Hears what comes after `known`. What is heard stays news for the owner of `object`.
    pub fn new(object: &watch::Receiver<Arc<RemoteCommand>>, known: &RemoteCommand) -> Self {
        Self { object: object.clone(), known: ends(known) }
    }

    /// Waits until an end is asked for.
    pub async fn end_is_asked_for(&mut self) {
        while ends(&self.object.borrow_and_update()) == self.known {
            if self.object.changed().await.is_err() {
                // Supervision is about to be ended from outside.
                return pending().await;
            }
        }
    }
}

fn ends(object: &RemoteCommand) -> Ends {
    (object.spec.cancel.unwrap_or_default(), object.metadata.deletion_timestamp.is_some())
}
