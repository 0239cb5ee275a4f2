//! A supervisor's part in following output: when to read on, and what status shows of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use super::hearing::Hearing;
use crate::api::{OutputStatus, StreamStatus};
use crate::core::action::{Entry, Kind, Seen};
use crate::core::outcome::Fate;
use crate::core::record::{OutputSeen, StreamSeen};
use crate::core::stage::{Place, Stage};
use crate::follow::{Advanced, Destination, Follow, shown};
use crate::host::{Host, Stream};
use crate::output::budget::LogLimits;
use crate::output::log::Head;
use crate::output::mark::Marks;
use crate::output::writer::Writer;

/// How long reading on may take in one turn.
const LIMIT: Duration = Duration::from_secs(2);
/// How long a result waits for the output of its command to be read and written. What is
/// left then is written after the result.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How long what is left after the end of an attempt is tried to be written while it does not
/// get on. Time before the end does not count: a command may be silent for as long as it likes.
const PATIENCE: Duration = Duration::from_secs(600);
/// Pause after a try that did not get on.
const PAUSE: Duration = Duration::from_secs(5);

/// Where all commands' output goes.
#[derive(Clone, Debug)]
pub struct Output {
    pub writer: Writer,
    pub marks: Marks,
    /// What the log of each attempt may take.
    pub limits: LogLimits,
}

/// Whose output is followed, and how.
#[derive(Clone, Debug)]
pub struct Source {
    pub namespace: String,
    pub name: String,
    /// The host's name, for the log.
    pub host: String,
    pub tail_bytes: usize,
    /// Whether lines are logged.
    pub log: bool,
}

/// The attempt whose output is followed.
pub struct Following {
    output: Output,
    current: Option<Current>,
    /// The rest of earlier attempts' output on its way.
    earlier: JoinSet<()>,
}

struct Current {
    follow: Follow,
    host: Arc<dyn Host>,
    seen: OutputSeen,
    behind: bool,
    /// Since when what is left after the end does not get on; `None` before, and while it does.
    stuck: Option<Instant>,
    /// Status has the tails already.
    resumed: bool,
}

impl Following {
    /// Follows nothing yet.
    pub fn new(output: Output) -> Self {
        Self { output, current: None, earlier: JoinSet::new() }
    }

    /// Reads on to what an action has shown to be there, unless an end is asked for that
    /// `hearing` hears of. When the command has ended there is nothing to be stopped any more,
    /// and what is not read before a deletion is lost: it is read to its end then.
    pub async fn observe(
        &mut self,
        source: &Source,
        seen: &Seen,
        host: &Arc<dyn Host>,
        hearing: Option<&mut Hearing>,
    ) {
        let Some((entry, output, ended)) = shown(seen, host.as_ref()).await else { return };
        if self.current.as_ref().is_none_or(|current| current.follow.entry() != entry) {
            if let Some(earlier) = self.current.take().filter(|e| !e.follow.is_finished()) {
                self.earlier.spawn(earlier.deliver_rest());
            }
            self.follow(source, entry, host);
        }
        let Some(current) = self.current.as_mut() else { return };
        current.host = Arc::clone(host);
        current.seen = output;
        match hearing {
            _ if ended => current.finish(END_LIMIT).await,
            Some(hearing) => current.advance_while(hearing).await,
            None => current.advance().await,
        }
    }

    /// Goes on with the output of `entry`, which has ended and of which `shown` is in status,
    /// where an earlier supervisor did not write it to its end. Tells whether there is any.
    pub fn resume(
        &mut self,
        source: &Source,
        entry: &Entry,
        shown: &OutputStatus,
        host: &Arc<dyn Host>,
    ) -> bool {
        let written = |stream| self.output.marks.of(entry, stream).find();
        let (stdout, stderr) = (written(Stream::Stdout), written(Stream::Stderr));
        // Without a mark it was never followed from here, and an operator elsewhere has written it.
        let ours = stdout.is_some() || stderr.is_some();
        let seen = OutputSeen {
            stdout: seen_of(&shown.stdout, shown.open),
            stderr: seen_of(&shown.stderr, shown.open),
        };
        let left =
            stdout.unwrap_or(0) < seen.stdout.bytes || stderr.unwrap_or(0) < seen.stderr.bytes;
        if self.current.is_some() || !source.log || !left || !ours {
            return false;
        }
        self.follow(source, entry, host);
        if let Some(current) = &mut self.current {
            (current.seen, current.resumed) = (seen, true);
        }
        true
    }

