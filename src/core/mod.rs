//! The pure middle: what is wanted, what is known, what to do next.
//!
//! Nothing in here performs I/O, reads a clock or rolls dice: time and
//! randomness are arguments. It imports std, serde and jiff's types and nothing
//! else; the lint level below and `tests/architecture.rs` hold it to that.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(clippy::wildcard_enum_match_arm)]

pub mod action;
pub mod attempt;
pub mod backoff;
pub mod bounds;
pub mod connection;
pub mod cut;
pub mod decide;
pub mod fault;
pub mod foreign;
pub mod interpreter;
pub mod outcome;
pub mod phase;
pub mod plan;
pub mod quote;
pub mod record;
pub mod sitting;
pub mod stage;
pub mod tail;
