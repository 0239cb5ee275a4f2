//! One Direct attempt: what its channel told so far.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use super::bootstrap::marks;
use super::spool::{Batch, Found, Spool};
use crate::core::fault::{Fault, Ours, Standing, Transient};
use crate::core::foreign::foreign;
use crate::core::record::{DirectSeen, StartFailure, exit_from_channel};
use crate::host::spools::Written;
use crate::host::{Chunk, Event, Input, Stream};

/// Most noise looked through for the nonce; behind it the search goes on in the newest part.
const NOISE: usize = 64 * 1024;

/// What is known of one attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    seen: DirectSeen,
    stdout: Channel,
    stderr: Channel,
    exit: Option<Result<u32, String>>,
    input: Option<mpsc::Sender<Input>>,
    /// Whether any byte that tells the command may have been sent. Until then it cannot have
    /// started, whatever became of the channel.
    sent: bool,
    /// The channel's end came and was not the server's close: output may be missing.
    cut: bool,
    /// When the channel ended.
    over: Option<Instant>,
    /// The account's shell ended by itself before it ran our line.
    foreign: bool,
    /// What that says of the account.
    unusable: Standing,
    /// When KILL was first sent.
    killed: Option<Instant>,
}

/// How a channel ended.
enum End {
    Closed,
    Detached,
    Lost(Fault),
}

/// One stream: noise before the nonce, output behind it.
#[derive(Debug)]
struct Channel {
    noise: Vec<u8>,
    /// Empty once the output has begun.
    nonce: Vec<u8>,
    /// What the output begins with when nothing could be started. Empty once it does not.
    marks: Vec<(Vec<u8>, StartFailure)>,
    /// The output's first bytes, as long as they may become such a mark.
    first: Vec<u8>,
    /// What the mark said.
    start: StartFailure,
    spool: Spool,
    /// Somebody is at work writing the spool to disk.
    spilling: bool,
}

impl Channel {
    fn new(nonce: Option<&str>, limit: u64) -> Self {
        let nonce = nonce.map_or(Vec::new(), |nonce| format!("\n{nonce}\n").into_bytes());
        let (noise, first, start) = (Vec::new(), Vec::new(), StartFailure::None);
        let spool = Spool::new(limit);
        Self { noise, nonce, marks: Vec::new(), first, start, spool, spilling: false }
    }

    /// The stream whose output may begin with a mark.
    fn marked(nonce: Option<&str>, limit: u64) -> Self {
        let marks = nonce.map_or(Vec::new(), |nonce| marks(nonce).to_vec());
        Self { marks, ..Self::new(nonce, limit) }
    }

    fn begun(&self) -> bool {
        self.nonce.is_empty()
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.begun() {
            return self.keep(bytes);
        }
        // What was searched before may hold the nonce's beginning, and no more of it.
        let searched = (self.noise.len() + 1).saturating_sub(self.nonce.len());
        self.noise.extend_from_slice(bytes);
        let mut parts = self.noise.windows(self.nonce.len()).skip(searched);
        if let Some(at) = parts.position(|part| part == self.nonce).map(|at| searched + at) {
            let output = self.noise.split_off(at + self.nonce.len());
            self.nonce = Vec::new();
            self.noise = Vec::new();
            self.keep(&output);
        } else if self.noise.len() > NOISE {
            let keep = self.noise.len() - self.nonce.len();
            self.noise.drain(..keep);
        }
    }

    /// Takes output, and holds its beginning back while that may be a mark.
    fn keep(&mut self, bytes: &[u8]) {
        if self.marks.is_empty() {
            return self.spool.push(bytes);
        }
        self.first.extend_from_slice(bytes);
        let whole = self.marks.iter().find(|(mark, _)| self.first.starts_with(mark));
        if let Some((mark, start)) = whole {
            self.start = *start;
            self.first.drain(..mark.len());
        } else if self.marks.iter().any(|(mark, _)| mark.starts_with(&self.first)) {
            return;
        }
        self.let_go();
    }

    /// Nothing more is held back.
    fn let_go(&mut self) {
        self.marks.clear();
        self.spool.push(&std::mem::take(&mut self.first));
    }

