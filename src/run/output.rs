//! `run`'s part in following output: from the first byte of an attempt to its last.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::report;
use crate::core::action::{Kind, Seen};
use crate::core::record::{EntrySeen, OutputSeen};
use crate::follow::{Advanced, Destination, Follow};
use crate::host::Host;

/// How long one try to write everything may take.
const TRY: Duration = Duration::from_secs(2);

/// Pause after the output could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// The attempt of the command whose output is followed; checks are not shown.
pub struct Output {
    destination: Destination,
    tail_bytes: usize,
    current: Option<Current>,
}

struct Current {
    follow: Follow,
    host: Arc<dyn Host>,
    seen: OutputSeen,
    behind: bool,
}

impl Output {
    /// Follows nothing yet.
    pub fn new(destination: Destination, tail_bytes: usize) -> Self {
        Self { destination, tail_bytes, current: None }
    }

    /// Reads on to what an action has shown to be there.
    pub async fn observe(&mut self, seen: &Seen, host: Arc<dyn Host>) {
        let (entry, output) = match seen {
            Seen::Host { entry, record } => {
                if !matches!(record.entry, EntrySeen::Claimed(_)) {
                    return;
                }
                (entry, record.output.clone())
            }
            _ => return,
        };
        if entry.kind == Kind::Verify {
            return;
        }
        if self.current.as_ref().is_some_and(|current| current.follow.entry() != entry) {
            // A further attempt: all of the earlier one comes first.
            self.deliver(TRY).await;
            self.current = None;
        }
        let (destination, tail_bytes) = (&self.destination, self.tail_bytes);
        let current = self.current.get_or_insert_with(|| Current {
            follow: Follow::new(entry.clone(), tail_bytes, destination),
            host: Arc::clone(&host),
            seen: OutputSeen::default(),
            behind: false,
        });
        current.host = host;
        current.seen = output;
        current.advance().await;
    }

    /// Whether there is more to be read at once.
    pub fn is_behind(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.behind)
    }

    /// How soon the host is to be looked at again for the sake of live output.
    pub fn look_again(&self) -> Option<Duration> {
        self.current.as_ref().and_then(|current| current.follow.look_again())
    }

    /// Reads on without a new sight of the host.
    pub async fn catch_up(&mut self) {
        if let Some(current) = &mut self.current {
            current.advance().await;
        }
    }

    /// Writes all output there is, to its end. False when some could not be had, or not all
    /// was written within `limit`.
    pub async fn deliver(&mut self, limit: Duration) -> bool {
        let Some(Current { follow, host, seen, .. }) = &mut self.current else { return true };
        let tried = tokio::time::timeout(limit, async {
            loop {
                match follow.finish(host.as_ref(), seen, TRY).await {
                    Ok(whole) if follow.is_finished() => return whole,
                    Ok(_) => {}
                    Err(fault) => {
                        tracing::warn!(reason = fault.reason(), fault.message, "output not read");
                        sleep(PAUSE).await;
                    }
                }
            }
        });
        tried.await.unwrap_or(false)
    }

    /// Whether an attempt is followed at all.
    pub fn is_followed(&self) -> bool {
        self.current.is_some()
    }

    /// What was read, for the report.
    pub fn report(&self) -> Option<report::Output> {
        let current = self.current.as_ref()?;
        Some(report::Output::new(&current.seen, current.follow.tails(false)))
    }
}

impl Current {
    async fn advance(&mut self) {
        self.behind = match self.follow.advance(self.host.as_ref(), &self.seen).await {
            Ok(Advanced::More) => true,
            Ok(Advanced::CaughtUp | Advanced::Waiting) => false,
            Err(fault) => {
                tracing::debug!(reason = fault.reason(), fault.message, "output not read");
                false
            }
        };
    }
}
