//! One thread that writes the output of all commands, in blocks, and notes how far it came.
//!
//! Nobody waits for it: each stream hands over one block at a time and gets its place back
//! when the block is written. While stdout is stuck, streams keep their place and read no
//! more; the record on the host keeps the rest.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::line::{Lines, Record};
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
    Log { head: Arc<Head>, lines: Lines },
    /// Byte for byte: stdout to stdout, stderr to stderr.
    Plain { next: u64 },
}

impl Place {
    /// Offset of the next byte this stream wants.
    pub fn next(&self) -> u64 {
        match &self.shape {
            Shape::Log { lines, .. } => lines.next(),
            Shape::Plain { next } => *next,
        }
    }

    fn note(&self, offset: u64) {
        let Some(mark) = &self.mark else { return };
        if let Err(error) = mark.write(offset) {
            // Written output that is not noted is repeated after a restart; nothing worse.
            tracing::warn!(%error, "could not note how far output was written");
        }
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
        let mut sinks = Sinks { stdout: Box::new(stdout), stderr: Box::new(stderr) };
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
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
}

impl Sinks {
    fn write(&mut self, place: &mut Place, chunk: &Chunk, last: Option<Last>) -> io::Result<()> {
        match &place.shape {
            Shape::Log { .. } => self.write_log(place, chunk, last),
            Shape::Plain { .. } => self.write_plain(place, chunk),
        }
    }

    /// Log lines, in batches that end with a record, each noted as soon as it is written.
    fn write_log(
        &mut self,
        place: &mut Place,
        chunk: &Chunk,
        last: Option<Last>,
    ) -> io::Result<()> {
        let Shape::Log { head, lines } = &place.shape else { return Ok(()) };
        let (head, mut lines) = (Arc::clone(head), lines.clone());
        let mut batch = Batch::new(&mut self.stdout, place, lines.told());
        let mut tell = |record: Record<'_>| {
            log::append(&mut batch.text, &head, chunk.stream, record);
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
        let lines = if failed.is_some() { Lines::at(noted) } else { lines };

        place.shape = Shape::Log { head, lines };
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
            out.write_all(piece)?;
            out.flush()?;
            offset += piece.len() as u64;
            place.shape = Shape::Plain { next: offset };
            place.note(offset);
        }
        Ok(())
    }
}

/// Log lines that are not written yet.
struct Batch<'a> {
    out: &'a mut Box<dyn Write + Send>,
    text: Vec<u8>,
    place: &'a Place,
    /// Everything before this offset is written.
    noted: u64,
    failed: Option<io::Error>,
}

impl<'a> Batch<'a> {
    fn new(out: &'a mut Box<dyn Write + Send>, place: &'a Place, noted: u64) -> Self {
        Self { out, text: Vec::new(), place, noted, failed: None }
    }

    /// Writes what has gathered, and notes that everything before `offset` is written.
    fn write(&mut self, offset: u64) {
        if self.failed.is_none() && !self.text.is_empty() {
            match self.out.write_all(&self.text).and_then(|()| self.out.flush()) {
                Ok(()) => {
                    self.noted = offset;
                    self.place.note(offset);
                }
                Err(error) => self.failed = Some(error),
            }
        }
        self.text.clear();
    }
}

/// This process's stdout and stderr, unbuffered.
///
/// # Errors
/// When the descriptors cannot be duplicated.
pub fn standard_streams() -> io::Result<(File, File)> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    Ok((stdout, stderr))
}

/// Ends the last line of `out` where it is a file that ends within one: a program that is
/// killed while writing leaves such a piece, and what follows must not be glued to it.
///
/// # Errors
/// When the newline cannot be written.
pub fn end_torn_line(out: &mut File) -> io::Result<()> {
    let torn = last_byte(out).is_ok_and(|last| last.is_some_and(|byte| byte != b'\n'));
    if torn { out.write_all(b"\n") } else { Ok(()) }
}

/// The last byte of a regular file, opened anew because `out` may be open for writing only.
fn last_byte(out: &File) -> io::Result<Option<u8>> {
    if !out.metadata()?.is_file() || out.metadata()?.len() == 0 {
        return Ok(None);
    }
    let mut file = File::open(format!("/proc/self/fd/{}", out.as_raw_fd()))?;
    file.seek(SeekFrom::End(-1))?;
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte.first().copied())
}
