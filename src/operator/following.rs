//! A supervisor's part in following output: when to read on, and what status shows of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::api::{OutputStatus, StreamStatus};
use crate::core::action::{Entry, Kind, Seen};
use crate::core::record::{DirectSeen, EntrySeen, OutputSeen, StreamSeen};
use crate::follow::{Advanced, Destination, Follow};
use crate::host::{Host, Stream};
use crate::output::log::Head;
use crate::output::mark::Marks;
use crate::output::writer::Writer;

/// How long reading on may take in one turn.
const LIMIT: Duration = Duration::from_secs(2);
/// How long a result waits for the output of its command to be read and written. What is
/// left then is written after the result.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How long output that does not get on is tried to be written after the result.
const PATIENCE: Duration = Duration::from_secs(600);
/// Pause after a try that did not get on.
const PAUSE: Duration = Duration::from_secs(5);

/// Where all commands' output goes.
#[derive(Clone, Debug)]
pub struct Output {
    pub writer: Writer,
    pub marks: Marks,
}

/// Whose output is followed, and how.
#[derive(Clone, Debug)]
pub struct Source {
    pub namespace: String,
    pub name: String,
    /// The host's name, for the log.
    pub host: String,
    pub tail_bytes: usize,
    /// Whether lines are logged.
    pub log: bool,
}

/// The attempt whose output is followed.
pub struct Following {
    output: Output,
    current: Option<Current>,
}

struct Current {
    follow: Follow,
    host: Arc<dyn Host>,
    seen: OutputSeen,
    behind: bool,
    /// When something was last written.
    moved: Instant,
    /// Status has the tails already.
    resumed: bool,
}

impl Following {
    /// Follows nothing yet.
    pub fn new(output: Output) -> Self {
        Self { output, current: None }
    }

    /// Reads on to what an action has shown to be there; to the end when the command has ended.
    pub async fn observe(&mut self, source: &Source, seen: &Seen, host: &Arc<dyn Host>) {
        let Some((entry, output, ended)) = shown(seen, host.as_ref()).await else { return };
        if self.current.as_ref().is_none_or(|current| current.follow.entry() != entry) {
            if let Some(earlier) = &mut self.current {
                earlier.finish(LIMIT).await;
            }
            self.follow(source, entry, host);
        }
        let Some(current) = self.current.as_mut() else { return };
        current.host = Arc::clone(host);
        current.seen = output;
        if ended { current.finish(END_LIMIT).await } else { current.advance().await }
    }

    /// Goes on with the output of `entry`, which has ended and of which `shown` is in status,
    /// where an earlier supervisor did not write it to its end. Tells whether there is any.
    pub fn resume(
        &mut self,
        source: &Source,
        entry: &Entry,
        shown: &OutputStatus,
        host: &Arc<dyn Host>,
    ) -> bool {
        let written = |stream| self.output.marks.of(entry, stream).read();
        let (stdout, stderr) = (written(Stream::Stdout), written(Stream::Stderr));
        let seen = OutputSeen {
            stdout: seen_of(&shown.stdout, shown.open),
            stderr: seen_of(&shown.stderr, shown.open),
        };
        let left = stdout < seen.stdout.bytes || stderr < seen.stderr.bytes;
        // Without a mark it may just as well have been written by an operator elsewhere.
        let ours = stdout > 0 || stderr > 0;
        if self.current.is_some() || !source.log || !left || !ours {
            return false;
        }
        self.follow(source, entry, host);
        if let Some(current) = &mut self.current {
            (current.seen, current.resumed) = (seen, true);
        }
        true
    }

    /// Writes what is left of the output of a command whose result is saved, for a while.
    /// Gives the time to go on; `None` when all was written, or when it does not get on.
    pub async fn deliver(&mut self) -> Option<Instant> {
        let current = self.current.as_mut()?;
        if current.follow.is_finished() || current.moved.elapsed() > PATIENCE {
            return None;
        }
        current.finish(LIMIT).await;
        let moves = current.moved.elapsed() < LIMIT;
        let again = Instant::now() + if moves { Duration::ZERO } else { PAUSE };
        (!current.follow.is_finished()).then_some(again)
    }

    /// Whether all output of the attempt that is followed has been written.
    pub fn is_delivered(&self) -> bool {
        self.current.as_ref().is_none_or(|current| current.follow.is_finished())
    }

    fn follow(&mut self, source: &Source, entry: &Entry, host: &Arc<dyn Host>) {
        let destination = self.destination(source, entry);
        self.current = Some(Current {
            follow: Follow::new(entry.clone(), source.tail_bytes, &destination),
            host: Arc::clone(host),
            seen: OutputSeen::default(),
            behind: false,
            moved: Instant::now(),
            resumed: false,
        });
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
        if let Some(current) = self.current.as_mut() {
            current.advance().await;
        }
    }

