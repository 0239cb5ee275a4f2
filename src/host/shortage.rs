//! What a shell says where the host has no process for it (fork(2), EAGAIN).
//!
//! No exit status tells it: a shell that cannot fork ends as it would for many a reason, or waits
//! and tries again for half a minute. So its words are looked at, and nothing is concluded from
//! them but why something that is known not to have begun did not.

use crate::core::fault::{Fault, Transient};
use crate::core::foreign::foreign_bytes;

/// Whether this is what a shell, sudo or a login says that could not fork.
pub(super) fn lacks_processes(said: &[u8]) -> bool {
    /// dash, busybox and mksh, bash (in any language), zsh, yash, fish, sudo.
    const WORDS: [&str; 9] = [
        "cannot fork",
        "can't fork",
        "fork: ",
        "fork failed",
        "cannot make a child process",
        "failed to fork",
        "unable to fork",
        "no more processes",
        "could not create child process",
    ];
    let said = String::from_utf8_lossy(said).to_lowercase();
    WORDS.iter().any(|words| said.contains(words))
}

/// The fault, in words: what is known, what was said, and what to do.
pub(super) fn fault(said: &[u8]) -> Fault {
    let said = foreign_bytes(said);
    let message = format!(
        "the host lacks processes for this user (end some, or raise `ulimit -u`); it is tried \
         again. It said: {said}"
    );
    Fault::new(Transient::ProcessLimit, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_that_cannot_fork_is_understood_and_nobody_else() {
        for said in [
            "sh: 1: Cannot fork",
            "/bin/sh: fork: retry: Resource temporarily unavailable",
            "bash: fork: Wiederholung: Die Ressource ist zur Zeit nicht verf\u{fc}gbar",
            "sh: can't fork: Resource temporarily unavailable",
            "mksh: can't fork - try again",
            "sh: fork failed: resource temporarily unavailable",
            "yash: cannot make a child process: Resource temporarily unavailable",
            "sudo: unable to fork: Resource temporarily unavailable",
            "No more processes.",
        ] {
            assert!(lacks_processes(said.as_bytes()), "{said}");
        }
        for said in ["", "sh: 1: nosuch: not found", "forked from upstream", "git-fork done"] {
            assert!(!lacks_processes(said.as_bytes()), "{said}");
        }
    }
}
