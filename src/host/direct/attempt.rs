//! One Direct attempt: what its channel told so far.

mod why;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

use self::why::why_unbegun;
use super::bootstrap::{Mark, answer, mark};
use super::spool::{Batch, Found, Spool};
use crate::core::fault::{Fault, Ours, Standing, Transient};
use crate::core::foreign::foreign;
use crate::core::record::{DirectSeen, StartFailure, exit_from_channel};
use crate::host::account::MISREAD_GRACE;
use crate::host::spools::Written;
use crate::host::{Chunk, Event, Input, Stream, shortage};

/// Most noise looked through for the nonce; behind it the search goes on in the newest part.
const NOISE: usize = 64 * 1024;
/// Most bytes of what a shell said on stderr that are looked at.
const SAID: u32 = 1024;

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
    /// Its end was no success.
    failed: bool,
    /// That end in words.
    ended_with: String,
    /// What that says of the account.
    unusable: Standing,
    launched: Instant,
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
    /// The nonce of the mark that the output begins with. Empty once it came, or cannot any more.
    marked: String,
    /// The output's first bytes, as long as they may become such a mark.
    first: Vec<u8>,
    /// What the mark said. Without one the command was never begun.
    mark: Option<Mark>,
    spool: Spool,
    /// Somebody is at work writing the spool to disk.
    spilling: bool,
}

impl Channel {
    fn new(nonce: Option<&str>, limit: u64) -> Self {
        let nonce = nonce.map_or(Vec::new(), |nonce| answer(nonce).into_bytes());
        let (noise, first, marked) = (Vec::new(), Vec::new(), String::new());
        let mark = Some(Mark::Begun(StartFailure::None));
        let spool = Spool::new(limit);
        Self { noise, nonce, marked, first, mark, spool, spilling: false }
    }

    /// The stream whose output begins with a mark, if there is a nonce.
    fn marked(nonce: Option<&str>, limit: u64) -> Self {
        let new = Self::new(nonce, limit);
        let mark = new.mark.clone().filter(|_| nonce.is_none());
        Self { marked: nonce.unwrap_or_default().to_owned(), mark, ..new }
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
        if self.marked.is_empty() {
            return self.spool.push(bytes);
        }
        self.first.extend_from_slice(bytes);
        match mark(&self.marked, &self.first) {
            Ok(None) => return,
            Ok(Some((mark, length))) => {
                self.mark = Some(mark);
                self.first.drain(..length);
            }
            Err(_) => {}
        }
        self.let_go();
    }

