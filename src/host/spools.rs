//! Where output of Direct commands waits on disk until it is read: files without a name, in one
//! directory, with one bound for all of them. Nothing of them outlives the process.
//!
//! The library gives a channel new window when bytes arrive, not when they are used, and stops
//! reading the whole connection when one channel is not read. So holding a flood back would hold
//! back every other command on that connection, and their signals; a connection for each Direct
//! command would cost a handshake each and meet MaxStartups. What is not read yet therefore goes
//! to disk. Writing is nobody's task but the spool's own; a channel stands still only while
//! 256 KiB wait for the disk, and 10 s at most. Each stream may take as much as would be left for
//! the others; one that finds no room, or no disk, is cut there and told as truncated. `follow`
//! says how far it has come, and what lies behind is given back by whole files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of one file. What was read is given back by whole files.
const SEGMENT: u64 = 16 << 20;
/// Bytes on disk in all unless set otherwise.
pub const TOTAL: u64 = 4 << 30;

/// The spools of a process.
#[derive(Clone, Debug)]
pub struct Spools {
    directory: PathBuf,
    total: u64,
    used: Arc<AtomicU64>,
}

/// Why output could not be put by.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    #[error("its share of {0} bytes on disk, which all Direct commands have together, is used up")]
    Share(u64),
    #[error("it could not be written to {0}")]
    Disk(PathBuf, #[source] io::Error),
    #[error("writing it to {0} did not come to an end")]
    Stuck(PathBuf),
}

impl Default for Spools {
    /// In the system's directory for temporary files (`TMPDIR`).
    fn default() -> Self {
        Self::in_directory(std::env::temp_dir(), TOTAL)
    }
}

impl Spools {
    /// In `directory`, which has to be there, with `total` bytes at most.
    pub fn in_directory(directory: impl Into<PathBuf>, total: u64) -> Self {
        Self { directory: directory.into(), total, used: Arc::default() }
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes on disk now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }

    /// Makes the directory, for this user alone, and shows that a file can be written there.
    ///
    /// # Errors
    /// The system's.
    pub fn check(&self) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        tempfile::tempfile_in(&self.directory)?.write_all_at(b".", 0)
    }

    /// Reserves `bytes` for someone who holds `held` already. Nobody gets more than what would
    /// be left for all others, so that one flood does not end the rest.
    fn reserve(&self, bytes: u64, held: u64) -> Result<Held, Unkept> {
        let reserved = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            let more = used.checked_add(bytes)?;
            let left = self.total.checked_sub(more)?;
            (held.saturating_add(bytes) <= left).then_some(more)
        });
        match reserved {
            Ok(_) => Ok(Held { used: self.used.clone(), bytes }),
            Err(_) => Err(Unkept::Share(self.total)),
        }
    }

    /// Writes `bytes` behind `last`, or to a new file where that is full. Blocks.
    ///
    /// # Errors
    /// [`Unkept`]; nothing of `bytes` counts as written then.
    pub(super) fn write(
        &self,
        last: Option<Tip>,
        bytes: &[u8],
        held: u64,
    ) -> Result<Written, Unkept> {
        let length = bytes.len() as u64;
        let reserved = self.reserve(length, held)?;
        let unkept = |error| Unkept::Disk(self.directory.clone(), error);
        let (file, at) = match last.filter(|tip| tip.length + length <= SEGMENT) {
            Some(tip) => (tip.file, tip.length),
            None => (Arc::new(tempfile::tempfile_in(&self.directory).map_err(unkept)?), 0),
        };
        file.write_all_at(bytes, at).map_err(unkept)?;
        Ok(Written { file, at, held: reserved })
    }

    /// What is told of a write that was given up.
    pub(super) fn stuck(&self) -> Unkept {
        Unkept::Stuck(self.directory.clone())
    }
}

/// Bytes on disk that somebody holds; given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    used: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// The end of the last file of a stream.
#[derive(Debug)]
pub(super) struct Tip {
    file: Arc<File>,
    length: u64,
}

/// Where some bytes are now.
#[derive(Debug)]
pub(super) struct Written {
    file: Arc<File>,
    at: u64,
    held: Held,
}

/// One file of a stream: a part of it without a gap.
#[derive(Debug)]
pub(super) struct Segment {
    file: Arc<File>,
    /// Offset of its first byte in the stream.
    pub(super) start: u64,
    held: Held,
}

impl Segment {
    /// A new file whose bytes begin at `start` of the stream.
    pub(super) fn new(start: u64, written: Written) -> Self {
        Self { file: written.file, start, held: written.held }
    }

    /// Takes what was written behind its end; gives back what went to another file.
    pub(super) fn take(&mut self, mut written: Written) -> Option<Written> {
        if !Arc::ptr_eq(&self.file, &written.file) || written.at != self.held.bytes {
            return Some(written);
        }
        self.held.bytes += std::mem::take(&mut written.held.bytes);
        None
    }

    /// Offset behind its last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.held.bytes
    }

    /// Bytes it takes.
    pub(super) fn length(&self) -> u64 {
        self.held.bytes
    }

    pub(super) fn tip(&self) -> Tip {
        Tip { file: self.file.clone(), length: self.held.bytes }
    }

    /// The part from `offset` of the stream on, at most `max` bytes.
    pub(super) fn part(&self, offset: u64, max: usize) -> Part {
        let left = usize::try_from(self.end().saturating_sub(offset)).unwrap_or(usize::MAX);
        Part { file: self.file.clone(), at: offset - self.start, length: left.min(max) }
    }
}

/// Bytes on disk that are to be read.
#[derive(Debug)]
pub(super) struct Part {
    file: Arc<File>,
    at: u64,
    length: usize,
}

impl Part {
    /// Reads them. Blocks.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length];
        self.file.read_exact_at(&mut bytes, self.at)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_what_is_left_for_the_others() {
        let spools = Spools::in_directory("/nowhere", 1000);
        let one = spools.reserve(500, 0).unwrap();
        assert!(spools.reserve(1, 500).is_err(), "one has its half");
        let other = spools.reserve(250, 0).unwrap();
        assert!(spools.reserve(1, 250).is_err(), "the other half of the rest");
        assert_eq!(spools.used(), 750);
        drop(one);
        assert!(spools.reserve(250, 250).is_ok(), "what is given back can be had again");
        drop(other);
        assert_eq!(spools.used(), 0);
        assert!(spools.reserve(u64::MAX, 0).is_err());
    }

    #[test]
    fn what_cannot_be_written_is_held_by_nobody() {
        let spools = Spools::in_directory("/proc/nowhere", 1000);
        assert!(matches!(spools.write(None, b"x", 0), Err(Unkept::Disk(..))));
        assert_eq!(spools.used(), 0);
    }
}
