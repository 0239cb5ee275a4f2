//! Follows the output of one attempt: from the host's record to where it is written, and to
//! the tails shown in status.
//!
//! A hint, never a result: nothing here says how a command ends. Every read is by stream and
//! offset, so a lost link, a slow reader or a restart costs time and no byte. Written output
//! is not held here: a stream has at most one block under way, and reads on when it is done.

use std::io::ErrorKind::BrokenPipe;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::core::action::{Entry, Seen};
use crate::core::fault::Fault;
use crate::core::record::{DirectSeen, EntrySeen, OutputSeen, StreamSeen, Tree};
use crate::core::tail::Tail;
use crate::host::{Chunk, Host, Stream};
use crate::output::line::Lines;
use crate::output::log::Head;
use crate::output::mark::Marks;
use crate::output::standard::Kept;
use crate::output::writer::{Block, Last, Place, Shape, Writer, Written};

/// A command that wrote within this time is looked at often.
const LIVELY: Duration = Duration::from_secs(15);
/// How often.
const LIVELY_PACE: Duration = Duration::from_millis(500);

/// Bytes asked for in one read.
const PIECE: u32 = 256 * 1024;

/// Reads of one stream in one [`Follow::advance`].
const READS: usize = 4;

/// How long [`Follow::advance`] waits for a block to be written before it leaves it under way.
const WRITE_PATIENCE: Duration = Duration::from_millis(20);

/// How long writing rests after it failed.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// How long a stream rests when the writer's queue is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(50);

/// Where the output of an attempt goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Nowhere; only the tails are kept.
    Nowhere,
    /// One JSON line per line of output.
    Log { writer: Writer, marks: Option<Marks>, head: Arc<Head> },
    /// Byte for byte to stdout and stderr. `kept` is what these held at first: see [`Kept`].
    Plain { writer: Writer, marks: Option<Marks>, kept: Kept },
}

/// The end of both streams, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tails {
    pub stdout: String,
    pub stderr: String,
}

