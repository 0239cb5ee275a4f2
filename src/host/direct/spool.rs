//! The output of one Direct stream: the newest part in memory, with exact offsets.

use std::collections::VecDeque;

/// Bytes kept of each stream; older ones go when newer come.
pub(super) const KEPT: usize = 1 << 20;

/// One stream's output.
#[derive(Debug)]
pub(super) struct Spool {
    kept: VecDeque<u8>,
    /// Offset of the first byte kept.
    start: u64,
    /// Bytes taken at most, counted from the beginning of the stream.
    limit: u64,
    /// Bytes beyond the limit, which were not taken.
    refused: u64,
}

impl Spool {
    pub(super) fn new(limit: u64) -> Self {
        Self { kept: VecDeque::new(), start: 0, limit, refused: 0 }
    }

    /// Takes bytes up to the limit, and lets go of the oldest beyond [`KEPT`].
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.limit.saturating_sub(self.end())).unwrap_or(usize::MAX);
        let (taken, refused) = bytes.split_at(room.min(bytes.len()));
        self.refused += refused.len() as u64;
        let (old, new) = taken.split_at(taken.len().saturating_sub(KEPT));
        let gone = (self.kept.len() + new.len()).saturating_sub(KEPT).min(self.kept.len());
        self.kept.drain(..gone);
        self.start += (old.len() + gone) as u64;
        self.kept.extend(new);
    }

    /// Lets go of all that is kept; offsets stay as they are.
    pub(super) fn clear(&mut self) {
        self.start = self.end();
        self.kept = VecDeque::new();
    }

    /// Offset behind the last byte taken.
    fn end(&self) -> u64 {
        self.start + self.kept.len() as u64
    }

    /// Whether the stream had more than its limit.
    pub(super) fn is_truncated(&self) -> bool {
        self.refused > 0
    }

    /// At most `max` bytes from `offset`, or from the oldest byte kept when that is later: the
    /// first number is where they begin.
    pub(super) fn read(&self, offset: u64, max: u32) -> (u64, Vec<u8>) {
        let from = offset.clamp(self.start, self.end());
        let skip = usize::try_from(from - self.start).unwrap_or(usize::MAX);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        (from, self.kept.iter().skip(skip).take(max).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_on_where_they_stopped() {
        let mut spool = Spool::new(u64::MAX);
        spool.push(b"hello ");
        assert_eq!(spool.read(0, 3), (0, b"hel".to_vec()));
        spool.push(b"world");
        assert_eq!(spool.read(3, 100), (3, b"lo world".to_vec()));
        assert_eq!(spool.read(11, 100), (11, Vec::new()));
        assert_eq!(spool.read(99, 100), (11, Vec::new()));
    }

    #[test]
    fn the_oldest_bytes_go_and_offsets_stay_exact() {
        let mut spool = Spool::new(u64::MAX);
        for step in 0..=255 {
            spool.push(&[step; 10_000]);
        }
        let total = 2_560_000;
        let (from, bytes) = spool.read(0, u32::MAX);
        assert_eq!((from, bytes.len()), (total - KEPT as u64, KEPT));
        assert_eq!(bytes.first().map(|b| u64::from(*b)), Some(from / 10_000));
        spool.push(&vec![7; 3 * KEPT]);
        assert_eq!(spool.read(0, 1), (total + 2 * KEPT as u64, vec![7]));
    }

    #[test]
    fn beyond_the_limit_nothing_is_taken_and_all_is_counted() {
        let mut spool = Spool::new(10);
        spool.push(b"123456");
        spool.push(b"789012");
        spool.push(b"xyz");
        assert_eq!(spool.read(0, 100), (0, b"1234567890".to_vec()));
        assert_eq!((spool.refused, spool.is_truncated()), (5, true));
    }
}
