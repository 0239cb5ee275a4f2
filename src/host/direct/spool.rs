//! The output of one Direct stream: the newest part in memory, what was not read yet on disk.
//!
//! Pure but for the files it holds: whoever owns it does the writing and reading, which block.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::host::spools::{Part, Segment, Tip, Written};

/// Bytes of a stream that stay in memory: most commands never write to the disk.
pub(super) const IN_MEMORY: usize = 32 * 1024;
/// Bytes in memory from which on no more is taken until the disk has caught up.
const FULL: usize = 256 * 1024;

/// One stream's output.
#[derive(Debug)]
pub(super) struct Spool {
    /// Offset of the first byte kept.
    start: u64,
    /// The oldest part, without a gap.
    disk: VecDeque<Segment>,
    /// On its way to the disk, behind that.
    moving: Option<Arc<Vec<u8>>>,
    /// The newest part, behind that.
    memory: Vec<u8>,
    /// Bytes taken at most, counted from the beginning of the stream.
    limit: u64,
    /// Bytes that were not taken.
    refused: u64,
}

/// What is to be written next, and behind what.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) tip: Option<Tip>,
    /// Bytes of this stream on disk already.
    pub(super) held: u64,
}

/// Bytes to be read, and where they begin.
#[derive(Debug)]
pub(super) enum Found {
    Here(u64, Vec<u8>),
    OnDisk(u64, Part),
}

impl Spool {
    pub(super) fn new(limit: u64) -> Self {
        let (disk, moving, memory) = (VecDeque::new(), None, Vec::new());
        Self { start: 0, disk, moving, memory, limit, refused: 0 }
    }

