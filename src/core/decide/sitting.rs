//! The beginning of a sitting: a word to try again at once, with what is wanted by now.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::sitting::Sat;
use crate::core::stage::{Next, Queue};

use super::Turn;

impl Turn<'_> {
    /// Where a sitting begins and the run has no end: what kept its launch waiting is looked at
    /// anew and at once, and its queue clock leaves out the time in which nobody was at work.
    /// A run of which nothing was launched is made from what is wanted now.
    pub(super) fn sit_down(&mut self) {
        let open =
            self.stage.run > 0 && self.stage.outcome.is_none() && self.stage.deleting.is_none();
        let Some(sitting) = self.asked.sitting.filter(|_| open) else { return };
        if self.stage.sat.is_some_and(|sat| sat.began == sitting.began) {
            return;
        }
        let untried = self.is_pending();
        let stage = &mut self.stage;
        stage.queue.leave_out(sitting.left, sitting.began);
        stage.waiting = None;
        stage.not_before = None;
        stage.unstarted = 0;
        if stage.has_launched_nothing() && stage.frozen_digest != self.asked.frozen_digest {
            stage.frozen_digest.clone_from(&self.asked.frozen_digest);
            stage.next = Next::Ordinary;
        }
        stage.sat = Some(Sat { began: sitting.began, untried });
    }

    /// Something was heard: from now on the limits count.
    pub(super) fn note_tried(&mut self) {
        if let Some(sat) = &mut self.stage.sat {
            sat.untried = false;
        }
    }
}

impl Queue {
    /// Leaves out the time from `left` (`None`: from the beginning of the clock) to `began`.
    fn leave_out(&mut self, left: Option<Timestamp>, began: Timestamp) {
        let Some(since) = self.since.filter(|_| self.suspended_since.is_none()) else { return };
        let away = began.duration_since(left.map_or(since, |left| left.max(since)));
        let away = Duration::try_from(away).unwrap_or_default();
        let ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
        self.suspended_ms = self.suspended_ms.saturating_add(ms);
        // The end of a back-off, which the sitting has ended.
        self.since = Some(since.min(began));
    }
}
