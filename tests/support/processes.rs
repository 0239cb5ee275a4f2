//! What procfs tells about processes, and signals to them. A process is known by
//! its pid and start time; a pid alone may have been given out again.

use std::fs;

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub pid: u32,
    pub start: u64,
}

impl Identity {
    pub fn of(pid: u32) -> Option<Identity> {
        stat(pid).map(|s| Identity { pid, start: s.start })
    }

    /// A zombie is not alive.
    pub fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|s| s.start == self.start && s.state != 'Z')
    }

    /// Whether a signal to stop has taken effect.
    pub fn is_stopped(self) -> bool {
        stat(self.pid).is_some_and(|s| s.start == self.start && s.state == 'T')
    }

    /// Does nothing when the process is gone.
    pub fn signal(self, signal: Signal) {
        if !self.is_alive() {
            return;
        }
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It may end between the look and the signal; that is what was wanted.
            let _ = kill_process(pid, signal);
        }
    }
}

struct Stat {
    state: char,
    parent: u32,
    start: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; the fields after it do not.
    let mut fields = text[text.rfind(')')? + 2..].split(' ');
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        start: fields.nth(17)?.parse().ok()?,
    })
}

fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The direct children that are alive.
pub fn children(pid: u32) -> Vec<Identity> {
    all()
        .into_iter()
        .filter(|&p| stat(p).is_some_and(|s| s.parent == pid && s.state != 'Z'))
        .filter_map(Identity::of)
        .collect()
}

/// Children, their children, and so on.
pub fn descendants(pid: u32) -> Vec<Identity> {
    let mut found = children(pid);
    let mut next = 0;
    while next < found.len() {
        let more = children(found[next].pid);
        found.extend(more);
        next += 1;
    }
    found
}

/// The kernel's short name of the program.
pub fn name(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    text.trim_end().to_owned()
}

/// The words it was started with, separated by spaces; for people to read.
pub fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

/// The processes that were started with exactly this `NAME=value` in their environment.
pub fn marked(mark: &str) -> Vec<Identity> {
    all()
        .into_iter()
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&b| b == 0).any(|word| word == mark.as_bytes())
        })
        .filter_map(Identity::of)
        .filter(|identity| identity.is_alive())
        .collect()
}

/// The processes of this program whose command line contains these words.
pub fn mentioning(program: &str, words: &str) -> Vec<Identity> {
    all()
        .into_iter()
        .filter(|&pid| name(pid) == program && command_line(pid).contains(words))
        .filter_map(Identity::of)
        .collect()
}

/// Kills them until two looks in a row find none; they may fork in between.
pub fn kill_marked(mark: &str) {
    let mut empty = 0;
    super::block_until(std::time::Duration::from_secs(10), || {
        let found = marked(mark);
        empty = if found.is_empty() { empty + 1 } else { 0 };
        found.iter().for_each(|p| p.signal(Signal::KILL));
        empty == 2
    });
}