/// Whose output an answer speaks of, how much there is, and whether the command has ended.
/// `None` when it says nothing about output.
pub async fn shown<'a>(seen: &'a Seen, host: &dyn Host) -> Option<(&'a Entry, OutputSeen, bool)> {
    match seen {
        Seen::Host { entry, record } => match &record.entry {
            EntrySeen::Claimed(claimed) => {
                let over = match claimed.stop {
                    None => claimed.exit.as_ref().is_some_and(|exit| record.output_is_over(exit)),
                    // What the command left in its tree may write for as long as its grace.
                    Some(_) => record.tree == Tree::Empty && record.output.has_ended(),
                };
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
        Seen::Direct { seen: DirectSeen::NeverStarted(_) | DirectSeen::Lost, .. }
        | Seen::Nothing
        | Seen::Unreachable(_)
        | Seen::Prepared { .. }
        | Seen::Refused { .. }
        | Seen::Swept { .. }
        | Seen::Unswept { .. } => None,
    }
}

/// How much output of a Direct attempt there is: a read beyond the end tells where that is.
async fn spooled(entry: &Entry, host: &dyn Host, ended: bool) -> Option<OutputSeen> {
    let mut output = OutputSeen::default();
    for stream in [Stream::Stdout, Stream::Stderr] {
        let beyond = host.read(entry, stream, u64::MAX, 1).await.ok()?;
        if beyond.offset == u64::MAX {
            return None;
        }
        let seen = match stream {
            Stream::Stdout => &mut output.stdout,
            Stream::Stderr => &mut output.stderr,
        };
        (seen.bytes, seen.ended, seen.truncated) = (beyond.offset, ended, beyond.truncated);
    }
    Some(output)
}

/// Whether there is more to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advanced {
    /// Everything seen so far has been written (or handed to nobody).
    CaughtUp,
    /// There is more to read: advance again soon.
    More,
    /// The writer is slow or failing: advance again at leisure.
    Waiting,
}

/// Follows both streams of one attempt.
#[derive(Debug)]
pub struct Follow {
    entry: Entry,
    streams: [Following; 2],
    /// How much output was shown to be there last, and when that was first more than before.
    shown: u64,
    grown: Option<Instant>,
}

impl Follow {
    /// Follows `entry` from where its output was last written.
    pub fn new(entry: Entry, tail_bytes: usize, destination: &Destination) -> Self {
        let streams = [Stream::Stdout, Stream::Stderr]
            .map(|stream| Following::new(&entry, stream, tail_bytes, destination));
        Self { entry, streams, shown: 0, grown: None }
    }

    /// The attempt's entry on the host.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Reads what `seen` says is there and hands it on; at most 1 MiB of each stream.
    ///
    /// # Errors
    /// The transport's fault. Nothing is lost by it: the next call reads again.
    pub async fn advance(&mut self, host: &dyn Host, seen: &OutputSeen) -> Result<Advanced, Fault> {
        let there = seen.stdout.bytes.saturating_add(seen.stderr.bytes);
        if there > self.shown {
            self.grown = Some(Instant::now());
        }
        self.shown = there;
        let mut advanced = Advanced::CaughtUp;
        for stream in &mut self.streams {
            let seen = seen_of(seen, stream.stream);
            advanced = advanced.and(stream.advance(&self.entry, host, seen).await?);
        }
        Ok(advanced)
    }

    /// Reads and writes all of `seen`, which is final, and then the ends of the streams; takes
    /// little more than `limit`. True when every byte of it has been written.
    ///
    /// # Errors
    /// As for [`Follow::advance`].
    pub async fn finish(
        &mut self,
        host: &dyn Host,
        seen: &OutputSeen,
        limit: Duration,
    ) -> Result<bool, Fault> {
        let deadline = Instant::now() + limit;
        let mut complete = true;
        for stream in &mut self.streams {
            let seen = seen_of(seen, stream.stream);
            complete &= stream.finish(&self.entry, host, seen, deadline).await?;
        }
        Ok(complete)
    }

    /// Writes the ends of the streams where they were not written: what is left of `seen` is
    /// told as a gap. Where the writer does not give the place back within `limit`, not even
    /// that can be written.
    pub async fn give_up(&mut self, seen: &OutputSeen, limit: Duration) {
        let deadline = Instant::now() + limit;
        for stream in &mut self.streams {
            stream.settle(deadline).await;
            // The place may rest for a while, and come back from the writer with a failure.
            while !stream.is_over() {
                stream.hand_over_end(seen_of(seen, stream.stream));
                if Instant::now() >= deadline {
                    break;
                }
                stream.settle(deadline).await;
            }
        }
    }

    /// How soon to look at the host again for the sake of live output: a command that has
    /// written lately is likely to write again. `None` when it has been silent for a while.
    pub fn look_again(&self) -> Option<Duration> {
        let lively = self.grown.is_some_and(|grown| grown.elapsed() < LIVELY);
        lively.then_some(LIVELY_PACE)
    }

    /// How many bytes have been written, by the places that came back from the writer.
    pub fn written(&self) -> u64 {
        self.streams.iter().map(|stream| stream.reached).sum()
    }

    /// Why output is not being written just now, if it is not: a full disk, for example. A
    /// reader that went away is no reason.
    pub fn failure(&self) -> Option<&str> {
        self.streams.iter().find_map(|stream| stream.failure.as_deref())
    }

    /// How many bytes were gone before they could be read.
    pub fn missed(&self) -> u64 {
        self.streams.iter().map(|stream| stream.missed).sum()
    }

    /// True when nothing more will be written: [`Follow::finish`] has come to the ends of the
    /// streams, or nobody reads what is written.
    pub fn is_finished(&self) -> bool {
        self.streams.iter().all(Following::is_over)
    }

    /// The tails so far; `open` while more may come.
    pub fn tails(&self, open: bool) -> Tails {
        let [stdout, stderr] = &self.streams;
        Tails { stdout: stdout.tail.text(open), stderr: stderr.tail.text(open) }
    }
}

impl Advanced {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::More, _) | (_, Self::More) => Self::More,
            (Self::Waiting, _) | (_, Self::Waiting) => Self::Waiting,
            (Self::CaughtUp, Self::CaughtUp) => Self::CaughtUp,
        }
    }
}

fn seen_of(seen: &OutputSeen, stream: Stream) -> &StreamSeen {
    match stream {
        Stream::Stdout => &seen.stdout,
        Stream::Stderr => &seen.stderr,
    }
}

/// One stream on its way.
#[derive(Debug)]
struct Following {
    stream: Stream,
    tail_bytes: u64,
    tail: Tail,
    writer: Option<Writer>,
    writing: Writing,
    /// Where the place was when it was here last.
    reached: u64,
    /// Why the last block was not written; `None` when it was.
    failure: Option<String>,
    /// Bytes that were gone when they were to be read, and where the last of these ended.
    missed: u64,
    missed_to: u64,
    /// The end of the stream was written.
    finished: bool,
}

