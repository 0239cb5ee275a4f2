//! One stream of an attempt on its way: read by offset, handed to the writer block by block, and
//! its end kept for status.

use std::io::ErrorKind::BrokenPipe;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Advanced, Destination};
use crate::core::action::Entry;
use crate::core::fault::Fault;
use crate::core::record::StreamSeen;
use crate::core::tail::Tail;
use crate::host::{Chunk, Host, Stream};
use crate::output::budget::{Budget, Room};
use crate::output::line::Lines;
use crate::output::mark::Mark;
use crate::output::writer::{Account, Block, Last, Place, Shape, Writer, Written};

/// Bytes asked for in one read.
const PIECE: u32 = 256 * 1024;

/// The least that is asked for where there is more.
const LEAST_PIECE: u64 = 4 * 1024;

/// The longest pause before it is looked again whether the rate lets more be written.
const RATE_PAUSE: Duration = Duration::from_millis(250);

/// Reads of one stream in one [`Follow::advance`].
const READS: usize = 4;

/// How long [`Follow::advance`] waits for a block to be written before it leaves it under way.
const WRITE_PATIENCE: Duration = Duration::from_millis(20);

/// How long writing rests after it failed.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// How long a stream rests when the writer's queue is full.
pub(super) const QUEUE_PAUSE: Duration = Duration::from_millis(50);

/// One stream on its way.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) stream: Stream,
    tail_bytes: u64,
    pub(super) tail: Tail,
    writer: Option<Writer>,
    pub(super) writing: Writing,
    /// Where the place was when it was here last.
    pub(super) reached: u64,
    /// Bytes of log made of it by then, and what the last block had for each of its own.
    logged: u64,
    cost: u64,
    /// The rate is what kept it from being written when it was advanced last.
    throttled: bool,
    /// Why the last block was not written; `None` when it was.
    pub(super) failure: Option<String>,
    /// Bytes that were gone when they were to be read, and where the last of these ended.
    pub(super) missed: u64,
    missed_to: u64,
    /// The end of the stream was written.
    finished: bool,
}

/// Where the place of a stream is.
#[derive(Debug)]
pub(super) enum Writing {
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
    /// Follows one stream of `entry` from where it was last written.
    pub(super) fn new(
        entry: &Entry,
        stream: Stream,
        tail_bytes: usize,
        (destination, budget): (&Destination, &Arc<Budget>),
    ) -> Self {
        let (writer, marks) = match destination {
            Destination::Nowhere => (None, None),
            Destination::Log { writer, marks, .. } | Destination::Plain { writer, marks, .. } => {
                (Some(writer.clone()), marks.as_ref())
            }
        };
        let mark = marks.map(|marks| marks.of(entry, stream));
        let marked = mark.as_ref().map_or(0, Mark::read);
        let next = match destination {
            Destination::Nowhere | Destination::Log { .. } => marked,
            Destination::Plain { kept, .. } => kept.resume(stream, marked),
        };
        let logged = mark.as_ref().map_or(0, Mark::logged);
        let shape = match destination {
            Destination::Nowhere => None,
            Destination::Log { head, .. } => {
                let account = Account { budget: Arc::clone(budget), logged };
                Some(Shape::Log { head: Arc::clone(head), lines: Lines::at(next), account })
            }
            Destination::Plain { prefixes, .. } => Some(match prefixes.of(stream) {
                Some(prefix) => Shape::Prefixed { prefix, lines: Lines::at(next) },
                None => Shape::Plain { next },
            }),
        };
        let writing = shape.map_or(Writing::Off, |shape| Writing::Here(Place { shape, mark }));
        Self {
            stream,
            tail_bytes: tail_bytes as u64,
            tail: Tail::new(tail_bytes, next.saturating_sub(tail_bytes as u64)),
            writer,
            writing,
            reached: next,
            logged,
            cost: 1,
            throttled: false,
            failure: None,
            missed: 0,
            missed_to: 0,
            finished: false,
        }
    }

    pub(super) async fn advance(
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
            let room = if next < seen.bytes { self.room() } else { Room::Now(0) };
            self.throttled = matches!(room, Room::In(_));
            let room = match room {
                Room::Now(room) => room,
                Room::In(_) => {
                    self.catch_tail_up(entry, host, seen.bytes).await?;
                    return Ok(Advanced::Throttled);
                }
                Room::Spent => {
                    self.omit(seen.bytes);
                    self.catch_tail_up(entry, host, seen.bytes).await?;
                    return Ok(Advanced::CaughtUp);
                }
            };
            self.catch_tail_up(entry, host, next.min(seen.bytes)).await?;
            self.release(entry, host, next);
            if next >= seen.bytes {
                return Ok(Advanced::CaughtUp);
            }
            let max = self.read_size(seen.bytes - next, room);
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

    pub(super) async fn finish(
        &mut self,
        entry: &Entry,
        host: &dyn Host,
        seen: &StreamSeen,
        deadline: Instant,
    ) -> Result<bool, Fault> {
        while !self.is_over() && Instant::now() < deadline {
            match self.advance(entry, host, seen).await? {
                Advanced::More => {}
                Advanced::Throttled => {
                    sleep_until(deadline.min(Instant::now() + self.pause())).await;
                }
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

    /// How much log may be written; plain output has no limit.
    fn room(&self) -> Room {
        match &self.writing {
            Writing::Here(Place { shape: Shape::Log { account, .. }, .. }) => {
                account.budget.room(account.logged)
            }
            Writing::Here(_) | Writing::Off | Writing::Away { .. } | Writing::Resting { .. } => {
                Room::Now(u64::MAX)
            }
        }
    }

    /// How long to wait until the rate lets something be written; not for long, as something
    /// else may have to be seen to.
    pub(super) fn pause(&self) -> Duration {
        match self.room() {
            Room::In(wait) => wait.min(RATE_PAUSE),
            Room::Now(_) | Room::Spent => Duration::ZERO,
        }
    }

    /// How much of `left` is read at once: about what there is room for, as what is read beyond
    /// is read again.
    fn read_size(&self, left: u64, room: u64) -> u32 {
        let fits = (room / self.cost).max(LEAST_PIECE).min(left);
        u32::try_from(fits).unwrap_or(PIECE).min(PIECE)
    }

    /// Leaves what is not written before `end` out of the log.
    fn omit(&mut self, end: u64) {
        if let Writing::Here(place) = &mut self.writing {
            place.omit(end);
            self.reached = place.next();
        }
    }

    /// Nothing more will be written.
    pub(super) fn is_over(&self) -> bool {
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

    /// Hands over the end of the stream, which is at what is seen.
    pub(super) fn hand_over_end(&mut self, seen: &StreamSeen) {
        if self.throttled {
            self.omit(seen.bytes);
        }
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
    pub(super) async fn settle(&mut self, deadline: Instant) {
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
                let bytes = place.next().saturating_sub(self.reached);
                if let Some(cost) = place.logged().saturating_sub(self.logged).checked_div(bytes) {
                    self.cost = cost.max(1);
                }
                (self.reached, self.logged) = (place.next(), place.logged());
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
