//! The record's rules, one test each, under every shell a host may have.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test, as it should be"
)]

#[path = "../sessions/mod.rs"]
mod sessions;
#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod before;
mod claim;
mod exact;
mod login;
mod output;
mod place;
mod reach;
mod rig;
mod seen;
mod shells;
mod shortage;
mod stop;
mod truth;
