//! One thread that writes the output of all commands, in blocks, and notes how far it came.
//!
//! Nobody waits for it: each stream hands over one block at a time and gets its place back
//! when the block is written, or as much of it as its log may have now. While stdout is stuck,
//! streams keep their place and read no more; the record on the host keeps the rest.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::budget::{Budget, Room};
use super::line::{Lines, Record, piece};
use super::log::{self, Head};
use super::mark::Mark;
use crate::host::{Chunk, Stream};

/// Blocks that wait to be written, of all streams together.
const QUEUE: usize = 64;

/// Bytes of log lines that are written and noted at once.
const BATCH: usize = 16 * 1024;

/// Bytes of plain output that are written and noted at once; a pipe takes this much.
const PIECE: usize = 64 * 1024;

/// A handle on the writing thread.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::Sender<Block>,
}

/// What is written and where to go on after it. The place comes back through `written`.
#[derive(Debug)]
pub struct Block {
    pub chunk: Chunk,
    /// Set when nothing follows in this stream.
    pub last: Option<Last>,
    pub place: Place,
    pub written: oneshot::Sender<Written>,
}

/// What became of a block.
#[derive(Debug)]
pub struct Written {
    /// Where to go on: after the block, or after what was written of it.
    pub place: Place,
    /// Why not all of it was written.
    pub failed: Option<io::Error>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Length of the stream. What is not there by now cannot be had any more.
    pub end: u64,
    /// More was written than the host's limit lets be kept.
    pub truncated: bool,
}

/// Where a stream stands, and in which shape it is written.
#[derive(Debug)]
pub struct Place {
    pub shape: Shape,
    pub mark: Option<Mark>,
}

/// The shape of written output.
#[derive(Debug)]
pub enum Shape {
    /// JSON lines on stdout, both streams.
    Log { head: Arc<Head>, lines: Lines, account: Account },
    /// Byte for byte: stdout to stdout, stderr to stderr.
    Plain { next: u64 },
    /// As `Plain`, in whole lines that each begin with the same words. The end of a stream ends
    /// its last line, and a line of more than [`LONGEST`](super::line::LONGEST) bytes becomes several.
    Prefixed { prefix: Arc<str>, lines: Lines },
}

/// What a stream's log takes of its attempt's budget.
#[derive(Clone, Debug)]
pub struct Account {
    pub budget: Arc<Budget>,
    /// Bytes of log made of this stream.
    pub logged: u64,
}

impl Account {
    /// Counts what was written; gives the bytes of log made of this stream.
    fn charge(&mut self, bytes: usize) -> u64 {
        self.budget.charge(bytes);
        self.logged = self.logged.saturating_add(bytes as u64);
        self.logged
    }
}

impl Place {
    /// Offset of the next byte this stream wants.
    pub fn next(&self) -> u64 {
        match &self.shape {
            Shape::Log { lines, .. } | Shape::Prefixed { lines, .. } => lines.next(),
            Shape::Plain { next } => *next,
        }
    }

    /// Bytes of log that were made of it; 0 for plain output.
    pub fn logged(&self) -> u64 {
        match &self.shape {
            Shape::Log { account, .. } => account.logged,
            Shape::Plain { .. } | Shape::Prefixed { .. } => 0,
        }
    }

    /// Leaves out of the log what comes before `end` and was not written; plain output has it
    /// all.
    pub fn omit(&mut self, end: u64) {
        match &mut self.shape {
            Shape::Log { lines, .. } => lines.omit(end),
            Shape::Plain { .. } | Shape::Prefixed { .. } => {}
        }
    }
}

fn note(mark: Option<&Mark>, offset: u64, logged: u64) {
    let Some(mark) = mark else { return };
    if let Err(error) = mark.write(offset, logged) {
        // Written output that is not noted is repeated after a restart; nothing worse.
        tracing::warn!(%error, "could not note how far output was written");
    }
}

impl Writer {
    /// Starts the thread. It ends when all handles are dropped and the queue is empty.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, mut blocks) = mpsc::channel::<Block>(QUEUE);
        let mut sinks = Sinks { stdout: Sink::new(stdout), stderr: Sink::new(stderr) };
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            while let Some(block) = blocks.blocking_recv() {
                let Block { chunk, last, mut place, written } = block;
                let failed = sinks.write(&mut place, &chunk, last).err();
                // A stream whose follower is gone needs its place no more.
                let _ = written.send(Written { place, failed });
            }
        })?;
        Ok(Self { queue })
    }

    /// Hands over a block, or gives it back when the queue is full.
    ///
    /// # Errors
    /// The block, to be offered again later.
    pub fn offer(&self, block: Block) -> Result<(), Box<Block>> {
        self.queue.try_send(block).map_err(|error| Box::new(error.into_inner()))
    }
}

struct Sinks {
    stdout: Sink,
    stderr: Sink,
}

/// Where bytes go.
struct Sink {
    out: Box<dyn Write + Send>,
    /// The last byte taken is no newline.
    torn: bool,
}

impl Sink {
    fn new(out: impl Write + Send + 'static) -> Self {
        Self { out: Box::new(out), torn: false }
    }

    /// Writes all of `bytes`, or tells how many were taken and why no more are.
    fn write(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest) {
                Ok(0) => return Err((taken, io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.torn = rest.get(..count).and_then(<[u8]>::last) != Some(&b'\n');
                    taken += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((taken, error)),
            }
        }
        self.out.flush().map_err(|error| (taken, error))
    }
}

