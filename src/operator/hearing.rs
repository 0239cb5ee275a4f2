//! Whether something else is asked for while its supervisor is busy with what can wait.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;

use crate::api::RemoteCommand;

/// Hears of a change, of a cancel or a deletion above all, that was not known when the turn
/// began.
pub struct Hearing {
    object: watch::Receiver<Arc<RemoteCommand>>,
    known: Ends,
    generation: Option<i64>,
}

/// Whether a cancel and a deletion are asked for.
type Ends = (bool, bool);

impl Hearing {
    /// Hears what comes after `known`. What is heard stays news for the owner of `object`.
    pub fn new(object: &watch::Receiver<Arc<RemoteCommand>>, known: &RemoteCommand) -> Self {
        Self { object: object.clone(), known: ends(known), generation: known.metadata.generation }
    }

    /// Waits until an end is asked for.
    pub async fn end_is_asked_for(&mut self) {
        let known = self.known;
        self.until(|object| ends(object) != known).await;
    }

    /// Waits until anything else is asked for: an end, or by another spec.
    pub async fn wish_changes(&mut self) {
        let (known, generation) = (self.known, self.generation);
        self.until(|object| ends(object) != known || object.metadata.generation != generation)
            .await;
    }

    async fn until(&mut self, holds: impl Fn(&RemoteCommand) -> bool) {
        while !holds(&self.object.borrow_and_update()) {
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