    /// Takes bytes up to the limit.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.limit.saturating_sub(self.end())).unwrap_or(usize::MAX);
        let (taken, refused) = bytes.split_at(room.min(bytes.len()));
        self.refused += refused.len() as u64;
        self.memory.extend_from_slice(taken);
    }

    /// Whether the disk has to catch up before more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.memory.len() >= FULL
    }

    /// What is to be written to the disk now; `None` while something is on its way, or when it
    /// is not worth it.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        if self.moving.is_some() || self.memory.len() <= IN_MEMORY {
            return None;
        }
        let bytes = Arc::new(std::mem::take(&mut self.memory));
        self.moving = Some(bytes.clone());
        let held = self.disk.iter().map(Segment::length).sum();
        Some(Batch { bytes, tip: self.disk.back().map(Segment::tip), held })
    }

    /// The batch is on disk.
    pub(super) fn written(&mut self, written: Written) {
        // Without a batch under way it was let go of meanwhile.
        if self.moving.is_none() {
            return;
        }
        let at = self.on_disk();
        let elsewhere = match self.disk.back_mut() {
            Some(last) => last.take(written),
            None => Some(written),
        };
        self.moving = None;
        self.disk.extend(elsewhere.map(|written| Segment::new(at, written)));
    }

    /// The batch cannot be written: the stream is cut behind what is on disk. False when it was
    /// let go of meanwhile.
    pub(super) fn cut(&mut self) -> bool {
        let Some(moving) = self.moving.take() else { return false };
        self.refused += (moving.len() + self.memory.len()) as u64;
        self.memory = Vec::new();
        self.limit = self.end();
        true
    }

    /// Lets go of all that is kept; offsets stay as they are.
    pub(super) fn clear(&mut self) {
        self.start = self.end();
        self.disk.clear();
        self.moving = None;
        self.memory = Vec::new();
    }

    /// Nobody asks again for what lies below this offset: lets go of it as far as that frees a
    /// file.
    pub(super) fn release(&mut self, below: u64) {
        while let Some(oldest) = self.disk.pop_front_if(|oldest| oldest.end() <= below) {
            self.start = oldest.end();
        }
    }

    /// Offset behind the last byte on disk.
    fn on_disk(&self) -> u64 {
        self.disk.back().map_or(self.start, Segment::end)
    }

    /// Offset of the first byte in memory.
    fn in_memory(&self) -> u64 {
        self.on_disk() + self.moving.as_ref().map_or(0, |moving| moving.len() as u64)
    }

    /// Offset behind the last byte taken.
    fn end(&self) -> u64 {
        self.in_memory() + self.memory.len() as u64
    }

    /// Whether there was more than was kept.
    pub(super) fn is_truncated(&self) -> bool {
        self.refused > 0
    }

    /// At most `max` bytes from `offset`, or from the oldest byte kept when that is later; fewer
    /// where they lie in several places.
    pub(super) fn read(&self, offset: u64, max: u32) -> Found {
        let from = offset.clamp(self.start, self.end());
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        if let Some(segment) = self.disk.iter().find(|segment| from < segment.end()) {
            return Found::OnDisk(from, segment.part(from, max));
        }
        let (place, bytes) = match &self.moving {
            Some(moving) if from < self.in_memory() => (self.on_disk(), moving.as_slice()),
            Some(_) | None => (self.in_memory(), self.memory.as_slice()),
        };
        let skip = usize::try_from(from - place).unwrap_or(usize::MAX);
        Found::Here(from, bytes.iter().skip(skip).take(max).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::spools::Spools;

    fn bytes(found: Found) -> (u64, Vec<u8>) {
        match found {
            Found::Here(from, bytes) => (from, bytes),
            Found::OnDisk(from, part) => (from, part.read().unwrap()),
        }
    }

    /// Everything from `offset` on.
    fn all(spool: &Spool, offset: u64) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let (from, more) = bytes(spool.read(offset + all.len() as u64, 70_000));
            assert_eq!(from, offset + all.len() as u64);
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    }

    fn write(spools: &Spools, spool: &mut Spool) {
        while let Some(batch) = spool.next_batch() {
            spool.written(spools.write(batch.tip, &batch.bytes, batch.held).unwrap());
        }
    }

    #[test]
    fn reads_go_on_where_they_stopped() {
        let mut spool = Spool::new(u64::MAX);
        spool.push(b"hello ");
        assert_eq!(bytes(spool.read(0, 3)), (0, b"hel".to_vec()));
        spool.push(b"world");
        assert_eq!(bytes(spool.read(3, 100)), (3, b"lo world".to_vec()));
        assert_eq!(bytes(spool.read(11, 100)), (11, Vec::new()));
        assert_eq!(bytes(spool.read(99, 100)), (11, Vec::new()));
        assert!(spool.next_batch().is_none(), "a little stays in memory");
    }

    #[test]
    fn every_byte_can_be_read_wherever_it_lies() {
        let spools = Spools::in_directory(std::env::temp_dir(), 1 << 30);
        let (mut spool, mut wanted) = (Spool::new(u64::MAX), Vec::new());
        for step in 0..300_u32 {
            let piece = step.to_be_bytes().repeat(40_000);
            spool.push(&piece);
            wanted.extend(piece);
            if step % 7 != 6 {
                write(&spools, &mut spool);
            }
        }
        spool.push(&[b'm'; 2 * IN_MEMORY]);
        wanted.extend([b'm'; 2 * IN_MEMORY]);
        let moving = spool.next_batch().unwrap();
        spool.push(b"and the end");
        wanted.extend(b"and the end");
        assert!(all(&spool, 0) == wanted, "with a part on its way");
        spool.written(spools.write(moving.tip, &moving.bytes, moving.held).unwrap());
        assert!(all(&spool, 0) == wanted, "and after it arrived");
        let at = wanted.len() - 12_345_678;
        assert!(all(&spool, at as u64) == wanted[at..], "from anywhere");
        assert_eq!(spools.used(), (wanted.len() - b"and the end".len()) as u64);

        spool.release(at as u64);
        assert!(spools.used() < 40 << 20, "{}", spools.used());
        assert!(all(&spool, at as u64) == wanted[at..], "what is still wanted is there");
        spool.clear();
        assert_eq!((spools.used(), bytes(spool.read(0, 9))), (0, (wanted.len() as u64, vec![])));
    }

    #[test]
    fn beyond_the_limit_nothing_is_taken_and_all_is_counted() {
        let mut spool = Spool::new(10);
        spool.push(b"123456");
        spool.push(b"789012");
        spool.push(b"xyz");
        assert_eq!(bytes(spool.read(0, 100)), (0, b"1234567890".to_vec()));
        assert_eq!((spool.refused, spool.is_truncated()), (5, true));
    }

    #[test]
    fn what_the_disk_does_not_take_is_told_as_cut_off() {
        let spools = Spools::in_directory(std::env::temp_dir(), 200_000);
        let mut spool = Spool::new(u64::MAX);
        spool.push(&[b'x'; 90_000]);
        write(&spools, &mut spool);
        spool.push(&[b'y'; 90_000]);
        let batch = spool.next_batch().unwrap();
        spool.push(b"z");
        assert!(spools.write(batch.tip, &batch.bytes, batch.held).is_err());
        assert!(spool.cut());
        spool.push(b"more");
        assert_eq!((all(&spool, 0), spool.refused), (vec![b'x'; 90_000], 90_005));
        assert!(spool.is_truncated() && !spool.is_full());
    }

    #[test]
    fn what_was_let_go_of_while_it_was_written_is_gone() {
        let spools = Spools::in_directory(std::env::temp_dir(), 1 << 30);
        let mut spool = Spool::new(u64::MAX);
        spool.push(&[b'x'; FULL]);
        assert!(spool.is_full());
        let batch = spool.next_batch().unwrap();
        assert!(!spool.is_full(), "more may come while it is written");
        spool.clear();
        spool.written(spools.write(batch.tip, &batch.bytes, batch.held).unwrap());
        assert_eq!((spools.used(), spool.read_len()), (0, 0));
        assert!(!spool.cut());
    }

    impl Spool {
        fn read_len(&self) -> usize {
            bytes(self.read(0, u32::MAX)).1.len()
        }
    }
}
