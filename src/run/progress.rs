//! What `run` tells on stderr while it works: a line whenever a phase or a reason changes.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::core::foreign;
use crate::core::phase::{Phase, Summary};

/// Tells about one command.
#[derive(Debug)]
pub struct Progress {
    name: String,
    quiet: bool,
    last: String,
    failure: String,
    ended: AtomicBool,
}

impl Progress {
    /// `name` begins every line. A quiet one tells only what went wrong.
    pub fn new(name: &str, quiet: bool) -> Self {
        let (last, failure) = (String::new(), String::new());
        Self { name: name.to_owned(), quiet, last, failure, ended: AtomicBool::new(false) }
    }

    /// Tells phase, reason and message if they are others than before.
    pub fn show(&mut self, summary: &Summary) {
        let line = line(summary);
        if line != self.last && !is_over(summary.phase) {
            self.note(&line);
            self.last = line;
        }
    }

    /// Tells the end: the last line about this command.
    pub fn end(&self, summary: &Summary) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let line = line(summary);
        if summary.phase == Phase::Succeeded { self.note(&line) } else { self.warn(&line) }
    }

    /// Tells that output cannot be written for now, once for each reason.
    pub fn not_written(&mut self, failure: &str) {
        if self.failure != failure {
            failure.clone_into(&mut self.failure);
            self.warn(&format!("its output cannot be written, and is tried again: {failure}"));
        }
    }

    /// Tells something unless quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// Tells something that must not be missed.
    pub fn warn(&self, text: &str) {
        say(&format!("{}: {text}", self.name));
    }
}

/// One line on stderr, whatever a host or a file has put into it: nothing in it does anything to
/// a terminal, or passes for a line of its own. Nobody may be listening any more; what is done
/// goes on.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "remote-command: {}", foreign::line(text));
}

/// `Phase/Reason: message`.
fn line(summary: &Summary) -> String {
    format!("{}/{}: {}", summary.phase.word(), summary.reason, summary.message)
}

fn is_over(phase: Phase) -> bool {
    match phase {
        Phase::Pending | Phase::Running => false,
        Phase::Succeeded | Phase::Failed | Phase::Unknown => true,
    }
}