    /// Nothing more is held back.
    fn let_go(&mut self) {
        self.marked.clear();
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
            failed: false,
            ended_with: String::new(),
            unusable,
            launched: Instant::now(),
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

    /// What was said in place of the nonce, in the words of a fault for who waited for it in
    /// vain.
    pub(super) fn why_unanswered(&self) -> Fault {
        let state = self.lock();
        if let Some(fault) = state.misread() {
            return fault;
        }
        let words = state.said();
        let waited = state.launched.elapsed().as_secs();
        let message = format!(
            "the account's shell did not begin our command in {waited} s{words}. Look at the \
             start-up files of the login shell, which may wait for something; what was begun may \
             be a command of the account's own, so it is waited for"
        );
        Fault::new(Transient::ReplyTimeout, message)
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

    /// Waits until another shell has taken the nonce for a command, and a moment longer: a shell
    /// that traces what it does shows it, too.
    pub(super) async fn misled(&self) {
        self.changed_to(|state| state.misread().is_some()).await;
        sleep(MISREAD_GRACE).await;
    }

    /// Waits until the shell has said that it becomes the command, or the end is known, at most
    /// this long. One that says that it cannot is about to end.
    pub(super) async fn begun(&self, within: Duration) {
        let begun = |state: &State| matches!(state.stdout.mark, Some(Mark::Begun(_)));
        self.until(within, |state| begun(state) || state.seen != DirectSeen::Running).await;
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

    /// Both streams have the answer: a shell has run our line.
    fn is_ready(&self) -> bool {
        self.stdout.begun() && self.stderr.begun()
    }

    /// The channel has ended: what follows from what came before.
    fn end(&mut self, end: End) {
        self.input = None;
        self.over = Some(Instant::now());
        self.cut = !matches!(end, End::Closed);
        self.stdout.let_go();
        let exit = self.exit.take();
        let lost = matches!(end, End::Lost(_));
        let noise = [&self.stderr.noise, &self.stdout.noise];
        let lacking = noise.into_iter().any(|noise| shortage::lacks_processes(noise));
        self.failed = exit.as_ref().is_some_and(|exit| *exit != Ok(0));
        self.ended_with = match &exit {
            Some(Ok(code)) => format!("status {code}"),
            Some(Err(name)) => format!("signal {}", foreign(name)),
            None => "no status".to_owned(),
        };
        self.foreign = exit.is_some() && !lost && !lacking && !self.is_ready();
        if self.seen != DirectSeen::Running {
            return;
        }
        self.seen = match exit {
            _ if !self.sent => DirectSeen::NeverStarted(self.why_not(&end)),
            Some(exit) => match &self.stdout.mark {
                Some(Mark::Begun(start)) => DirectSeen::Exited(exit_from_channel(exit).but(*start)),
                unbegun if !lost => {
                    // A shell that could not begin says too little for the disk.
                    let said = match self.stderr.spool.read(0, SAID) {
                        Found::Here(_, said) => said,
                        Found::OnDisk(..) => Vec::new(),
                    };
                    DirectSeen::NeverStarted(why_unbegun(unbegun.as_ref(), &said))
                }
                _ => DirectSeen::Lost,
            },
            None => DirectSeen::Lost,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launched(nonce: &str) -> Attempt {
        let attempt = Attempt::new(Some(nonce), 100, Standing::ForcedCommand);
        let out = format!("welcome\n\n{nonce}.\n\u{1}{nonce} ran\nout");
        attempt.take(Event::Stdout(out.into_bytes()));
        attempt.take(Event::Stderr(format!("\n{nonce}.\n").into_bytes()));
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

    /// Guards the values of a command: a forced command like `tee` gives back what it is sent, and
    /// would be sent them next.
    #[test]
    fn an_echo_of_the_nonce_is_no_shell() {
        let attempt = Attempt::new(Some("nonce"), 100, Standing::ForcedCommand);
        for stream in [Event::Stdout, Event::Stderr] {
            attempt.take(stream(b"#\nnonce\n".to_vec()));
        }
        assert!(!attempt.may_send());
        assert!(attempt.lock().misread().is_none(), "nor the complaint of another shell");
    }

    #[tokio::test]
    async fn a_start_that_failed_is_told_by_a_mark_that_is_no_output() {
        let mark = b"\x01nonce notfound\n";
        for cut in 0..mark.len() {
            let attempt = Attempt::new(Some("nonce"), 100, Standing::ForcedCommand);
            attempt.take(Event::Stderr(b"\nnonce.\n".to_vec()));
            attempt.take(Event::Stdout(b"\nnonce.\n".to_vec()));
            assert!(attempt.may_send());
            attempt.take(Event::Stdout(mark[..cut].to_vec()));
            attempt.take(Event::Stdout(mark[cut..].to_vec()));
            attempt.take(Event::ExitStatus(127));
            attempt.take(Event::Closed);
            let DirectSeen::Exited(exit) = attempt.seen() else { panic!() };
            assert_eq!(exit.start_failure(), StartFailure::CommandNotFound, "{cut}");
            assert_eq!(read(&attempt, Stream::Stdout, 99).await.bytes, b"", "{cut}");
        }
        // What comes later is output like any other.
        for output in ["\u{1}nonce ", "\u{1}nonce ran\n", "\u{1}nonce denied\n"] {
            let attempt = Attempt::new(Some("nonce"), 100, Standing::ForcedCommand);
            let told = format!("\nnonce.\n\u{1}nonce ran\n{output}");
            attempt.take(Event::Stdout(told.into_bytes()));
            attempt.take(Event::Stderr(b"\nnonce.\n".to_vec()));
            assert!(attempt.may_send());
            attempt.take(Event::ExitStatus(127));
            attempt.take(Event::Closed);
            let DirectSeen::Exited(exit) = attempt.seen() else { panic!() };
            assert_eq!(exit.start_failure(), StartFailure::None, "{output:?}");
            assert_eq!(read(&attempt, Stream::Stdout, 99).await.bytes, output.as_bytes());
        }
    }

    /// Guards against an exit code for a command that never ran.
    #[test]
    fn an_end_before_the_command_began_is_no_exit_code() {
        let table = [
            ("\u{1}nonce environment UID\n", "", "EnvironmentRefused", "UID"),
            ("\u{1}nonce toolong\n", "", "ArgumentsTooLong", "too long"),
            ("", "sh: 1: Cannot fork\n", "ProcessLimit", "Cannot fork"),
            ("", "sh: 1: Illegal number: x\n", "HostUnusable", "Illegal number"),
            ("\u{1}nonce found\n", "", "HostUnusable", "before it became"),
        ];
        for (out, err, reason, words) in table {
            let attempt = Attempt::new(Some("nonce"), 100, Standing::ForcedCommand);
            attempt.take(Event::Stdout(format!("\nnonce.\n{out}").into_bytes()));
            attempt.take(Event::Stderr(format!("\nnonce.\n{err}").into_bytes()));
            assert!(attempt.may_send());
            attempt.take(Event::ExitStatus(2));
            attempt.take(Event::Closed);
            let DirectSeen::NeverStarted(fault) = attempt.seen() else { panic!("{out:?}") };
            assert_eq!(fault.reason(), reason, "{out:?}");
            assert!(fault.message.contains(words), "{}", fault.message);
            assert!(!attempt.is_foreign(), "{out:?}");
        }
        // Before the nonce: nothing of the command was sent, and the account is an ordinary one.
        let attempt = Attempt::new(Some("nonce"), 100, Standing::ForcedCommand);
        attempt.take(Event::Stderr(b"sh: 0: Cannot fork\n".to_vec()));
        attempt.take(Event::ExitStatus(2));
        attempt.take(Event::Closed);
        let DirectSeen::NeverStarted(fault) = attempt.seen() else { panic!() };
        assert_eq!((fault.reason(), attempt.is_foreign()), ("ProcessLimit", false));
    }

    /// Guards against a search that begins anew with each piece: 4 MiB would take it minutes.
    #[test]
    fn the_nonce_is_found_behind_any_noise_in_time_that_grows_with_the_noise_alone() {
        let nonce = "0123456789abcdef0123456789abcdef";
        let (whole, nearly) = (answer(nonce), format!("\n{}", &nonce[..31]));
        let began = Instant::now();
        for size in [0, 1, NOISE - 1, NOISE, NOISE + 1, 4 << 20] {
            let mut channel = Channel::new(Some(nonce), 100);
            for byte in nearly.bytes().cycle().take(size).chain(whole.bytes()) {
                assert!(!channel.begun() && channel.noise.len() <= NOISE, "{size}");
                channel.take(&[byte]);
            }
            assert!(channel.begun(), "{size}");
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
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