    /// The end of the noise, for people.
    fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.noise);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        foreign(last)
    }
}

impl Attempt {
    /// An attempt that is about to be launched. `limit` bounds each stream. Without a nonce the
    /// exec itself is the command. An account whose shell ends without running our line is
    /// `unusable` in this way.
    pub(super) fn new(nonce: Option<&str>, limit: u64, unusable: Standing) -> Self {
        let state = State {
            seen: DirectSeen::Running,
            stdout: Channel::marked(nonce, limit),
            stderr: Channel::new(nonce, limit),
            exit: None,
            input: None,
            sent: nonce.is_none(),
            cut: false,
            over: None,
            foreign: false,
            unusable,
            killed: None,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seen(&self) -> DirectSeen {
        self.lock().seen.clone()
    }

    /// Sets the end of an attempt that has no channel.
    pub(super) fn settle(&self, seen: DirectSeen) {
        let mut state = self.lock();
        state.seen = seen;
        state.over = Some(Instant::now());
        drop(state);
        self.changed.notify_waiters();
    }

    /// Allows the command's bytes to be sent: true when the nonce has come back from a shell
    /// whose end is not known.
    pub(super) fn may_send(&self) -> bool {
        let mut state = self.lock();
        let alive = state.exit.is_none() && state.seen == DirectSeen::Running;
        let may = state.is_ready() && alive;
        state.sent |= may;
        may
    }

    /// Gives up before anything of the command was sent; the channel stays open. Does nothing
    /// once the end is known.
    pub(super) fn give_up(&self, fault: Fault) {
        let mut state = self.lock();
        if !state.sent && state.seen == DirectSeen::Running {
            state.seen = DirectSeen::NeverStarted(fault);
        }
    }

    /// Whether the far shell has echoed the nonce, or none is awaited.
    pub(super) fn is_ready(&self) -> bool {
        self.lock().is_ready()
    }

    /// Whether its channel has ended, or never was.
    pub(super) fn is_over(&self) -> bool {
        self.lock().over.is_some()
    }

    /// Whether its channel ended at least this long ago.
    pub(super) fn ended_before(&self, age: Duration) -> bool {
        self.lock().over.is_some_and(|over| over.elapsed() >= age)
    }

    /// Whether the account's shell ended by itself before it ran our line.
    pub(super) fn is_foreign(&self) -> bool {
        self.lock().foreign
    }

    /// Lets go of the output; whoever still reads it is told that it is missing.
    pub(super) fn drop_output(&self) {
        let mut state = self.lock();
        state.stdout.spool.clear();
        state.stderr.spool.clear();
    }

    pub(super) fn connect(&self, input: mpsc::Sender<Input>) {
        let mut state = self.lock();
        if state.over.is_none() {
            state.input = Some(input);
        }
    }

    /// Takes one event of the channel. Never waits.
    pub(super) fn take(&self, event: Event) {
        let mut state = self.lock();
        match event {
            Event::Stdout(bytes) => state.stdout.take(&bytes),
            Event::Stderr(bytes) => state.stderr.take(&bytes),
            Event::ExitStatus(code) => state.exit = Some(Ok(code)),
            Event::ExitSignal(name) => state.exit = Some(Err(name)),
            Event::Closed => state.end(End::Closed),
            Event::Detached => state.end(End::Detached),
            Event::Lost(fault) => state.end(End::Lost(fault)),
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until the nonce has come back or the end is known, at most this long.
    pub(super) async fn settled(&self, within: Duration) {
        self.until(within, |state| state.is_ready() || state.seen != DirectSeen::Running).await;
    }

    /// Waits for the end, at most this long.
    pub(super) async fn ended(&self, within: Duration) {
        self.until(within, |state| state.seen != DirectSeen::Running).await;
    }

    async fn until(&self, within: Duration, holds: impl Fn(&State) -> bool) {
        let _ = timeout(within, self.changed_to(holds)).await;
    }

    async fn changed_to(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Sends a signal (RFC 4254, 6.9), if the channel stands.
    pub(super) fn signal(&self, name: &'static str) {
        self.send(Input::Signal(name));
    }

    /// Closes the channel.
    pub(super) fn close(&self) {
        self.send(Input::Close);
    }

    /// Sends KILL; when an earlier one did nothing for `patience`, closes the channel.
    pub(super) fn kill(&self, patience: Duration) {
        let first = *self.lock().killed.get_or_insert_with(Instant::now);
        self.send(Input::Signal("KILL"));
        if first.elapsed() >= patience {
            self.send(Input::Close);
        }
    }

    /// The queue holds more than is ever sent here; a full one means a dead channel.
    fn send(&self, input: Input) {
        if let Some(channel) = self.lock().input.as_ref() {
            let _ = channel.try_send(input);
        }
    }

    /// Output from `offset`; where that is gone, from the oldest byte kept.
    ///
    /// # Errors
    /// `LibraryLimit` when the disk does not give back what it took.
    pub(super) async fn read(&self, stream: Stream, offset: u64, max: u32) -> Result<Chunk, Fault> {
        let (found, truncated) = {
            let mut state = self.lock();
            let cut = state.cut;
            let spool = &state.channel(stream).spool;
            (spool.read(offset, max), cut || spool.is_truncated())
        };
        let (offset, bytes) = match found {
            Found::Here(offset, bytes) => (offset, bytes),
            Found::OnDisk(offset, part) => {
                let read = tokio::task::spawn_blocking(move || part.read()).await;
                let read = read.map_err(std::io::Error::other).flatten();
                let unread = |error| format!("output that was put by cannot be read: {error}");
                (offset, read.map_err(|error| Fault::new(Ours::LibraryLimit, unread(error)))?)
            }
        };
        Ok(Chunk { stream, offset, bytes, truncated })
    }

    /// Nobody asks again for output below this offset.
    pub(super) fn release(&self, stream: Stream, below: u64) {
        self.lock().channel(stream).spool.release(below);
    }

    /// Whether no stream waits for the disk.
    pub(super) fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// Waits until none does.
    pub(super) async fn room(&self) {
        self.changed_to(State::has_room).await;
    }

    /// What has to be written to disk, for whoever takes it on until there is nothing left.
    /// `None` also while somebody else is at it.
    pub(super) fn begin_spilling(&self, stream: Stream) -> Option<Batch> {
        let mut state = self.lock();
        let channel = state.channel(stream);
        if channel.spilling {
            return None;
        }
        let batch = channel.spool.next_batch();
        channel.spilling = batch.is_some();
        batch
    }

    /// The batch is on disk, or `None` when it cannot be: the stream is cut there. Gives the
    /// next one, and whether output was lost.
    pub(super) fn go_on_spilling(
        &self,
        stream: Stream,
        written: Option<Written>,
    ) -> (Option<Batch>, bool) {
        let mut state = self.lock();
        let channel = state.channel(stream);
        let lost = match written {
            Some(written) => {
                channel.spool.written(written);
                false
            }
            None => channel.spool.cut(),
        };
        let batch = channel.spool.next_batch();
        channel.spilling = batch.is_some();
        drop(state);
        self.changed.notify_waiters();
        (batch, lost)
    }
}

impl State {
    fn channel(&mut self, stream: Stream) -> &mut Channel {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn has_room(&self) -> bool {
        !self.stdout.spool.is_full() && !self.stderr.spool.is_full()
    }

    fn is_ready(&self) -> bool {
        self.stdout.begun() || self.stderr.begun()
    }

    /// The channel has ended: what follows from what came before.
    fn end(&mut self, end: End) {
        self.input = None;
        self.over = Some(Instant::now());
        self.cut = !matches!(end, End::Closed);
        self.stdout.let_go();
        let exit = self.exit.take();
        let lost = matches!(end, End::Lost(_));
        self.foreign = exit.is_some() && !lost && !self.is_ready();
        if self.seen != DirectSeen::Running {
            return;
        }
        self.seen = match exit {
            _ if !self.sent => DirectSeen::NeverStarted(self.why_not(&end)),
            Some(exit) => DirectSeen::Exited(exit_from_channel(exit).but(self.stdout.start)),
            None => DirectSeen::Lost,
        };
    }

    fn why_not(&self, end: &End) -> Fault {
        if let End::Lost(fault) = end {
            return fault.clone();
        }
        let words = [self.stderr.words(), self.stdout.words()];
        let said = words.into_iter().find(|words| !words.is_empty());
        let said = said.unwrap_or_else(|| "nothing".to_owned());
        let message = format!("the account's shell did not run our command; it said: {said}");
        if self.foreign {
            Fault::new(self.unusable, message)
        } else {
            Fault::new(Transient::ConnectionLost, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launched(nonce: &str) -> Attempt {
        let attempt = Attempt::new(Some(nonce), 100, Standing::ForcedCommand);
        attempt.take(Event::Stdout(format!("welcome\n\n{nonce}\nout").into_bytes()));
        attempt.take(Event::Stderr(format!("\n{nonce}\n").into_bytes()));
        assert!(attempt.may_send());
        attempt
    }

    async fn read(attempt: &Attempt, stream: Stream, max: u32) -> Chunk {
        attempt.read(stream, 0, max).await.unwrap()
    }

    #[tokio::test]
    async fn only_an_orderly_end_shows_that_no_output_is_missing() {
        let lost = || Event::Lost(Fault::new(Transient::ConnectionLost, "cut"));
        for (end, cut) in [(Event::Closed, false), (Event::Detached, true), (lost(), true)] {
            let attempt = launched("nonce");
            attempt.take(Event::ExitStatus(3));
            attempt.take(end);
            assert!(matches!(attempt.seen(), DirectSeen::Exited(exit) if exit.code() == 3));
            let chunk = read(&attempt, Stream::Stdout, 10).await;
            assert_eq!((chunk.bytes.as_slice(), chunk.truncated), (&b"out"[..], cut));
        }
        let attempt = launched("nonce");
        attempt.take(lost());
        assert_eq!(attempt.seen(), DirectSeen::Lost);
        let attempt = launched("nonce");
        attempt.take(Event::Stdout(vec![b'x'; 200]));
        assert!(read(&attempt, Stream::Stdout, 1).await.truncated);
        assert!(!read(&attempt, Stream::Stderr, 1).await.truncated);
    }

    #[tokio::test]
    async fn a_start_that_failed_is_told_by_a_mark_that_is_no_output() {
        let mark = b"\x01nonce notfound\n";
        for cut in 0..mark.len() {
            let attempt = Attempt::new(Some("nonce"), 100, Standing::ForcedCommand);
            attempt.take(Event::Stdout(b"\nnonce\n".to_vec()));
            assert!(attempt.may_send());
            attempt.take(Event::Stdout(mark[..cut].to_vec()));
            attempt.take(Event::Stdout(mark[cut..].to_vec()));
            attempt.take(Event::ExitStatus(127));
            attempt.take(Event::Closed);
            let DirectSeen::Exited(exit) = attempt.seen() else { panic!() };
            assert_eq!(exit.start_failure(), StartFailure::CommandNotFound, "{cut}");
            assert_eq!(read(&attempt, Stream::Stdout, 99).await.bytes, b"", "{cut}");
        }
        // What only looks like it, or comes later, is output like any other.
        for output in ["\u{1}nonce ", "\u{1}nonce found\n", "x\u{1}nonce denied\n"] {
            let attempt = Attempt::new(Some("nonce"), 100, Standing::ForcedCommand);
            attempt.take(Event::Stdout(format!("\nnonce\n{output}").into_bytes()));
            assert!(attempt.may_send());
            attempt.take(Event::ExitStatus(127));
            attempt.take(Event::Closed);
            let DirectSeen::Exited(exit) = attempt.seen() else { panic!() };
            assert_eq!(exit.start_failure(), StartFailure::None, "{output:?}");
            assert_eq!(read(&attempt, Stream::Stdout, 99).await.bytes, output.as_bytes());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_grows_old_only_after_its_end() {
        let (attempt, hour) = (launched("nonce"), Duration::from_secs(3600));
        tokio::time::advance(2 * hour).await;
        assert!(!attempt.ended_before(hour));
        attempt.take(Event::ExitStatus(0));
        attempt.take(Event::Closed);
        assert!(!attempt.ended_before(hour));
        tokio::time::advance(hour).await;
        assert!(attempt.ended_before(hour));
    }
}
