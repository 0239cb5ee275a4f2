//! A stream of chunks, cut into records: lines, pieces of long lines, gaps, and what is left out.
//!
//! Pure. The records depend on the stream alone, not on how it was cut into chunks, and what
//! was told once is not told again: chunks are placed by their offset.

/// Longest record in bytes; longer lines are cut into pieces of at most this.
pub const LONGEST: usize = 16 * 1024;

/// One thing to tell about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    Line(Line<'a>),
    /// The bytes `offset..offset + bytes` could not be had.
    Gap {
        offset: u64,
        bytes: u64,
    },
    /// The bytes `offset..offset + bytes` are left out here on purpose: the log's limit.
    Omitted {
        offset: u64,
        bytes: u64,
    },
    /// From `offset` on the host kept nothing: the output limit was reached.
    Truncated {
        offset: u64,
    },
}

impl Record<'_> {
    /// Offset just after what is told.
    pub fn end(self) -> u64 {
        match self {
            Self::Line(line) => {
                line.offset + line.bytes.len() as u64 + u64::from(line.end == End::Newline)
            }
            Self::Gap { offset, bytes } | Self::Omitted { offset, bytes } => {
                offset.saturating_add(bytes)
            }
            Self::Truncated { offset } => offset,
        }
    }
}

/// A line or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Offset of the first byte in its stream.
    pub offset: u64,
    /// Without the newline.
    pub bytes: &'a [u8],
    pub end: End,
}

/// What follows a line's last byte in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A newline, which belongs to the line.
    Newline,
    /// The rest of the same line: it is too long for one record.
    Partial,
    /// Nothing: the stream ended, or a gap begins.
    Unterminated,
}

/// Cuts one stream into records.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Offset of the next byte to take in.
    next: u64,
    /// The begun line; never more than [`LONGEST`] bytes.
    begun: Vec<u8>,
    /// Where what is being left out begins; it goes up to `next`.
    omitted: Option<u64>,
}

impl Lines {
    /// Begins (or goes on) at `offset`, which is where a record begins.
    pub fn at(offset: u64) -> Self {
        Self { next: offset, begun: Vec::new(), omitted: None }
    }

    /// Offset just after the last byte told in a record: where to go on after a crash.
    pub fn told(&self) -> u64 {
        self.omitted.unwrap_or(self.next - self.begun.len() as u64)
    }

    /// Offset of the next byte that is wanted.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes in `bytes`, whose first is at `offset`, and tells the records they complete.
    pub fn push(&mut self, offset: u64, bytes: &[u8], tell: &mut impl FnMut(Record<'_>)) {
        let known = usize::try_from(self.next.saturating_sub(offset)).unwrap_or(usize::MAX);
        let Some(mut fresh) = bytes.get(known..).filter(|fresh| !fresh.is_empty()) else {
            return;
        };
        self.tell_omitted(tell);
        if offset > self.next {
            self.tell_begun(tell);
            self.tell_gap(offset, tell);
        }
        if !self.begun.is_empty() {
            fresh = self.complete_begun(fresh, tell);
        }
        if self.begun.is_empty() {
            self.tell_whole(fresh, tell);
        }
    }

    /// Leaves out all that was not told before `end`. That is told in one record when the stream
    /// goes on or ends.
    pub fn omit(&mut self, end: u64) {
        if end > self.next {
            self.omitted = Some(self.told());
            self.begun.clear();
            self.next = end;
        }
    }

    /// Tells what is left when the stream has ended at `end`.
    pub fn finish(&mut self, end: u64, truncated: bool, tell: &mut impl FnMut(Record<'_>)) {
        self.tell_omitted(tell);
        self.tell_begun(tell);
        self.tell_gap(end, tell);
        if truncated {
            tell(Record::Truncated { offset: self.next });
        }
    }

    /// Joins just enough of `fresh` to the begun line to tell its record; returns what is left.
    fn complete_begun<'a>(
        &mut self,
        mut fresh: &'a [u8],
        tell: &mut impl FnMut(Record<'_>),
    ) -> &'a [u8] {
        while !self.begun.is_empty() && !fresh.is_empty() {
            // Enough to decide on a record: a newline, or one byte more than the longest.
            let wanted = (LONGEST + 1 - self.begun.len()).min(fresh.len());
            let taken = newline(fresh.get(..wanted).unwrap_or(fresh)).map_or(wanted, |at| at + 1);
            let mut joined = std::mem::take(&mut self.begun);
            self.next -= joined.len() as u64;
            joined.extend_from_slice(fresh.get(..taken).unwrap_or(fresh));
            self.tell_whole(&joined, tell);
            // What a cut leaves is taken from `fresh` again, so that the rest needs no joining.
            let again = if self.begun.len() <= taken { self.begun.len() } else { 0 };
            if again > 0 {
                self.next -= again as u64;
                self.begun.clear();
            }
            fresh = fresh.get(taken - again..).unwrap_or_default();
        }
        fresh
    }

    /// Tells the records of `bytes`, which begin at the start of a record, and keeps the rest.
    fn tell_whole(&mut self, mut bytes: &[u8], tell: &mut impl FnMut(Record<'_>)) {
        while let Some((length, end)) = first_record(bytes) {
            let (line, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
            tell(Record::Line(Line { offset: self.next, bytes: line, end }));
            let newline = usize::from(end == End::Newline);
            self.next += (length + newline) as u64;
            bytes = rest.get(newline..).unwrap_or_default();
        }
        self.begun.extend_from_slice(bytes);
        self.next += bytes.len() as u64;
    }

    fn tell_omitted(&mut self, tell: &mut impl FnMut(Record<'_>)) {
        if let Some(offset) = self.omitted.take() {
            tell(Record::Omitted { offset, bytes: self.next - offset });
        }
    }

    fn tell_gap(&mut self, end: u64, tell: &mut impl FnMut(Record<'_>)) {
        if end > self.next {
            tell(Record::Gap { offset: self.next, bytes: end - self.next });
            self.next = end;
        }
    }

    fn tell_begun(&mut self, tell: &mut impl FnMut(Record<'_>)) {
        if !self.begun.is_empty() {
            let line = Line { offset: self.told(), bytes: &self.begun, end: End::Unterminated };
            tell(Record::Line(line));
            self.begun.clear();
        }
    }
}

/// The first bytes of `bytes`, which complete one record or two at most: up to a line's end, or
/// as many as the longest record has and one more.
pub fn piece(bytes: &[u8]) -> &[u8] {
    let window = bytes.get(..=LONGEST).unwrap_or(bytes);
    let length = newline(window).map_or(window.len(), |at| at + 1);
    window.get(..length).unwrap_or(window)
}

/// Length and end of the first record in `bytes`; `None` while that cannot be told.
fn first_record(bytes: &[u8]) -> Option<(usize, End)> {
    let window = bytes.get(..=LONGEST).unwrap_or(bytes);
    if let Some(at) = newline(window) {
        return Some((at, End::Newline));
    }
    (bytes.len() > LONGEST).then(|| (cut(window), End::Partial))
}

/// Where to cut a long line: at most [`LONGEST`], and not within a character.
fn cut(window: &[u8]) -> usize {
    let begins_character = |at: &usize| window.get(*at).is_some_and(|byte| byte & 0xc0 != 0x80);
    (LONGEST - 3..=LONGEST).rev().find(begins_character).unwrap_or(LONGEST)
}

fn newline(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes)
}
