//! The main lines of `decide`, one sentence each: a row of the evidence table per class, the
//! order of a stop, wishes and limits, and how little is written.
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod deletions;
mod desk;
mod doubts;
mod evidence;
mod launches;
mod sittings;
mod stops;
mod wishes;