/// Where the place of a stream is.
#[derive(Debug)]
enum Writing {
    /// Nothing is written of this stream (any more: nobody reads it).
    Off,
    /// Here: a block may be handed over.
    Here(Place),
    /// With the writer, together with a block.
    Away { back: oneshot::Receiver<Written>, last: bool },
    /// Here again after writing failed; tried again later.
    Resting { place: Place, until: Instant },
}

impl Following {
    fn new(entry: &Entry, stream: Stream, tail_bytes: usize, destination: &Destination) -> Self {
        let (writer, marks) = match destination {
            Destination::Nowhere => (None, None),
            Destination::Log { writer, marks, .. } | Destination::Plain { writer, marks, .. } => {
                (Some(writer.clone()), marks.as_ref())
            }
        };
        let mark = marks.map(|marks| marks.of(entry, stream));
        let marked = mark.as_ref().map_or(0, |mark| mark.read());
        let next = match destination {
            Destination::Nowhere | Destination::Log { .. } => marked,
            Destination::Plain { kept, .. } => kept.resume(stream, marked),
        };
        let shape = match destination {
            Destination::Nowhere => None,
            Destination::Log { head, .. } => {
                Some(Shape::Log { head: Arc::clone(head), lines: Lines::at(next) })
            }
            Destination::Plain { .. } => Some(Shape::Plain { next }),
        };
        let writing = shape.map_or(Writing::Off, |shape| Writing::Here(Place { shape, mark }));
        Self {
            stream,
            tail_bytes: tail_bytes as u64,
            tail: Tail::new(tail_bytes, next.saturating_sub(tail_bytes as u64)),
            writer,
            writing,
            reached: next,
            failure: None,
            missed: 0,
            missed_to: 0,
            finished: false,
        }
    }

    async fn advance(
        &mut self,
        entry: &Entry,
        host: &dyn Host,
        seen: &StreamSeen,
    ) -> Result<Advanced, Fault> {
        for _ in 0..READS {
            self.settle(Instant::now() + WRITE_PATIENCE).await;
            let Some(next) = self.next() else {
                self.catch_tail_up(entry, host, seen.bytes).await?;
                let off = matches!(self.writing, Writing::Off);
                if off {
                    self.release(entry, host, seen.bytes);
                }
                return Ok(if off { Advanced::CaughtUp } else { Advanced::Waiting });
            };
            self.catch_tail_up(entry, host, next.min(seen.bytes)).await?;
            self.release(entry, host, next);
            if next >= seen.bytes {
                return Ok(Advanced::CaughtUp);
            }
            let max = u32::try_from(seen.bytes - next).unwrap_or(PIECE).min(PIECE);
            let chunk = host.read(entry, self.stream, next, max).await?;
            if chunk.bytes.is_empty() {
                // The entry may have been wiped: what was seen is not there any more.
                return Ok(Advanced::CaughtUp);
            }
            self.note_missed(next, chunk.offset);
            self.tail.push(chunk.offset, &chunk.bytes);
            self.hand_over(chunk, None);
        }
        Ok(Advanced::More)
    }

    async fn finish(
        &mut self,
        entry: &Entry,
        host: &dyn Host,
        seen: &StreamSeen,
        deadline: Instant,
    ) -> Result<bool, Fault> {
        while !self.is_over() && Instant::now() < deadline {
            match self.advance(entry, host, seen).await? {
                Advanced::More => {}
                Advanced::Waiting => self.settle(deadline.min(Instant::now() + WRITE_PAUSE)).await,
                Advanced::CaughtUp => {
                    self.settle(deadline).await;
                    self.hand_over_end(seen);
                    self.settle(deadline).await;
                }
            }
        }
        self.catch_tail_up(entry, host, seen.bytes).await?;
        let whole = self.next().is_none_or(|next| next >= seen.bytes);
        Ok(whole && self.is_over())
    }

    /// What lies below `done` was written, or is not to be: it is not read again but for a tail.
    fn release(&self, entry: &Entry, host: &dyn Host, done: u64) {
        host.release(entry, self.stream, done.saturating_sub(self.tail_bytes));
    }

    /// Nothing more will be written.
    fn is_over(&self) -> bool {
        self.finished || matches!(self.writing, Writing::Off)
    }

    /// Counts what lies between the byte that was wanted and the first that was had, once.
    fn note_missed(&mut self, wanted: u64, had: u64) {
        self.missed += had.saturating_sub(wanted.max(self.missed_to));
        self.missed_to = self.missed_to.max(had);
    }

    /// Offset of the next byte to write; `None` while none can be handed over.
    fn next(&self) -> Option<u64> {
        if let Writing::Here(place) = &self.writing { Some(place.next()) } else { None }
    }

