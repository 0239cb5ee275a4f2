//! The write-ahead log: an action becomes executable by being saved.
//!
//! What was decided is made [`Saved`] by [`save`] alone, and hosts take nothing else; only what
//! starts and ends nothing can do without ([`Saved::harmless`]). Where the
//! stage is kept (a status, a file) is the journal's business; nobody else writes stages.

use async_trait::async_trait;

use crate::core::action::Action;
use crate::core::stage::{Attempt, Stage};

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
    /// For actions that nobody decided on and that go without a save. Only these two have no need
    /// of one, whatever crashes and whoever else is at work:
    /// - a Probe reads;
    /// - a Sweep of what has ended starts nothing and ends nothing, and takes no evidence that
    ///   anybody still needs: `kept`, which must be the stage as it is kept, has the result, and
    ///   no launch or stop is under way that rests on the record.
    ///
    /// `None` for everything else: that has to be decided and saved.
    pub fn harmless(action: Action, kept: &Stage) -> Option<Self> {
        let harmless = match &action {
            Action::Probe { .. } => true,
            Action::Sweep { .. } => {
                kept.outcome.as_ref().is_some_and(|outcome| !outcome.is_unknown())
                    && kept.current.as_ref().is_some_and(Attempt::is_fenced)
            }
            Action::Prepare { .. }
            | Action::Launch { .. }
            | Action::Terminate { .. }
            | Action::Kill { .. }
            | Action::Revoke { .. } => false,
        };
        harmless.then_some(Self(action))
    }

    /// For tests of hosts, which are given actions without a journal.
    #[doc(hidden)]
    pub fn for_test(action: Action) -> Self {
        Self(action)
    }
}

/// The place where an object's stage is kept.
#[async_trait]
pub trait Journal: Send {
    /// Replaces the stage `before` by `stage`. Returns once that is durable, or known not to be;
    /// goes on trying as long as nobody can tell.
    ///
    /// # Errors
    /// [`NotSaved`]; what is kept then is not `stage`.
    async fn write(&mut self, before: &Stage, stage: &Stage) -> Result<(), NotSaved>;
}

/// Why a stage was not saved. Nothing that was decided with it may be done.
#[derive(Debug, thiserror::Error)]
pub enum NotSaved {
    /// Another stage than the one decided on is kept: begin again from that.
    #[error("somebody else has saved another stage")]
    Overtaken,
    /// There is no object to keep it for any more.
    #[error("the object is gone")]
    Gone,
    /// The place refuses this stage, and would refuse it again. Decide anew after a while: what
    /// is wanted may be something else by then.
    #[error("the stage was refused: {0}")]
    Refused(String),
    /// The place cannot be written to.
    #[error("the stage could not be written")]
    Failed(#[source] std::io::Error),
}

/// Makes `after` durable and `decided`, which was decided with it, executable. When the
/// decision left the stage as it was there is nothing to write.
///
/// # Errors
/// As for [`Journal::write`].
pub async fn save<J: Journal + ?Sized, T>(
    journal: &mut J,
    before: &Stage,
    after: &Stage,
    decided: T,
) -> Result<Saved<T>, NotSaved> {
    if before != after {
        journal.write(before, after).await?;
    }
    Ok(Saved(decided))
}
