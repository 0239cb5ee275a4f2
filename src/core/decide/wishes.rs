//! What the user wants: new runs, deletion, cancel, a person's word, suspension.

use std::time::Duration;

use crate::core::outcome::{Ending, Failure, Fate, Loss, Outcome, Success};
use crate::core::phase::AsItWas;
use crate::core::plan::{Resolution, Verdict};
use crate::core::stage::{Deleting, Next, Place, Queue, Stage, UsedResolution};

use super::Turn;

impl Turn<'_> {
    /// The first run begins by itself; another one only when the last has its outcome on
    /// record, for a new `rerunToken` or, under OnChange, for a changed spec.
    pub(super) fn begin_wanted_run(&mut self) {
        if self.asked.delete || self.stage.deleting.is_some() {
            return;
        }
        if self.stage.run == 0 || self.another_run_is_wanted() {
            self.begin_run();
        }
    }

    /// True when the outcome is on record and another run was asked for.
    pub(super) fn another_run_is_wanted(&self) -> bool {
        self.stage.outcome.is_some() && self.stage.is_to_be_followed(self.asked)
    }

    fn begin_run(&mut self) {
        let at = self.now.at;
        let stage = &mut self.stage;
        *stage = Stage {
            run: stage.run.saturating_add(1),
            observed_rerun_token: if self.asked.rerun_token.is_empty() {
                std::mem::take(&mut stage.observed_rerun_token)
            } else {
                self.asked.rerun_token.clone()
            },
            frozen_digest: self.asked.frozen_digest.clone(),
            run_request_time: Some(at),
            queue: Queue { since: Some(at), ..Queue::default() },
            // What outlives a run: the earlier attempt has to be fenced, the rest is history.
            version: stage.version,
            revision: stage.revision,
            entries: stage.entries,
            overlapped: stage.overlapped,
            traces: std::mem::take(&mut stage.traces),
            untraced: stage.untraced,
            current: stage.current.take(),
            attempts: std::mem::take(&mut stage.attempts),
            resolution: stage.resolution.take(),
            ..Stage::default()
        };
    }

    pub(super) fn notice_wishes(&mut self) {
        if self.asked.delete && self.stage.deleting.is_none() {
            let shown = AsItWas::of(self.plan, self.was);
            self.stage.deleting = Some(Deleting { shown, ..Deleting::new(self.now.at) });
        }
        if self.stage.deleting.is_some() {
            return;
        }
        self.notice_cancel();
        self.use_resolution();
        self.run_queue_clock();
        let nothing_started = self.stage.starts == 0 && self.unfenced().is_none();
        if self.stage.outcome.is_none() && self.spec_moved_on() && nothing_started {
            self.stage.frozen_digest.clone_from(&self.asked.frozen_digest);
            self.stage.next = Next::Ordinary;
        }
    }

    /// Cancel is final for the run in which it was seen, also for one that ended in doubt
    /// with its attempt perhaps alive.
    fn notice_cancel(&mut self) {
        let open = match &self.stage.outcome {
            None => true,
            Some(outcome) => outcome.is_unknown() && self.unfenced().is_some(),
        };
        if self.asked.cancel && open && self.stage.cancelled.is_none() {
            self.stage.cancelled = Some(self.now.at);
        }
    }

    /// A person's word counts once, and only for the attempt that is shown as Unknown.
    fn use_resolution(&mut self) {
        let Some(resolution) = &self.asked.resolution else { return };
        let shown = self.stage.outcome.as_ref().is_some_and(Outcome::is_unknown)
            && resolution.run == self.stage.run
            && resolution.attempt == self.stage.attempt;
        let word = UsedResolution::from(resolution);
        if !shown || self.stage.resolution.as_ref() == Some(&word) {
            return;
        }
        self.stage.resolution = Some(word);
        match resolution.verdict {
            Verdict::Retry if self.stage.cancelled.is_some() => {
                if let Some(outcome) = &mut self.stage.outcome {
                    outcome.message.push_str("; not retried, because this run was cancelled");
                }
            }
            Verdict::Succeeded => self.resolve(Ending::Succeeded(Success::Resolved)),
            Verdict::Failed => self.resolve(Ending::Failed(Failure::Resolved)),
            Verdict::Retry => {
                self.stage.outcome = None;
                self.stage.next = Next::PersonsRetry;
                self.stage.not_before = None;
                self.stage.waiting = None;
                self.stage.queue = Queue { since: Some(self.now.at), ..Queue::default() };
            }
        }
    }

    fn resolve(&mut self, ending: Ending) {
        let time = self.now.at;
        let message = format!("a person resolved it as {}", ending.word());
        if let Some(outcome) = &mut self.stage.outcome {
            *outcome = Outcome { ending, message, time, ..outcome.clone() };
        }
        // A Direct attempt cannot be looked for. The person's word that it is over is all
        // there ever is, and later runs rely on it.
        if let Some(current) = &mut self.stage.current
            && current.is_beyond_asking()
        {
            current.place = Place::Ended(Fate::Lost(Loss::ConnectionLost));
        }
    }

    /// The queue clock stands still while a run that waits is suspended.
    pub(super) fn run_queue_clock(&mut self) {
        if self.stage.deleting.is_some() {
            return;
        }
        let suspended = self.asked.suspend && self.is_pending();
        let queue = &mut self.stage.queue;
        match (suspended, queue.suspended_since) {
            // A clock that starts after a back-off stands still from then on only.
            (true, None) => {
                let starts = queue.since.unwrap_or(self.now.at);
                queue.suspended_since = Some(self.now.at.max(starts));
            }
            (false, Some(since)) => {
                let rest = Duration::try_from(self.now.at.duration_since(since));
                let ms = rest.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
                queue.suspended_ms = queue.suspended_ms.saturating_add(ms);
                queue.suspended_since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

impl From<&Resolution> for UsedResolution {
    fn from(r: &Resolution) -> Self {
        Self { run: r.run, attempt: r.attempt, verdict: r.verdict }
    }
}