    /// Brings the tail to `end` by reading no more than it can hold. Does nothing when the
    /// stream is being written, which brings the tail along.
    async fn catch_tail_up(
        &mut self,
        entry: &Entry,
        host: &dyn Host,
        end: u64,
    ) -> Result<(), Fault> {
        while self.tail.end() < end && self.tail_bytes > 0 {
            let from = self.tail.end().max(end.saturating_sub(self.tail_bytes));
            let max = u32::try_from(end - from).unwrap_or(PIECE).min(PIECE);
            let chunk = host.read(entry, self.stream, from, max).await?;
            if chunk.bytes.is_empty() {
                break;
            }
            self.tail.push(chunk.offset, &chunk.bytes);
        }
        Ok(())
    }

    fn hand_over_end(&mut self, seen: &StreamSeen) {
        let Some(next) = self.next() else { return };
        let (stream, bytes, truncated) = (self.stream, Vec::new(), seen.truncated);
        let nothing = Chunk { stream, offset: next, bytes, truncated };
        self.hand_over(nothing, Some(Last { end: seen.bytes, truncated: seen.truncated }));
    }

    fn hand_over(&mut self, chunk: Chunk, last: Option<Last>) {
        let Some(writer) = &self.writer else { return };
        let Writing::Here(place) = std::mem::replace(&mut self.writing, Writing::Off) else {
            return;
        };
        let (written, back) = oneshot::channel();
        let block = Block { chunk, last, place, written };
        self.writing = match writer.offer(block) {
            Ok(()) => Writing::Away { back, last: last.is_some() },
            Err(block) => {
                Writing::Resting { place: block.place, until: Instant::now() + QUEUE_PAUSE }
            }
        };
    }

    /// Takes the place back when the block was written, waiting until `deadline`. A wait that
    /// is given up leaves everything as it was.
    async fn settle(&mut self, deadline: Instant) {
        match &mut self.writing {
            Writing::Off | Writing::Here(_) => {}
            Writing::Away { back, last } => {
                let last = *last;
                let Ok(written) = timeout_at(deadline, back).await else { return };
                self.take_back(written.ok(), last);
            }
            Writing::Resting { until, .. } if *until > Instant::now() => {
                sleep_until(deadline.min(*until)).await;
            }
            Writing::Resting { .. } => {
                let resting = std::mem::replace(&mut self.writing, Writing::Off);
                if let Writing::Resting { place, .. } = resting {
                    self.writing = Writing::Here(place);
                }
            }
        }
    }

    fn take_back(&mut self, written: Option<Written>, last: bool) {
        self.failure = None;
        self.writing = match written {
            None => {
                tracing::error!("the output writer has ended");
                Writing::Off
            }
            Some(Written { place, failed: None }) => {
                self.finished |= last;
                self.reached = place.next();
                Writing::Here(place)
            }
            Some(Written { failed: Some(error), .. }) if error.kind() == BrokenPipe => {
                tracing::warn!(stream = self.stream.name(), "nobody reads the output any more");
                Writing::Off
            }
            Some(Written { place, failed: Some(error) }) => {
                tracing::warn!(%error, stream = self.stream.name(), "output not written");
                self.failure = Some(error.to_string());
                self.reached = place.next();
                Writing::Resting { place, until: Instant::now() + WRITE_PAUSE }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;
    use crate::core::action::Kind;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_given_up_is_told_as_a_gap_also_while_writing_rests() {
        let sink = Sink::default();
        let head = Head {
            namespace: "ns".to_owned(),
            name: "a".to_owned(),
            uid: "u".to_owned(),
            run: 1,
            attempt: 1,
            host: "h".to_owned(),
            verify: false,
        };
        let entry = Entry {
            uid: "u".to_owned(),
            run: 1,
            attempt: 1,
            kind: Kind::Command,
            token: "T".to_owned(),
            machine: "m".to_owned(),
            run_as: None,
        };
        let writer = Writer::start(sink.clone(), std::io::sink()).unwrap();
        let destination = Destination::Log { writer, marks: None, head: Arc::new(head) };
        let mut follow = Follow::new(entry, 0, &destination);
        for stream in &mut follow.streams {
            if let Writing::Here(place) = std::mem::replace(&mut stream.writing, Writing::Off) {
                stream.writing = Writing::Resting { place, until: Instant::now() + QUEUE_PAUSE };
            }
        }
        let mut seen = OutputSeen::default();
        (seen.stdout.bytes, seen.stderr.bytes) = (7, 8);
        follow.give_up(&seen, Duration::from_secs(5)).await;
        assert!(follow.is_finished());
        let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(log.matches("outputGap").count(), 2, "{log}");
    }
}
