//! A program to run: either kept (it ends with us) or left (it goes on, and a pid
//! file names it). It is not for short commands that one waits for.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::processes::{Identity, Signal};
use super::{Result, block_until, keeper};

const TERM_LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    log: PathBuf,
}

impl Program {
    /// Its output goes to the end of `log`.
    pub fn new(path: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Program {
        Program { path: path.into(), args: Vec::new(), env: Vec::new(), log: log.into() }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Program {
        self.args.push(arg.into());
        self
    }

    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Program {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Program {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log, for the message of a failure.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Starts it as a part of this process: it ends with it.
    pub fn start(&self) -> Result<Running> {
        // The gate: the program begins only once the keeper knows its pid, so there
        // is no moment in which our end would leave it behind.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"IFS= read -r go || exit 0; exec "$@" </dev/null"#, "gate"]);
        command.arg(&self.path).args(&self.args).stdin(Stdio::piped());
        let mut child = self.spawn(command.process_group(0))?;
        let identity = Identity::of(child.id()).ok_or("a new process has no start time")?;
        keeper::process(identity)?;
        let mut gate = child.stdin.take().ok_or("no pipe")?;
        writeln!(gate)?;
        Ok(Running { program: self.clone(), child, identity })
    }

    /// Starts it in a session of its own, to go on after us, unless the process that
    /// the pid file names is alive. True when it was started.
    pub fn leave(&self, pid_file: &Path) -> Result<bool> {
        if left(pid_file).is_some() {
            return Ok(false);
        }
        let mut command = Command::new("setsid");
        command.arg(&self.path).args(&self.args).stdin(Stdio::null());
        let child = self.spawn(&mut command)?;
        let identity = Identity::of(child.id()).ok_or("a new process has no start time")?;
        fs::write(start_file(pid_file), format!("{}\n", identity.start))?;
        fs::write(pid_file, format!("{}\n", identity.pid))?;
        Ok(true)
    }

    fn spawn(&self, command: &mut Command) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let pairs = self.env.iter().map(|(name, value)| (name, value));
        let spawned = command.envs(pairs).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(spawned.map_err(|e| format!("cannot start {}: {e}", self.path.display()))?)
    }
}

fn start_file(pid_file: &Path) -> PathBuf {
    pid_file.with_extension("start")
}

/// The living process that a pid file names: pid and start time both agree.
pub fn left(pid_file: &Path) -> Option<Identity> {
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let pid = u32::try_from(number(pid_file)?).ok()?;
    let identity = Identity { pid, start: number(&start_file(pid_file))? };
    identity.is_alive().then_some(identity)
}

/// Ends the process that a pid file names, SIGTERM first, and removes the file.
pub fn end_left(pid_file: &Path, ask_first: bool) -> Result<()> {
    if let Some(identity) = left(pid_file) {
        if ask_first {
            identity.signal(Signal::TERM);
            identity.signal(Signal::CONT);
            block_until(TERM_LIMIT, || !identity.is_alive());
        }
        identity.signal(Signal::KILL);
        if !block_until(TERM_LIMIT, || !identity.is_alive()) {
            return Err(format!("process {} does not end", identity.pid).into());
        }
    }
    for file in [pid_file.to_owned(), start_file(pid_file)] {
        if let Err(e) = fs::remove_file(&file)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(e.into());
        }
    }
    Ok(())
}

pub struct Running {
    program: Program,
    child: Child,
    identity: Identity,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub fn signal(&self, signal: Signal) {
        self.identity.signal(signal);
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        // Only an error of the kernel's could make this fail.
        let _ = self.child.wait();
    }

    /// SIGTERM, then SIGKILL; returns when it is gone.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        if !block_until(TERM_LIMIT, || self.has_ended()) {
            self.kill();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
