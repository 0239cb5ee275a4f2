//! One Direct attempt: what its channel told so far.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};

use super::spool::Spool;
use crate::core::record::{DirectSeen, exit_from_channel};
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
    /// When KILL was first sent.
    killed: Option<Instant>,
}

/// One stream: noise before the nonce, output behind it.
#[derive(Debug)]
struct Channel {
    noise: Vec<u8>,
    /// Empty once the output has begun.
    nonce: Vec<u8>,
    spool: Spool,
}

impl Channel {
    fn new(nonce: Option<&str>, limit: u64) -> Self {
        let nonce = nonce.map_or(Vec::new(), |nonce| format!("\n{nonce}\n").into_bytes());
        Self { noise: Vec::new(), nonce, spool: Spool::new(limit) }
    }

    fn begun(&self) -> bool {
        self.nonce.is_empty()
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.begun() {
            return self.spool.push(bytes);
        }
        self.noise.extend_from_slice(bytes);
        let found = self.noise.windows(self.nonce.len()).position(|part| part == self.nonce);
        if let Some(at) = found {
            let output = self.noise.split_off(at + self.nonce.len());
            self.nonce = Vec::new();
            self.noise = Vec::new();
            self.spool.push(&output);
        } else if self.noise.len() > NOISE {
            let keep = self.noise.len() - self.nonce.len();
            self.noise.drain(..keep);
        }
    }

    /// The end of the noise, for people.
    fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.noise);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        last.trim().chars().take(200).collect()
    }
}

impl Attempt {
    /// An attempt that is about to be launched. `limit` bounds each stream.
    pub(super) fn new(nonce: Option<&str>, limit: u64) -> Self {
        let state = State {
            seen: DirectSeen::Running,
            stdout: Channel::new(nonce, limit),
            stderr: Channel::new(nonce, limit),
            exit: None,
            input: None,
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
        self.lock().seen = seen;
        self.changed.notify_waiters();
    }

    pub(super) fn connect(&self, input: mpsc::Sender<Input>) {
        self.lock().input = Some(input);
    }

    /// Takes one event of the channel. Never waits.
    pub(super) fn take(&self, event: Event) {
        let mut state = self.lock();
        match event {
            Event::Stdout(bytes) => state.stdout.take(&bytes),
            Event::Stderr(bytes) => state.stderr.take(&bytes),
            Event::ExitStatus(code) => state.exit = Some(Ok(code)),
            Event::ExitSignal(name) => state.exit = Some(Err(name)),
            Event::Closed | Event::Lost(_) => state.end(),
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until the command has begun or its end is known, at most this long.
    pub(super) async fn settled(&self, within: Duration) {
        self.until(within, |state| state.stdout.begun() || state.seen != DirectSeen::Running).await;
    }

    /// Waits for the end, at most this long.
    pub(super) async fn ended(&self, within: Duration) {
        self.until(within, |state| state.seen != DirectSeen::Running).await;
    }

    async fn until(&self, within: Duration, holds: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + within;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(&self.lock()) || timeout_at(deadline, changed).await.is_err() {
                return;
            }
        }
    }

    /// Sends a signal (RFC 4254, 6.9), if the channel stands.
    pub(super) fn signal(&self, name: &'static str) {
        self.send(Input::Signal(name));
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

    pub(super) fn read(&self, stream: Stream, offset: u64, max: u32) -> Chunk {
        let state = self.lock();
        let spool = match stream {
            Stream::Stdout => &state.stdout.spool,
            Stream::Stderr => &state.stderr.spool,
        };
        let (offset, bytes) = spool.read(offset, max);
        Chunk { stream, offset, bytes, truncated: spool.is_truncated() }
    }
}

impl State {
    /// The channel has ended: what follows from what came before.
    fn end(&mut self) {
        self.input = None;
        self.seen = match self.exit.take() {
            None => DirectSeen::Lost,
            Some(_) if !self.stdout.begun() && !self.stderr.begun() => {
                let words = [self.stderr.words(), self.stdout.words()];
                let said = words.into_iter().find(|words| !words.is_empty());
                let said = said.unwrap_or_else(|| "nothing".to_owned());
                let message =
                    format!("the account's shell did not run our command; it said: {said}");
                DirectSeen::NeverStarted { message }
            }
            Some(exit) => DirectSeen::Exited(exit_from_channel(exit)),
        };
    }
}