    /// What status shows of the output of attempt `attempt` of run `run`.
    pub fn status(&self, run: i32, attempt: i32) -> Option<OutputStatus> {
        let current = self.current.as_ref()?;
        let entry = current.follow.entry();
        let theirs = (entry.run, entry.attempt, entry.kind) == (run, attempt, Kind::Command);
        (theirs && !current.resumed).then(|| current.status())
    }

    fn destination(&self, source: &Source, entry: &Entry) -> Destination {
        if !source.log {
            return Destination::Nowhere;
        }
        let head = Head {
            namespace: source.namespace.clone(),
            name: source.name.clone(),
            uid: entry.uid.clone(),
            run: entry.run,
            attempt: entry.attempt,
            host: source.host.clone(),
            verify: entry.kind == Kind::Verify,
        };
        let (writer, marks) = (self.output.writer.clone(), Some(self.output.marks.clone()));
        Destination::Log { writer, marks, head: Arc::new(head) }
    }
}

/// Whose output an answer speaks of, how much there is, and whether the command has ended.
async fn shown<'a>(seen: &'a Seen, host: &dyn Host) -> Option<(&'a Entry, OutputSeen, bool)> {
    match seen {
        Seen::Host { entry, record } => match &record.entry {
            EntrySeen::Claimed(claimed) => {
                let over = claimed.exit.as_ref().is_some_and(|exit| record.output_is_over(exit));
                Some((entry, record.output.clone(), over))
            }
            EntrySeen::Wiped | EntrySeen::Unclaimed | EntrySeen::Revoked => None,
        },
        Seen::Direct { entry, seen: DirectSeen::Running } => {
            Some((entry, spooled(entry, host, false).await?, false))
        }
        Seen::Direct { entry, seen: DirectSeen::Exited(_) } => {
            Some((entry, spooled(entry, host, true).await?, true))
        }
        Seen::Direct { seen: DirectSeen::NeverStarted { .. } | DirectSeen::Lost, .. }
        | Seen::Nothing
        | Seen::Unreachable(_)
        | Seen::Prepared { .. }
        | Seen::Refused { .. }
        | Seen::Swept { .. } => None,
    }
}

fn seen_of(shown: &StreamStatus, open: bool) -> StreamSeen {
    let bytes = u64::try_from(shown.bytes).unwrap_or_default();
    StreamSeen { bytes, truncated: shown.truncated, ended: !open }
}

/// How much output of a Direct attempt there is: a read beyond the end tells where that is.
async fn spooled(entry: &Entry, host: &dyn Host, ended: bool) -> Option<OutputSeen> {
    let mut output = OutputSeen::default();
    for stream in [Stream::Stdout, Stream::Stderr] {
        let end = host.read(entry, stream, u64::MAX, 1).await.ok()?.offset;
        if end == u64::MAX {
            return None;
        }
        let seen = match stream {
            Stream::Stdout => &mut output.stdout,
            Stream::Stderr => &mut output.stderr,
        };
        (seen.bytes, seen.ended) = (end, ended);
        seen.truncated = ended && host.truncated(entry, stream);
    }
    Some(output)
}

impl Current {
    async fn advance(&mut self) {
        let deadline = Instant::now() + LIMIT;
        self.behind = false;
        loop {
            let read = self.follow.advance(self.host.as_ref(), &self.seen);
            self.behind = match timeout(LIMIT, read).await {
                Ok(Ok(Advanced::CaughtUp)) => false,
                Ok(Ok(Advanced::More)) => true,
                // A slow reader of our log, or a fault: the next probe comes back to it.
                Ok(Ok(Advanced::Waiting)) => return,
                Ok(Err(fault)) => return debug!(?fault, "output not read"),
                Err(_) => return debug!("output not read in time"),
            };
            if !self.behind || Instant::now() >= deadline {
                return;
            }
        }
    }

    async fn finish(&mut self, limit: Duration) {
        self.behind = false;
        let written = self.follow.written();
        let read = self.follow.finish(self.host.as_ref(), &self.seen, limit);
        match timeout(limit + LIMIT, read).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => debug!("the output was not written to its end in time"),
            Ok(Err(fault)) => debug!(?fault, "the output was not read to its end"),
        }
        if self.follow.written() > written {
            self.moved = Instant::now();
        }
    }

    fn status(&self) -> OutputStatus {
        let open = !(self.seen.stdout.ended && self.seen.stderr.ended);
        let tails = self.follow.tails(open);
        let stream = |seen: &StreamSeen, tail: String| StreamStatus {
            bytes: i64::try_from(seen.bytes).unwrap_or(i64::MAX),
            tail: (!tail.is_empty()).then_some(tail),
            truncated: seen.truncated,
        };
        OutputStatus {
            stdout: stream(&self.seen.stdout, tails.stdout),
            stderr: stream(&self.seen.stderr, tails.stderr),
            open,
            location: None,
        }
    }
}

#[cfg(test)]
mod tests;
