//! One helper shell: opened through a login shell, greeted ([`greeting`]), loaded, and then asked.
//!
//! Not here: which verb (`recorded`), and what the report means (`shim::wire`). Requests
//! are serial; a shell that failed once is not used again.

mod greeting;

use std::collections::VecDeque;

use tokio::sync::mpsc::error::TryRecvError;
use zeroize::Zeroizing;

use super::{Event, ExecChannel, Input, Transport, shortage};
use crate::core::fault::{Fault, Ours, Standing, Transient};
use crate::core::foreign::foreign;
use crate::core::record::Identity;
use crate::shim::wire::{Next, Report};
use crate::shim::{Account, become_user, bootstrap, loader};

/// How much of what was not expected is kept of each stream, to be understood or quoted.
const KEPT: usize = 4096;

/// A line longer than this is no report.
const LONGEST_LINE: usize = 64 * 1024;

/// How much is put into one message to the channel.
const PIECE: usize = 32 * 1024;

/// More bytes than this are not taken from a host at once: the largest read asks for less.
const MOST_BYTES: usize = 1 << 20;

pub(super) struct Shell {
    channel: ExecChannel,
    nonce: String,
    read: VecDeque<u8>,
    /// What came that was no report, for messages.
    noise: Vec<u8>,
    stderr: Vec<u8>,
    /// What the shells of the present launch had to say, as far as it was told.
    said: Vec<u8>,
    status: Option<String>,
    closed: bool,
    ended_input: bool,
    /// True once any byte of the present request was given to the channel.
    written: bool,
    identity: Identity,
    forks: bool,
}

/// A request that got no report.
pub(super) struct Unanswered {
    pub(super) fault: Fault,
    /// False when certainly no byte of it was sent.
    pub(super) written: bool,
}

impl Unanswered {
    pub(super) fn unsent(fault: Fault) -> Self {
        Self { fault, written: false }
    }
}

/// Why the awaited line did not come.
enum Ended {
    /// The exec ended or closed; what it had said is in `noise` and `stderr`.
    InOrder,
    Fault(Fault),
}

impl Shell {
    /// Opens a channel and begins the first exchange, which does nothing: an account with a
    /// forced command runs that instead, and must not get another exec.
    ///
    /// # Errors
    /// The transport's fault.
    pub(super) async fn begin(transport: &dyn Transport, account: &Account) -> Result<Self, Fault> {
        let channel = transport.open(&bootstrap(&account.shell)).await?;
        let mut shell = Self {
            channel,
            nonce: nonce(),
            read: VecDeque::new(),
            noise: Vec::new(),
            stderr: Vec::new(),
            said: Vec::new(),
            status: None,
            closed: false,
            ended_input: false,
            written: false,
            identity: Identity {
                machine: String::new(),
                boot: String::new(),
                store: String::new(),
                uptime_ms: 0,
                can_tell: false,
            },
            forks: false,
        };
        let hello = format!("{}\n", shell.nonce).into_bytes();
        shell.send(Zeroizing::new(hello)).await?;
        Ok(shell)
    }

    /// Makes a helper shell of a channel that was greeted, as `run_as` if that is set.
    ///
    /// # Errors
    /// The transport's fault; `RunAsRestricted`; `HostUnusable`.
    pub(super) async fn load(
        &mut self,
        account: &Account,
        run_as: Option<&str>,
    ) -> Result<(), Fault> {
        if let Some(user) = run_as {
            self.switch(account, user).await?;
        }
        let (report, _) = self.exchange(Zeroizing::new(loader(account, run_as)), 0).await?;
        self.forks = report.forks.ok_or_else(|| protocol("the first report has no hello"))?;
        self.identity =
            report.identity.ok_or_else(|| protocol("the first report names no host"))?;
        Ok(())
    }

    /// The fault, where its shells have said meanwhile that the host has no process for them:
    /// that is why no answer came.
    pub(super) fn shortage(&self) -> Option<Fault> {
        let said = [&self.stderr, &self.said];
        let said = said.into_iter().find(|said| shortage::lacks_processes(said))?;
        Some(shortage::fault(said))
    }

