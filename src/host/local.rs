//! This machine as a transport: each exec is a login shell's `-c`, in a process group of its
//! own, as sshd would run it. Dropping a channel closes its pipes and ends nothing.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use super::{Event, ExecChannel, Input, Transport};
use crate::core::fault::{Fault, Standing};

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

/// Passes on what is sent. Its end closes stdin, as a closed channel would.
async fn write(
    mut stdin: Option<ChildStdin>,
    mut inputs: mpsc::Receiver<Input>,
    group: Option<Pid>,
) {
    while let Some(input) = inputs.recv().await {
        match input {
            Input::Bytes(bytes) => {
                let Some(pipe) = &mut stdin else { continue };
                if pipe.write_all(&bytes).await.is_err() {
                    stdin = None;
                }
            }
            Input::Eof => stdin = None,
            Input::Signal(name) => {
                if let (Some(group), Some(signal)) = (group, signal(name)) {
                    // It may have ended: then there is nobody to signal.
                    let _ = kill_process_group(group, signal);
                }
            }
            Input::Close => return,
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
