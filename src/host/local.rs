//! This machine as a transport: each exec is a login shell's `-c`, in a process group of its
//! own, as sshd would run it. Dropping a channel closes its pipes and ends nothing.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::{Event, ExecChannel, Input, Transport};
use crate::core::fault::{Fault, Standing};

/// Input taken from the sender and not yet by the process, before no more is taken: larger
/// than any value of an object, so that a signal behind one is always seen.
const STDIN_BACKLOG: usize = 4 << 20;

/// Runs lines with a shell of this machine.
#[derive(Clone, Debug)]
pub struct Local {
    shell: PathBuf,
    env: Vec<(String, String)>,
}

impl Default for Local {
    fn default() -> Self {
        Self::new("/bin/sh")
    }
}

impl Local {
    /// With the given login shell.
    pub fn new(shell: impl Into<PathBuf>) -> Self {
        Self { shell: shell.into(), env: Vec::new() }
    }

    /// With one more environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
}

#[async_trait]
impl Transport for Local {
    async fn open(&self, line: &str) -> Result<ExecChannel, Fault> {
        let mut child = Command::new(&self.shell)
            .arg("-c")
            .arg(line)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| {
                let message = format!("{}: {error}", self.shell.display());
                Fault::new(Standing::HostUnusable, message)
            })?;
        let (input, inputs) = mpsc::channel(16);
        let (events, received) = mpsc::channel(64);
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        tokio::spawn(write(child.stdin.take(), inputs, group));
        let out = tokio::spawn(read(child.stdout.take(), events.clone(), Event::Stdout));
        let err = tokio::spawn(read(child.stderr.take(), events.clone(), Event::Stderr));
        tokio::spawn(async move {
            report_end(&mut child, &events).await;
            let _ = tokio::join!(out, err);
            let _ = events.send(Event::Closed).await;
        });
        Ok(ExecChannel { input, events: received })
    }
}

/// Passes on what is sent. Its end closes stdin, as a closed channel would. A process that
/// does not read holds up neither a signal nor the close.
async fn write(pipe: Option<ChildStdin>, mut inputs: mpsc::Receiver<Input>, group: Option<Pid>) {
    let mut stdin = Stdin { pipe, waiting: VecDeque::new(), offset: 0, bytes: 0, eof: false };
    let mut open = true;
    while open || stdin.pipe.is_some() {
        tokio::select! {
            written = stdin.write() => stdin.advance(written),
            input = inputs.recv(), if open && stdin.bytes < STDIN_BACKLOG => match input {
                Some(Input::Bytes(bytes)) => stdin.put(bytes),
                Some(Input::Eof) => stdin.end(),
                Some(Input::Signal(name)) => {
                    if let (Some(group), Some(signal)) = (group, signal(name)) {
                        // It may have ended: then there is nobody to signal.
                        let _ = kill_process_group(group, signal);
                    }
                }
                Some(Input::Close) => return,
                None => {
                    open = false;
                    stdin.end();
                }
            }
        }
    }
}

/// The standard input of a process, and what is on its way there.
struct Stdin {
    /// `None` once closed.
    pipe: Option<ChildStdin>,
    waiting: VecDeque<Zeroizing<Vec<u8>>>,
    /// How much of the first one is written.
    offset: usize,
    bytes: usize,
    eof: bool,
}

impl Stdin {
    fn put(&mut self, bytes: Zeroizing<Vec<u8>>) {
        if self.pipe.is_some() && !bytes.is_empty() {
            self.bytes += bytes.len();
            self.waiting.push_back(bytes);
        }
    }

    fn end(&mut self) {
        self.eof = true;
        if self.waiting.is_empty() {
            self.pipe = None;
        }
    }

    /// Writes some of the first piece; never ends when there is nothing to write. May be
    /// cancelled: then nothing was written.
    async fn write(&mut self) -> std::io::Result<usize> {
        match (&mut self.pipe, self.waiting.front()) {
            (Some(pipe), Some(bytes)) => {
                pipe.write(bytes.get(self.offset..).unwrap_or_default()).await
            }
            (None, _) | (_, None) => std::future::pending().await,
        }
    }

    fn advance(&mut self, written: std::io::Result<usize>) {
        let Ok(count @ 1..) = written else {
            (self.pipe, self.bytes) = (None, 0);
            return self.waiting.clear();
        };
        self.offset += count;
        let done = self.waiting.pop_front_if(|bytes| bytes.len() <= self.offset);
        if let Some(bytes) = done {
            self.bytes -= bytes.len();
            self.offset = 0;
        }
        if self.eof {
            self.end();
        }
    }
}

async fn read(
    pipe: Option<impl AsyncRead + Unpin>,
    events: mpsc::Sender<Event>,
    event: fn(Vec<u8>) -> Event,
) {
    let Some(mut pipe) = pipe else { return };
    loop {
        let mut bytes = Vec::with_capacity(64 * 1024);
        match pipe.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if events.send(event(bytes)).await.is_err() {
            return;
        }
    }
}

async fn report_end(child: &mut Child, events: &mpsc::Sender<Event>) {
    let event = match child.wait().await {
        Ok(status) => end_of(status),
        Err(_) => return,
    };
    let _ = events.send(event).await;
}

fn end_of(status: ExitStatus) -> Event {
    match (status.code(), status.signal()) {
        (Some(code), _) => Event::ExitStatus(u32::try_from(code).unwrap_or(u32::MAX)),
        (None, signal) => {
            let name = signal.and_then(|s| NAMES.iter().find(|(_, n)| n.as_raw() == s));
            Event::ExitSignal(name.map_or("KILL", |(name, _)| name).to_owned())
        }
    }
}

/// The signals of RFC 4254, 6.9.
const NAMES: [(&str, Signal); 13] = [
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("TERM", Signal::TERM),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
];

fn signal(name: &str) -> Option<Signal> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn started(line: &str) -> ExecChannel {
        let channel = Local::default().open(line).await;
        channel.unwrap_or_else(|fault| panic!("{fault:?}"))
    }

    #[tokio::test]
    async fn a_signal_is_not_stuck_behind_input_that_nobody_reads() {
        let mut channel = started("echo up; exec sleep 1000").await;
        assert!(matches!(channel.events.recv().await, Some(Event::Stdout(_))));
        let bytes = Zeroizing::new(vec![b'x'; 1 << 20]);
        channel.input.send(Input::Bytes(bytes)).await.unwrap();
        channel.input.send(Input::Signal("KILL")).await.unwrap();
        let end = channel.events.recv().await;
        assert!(matches!(&end, Some(Event::ExitSignal(name)) if name == "KILL"), "{end:?}");
    }

    #[tokio::test]
    async fn all_that_was_sent_arrives_before_the_end() {
        for sends_eof in [true, false] {
            let mut channel = started("sleep 0.1; wc -c").await;
            for _ in 0..20 {
                let bytes = Zeroizing::new(vec![b'x'; 50_000]);
                channel.input.send(Input::Bytes(bytes)).await.unwrap();
            }
            if sends_eof {
                channel.input.send(Input::Eof).await.unwrap();
            } else {
                drop(channel.input);
            }
            let Some(Event::Stdout(count)) = channel.events.recv().await else { panic!() };
            assert_eq!(String::from_utf8(count).unwrap().trim(), "1000000");
        }
    }
}
