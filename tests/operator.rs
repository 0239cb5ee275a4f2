//! The operator as users run it, on a real control plane and a real sshd, with the faults they
//! can have: killed, cut off, wiped.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "operator/budget.rs"]
mod budget;
#[path = "operator/denials.rs"]
mod denials;
#[path = "operator/ends.rs"]
mod ends;
#[path = "operator/farewells.rs"]
mod farewells;
#[path = "operator/faults.rs"]
mod faults;
#[path = "operator/forgeries.rs"]
mod forgeries;
#[path = "sessions/foul.rs"]
mod foul;
#[path = "operator/foul.rs"]
mod foul_words;
#[path = "operator/hosts.rs"]
mod hosts;
#[path = "operator/leaders.rs"]
mod leaders;
#[path = "operator/mended.rs"]
mod mended;
#[path = "operator/refusals.rs"]
mod refusals;
#[path = "operator/runs.rs"]
mod runs;
#[path = "operator/scripts.rs"]
mod scripts;
#[path = "operator/silence.rs"]
mod silence;
mod support;
#[path = "operator/unresponsive.rs"]
mod unresponsive;
#[path = "operator/waits.rs"]
mod waits;
#[path = "operator/world.rs"]
mod world;
#[path = "operator/writes.rs"]
mod writes;
