//! `run`'s part in following output: from the first byte of an attempt to its last.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::report;
use super::store::Length;
use crate::core::action::{Kind, Seen};
use crate::core::cut::Cut;
use crate::core::record::OutputSeen;
use crate::follow::{Advanced, Destination, Follow, shown};
use crate::host::{Host, Stream};

/// How long one try to write everything may take.
const TRY: Duration = Duration::from_secs(2);

/// Pause after the output could not be read.
const PAUSE: Duration = Duration::from_secs(1);

/// How long writing may fail before it is given up: waiting does not empty a disk.
const WRITE_PATIENCE: Duration = Duration::from_secs(12);

/// The attempt of the command whose output is followed; checks are not shown.
pub struct Output {
    destination: Destination,
    tail_bytes: usize,
    current: Option<Current>,
    /// What is missing of attempts before the current one.
    earlier: Option<Incomplete>,
    /// What was seen last of an attempt before the current one whose output was cut.
    earlier_cut: Option<OutputSeen>,
}

struct Current {
    follow: Follow,
    host: Arc<dyn Host>,
    seen: OutputSeen,
    behind: bool,
}

const NEW_RUN: &str = "; raise it, and --new-run asks for another run";

/// Why not all of a command's output was written.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    #[error("its output cannot be written: {0}")]
    NotWritten(String),
    #[error("{0} bytes of its output were gone before they could be read")]
    Gone(u64),
    #[error("not all of its output could be read and written in time")]
    Late,
    #[error("not all of its output was written: interrupted")]
    Interrupted,
    #[error(
        "its output was written before and is kept nowhere else, and {0} does not hold it; \
         --new-run asks for another run"
    )]
    Elsewhere(&'static str),
    #[error("{cut}{}", if cut.is_by_limit() { NEW_RUN } else { "" })]
    Cut { cut: Cut },
}

impl Output {
    /// Follows nothing yet.
    pub fn new(destination: Destination, tail_bytes: usize) -> Self {
        Self { destination, tail_bytes, current: None, earlier: None, earlier_cut: None }
    }

    /// Reads on to what an action has shown to be there.
    pub async fn observe(&mut self, seen: &Seen, host: Arc<dyn Host>) {
        let Some((entry, output, _)) = shown(seen, host.as_ref()).await else { return };
        if entry.kind == Kind::Verify {
            return;
        }
        if self.current.as_ref().is_some_and(|current| current.follow.entry() != entry) {
            // A further attempt: all of the earlier one comes first.
            self.earlier = self.deliver(TRY).await.err();
            let left = self.current.take().map(|current| current.seen);
            self.earlier_cut = left.filter(is_cut).or(self.earlier_cut.take());
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

    /// Why output is not being written just now, if it is not.
    pub fn failure(&self) -> Option<&str> {
        self.current.as_ref().and_then(|current| current.follow.failure())
    }

    /// Writes all output there is, to its end; gives up when nothing moves for `limit`.
    ///
    /// # Errors
    /// [`Incomplete`], also for what is missing of earlier attempts.
    pub async fn deliver(&mut self, limit: Duration) -> Result<(), Incomplete> {
        self.deliver_current(limit).await?;
        self.earlier.take().map_or(Ok(()), Err)
    }

    async fn deliver_current(&mut self, limit: Duration) -> Result<(), Incomplete> {
        let Some(Current { follow, host, seen, .. }) = &mut self.current else { return Ok(()) };
        let (mut written, mut moved) = (follow.written(), Instant::now());
        loop {
            match follow.finish(host.as_ref(), seen, TRY).await {
                Ok(whole) if follow.is_finished() => {
                    return match follow.missed() {
                        0 if whole => Ok(()),
                        0 => Err(Incomplete::Late),
                        missed => Err(Incomplete::Gone(missed)),
                    };
                }
                Ok(_) => {}
                Err(fault) => {
                    tracing::warn!(reason = fault.reason(), why = fault.message, "output not read");
                    sleep(PAUSE.min(limit)).await;
                }
            }
            if follow.written() > written {
                (written, moved) = (follow.written(), Instant::now());
            }
            match follow.failure() {
                Some(failure) if moved.elapsed() >= WRITE_PATIENCE.min(limit) => {
                    return Err(Incomplete::NotWritten(failure.to_owned()));
                }
                None if moved.elapsed() >= limit => return Err(Incomplete::Late),
                Some(_) | None => {}
            }
        }
    }

    /// Whether an attempt is followed at all.
    pub fn is_followed(&self) -> bool {
        self.current.is_some()
    }

    /// How much output there is of the attempt that is followed.
    pub fn length(&self) -> Option<Length> {
        let seen = &self.current.as_ref()?.seen;
        Some(Length { stdout: seen.stdout.bytes, stderr: seen.stderr.bytes })
    }

    /// Where the output that was read is cut, given the limit of each stream.
    pub fn cut(&self, limit: u64) -> Option<Cut> {
        let own = self.current.as_ref().map(|current| &current.seen);
        let cut = own.and_then(|seen| Cut::of(seen, limit));
        cut.or_else(|| Cut::of(self.earlier_cut.as_ref()?, limit))
    }

    /// Whether what was delivered before, of this length, can be where output goes now.
    ///
    /// # Errors
    /// [`Incomplete::Elsewhere`]: a file is shorter, so it is another one or was emptied since.
    pub fn still_has(&self, length: Length) -> Result<(), Incomplete> {
        let Destination::Plain { kept, .. } = &self.destination else { return Ok(()) };
        let ends = [(Stream::Stdout, length.stdout), (Stream::Stderr, length.stderr)];
        let short = ends.into_iter().find(|(stream, end)| kept.lacks(*stream, *end));
        short.map_or(Ok(()), |(stream, _)| Err(Incomplete::Elsewhere(stream.name())))
    }

    /// Removes the note of how far the output of the object `uid` was written.
    pub fn forget(&self, uid: &str) {
        match &self.destination {
            Destination::Nowhere => {}
            Destination::Log { marks, .. } | Destination::Plain { marks, .. } => {
                if let Some(marks) = marks {
                    marks.forget(uid);
                }
            }
        }
    }

    /// What was read, for the report.
    pub fn report(&self) -> Option<report::Output> {
        let current = self.current.as_ref()?;
        Some(report::Output::new(&current.seen, current.follow.tails(false)))
    }
}

fn is_cut(seen: &OutputSeen) -> bool {
    seen.stdout.truncated || seen.stderr.truncated
}

impl Current {
    async fn advance(&mut self) {
        self.behind = match self.follow.advance(self.host.as_ref(), &self.seen).await {
            Ok(Advanced::More | Advanced::Throttled) => true,
            Ok(Advanced::CaughtUp | Advanced::Waiting) => false,
            Err(fault) => {
                tracing::debug!(reason = fault.reason(), why = fault.message, "output not read");
                false
            }
        };
    }
}