    /// Writes what is left of the output of a command whose result is saved, for a while.
    /// Gives the time to go on; `None` when all was written, or when it does not get on.
    pub async fn deliver(&mut self) -> Option<Instant> {
        let again = match &mut self.current {
            Some(current) => current.deliver().await,
            None => None,
        };
        while self.earlier.try_join_next().is_some() {}
        again.or_else(|| (!self.earlier.is_empty()).then(|| Instant::now() + LIMIT))
    }

    /// Whether all output of the attempts that were followed has been written, or given up.
    pub fn is_delivered(&self) -> bool {
        self.earlier.is_empty()
            && self.current.as_ref().is_none_or(|current| current.follow.is_finished())
    }

    /// The host lets go of the output: the log says how much of it is not there.
    pub async fn give_up(&mut self) {
        if let Some(current) = self.current.as_mut().filter(|c| !c.follow.is_finished()) {
            current.follow.give_up(&current.seen, LIMIT).await;
        }
    }

    fn follow(&mut self, source: &Source, entry: &Entry, host: &Arc<dyn Host>) {
        let destination = self.destination(source, entry);
        if source.log {
            self.begin_marks(entry);
        }
        self.current = Some(Current {
            follow: Follow::new(entry.clone(), source.tail_bytes, &destination),
            host: Arc::clone(host),
            seen: OutputSeen::default(),
            behind: false,
            stuck: None,
            resumed: false,
        });
    }

    /// Output that comes only at the end is known to be written from here all the same.
    fn begin_marks(&self, entry: &Entry) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Err(failure) = self.output.marks.of(entry, stream).begin() {
                warn!(%failure, "could not note that output is written from here");
            }
        }
    }

    /// Whether there is more to be read at once.
    pub fn is_behind(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.behind)
    }

    /// How soon the host is to be looked at again for the sake of live output.
    pub fn look_again(&self) -> Option<Duration> {
        self.current.as_ref().and_then(|current| current.follow.look_again())
    }

    /// Reads on without a new sight of the host, unless an end is asked for.
    pub async fn catch_up(&mut self, hearing: &mut Hearing) {
        if let Some(current) = self.current.as_mut() {
            current.advance_while(hearing).await;
        }
    }

    /// What status shows of the output of the stage's last attempt.
    pub fn status(&self, stage: &Stage) -> Option<OutputStatus> {
        let current = self.current.as_ref()?;
        let entry = current.follow.entry();
        let last = (stage.run, stage.attempt, Kind::Command);
        let theirs = (entry.run, entry.attempt, entry.kind) == last;
        (theirs && !current.resumed).then(|| current.status(!is_given_up(stage)))
    }

    fn destination(&self, source: &Source, entry: &Entry) -> Destination {
        if !source.log {
            return Destination::Nowhere;
        }
        let head = Head {
            namespace: source.namespace.clone(),
            name: source.name.clone(),
            uid: entry.uid.clone(),
            run: entry.run,
            attempt: entry.attempt,
            host: source.host.clone(),
            verify: entry.kind == Kind::Verify,
        };
        let Output { writer, marks, limits } = self.output.clone();
        Destination::Log { writer, marks: Some(marks), head: Arc::new(head), limits }
    }
}

