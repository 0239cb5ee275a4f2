//! Cleans up after this process, even after a SIGKILL. It is not the normal way to
//! stop things (that is `Drop`), but what remains when nothing gets dropped.
//!
//! A small shell reads, from a pipe, what has been started. The pipe closes when
//! this process ends in whatever way, and the shell then stops and removes all of
//! it. A pipe rather than PR_SET_PDEATHSIG: that one needs `unsafe`, acts when the
//! starting *thread* ends, and removes no directories.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use super::Result;
use super::processes::Identity;

/// A process.
pub fn process(identity: Identity) -> Result<()> {
    tell(&format!("process {} {}", identity.pid, identity.start))
}

/// A process together with its children, such as sshd with its connections.
pub fn family(identity: Identity) -> Result<()> {
    tell(&format!("family {} {}", identity.pid, identity.start))
}

/// Every process that carries this `NAME=value` in its environment.
pub fn marked(mark: &str) -> Result<()> {
    tell(&format!("marked {mark}"))
}

/// A directory with all that is in it.
pub fn directory(path: &Path) -> Result<()> {
    tell(&format!("directory {}", path.display()))
}

/// A cgroup with those below it; whoever is in one is ended.
pub fn cgroup(path: &Path) -> Result<()> {
    tell(&format!("cgroup {}", path.display()))
}

/// A network namespace.
pub fn namespace(name: &str) -> Result<()> {
    tell(&format!("namespace {name}"))
}

/// A throw-away user of the system.
pub fn user(name: &str) -> Result<()> {
    tell(&format!("user {name}"))
}

fn tell(line: &str) -> Result<()> {
    static PIPE: OnceLock<Result<Mutex<ChildStdin>, String>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| start().map_err(|e| e.to_string()));
    let pipe = pipe.as_ref().map_err(|e| format!("keeper: {e}"))?;
    let mut pipe = pipe.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok(writeln!(pipe, "{line}")?)
}

fn start() -> Result<Mutex<ChildStdin>> {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", include_str!("keeper.sh"), "keeper"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // A Ctrl-C is meant for the tests; the shell has work to do afterwards.
        .process_group(0)
        .spawn()?;
    Ok(Mutex::new(shell.stdin.take().ok_or("no pipe")?))
}
