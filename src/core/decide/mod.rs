//! What to do next: the one function that makes stages.
//!
//! [`decide`] takes what is wanted, what is durably known and what the last action told,
//! and gives the next stage, at most one action, and when to come back. It reads no clock
//! and rolls no dice. The caller saves the stage if it changed, *then* performs the action,
//! and comes back with what it saw; without an action it waits for `wake` or for a change
//! of what is wanted and comes back with [`Seen::Nothing`].

use jiff::Timestamp;

use super::action::{Action, Seen};
use super::plan::{Asked, Plan};
use super::stage::Stage;

/// The moment of a decision, and its dice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub at: Timestamp,
    /// Fresh randomness at every call: tokens and jitter are made of it.
    pub seed: u64,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// To be saved first when it differs from the one decided on.
    pub stage: Stage,
    /// To be performed once the stage is saved.
    pub action: Option<Action>,
    /// When to come back without an action or a change; `None`: only on a change.
    pub wake: Option<Timestamp>,
}

/// The next stage, action and wake-up. See the module for the caller's part.
pub fn decide(plan: &Plan, asked: &Asked, stage: &Stage, seen: &Seen, now: &Now) -> Decision {
    let _ = (plan, asked, seen, now);
    Decision { stage: stage.clone(), action: None, wake: None }
}