    /// False when its end is known already: nothing can be asked of it.
    pub(super) fn is_open(&mut self) -> bool {
        loop {
            match self.channel.events.try_recv() {
                Ok(event) => {
                    if self.take(Some(event)).is_err() {
                        return false;
                    }
                }
                Err(TryRecvError::Empty) => return !self.channel.input.is_closed(),
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Who answered when the shell was opened.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the host can put a supervisor into a session of its own.
    pub(super) fn forks(&self) -> bool {
        self.forks
    }

    async fn switch(&mut self, account: &Account, user: &str) -> Result<(), Fault> {
        if user.starts_with('-') || user.contains(['\n', '\0']) || user.is_empty() {
            let message = format!("{:?} is no user name", foreign(user));
            return Err(Fault::new(Standing::RunAsRestricted, message));
        }
        self.nonce = nonce();
        self.stderr.clear();
        let mut line = become_user(&account.shell, user).into_bytes();
        line.extend_from_slice(format!("{}\n", self.nonce).as_bytes());
        self.send(Zeroizing::new(line)).await?;
        match self.await_greeting().await {
            Ok(()) => Ok(()),
            Err(Ended::Fault(fault)) => Err(fault),
            Err(Ended::InOrder) => {
                if let Some(fault) = self.shortage() {
                    return Err(fault);
                }
                let said = excerpt(&self.stderr);
                let user = foreign(user);
                let message = format!("sudo does not let a shell run as {user}: {said}");
                Err(Fault::new(Standing::RunAsRestricted, message))
            }
        }
    }

    /// Sends one request (its line and what follows it) and reads the report, with `most` bytes
    /// of output at most: a host that answers with more is not believed anything.
    ///
    /// # Errors
    /// The transport's fault, `HostUnusable` when the host says so, `ProtocolError`; with
    /// whether any of the request was sent.
    pub(super) async fn ask(
        &mut self,
        line: &str,
        inputs: &[u8],
        most: u32,
    ) -> Result<(Report, Vec<u8>), Unanswered> {
        self.written = false;
        self.noise.clear();
        self.stderr.clear();
        self.said.clear();
        let mut bytes = Zeroizing::new(Vec::with_capacity(line.len() + inputs.len() + 40));
        bytes.extend_from_slice(format!("{} {line}\n", self.nonce).as_bytes());
        bytes.extend_from_slice(inputs);
        let answer = self.exchange(bytes, most).await;
        answer.map_err(|fault| Unanswered { fault, written: self.written })
    }

    async fn exchange(
        &mut self,
        bytes: Zeroizing<Vec<u8>>,
        most: u32,
    ) -> Result<(Report, Vec<u8>), Fault> {
        self.send(bytes).await?;
        let mut report = Report::default();
        let mut output = Vec::new();
        let mut left = u64::from(most);
        let mut taken = 0;
        loop {
            let line = match self.line().await {
                Ok(line) => line,
                Err(Ended::Fault(fault)) => return Err(fault),
                Err(Ended::InOrder) => return Err(self.ended()),
            };
            taken += line.len();
            if taken > MOST_BYTES {
                return Err(protocol("a report without end"));
            }
            let Some(line) = framed(&self.nonce, &line) else {
                self.note(&line);
                continue;
            };
            match report.take(&line).map_err(|flaw| protocol(flaw.to_string()))? {
                Next::Line => self.said.clone_from(&report.said),
                Next::Bytes(count) => {
                    // Also of several counts: what was asked for comes once.
                    left = left.checked_sub(count).ok_or_else(too_much)?;
                    output = self.bytes(count).await?;
                }
                Next::End => break,
            }
        }
        match report.unusable {
            Some(why) => Err(Fault::new(Standing::HostUnusable, why)),
            None => Ok((report, output)),
        }
    }

    fn ended(&self) -> Fault {
        if let Some(fault) = self.shortage() {
            return fault;
        }
        let status = self.status.as_deref().unwrap_or("no status");
        let said = if self.stderr.is_empty() { &self.noise } else { &self.stderr };
        let message = format!("the helper shell ended ({status}): {}", excerpt(said));
        Fault::new(Transient::ConnectionLost, message)
    }

    async fn send(&mut self, bytes: Zeroizing<Vec<u8>>) -> Result<(), Fault> {
        let input = self.channel.input.clone();
        for piece in bytes.chunks(PIECE) {
            let piece = Input::Bytes(Zeroizing::new(piece.to_vec()));
            // What arrives meanwhile is read, so that neither side waits for the other.
            let permit = loop {
                tokio::select! {
                    permit = input.reserve() => break permit,
                    event = self.channel.events.recv() => match self.take(event) {
                        Ok(()) => {}
                        Err(Ended::Fault(fault)) => return Err(fault),
                        Err(Ended::InOrder) => return Ok(()),
                    },
                }
            };
            match permit {
                Ok(permit) => {
                    self.written = true;
                    permit.send(piece);
                }
                // The reader finds out why.
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<Vec<u8>, Ended> {
        let mut searched = 0;
        loop {
            match self.line_at_hand(&mut searched)? {
                Some(line) => return Ok(line),
                None => self.next_event().await?,
            }
        }
    }

    /// A line that has come, of which so many bytes are known to hold no end.
    fn line_at_hand(&mut self, searched: &mut usize) -> Result<Option<Vec<u8>>, Ended> {
        if let Some(at) = self.read.iter().skip(*searched).position(|&byte| byte == b'\n') {
            let mut line: Vec<u8> = self.read.drain(..=*searched + at).collect();
            line.pop();
            *searched = 0;
            return Ok(Some(line));
        }
        *searched = self.read.len();
        if *searched > LONGEST_LINE {
            return Err(Ended::Fault(protocol("a line without end")));
        }
        Ok(None)
    }

    async fn bytes(&mut self, count: u64) -> Result<Vec<u8>, Fault> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > MOST_BYTES {
            return Err(too_much());
        }
        while self.read.len() < count {
            match self.next_event().await {
                Ok(()) => {}
                Err(Ended::Fault(fault)) => return Err(fault),
                Err(Ended::InOrder) => return Err(self.ended()),
            }
        }
        let rest = self.read.split_off(count);
        Ok(std::mem::replace(&mut self.read, rest).into())
    }

    async fn next_event(&mut self) -> Result<(), Ended> {
        if self.closed {
            return Err(Ended::InOrder);
        }
        let event = self.channel.events.recv().await;
        self.take(event)
    }

    fn take(&mut self, event: Option<Event>) -> Result<(), Ended> {
        match event {
            Some(Event::Stdout(bytes)) => {
                self.read.extend(bytes);
                if self.read.len() > MOST_BYTES + LONGEST_LINE {
                    return Err(Ended::Fault(too_much()));
                }
            }
            Some(Event::Stderr(bytes)) => {
                let room = KEPT.saturating_sub(self.stderr.len());
                self.stderr.extend(bytes.into_iter().take(room));
            }
            Some(Event::ExitStatus(code)) => self.status = Some(format!("status {code}")),
            Some(Event::ExitSignal(name)) => {
                self.status = Some(format!("signal {}", foreign(&name)))
            }
            Some(Event::Closed | Event::Detached) => {
                self.closed = true;
                return Err(Ended::InOrder);
            }
            Some(Event::Lost(fault)) => return Err(Ended::Fault(fault)),
            None => {
                let fault = Fault::new(Transient::ConnectionLost, "the channel is gone");
                return Err(Ended::Fault(fault));
            }
        }
        Ok(())
    }

    fn note(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let room = KEPT.saturating_sub(self.noise.len());
        self.noise.extend(line.iter().chain(b"\n").take(room));
    }

    /// Gives the channel away: its shell has become a supervisor. It is read until it ends,
    /// because an unread channel would hold up the others.
    pub(super) fn release(mut self) {
        tokio::spawn(async move {
            while let Some(event) = self.channel.events.recv().await {
                if matches!(event, Event::Closed | Event::Detached | Event::Lost(_)) {
                    break;
                }
            }
        });
    }
}

/// The line's text behind the nonce, when it is one of ours.
fn framed(nonce: &str, line: &[u8]) -> Option<String> {
    let rest = line.strip_prefix(nonce.as_bytes())?.strip_prefix(b" ")?;
    Some(String::from_utf8_lossy(rest).into_owned())
}

fn too_much() -> Fault {
    protocol("the host answered with more bytes than were asked for")
}

fn protocol(message: impl AsRef<str>) -> Fault {
    Fault::new(Ours::ProtocolError, message)
}

/// What was said, on one line.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    foreign(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// 32 hex digits nobody can guess.
pub(super) fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// 16 hex digits: one call among those on an entry.
pub(super) fn call() -> String {
    format!("{:016x}", rand::random::<u64>())
}
