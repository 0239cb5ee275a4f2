//! What is heeded while an action waits for its host: whatever makes it worth deciding anew.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Notify;

use super::Supervisor;
use crate::api::RemoteCommand;
use crate::host::Recall;
use crate::operator::context::Context;
use crate::operator::hearing::Hearing;
use crate::operator::wishes::{Wishes, wishes};

/// Recalls an action once something else is wanted, its host is reached in another way, or this
/// operator is to end.
pub(super) struct Heed {
    context: Arc<Context>,
    hearing: Hearing,
    poke: Arc<Notify>,
    object: Arc<RemoteCommand>,
    /// How the host is reached, as it was known.
    way: String,
    recall: Recall,
}

impl Supervisor {
    pub(super) fn heed(&self, object: &Arc<RemoteCommand>, wishes: &Wishes) -> Heed {
        Heed {
            context: Arc::clone(&self.context),
            hearing: Hearing::new(&self.seat.object, object),
            poke: Arc::clone(&self.seat.poke),
            object: Arc::clone(object),
            way: wishes.asked.connection.clone(),
            recall: Recall::new(),
        }
    }
}

impl Heed {
    pub(super) fn recall(&self) -> Recall {
        self.recall.clone()
    }

    /// Sees `doing` to its end, which comes early when it is recalled.
    pub(super) async fn during<T>(mut self, doing: impl Future<Output = T>) -> T {
        let mut doing = pin!(doing);
        let poke = Arc::clone(&self.poke);
        let mut poked = false;
        let stop = self.context.stop.clone();
        let done = loop {
            tokio::select! {
                biased;
                done = &mut doing => break done,
                () = self.hearing.wish_changes(), if !self.recall.is_said() => self.recall.say(),
                () = stop.cancelled(), if !self.recall.is_said() => self.recall.say(),
                () = poke.notified(), if !poked => {
                    poked = true;
                    if self.is_reached_otherwise() {
                        self.recall.say();
                    }
                }
            }
        };
        if poked {
            // It is news for the time between turns, too.
            poke.notify_one();
        }
        done
    }

    fn is_reached_otherwise(&self) -> bool {
        wishes(&self.object, &self.context.remote_hosts).asked.connection != self.way
    }
}
