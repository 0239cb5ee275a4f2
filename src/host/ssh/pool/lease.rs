//! A session on one of the pool's connections, while somebody uses it. Knows no channel.

use std::sync::Arc;

use tokio::time::Instant;

use super::Pool;
use crate::core::fault::{Cause, Fault, Transient};
use crate::host::ssh::session::Session;

/// One session's place on a connection, given back when dropped.
pub(in crate::host::ssh) struct Lease {
    pub(super) pool: Arc<Pool>,
    pub(super) id: u64,
    pub(super) session: Arc<Session>,
}

impl Lease {
    pub(in crate::host::ssh) fn session(&self) -> Arc<Session> {
        self.session.clone()
    }

    /// The channel is closed by us and its process may run on: the server keeps its place.
    pub(in crate::host::ssh) fn leave_running(&self) {
        if let Some(live) = self.pool.lock().live(self.id) {
            live.left += 1;
        }
    }

    /// The connection answered too late to be given further commands.
    pub(in crate::host::ssh) fn suspect(&self) {
        if let Some(live) = self.pool.lock().live(self.id) {
            live.retired = true;
        }
    }

    /// Learns from a channel that was not opened.
    pub(in crate::host::ssh) fn unopened(&self, fault: &Fault) {
        let mut state = self.pool.lock();
        let Some(live) = state.live(self.id) else { return };
        if fault.cause != Cause::Transient(Transient::ChannelRefused) {
            live.retired = true;
            return;
        }
        let others = (live.open - 1) + live.left;
        if others == 0 {
            live.retired = true;
            state.remember(fault.clone());
        }
        state.limit = state.limit.min(others.max(1));
        state.learned = Some(Instant::now());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        if let Some(live) = state.live(self.id) {
            live.open -= 1;
            live.idle_since = Instant::now();
        }
        self.pool.sweep(&mut state);
        drop(state);
        self.pool.changed.notify_waiters();
    }
}
