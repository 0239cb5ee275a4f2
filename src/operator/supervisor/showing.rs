//! What is shown of an object besides what saving its stage shows, and what follows its result.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use super::Supervisor;
use crate::api::RemoteCommand;
use crate::core::stage::{Attempt, Place, Stage};
use crate::journal::Saved;
use crate::operator::hearing::Hearing;
use crate::operator::wishes::Wishes;
use crate::operator::{closing, ledger};
use crate::step::Reach;

/// How long after a status was shown it is written only because there is more output. It is
/// once in an attempt, and once after its end: the log has all output as it comes.
const OUTPUT_PERIOD: Duration = Duration::from_secs(10);

/// What was shown last, besides what saving shows.
pub(super) struct Showing {
    at: Instant,
    /// The attempt, and whether it had ended, for which output alone was shown.
    output: Option<(i32, i32, bool)>,
}

impl Showing {
    pub(super) fn new() -> Self {
        Self { at: Instant::now(), output: None }
    }
}

impl Supervisor {
    /// Shows the stage in status if that says something new. More output alone is shown once
    /// in a while: gives the time for it.
    pub(super) async fn show(
        &mut self,
        object: &Arc<RemoteCommand>,
        wishes: &Wishes,
        stage: &Stage,
    ) -> Option<Instant> {
        let mut entry = ledger::Entry {
            ledger: &mut self.ledger,
            object,
            wishes,
            following: &mut self.following,
            ways: &self.ways,
            overtaken: None,
        };
        let status = match entry.status(stage) {
            Ok(status) => status,
            Err(failure) => {
                error!(%failure, "no status can be made");
                return None;
            }
        };
        entry.ledger.remind(object);
        let shown = entry.ledger.shown();
        if status == *shown {
            return None;
        }
        let (uid, generation) = (&self.seat.key.uid, object.metadata.generation);
        if let Some(until) = self.context.disputes.pause(uid, generation) {
            return Some(until);
        }
        let mut without_output = status.clone();
        without_output.output.clone_from(&shown.output);
        if without_output == *shown {
            let due = self.showing.at + OUTPUT_PERIOD;
            let of = Some((stage.run, stage.attempt, stage.outcome.is_some()));
            if self.showing.output == of {
                return None;
            } else if Instant::now() < due {
                return Some(due);
            }
            self.showing.output = of;
        }
        self.context.disputes.note(uid, generation);
        entry.show(stage, status).await;
        self.showing.at = Instant::now();
        None
    }

    /// Writes on what the end of an attempt did not wait for, while another one is not begun:
    /// the record of it is swept after the last.
    pub(super) async fn deliver(&mut self, wishes: &Wishes, stage: &Stage) -> Option<Instant> {
        let over = |current: &&Attempt| match current.place {
            Place::Ended(_) | Place::Lost(_) => true,
            Place::Launching
            | Place::Running
            | Place::Finishing { .. }
            | Place::Vanished
            | Place::Stopping(_)
            | Place::Fencing { .. } => false,
        };
        let current = stage.current.as_ref().filter(over)?;
        if stage.outcome.is_some()
            && let Some(shown) = &self.ledger.shown().output
        {
            let host = self.ways.host(&current.connection);
            let resumed = self.following.resume(&wishes.source, &current.entry, shown, &host);
            self.ended_here |= resumed;
        }
        self.following.deliver().await
    }

    /// Sweeps the host once the result is acknowledged and all output was written. Only the
    /// supervisor that brought it about does: a restarted operator must not call on every host
    /// that ever ran something.
    pub(super) async fn sweep(&mut self, object: &RemoteCommand, wishes: &Wishes, stage: &Stage) {
        let sweep = closing::sweep_of(stage, &wishes.plan.uid)
            .filter(|_| self.ended_here && self.following.is_delivered());
        let Some((action, connection)) = sweep else { return };
        let Some(sweep) = Saved::harmless(action, stage) else { return };
        let mut hearing = Hearing::new(&self.seat.object, object);
        let swept = tokio::select! {
            swept = closing::sweep(&self.ways, &wishes.plan, &sweep, &connection) => swept,
            // What is left is swept with the object.
            () = hearing.wish_changes() => false,
            () = self.context.stop.cancelled() => false,
        };
        if swept {
            self.context.swept.note(&self.seat.key.uid, stage);
        }
    }
}
