//! The command line, run as a user would run it: `remote-command run` on this machine and
//! against a real sshd, killed and interrupted; help, completion and what is refused.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod again;
mod bench;
mod ends;
mod foul;
#[path = "../sessions/foul.rs"]
mod foul_servers;
mod input;
mod mended;
mod results;
mod same;
mod scripts;
mod several;
#[path = "../support/mod.rs"]
mod support;
mod words;
