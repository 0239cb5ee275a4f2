//! Follows the output of one attempt: from the host's record to where it is written, and to
//! the tails shown in status.
//!
//! A hint, never a result: nothing here says how a command ends. Every read is by stream and
//! offset, so a lost link, a slow reader or a restart costs time and no byte. Written output
//! is not held here: a stream has at most one block under way, and reads on when it is done.
//! What the log of one attempt may take is bounded: reading waits where the rate is in the way,
//! and the log says what is left out of it beyond its limit.

mod stream;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::stream::Following;

use crate::core::action::{Entry, Seen};
use crate::core::fault::Fault;
use crate::core::record::{DirectSeen, EntrySeen, OutputSeen, StreamSeen, Tree};
use crate::host::{Host, Stream};
use crate::output::budget::{Budget, LogLimits};
use crate::output::log::Head;
use crate::output::mark::Marks;
use crate::output::standard::Kept;
use crate::output::writer::Writer;

/// A command that wrote within this time is looked at often.
const LIVELY: Duration = Duration::from_secs(15);
/// How often.
const LIVELY_PACE: Duration = Duration::from_millis(500);

/// Output that is written before that of the other stream where there is no more of it.
const FEW: u64 = 64 * 1024;

/// Where the output of an attempt goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// Nowhere; only the tails are kept.
    Nowhere,
    /// One JSON line per line of output, within these limits for each attempt.
    Log { writer: Writer, marks: Option<Marks>, head: Arc<Head>, limits: LogLimits },
    /// Byte for byte to stdout and stderr. `kept` is what these held at first: see [`Kept`].
    Plain { writer: Writer, marks: Option<Marks>, kept: Kept, prefixes: Prefixes },
}

/// What each line of a stream begins with; `None` leaves the stream byte for byte as it is.
#[derive(Clone, Debug, Default)]
pub struct Prefixes {
    pub stdout: Option<Arc<str>>,
    pub stderr: Option<Arc<str>>,
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
    /// There is more to read, and the log has no room for it yet. The pause is over.
    Throttled,
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
    /// Which stream begins, by its place: the one that found no room in the log the last time.
    first: usize,
}

impl Follow {
    /// Follows `entry` from where its output was last written.
    pub fn new(entry: Entry, tail_bytes: usize, destination: &Destination) -> Self {
        let budget = Arc::new(budget(&entry, destination));
        let streams = [Stream::Stdout, Stream::Stderr]
            .map(|stream| Following::new(&entry, stream, tail_bytes, (destination, &budget)));
        Self { entry, streams, shown: 0, grown: None, first: 0 }
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
        let mut pause = Duration::ZERO;
        let (one, other) = self.streams.split_at_mut(self.first);
        for stream in other.iter_mut().chain(one) {
            let came = stream.advance(&self.entry, host, seen_of(seen, stream.stream)).await?;
            if came == Advanced::Throttled {
                self.first = usize::from(stream.stream == Stream::Stderr);
                pause = pause.max(stream.pause());
            }
            advanced = advanced.and(came);
        }
        if advanced == Advanced::Throttled {
            sleep(pause).await;
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
        // A few last words do not wait for all that the other stream has.
        let left = |stream: &&mut Following| {
            seen_of(seen, stream.stream).bytes.saturating_sub(stream.reached) / FEW
        };
        let mut streams: Vec<_> = self.streams.iter_mut().collect();
        streams.sort_by_key(left);
        for stream in streams {
            let seen = seen_of(seen, stream.stream);
            complete &= stream.finish(&self.entry, host, seen, deadline).await?;
        }
        Ok(complete)
    }

    /// Writes the ends of the streams where they were not written: what is left of `seen` is
    /// told as a gap, or as left out where only the rate had kept it from being written. Where the writer does not give the place back within `limit`, not even
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
            (Self::Throttled, _) | (_, Self::Throttled) => Self::Throttled,
            (Self::Waiting, _) | (_, Self::Waiting) => Self::Waiting,
            (Self::CaughtUp, Self::CaughtUp) => Self::CaughtUp,
        }
    }
}

/// What is left of the budget of an attempt: what was logged of it before a restart counts.
fn budget(entry: &Entry, destination: &Destination) -> Budget {
    match destination {
        Destination::Log { marks, limits, .. } => {
            let logged =
                |stream| marks.as_ref().map_or(0, |marks| marks.of(entry, stream).logged());
            let before = logged(Stream::Stdout).saturating_add(logged(Stream::Stderr));
            Budget::new(*limits, before)
        }
        Destination::Nowhere | Destination::Plain { .. } => Budget::new(LogLimits::default(), 0),
    }
}

impl Prefixes {
    fn of(&self, stream: Stream) -> Option<Arc<str>> {
        match stream {
            Stream::Stdout => self.stdout.clone(),
            Stream::Stderr => self.stderr.clone(),
        }
    }
}

fn seen_of(seen: &OutputSeen, stream: Stream) -> &StreamSeen {
    match stream {
        Stream::Stdout => &seen.stdout,
        Stream::Stderr => &seen.stderr,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::stream::{QUEUE_PAUSE, Writing};
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
        let destination = Destination::Log {
            writer,
            marks: None,
            head: Arc::new(head),
            limits: LogLimits::default(),
        };
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
