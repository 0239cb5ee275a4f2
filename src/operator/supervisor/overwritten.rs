//! A status that somebody else has written over ours, by hand or as another program's work.
//!
//! The stage in it guards itself, by its revision; what stands beside the stage is made from it
//! and is made again. That needs no host and no turn, so that it is put right within moments.
//! Who writes a later stage into it is taken for another operator: there is nothing to tell them
//! apart by, and the right to write the status is not for anybody else.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Supervisor;
use crate::api::{Phase, RemoteCommand};
use crate::core::outcome::Ending;
use crate::core::stage::Stage;
use crate::operator::ledger;
use crate::operator::memory::Author;
use crate::operator::wishes::Wishes;

/// When to look again at a status that may be the one of a write of ours under way.
const UNSETTLED: Duration = Duration::from_millis(500);
/// How long another operator's stages are left alone at most, when they keep coming.
const LONGEST_DEAFNESS: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Shows the status anew where somebody else has written over it, and says so.
    pub(super) async fn put_right(&mut self, object: &Arc<RemoteCommand>, wishes: &Wishes) {
        let Some(stage) = self.stage.as_ref() else { return };
        let Author::Another(fields) = self.context.writer.author(object) else { return };
        if self.is_in_dispute(object).is_some() {
            return;
        }
        self.context.writer.displaced(&self.seat.key.uid);
        self.ledger.announce_overwritten(object, &fields);
        let mut entry = ledger::Entry {
            ledger: &mut self.ledger,
            object,
            wishes,
            following: &mut self.following,
            ways: &self.ways,
            overtaken: None,
        };
        let Ok(status) = entry.status(stage) else { return };
        self.context.disputes.note(&self.seat.key.uid, object.metadata.generation);
        entry.show(stage, status).await;
    }

    /// When the status that the latest version shows is to be looked at again; `None` when it
    /// is ours.
    pub(super) fn next_comparison(&self) -> Option<Instant> {
        let latest = self.seat.object.borrow().clone();
        match self.context.writer.author(&latest) {
            Author::Ourselves => None,
            Author::Unsettled => Some(Instant::now() + UNSETTLED),
            Author::Another(_) => Some(self.is_in_dispute(&latest).unwrap_or_else(Instant::now)),
        }
    }

    /// Until when the status is left as it is, because another writer keeps changing it.
    pub(super) fn is_in_dispute(&self, object: &RemoteCommand) -> Option<Instant> {
        self.context.disputes.pause(&self.seat.key.uid, object.metadata.generation)
    }

    /// A stage that another operator has saved was taken up. Two that save in turn wait for
    /// each other ever longer.
    pub(super) async fn give_way(&self, object: &RemoteCommand) {
        let (uid, generation) = (&self.seat.key.uid, object.metadata.generation);
        self.context.disputes.note(uid, generation);
        let Some(until) = self.context.disputes.pause(uid, generation) else { return };
        tokio::select! {
            () = tokio::time::sleep_until(until.min(Instant::now() + LONGEST_DEAFNESS)) => {}
            () = self.context.stop.cancelled() => {}
        }
    }

    /// Says so where an object that is taken up shows another end than its record has: it was
    /// written while no operator was looking.
    pub(super) fn notice_forged_end(&self, object: &RemoteCommand) {
        let Some((stage, status)) = self.stage.as_ref().zip(object.status.as_ref()) else { return };
        if !tells_the_end(status.phase, stage) {
            self.ledger.announce_overwritten(object, &["phase".to_owned()]);
        }
    }
}

/// Whether a phase says of the end of the run what the stage does.
fn tells_the_end(phase: Phase, stage: &Stage) -> bool {
    match stage.outcome.as_ref().map(|outcome| outcome.ending) {
        None => matches!(phase, Phase::Pending | Phase::Running),
        Some(Ending::Succeeded(_)) => phase == Phase::Succeeded,
        Some(Ending::Failed(_)) => phase == Phase::Failed,
        Some(Ending::Unknown(_)) => phase == Phase::Unknown,
    }
}
