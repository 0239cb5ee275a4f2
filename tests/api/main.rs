//! The contract with users, tried on the real API server: what it accepts and what it refuses,
//! with which sentence. Nothing here runs a command, and no operator is there: statuses are
//! written as an operator would.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod change;
mod creation;
mod defaults;
mod desk;
mod extremes;
mod fences;
mod generated;
mod kubectl;
mod pace;
mod policies;
mod resolution;
#[path = "../support/mod.rs"]
mod support;
mod unchanged;
