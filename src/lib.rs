//! Runs commands on other machines over supervised SSH and tells the truth
//! about what happened.
//!
//! The loop is *decide, save, act, observe*: [`core::decide`] is a pure function
//! from what is wanted, what is durably known and what was last seen, to the
//! next stage and one action. Only a saved action may be performed.
//!
//! See `ARCHITECTURE.md` for the picture, the words and the code map.

pub mod api;
pub mod cli;
pub mod core;
pub mod follow;
pub mod host;
pub mod journal;
mod lock;
pub mod log;
pub mod material;
pub mod operator;
pub mod output;
pub mod reach;
pub mod run;
pub mod shim;
pub mod step;
