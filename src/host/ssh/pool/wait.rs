//! Who waits for a session, and the end of a dial that nobody waits for any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Pool;

/// How long a dial goes on without anybody who waits for it: whoever changes what is wanted
/// decides anew and asks again at once, mostly for the same machine.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// One who waits for a session, until it is dropped.
pub(super) struct Waiting<'a>(&'a Arc<Pool>);

impl<'a> Waiting<'a> {
    pub(super) fn begin(pool: &'a Arc<Pool>) -> Self {
        pool.lock().waiting += 1;
        Self(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting -= 1;
        let last = state.waiting == 0;
        drop(state);
        if last {
            self.0.changed.notify_waiters();
        }
    }
}

impl Pool {
    /// Ends once nobody has waited for a session for [`LINGER`].
    pub(super) async fn unwanted(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.lock().waiting > 0 {
                changed.await;
                continue;
            }
            // Whoever begins to wait is not told of here, so that it is looked at again.
            sleep(LINGER).await;
            if self.lock().waiting == 0 {
                return;
            }
        }
    }
}

/// Marks that a dial is under way, however it ends.
pub(super) struct Dialing(pub(super) Arc<Pool>);

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.lock().dialing = false;
        self.0.progress.end();
        self.0.changed.notify_waiters();
    }
}
