//! What is to be ended: on a wish, or because another launch must not run beside it.

use crate::core::action::StopReason;
use crate::core::stage::{Attempt, Place, Stop};

use super::Turn;

impl Turn<'_> {
    /// Begins the stop that is due. It is saved with its reason before any signal is sent; an
    /// entry that was not seen claimed is revoked instead, which needs no mark.
    pub(super) fn end_what_must_end(&mut self) {
        let Some(reason) = self.reason_to_end() else { return };
        let at = self.now.at;
        let Some(attempt) = &mut self.stage.current else { return };
        match &attempt.place {
            Place::Running | Place::Finishing { .. } => {
                attempt.place = Place::Stopping(Stop::new(reason, at));
            }
            Place::Lost(loss) if !attempt.direct => {
                attempt.place = Place::Fencing { loss: *loss, stop: Stop::new(reason, at) };
            }
            // A second read may still find the exit record.
            Place::Vanished
            | Place::Launching
            | Place::Stopping(_)
            | Place::Lost(_)
            | Place::Fencing { .. }
            | Place::Ended(_) => {}
        }
    }

    /// Why the current attempt must not go on; `None` when it may.
    pub(super) fn reason_to_end(&self) -> Option<StopReason> {
        let attempt = self.unfenced()?;
        let done = self.stage.outcome.as_ref().is_some_and(|o| !o.is_unknown());
        if self.stage.deleting.is_some() {
            Some(StopReason::Deleted)
        } else if done {
            None
        } else if self.stage.cancelled.is_some() && !self.is_of_earlier_run(attempt) {
            Some(StopReason::Cancelled)
        } else if self.waits_for_fence(attempt) {
            Some(StopReason::Fenced)
        } else {
            None
        }
    }

    /// True when a launch that is still wanted has to wait until this attempt is fenced.
    fn waits_for_fence(&self, attempt: &Attempt) -> bool {
        let lost = matches!(attempt.place, Place::Lost(_));
        let open = self.stage.outcome.is_none() && self.stage.cancelled.is_none();
        open && (lost || self.blocks_launch(attempt))
    }
}
