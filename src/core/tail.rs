//! The last bytes of a stream, in bounded memory, with an exact count of all of them.
//!
//! Not a log: what falls out at the front is gone from here, and is read again from the
//! host by offset when somebody wants it.

use std::collections::VecDeque;

/// The end of a byte stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    limit: usize,
    kept: VecDeque<u8>,
    /// Offset just after the last byte taken in.
    end: u64,
}

impl Tail {
    /// A tail of at most `limit` bytes whose first byte will be the one at `offset`.
    pub fn new(limit: usize, offset: u64) -> Self {
        Self { limit, kept: VecDeque::new(), end: offset }
    }

    /// Takes in `bytes`, the first of which is at `offset` of the stream. What was taken in
    /// before is passed over; after a gap the tail begins anew behind it.
    pub fn push(&mut self, offset: u64, bytes: &[u8]) {
        let known = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let Some(fresh) = bytes.get(known..).filter(|fresh| !fresh.is_empty()) else {
            return;
        };
        if offset > self.end {
            self.kept.clear();
        }
        self.end = offset.saturating_add(bytes.len() as u64);
        let fresh = fresh.get(fresh.len().saturating_sub(self.limit)..).unwrap_or_default();
        let excess = (self.kept.len() + fresh.len()).saturating_sub(self.limit);
        self.kept.drain(..excess);
        self.kept.extend(fresh);
    }

    /// Offset just after the last byte taken in: the number of bytes of the stream so far.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The tail as text of at most `limit` bytes. Bytes that are no UTF-8 show as U+FFFD; a
    /// character cut at the front is left out, and so is one cut at the end while the stream
    /// is `open`, because the rest of it is still to come.
    pub fn text(&self, open: bool) -> String {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let cut = self.end > bytes.len() as u64;
        let whole = bytes.get(if cut { leading_rest(&bytes) } else { 0 }..).unwrap_or_default();
        let whole = if open { without_begun(whole) } else { whole };
        let text = String::from_utf8_lossy(whole);
        // U+FFFD is longer than the byte it stands for.
        let surplus = text.len().saturating_sub(self.limit);
        let start = (surplus..=text.len()).find(|&at| text.is_char_boundary(at));
        start.and_then(|at| text.get(at..)).unwrap_or_default().to_owned()
    }
}

/// How many bytes at the front are the rest of a character that began before.
fn leading_rest(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|byte| is_continuation(**byte)).count()
}

/// `bytes` without a character at the end of which only the beginning is there.
fn without_begun(bytes: &[u8]) -> &[u8] {
    let from = bytes.len().saturating_sub(4);
    let last = bytes.iter().skip(from).rposition(|byte| !is_continuation(*byte));
    let begun = last.map(|at| from + at).filter(|&at| {
        let character = bytes.get(at..).unwrap_or_default();
        std::str::from_utf8(character).is_err_and(|error| error.error_len().is_none())
    });
    bytes.get(..begun.unwrap_or(bytes.len())).unwrap_or(bytes)
}

/// Whether a byte is a continuation of a UTF-8 character (RFC 3629, section 3).
fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use super::Tail;

    fn tail(limit: usize, stream: &[u8]) -> Tail {
        let mut tail = Tail::new(limit, 0);
        tail.push(0, stream);
        tail
    }

    #[test]
    fn the_count_is_exact_although_only_the_end_is_kept() {
        let tail = tail(4, b"0123456789");
        assert_eq!((tail.end(), tail.text(false).as_str()), (10, "6789"));
    }

    #[test]
    fn bytes_told_twice_count_once() {
        let mut tail = tail(8, b"abc");
        tail.push(1, b"bcd");
        tail.push(0, b"ab");
        assert_eq!((tail.end(), tail.text(false).as_str()), (4, "abcd"));
    }

    #[test]
    fn after_a_gap_nothing_is_joined_that_was_apart() {
        let mut tail = tail(8, b"abc");
        tail.push(100, b"xyz");
        assert_eq!((tail.end(), tail.text(false).as_str()), (103, "xyz"));
    }

    #[test]
    fn no_character_is_cut_at_the_front() {
        assert_eq!(tail(4, "a€b€".as_bytes()).text(false), "b€");
        assert_eq!(tail(3, "a€b€".as_bytes()).text(false), "€");
        assert_eq!(tail(2, "a€b€".as_bytes()).text(false), "");
    }

    #[test]
    fn a_begun_character_waits_for_its_rest() {
        let mut tail = tail(16, &"a€".as_bytes()[..3]);
        assert_eq!(tail.text(true), "a");
        assert_eq!(tail.text(false), "a\u{fffd}");
        tail.push(3, &"€".as_bytes()[2..]);
        assert_eq!(tail.text(true), "a€");
    }

    #[test]
    fn what_is_no_text_shows_lossily_and_stays_within_the_limit() {
        assert_eq!(tail(16, b"a\xffb").text(false), "a\u{fffd}b");
        assert!(tail(16, &[0xff; 64]).text(false).len() <= 16);
        assert!(tail(16, &[0x80; 64]).text(true).len() <= 16);
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing() {
        let tail = tail(0, b"abc");
        assert_eq!((tail.end(), tail.text(false).as_str()), (3, ""));
    }
}
