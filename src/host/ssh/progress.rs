//! What a dial waits for at this moment, in words: a silent host is told at once, and not only
//! when a limit runs out.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::connection::Hop;

/// The part of making a connection that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A turn among the handshakes with this server.
    Turn,
    Connection,
    Handshake,
    Authentication,
}

/// What one pool's dial waits for.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Option<String>>);

impl Progress {
    /// Takes note that `hop` is at this stage.
    pub(super) fn tell(&self, hop: &Hop, stage: Stage) {
        let limits = &hop.timeouts;
        let (what, limit) = match stage {
            Stage::Turn => ("a turn for a handshake", None),
            Stage::Connection => ("the TCP connection", Some(limits.connect)),
            Stage::Handshake => ("the handshake", Some(limits.handshake)),
            Stage::Authentication => ("the authentication", Some(limits.authenticate)),
        };
        let most = limit.map(|limit| format!(" for up to {limit:?}")).unwrap_or_default();
        *self.lock() = Some(format!("waiting for {what} with {}{most}", hop.name));
    }

    /// No dial is under way.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    /// What is waited for; `None` while no dial is under way.
    pub(super) fn told(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
