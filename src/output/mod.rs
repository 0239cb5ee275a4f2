//! Where the output of commands goes: log lines for the operator, plain bytes for `run`.
//!
//! Not here: reading it from the host ([`crate::follow`]), and this program's own log
//! (tracing, on stderr).

pub mod budget;
pub mod line;
pub mod log;
pub mod mark;
pub mod standard;
pub mod writer;
