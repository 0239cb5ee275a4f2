//! What to do next: the one function that makes stages.
//!
//! [`decide`] takes what is wanted, what is durably known and what the last action told,
//! and gives the next stage, at most one action, and when to come back. It reads no clock
//! and rolls no dice. The caller saves the stage if it changed, *then* performs the action,
//! and comes back with what it saw; without an action it waits for `wake` or for a change
//! of what is wanted and comes back with [`Seen::Nothing`].
//!
//! [`Seen::Nothing`] also stands at the beginning of an operator's life: whatever action
//! goes with the saved stage may or may not have been performed. A Launch is given together
//! with the change of stage that announces it and never again, so that it is sent at most
//! once per entry.
//!
//! A turn goes through the same steps in the same order: whether a sitting begins (`sitting`),
//! what the host said (`observe`), what is wanted (`wishes`), which limit ran out (`limits`), what
//! an ended attempt means for its run (`settle`, `doubt`), whether something is to be ended
//! (`fence`), and what to ask, start or remove next (`ask`, `launch`, `cleanup`).

mod ask;
mod cleanup;
mod doubt;
mod fence;
mod launch;
mod limits;
mod observe;
mod settle;
mod sitting;
mod wishes;

use jiff::Timestamp;

pub use self::limits::MISSING_GRACE;

use super::action::{Action, Seen};
use super::bounds::bound;
use super::plan::{Asked, Plan};
use super::stage::{Attempt, Stage};

/// The moment of a decision, and its dice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub at: Timestamp,
    /// Fresh randomness at every call: jitter, and the half of a token that names its entry on
    /// the host, where others can see it.
    pub seed: u64,
    /// More of it, for the half of a token that nobody else is to know: not to be reckoned from
    /// the seed, as [`mix`](super::backoff::mix) can be turned round.
    pub secret: u64,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// To be saved first when it differs from the one decided on.
    pub stage: Stage,
    /// To be performed once the stage is saved.
    pub action: Option<Action>,
    /// When to come back without an action or a change; `None`: only on a change. With an
    /// action: when to come back although nothing of it could be sent, because a limit runs out.
    pub wake: Option<Timestamp>,
    /// The run that the action prepares, which is not on record yet: to be saved, instead of
    /// `stage`, when the action takes more than a moment. Its limits count from then on.
    pub announced: Option<Stage>,
}

/// The next stage, action and wake-up. See the module for the caller's part.
pub fn decide(plan: &Plan, asked: &Asked, stage: &Stage, seen: &Seen, now: &Now) -> Decision {
    let mut turn = Turn {
        plan,
        asked,
        was: stage,
        seen,
        now,
        stage: stage.clone(),
        highest_uptime: None,
        soon: false,
    };
    turn.begin_wanted_run();
    turn.sit_down();
    turn.observe();
    turn.notice_wishes();
    turn.apply_limits();
    turn.settle();
    turn.end_what_must_end();
    let (action, wake) = turn.next_action();
    turn.finish(action, wake)
}

/// One decision in the making.
struct Turn<'a> {
    plan: &'a Plan,
    asked: &'a Asked,
    was: &'a Stage,
    seen: &'a Seen,
    now: &'a Now,
    stage: Stage,
    /// The host's uptime in this answer, when it is of the attempt's boot.
    highest_uptime: Option<u64>,
    /// Something is about to be complete: ask again at once rather than at leisure.
    soon: bool,
}

impl Turn<'_> {
    /// True when this turn has changed what is durably known.
    fn changed(&self) -> bool {
        self.stage != *self.was
    }

    /// The attempt that may still be alive or start.
    fn unfenced(&self) -> Option<&Attempt> {
        self.stage.current.as_ref().filter(|attempt| !attempt.is_fenced())
    }

    /// The host's name in what is said of the current attempt, or of the next one.
    fn host(&self) -> &str {
        self.stage.current.as_ref().map_or(&self.plan.host, |attempt| &attempt.host)
    }

    /// True when the current entry belongs to an earlier run.
    fn is_of_earlier_run(&self, attempt: &Attempt) -> bool {
        attempt.entry.run < self.stage.run
    }

    /// True when the spec has changed since the run was made from it, which asks for another
    /// run; this one launches nothing more once something of it may have started.
    fn spec_moved_on(&self) -> bool {
        self.asked.on_change && self.asked.frozen_digest != self.stage.frozen_digest
    }

    fn finish(mut self, action: Option<Action>, wake: Option<Timestamp>) -> Decision {
        // The first run is announced by its launch intent, or by what keeps it waiting: a
        // Prepare that starts nothing needs no write of its own.
        let asks_only = matches!(action, Some(Action::Prepare { .. }));
        let wake = if action.is_some() { self.next_limit() } else { wake };
        if self.was.run == 0 && asks_only && self.stage.waiting.is_none() {
            self.stage.revision = self.was.revision.saturating_add(1);
            let announced = Some(self.stage);
            return Decision { stage: self.was.clone(), action, wake, announced };
        }
        bound(&mut self.stage);
        if self.changed() {
            self.stage.revision = self.was.revision.saturating_add(1);
            if let (Some(current), Some(uptime)) = (&mut self.stage.current, self.highest_uptime) {
                current.identity.uptime_ms = current.identity.uptime_ms.max(uptime);
            }
        }
        Decision { stage: self.stage, action, wake, announced: None }
    }
}
