//! Takes what a channel tells of an attempt, and has its output put by on disk beside that.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::timeout;

use super::attempt::Attempt;
use super::spool::Batch;
use crate::host::spools::{Spools, Unkept, Written};
use crate::host::{Event, Sink, Stream};

/// How long one write to the disk may take. Meanwhile the channel is not read.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// The way from a channel to its attempt.
pub(super) struct Taker {
    attempt: Arc<Attempt>,
    spools: Spools,
}

impl Taker {
    pub(super) fn new(attempt: Arc<Attempt>, spools: Spools) -> Self {
        Self { attempt, spools }
    }
}

impl Sink for Taker {
    fn take(&mut self, event: Event) {
        let stream = match event {
            Event::Stdout(_) => Some(Stream::Stdout),
            Event::Stderr(_) => Some(Stream::Stderr),
            Event::ExitStatus(_)
            | Event::ExitSignal(_)
            | Event::Closed
            | Event::Detached
            | Event::Lost(_) => None,
        };
        self.attempt.take(event);
        let Some(stream) = stream else { return };
        if let Some(batch) = self.attempt.begin_spilling(stream) {
            tokio::spawn(spill(self.attempt.clone(), self.spools.clone(), stream, batch));
        }
    }

    fn has_room(&self) -> bool {
        self.attempt.has_room()
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        self.attempt.room().boxed()
    }
}

/// Writes to disk until what is left may stay in memory.
async fn spill(attempt: Arc<Attempt>, spools: Spools, stream: Stream, first: Batch) {
    let mut next = Some(first);
    while let Some(batch) = next {
        let written = write(&spools, batch).await;
        let (written, why) = match written {
            Ok(written) => (Some(written), None),
            Err(unkept) => (None, Some(unkept)),
        };
        let (more, lost) = attempt.go_on_spilling(stream, written);
        if let Some(unkept) = why.filter(|_| lost) {
            let source = std::error::Error::source(&unkept).map(ToString::to_string);
            tracing::warn!(
                stream = stream.name(),
                cause = source.unwrap_or_default(),
                "the output of a Direct command is cut off: {unkept}"
            );
        }
        next = more;
    }
}

async fn write(spools: &Spools, batch: Batch) -> Result<Written, Unkept> {
    let at_work = spools.clone();
    let writing =
        tokio::task::spawn_blocking(move || at_work.write(batch.tip, &batch.bytes, batch.held));
    match timeout(WRITE_LIMIT, writing).await {
        Ok(Ok(written)) => written,
        Ok(Err(_)) | Err(_) => Err(spools.stuck()),
    }
}