impl Sinks {
    fn write(&mut self, place: &mut Place, chunk: &Chunk, last: Option<Last>) -> io::Result<()> {
        match &place.shape {
            Shape::Log { .. } => self.write_log(place, chunk, last),
            Shape::Plain { .. } => self.write_plain(place, chunk),
            Shape::Prefixed { .. } => self.write_prefixed(place, chunk, last),
        }
    }

    /// Log lines, in batches that end with a record, each noted as soon as it is written; as
    /// many as the attempt's budget has room for. What tells the end is always written.
    fn write_log(
        &mut self,
        place: &mut Place,
        chunk: &Chunk,
        last: Option<Last>,
    ) -> io::Result<()> {
        let Shape::Log { head, lines, account } = &mut place.shape else { return Ok(()) };
        let mark = place.mark.as_ref();
        let mut batch = Batch::new(&mut self.stdout, (mark, Some(account)), lines.told());
        let tell = |batch: &mut Batch<'_>, record: Record<'_>| {
            log::append(&mut batch.text, head, chunk.stream, record);
            if batch.text.len() >= BATCH {
                batch.write(record.end());
            }
        };
        let (mut offset, mut rest) = (chunk.offset, chunk.bytes.as_slice());
        while !rest.is_empty() && batch.has_room() {
            let (piece, after) = rest.split_at_checked(piece(rest).len()).unwrap_or((rest, &[]));
            lines.push(offset, piece, &mut |record| tell(&mut batch, record));
            offset = offset.saturating_add(piece.len() as u64);
            rest = after;
        }
        if let Some(last) = last {
            if !rest.is_empty() {
                lines.omit(last.end);
            }
            lines.finish(last.end, last.truncated, &mut |record| tell(&mut batch, record));
        }
        batch.write(lines.told());
        let (noted, failed) = (batch.noted, batch.failed);
        if failed.is_some() {
            *lines = Lines::at(noted);
        }
        failed.map_or(Ok(()), Err)
    }

    /// Lines of plain output, in batches as for the log: no line of another command comes
    /// between two parts of one.
    fn write_prefixed(
        &mut self,
        place: &mut Place,
        chunk: &Chunk,
        last: Option<Last>,
    ) -> io::Result<()> {
        let Shape::Prefixed { prefix, lines } = &mut place.shape else { return Ok(()) };
        let out = match chunk.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut batch = Batch::new(out, (place.mark.as_ref(), None), lines.told());
        let mut tell = |record: Record<'_>| {
            // What is missing of a stream is told elsewhere.
            let Record::Line(line) = record else { return };
            batch.text.extend_from_slice(prefix.as_bytes());
            batch.text.extend_from_slice(line.bytes);
            batch.text.push(b'\n');
            if batch.text.len() >= BATCH {
                batch.write(record.end());
            }
        };
        lines.push(chunk.offset, &chunk.bytes, &mut tell);
        if let Some(last) = last {
            lines.finish(last.end, last.truncated, &mut tell);
        }
        batch.write(lines.told());
        let (noted, failed) = (batch.noted, batch.failed);
        if failed.is_some() {
            *lines = Lines::at(noted);
        }
        failed.map_or(Ok(()), Err)
    }

    fn write_plain(&mut self, place: &mut Place, chunk: &Chunk) -> io::Result<()> {
        let Shape::Plain { next } = place.shape else { return Ok(()) };
        let known = usize::try_from(next.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
        let fresh = chunk.bytes.get(known..).unwrap_or_default();
        let out = match chunk.stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut offset = next.max(chunk.offset);
        for piece in fresh.chunks(PIECE) {
            let written = out.write(piece);
            let taken = written.as_ref().map_or_else(|(taken, _)| *taken, |()| piece.len());
            offset += taken as u64;
            place.shape = Shape::Plain { next: offset };
            if taken > 0 {
                note(place.mark.as_ref(), offset, 0);
            }
            written.map_err(|(_, error)| error)?;
        }
        Ok(())
    }
}

/// Log lines that are not written yet.
struct Batch<'a> {
    out: &'a mut Sink,
    text: Vec<u8>,
    mark: Option<&'a Mark>,
    /// What the log may take; nothing else is bounded here.
    account: Option<&'a mut Account>,
    /// Everything before this offset is written.
    noted: u64,
    failed: Option<io::Error>,
}

impl<'a> Batch<'a> {
    fn new(
        out: &'a mut Sink,
        (mark, account): (Option<&'a Mark>, Option<&'a mut Account>),
        noted: u64,
    ) -> Self {
        Self { out, text: Vec::new(), mark, account, noted, failed: None }
    }

    /// Whether the budget has room for more than what has gathered.
    fn has_room(&self) -> bool {
        let room = match self.account.as_ref().map(|account| account.budget.room(account.logged)) {
            None => u64::MAX,
            Some(Room::Now(bytes)) => bytes,
            Some(Room::In(_) | Room::Spent) => 0,
        };
        self.failed.is_none() && room > self.text.len() as u64
    }

    /// Writes what has gathered, and notes that everything before `offset` is written.
    fn write(&mut self, offset: u64) {
        if self.failed.is_none() && !self.text.is_empty() {
            if self.out.torn {
                // What an earlier failure left of a record is a line of its own.
                self.text.insert(0, b'\n');
            }
            match self.out.write(&self.text) {
                Ok(()) => {
                    self.noted = offset;
                    let logged = self.account.as_mut().map_or(0, |a| a.charge(self.text.len()));
                    note(self.mark, offset, logged);
                }
                Err((_, error)) => self.failed = Some(error),
            }
        }
        self.text.clear();
    }
}
