//! Sittings: the stretches of time in which somebody is at work on an object.
//!
//! An operator always is, and has none. A `run` without a cluster is a process that a person
//! starts, and may end long before its command does. What passes between two of them is
//! nobody's waiting.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The sitting under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sitting {
    /// Tells it from all others.
    pub began: Timestamp,
    /// When the one before it was last known to be at work; `None` when that is not known.
    pub left: Option<Timestamp>,
}

/// The sitting in which a run without an end was last decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sat {
    pub began: Timestamp,
    /// Nothing was heard in it yet: it was begun as a word to try, and has the whole queue limit.
    #[serde(default, skip_serializing_if = "super::stage::is_false")]
    pub untried: bool,
}
