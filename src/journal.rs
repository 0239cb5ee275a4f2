//! The write-ahead log: an action becomes executable by being saved.
//!
//! [`Saved`] has one maker, [`save`], and hosts take nothing else. Where the stage is
//! kept (a status, a file) is the journal's business; nobody else writes stages.

use crate::core::action::Action;

/// Something that was decided together with a stage that is durable by now.
#[derive(Debug)]
pub struct Saved<T>(T);

impl<T> Saved<T> {
    /// What was saved.
    pub fn get(&self) -> &T {
        &self.0
    }
}

impl Saved<Action> {
    /// For tests of hosts, which are given actions without a journal.
    #[doc(hidden)]
    pub fn for_test(action: Action) -> Self {
        Self(action)
    }
}