/// Whether nothing more is read of the output of the command's last attempt, although its end
/// was not seen: it was lost, or stopped until nothing of it was left. What outlives an ordinary
/// end holds its output open.
pub fn is_given_up(stage: &Stage) -> bool {
    let leaves_nothing = |fate: &Fate| match fate {
        Fate::NeverStarted | Fate::Stopped { .. } | Fate::Lost(_) => true,
        Fate::Exited(_) | Fate::Received(_) => false,
    };
    let Some(current) = &stage.current else { return false };
    if current.is_verify() {
        // A check follows the end of an attempt.
        return stage.last_start.as_ref().is_some_and(|last| leaves_nothing(&last.fate));
    }
    match &current.place {
        Place::Lost(_) => true,
        Place::Ended(fate) => leaves_nothing(fate),
        Place::Launching
        | Place::Running
        | Place::Finishing { .. }
        | Place::Vanished
        | Place::Stopping(_)
        | Place::Fencing { .. } => false,
    }
}

fn seen_of(shown: &StreamStatus, open: bool) -> StreamSeen {
    let bytes = u64::try_from(shown.bytes).unwrap_or_default();
    StreamSeen { bytes, truncated: shown.truncated, ended: !open }
}

impl Current {
    /// A read that is cut off leaves everything as it was.
    async fn advance_while(&mut self, hearing: &mut Hearing) {
        tokio::select! {
            () = self.advance() => {}
            () = hearing.end_is_asked_for() => debug!("reading on is put off: an end is asked for"),
        }
    }

    async fn advance(&mut self) {
        let written = self.follow.written();
        self.read_on().await;
        if self.follow.written() > written {
            self.stuck = None;
        }
    }

    async fn read_on(&mut self) {
        let deadline = Instant::now() + LIMIT;
        self.behind = false;
        loop {
            let read = self.follow.advance(self.host.as_ref(), &self.seen);
            self.behind = match timeout(LIMIT, read).await {
                Ok(Ok(Advanced::CaughtUp)) => false,
                Ok(Ok(Advanced::More)) => true,
                // Something else may have to be seen to before the log has room.
                Ok(Ok(Advanced::Throttled)) => {
                    self.behind = true;
                    return;
                }
                // A slow reader of our log, or a fault: the next probe comes back to it.
                Ok(Ok(Advanced::Waiting)) => return,
                Ok(Err(fault)) => return debug!(?fault, "output not read"),
                Err(_) => return debug!("output not read in time"),
            };
            if !self.behind || Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Writes what is left for a while; gives the time to go on, if there is a reason to.
    async fn deliver(&mut self) -> Option<Instant> {
        let given_up = self.stuck.is_some_and(|since| since.elapsed() > PATIENCE);
        if self.follow.is_finished() || given_up {
            return None;
        }
        self.finish(LIMIT).await;
        let again = Instant::now() + if self.stuck.is_none() { Duration::ZERO } else { PAUSE };
        (!self.follow.is_finished()).then_some(again)
    }

    /// Writes what is left beside the next attempt. What does not get on is given up, and the
    /// log says what is missing.
    async fn deliver_rest(mut self) {
        while let Some(again) = self.deliver().await {
            sleep_until(again).await;
        }
        self.follow.give_up(&self.seen, END_LIMIT).await;
    }

    async fn finish(&mut self, limit: Duration) {
        self.behind = false;
        let written = self.follow.written();
        let read = self.follow.finish(self.host.as_ref(), &self.seen, limit);
        match timeout(limit + LIMIT, read).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => debug!("the output was not written to its end in time"),
            Ok(Err(fault)) => debug!(?fault, "the output was not read to its end"),
        }
        if self.follow.written() > written {
            self.stuck = None;
        } else {
            self.stuck.get_or_insert_with(Instant::now);
        }
    }

    /// `more` where the rest of an open stream may come.
    fn status(&self, more: bool) -> OutputStatus {
        let open = more && !self.seen.has_ended();
        let tails = self.follow.tails(open);
        let stream = |seen: &StreamSeen, tail: String| StreamStatus {
            bytes: i64::try_from(seen.bytes).unwrap_or(i64::MAX),
            tail: Some(tail),
            truncated: seen.truncated,
        };
        OutputStatus {
            stdout: stream(&self.seen.stdout, tails.stdout),
            stderr: stream(&self.seen.stderr, tails.stderr),
            open,
            location: None,
        }
    }
}

#[cfg(test)]
mod tests;
