//! Runs whose end is in doubt: how they end so, and what takes that back. Unknown counts as an
//! end for whoever waits, and a person may act on it: it is replaced by what is found out about
//! the run's own attempts, and never by a launch that nobody asked for since.

use crate::core::action::StopReason;
use crate::core::outcome::{Doubt, Ending, Failure, Fate, Outcome};
use crate::core::phase::is_followed;
use crate::core::plan::Verdict;
use crate::core::stage::{Attempt, Next, Place, UsedResolution};

use super::Turn;

/// Added to a doubt that came back after the one Retry a person has for an attempt.
const RETRY_IS_SPENT: &str = "; the Retry of spec.resolution was used and counts once: resolve \
                              it as Succeeded or Failed, then set a new rerunToken";
/// Added to a doubt about an earlier run's attempt once that attempt is over.
const EARLIER_IS_OVER: &str = "; that is over by now, and this run has started nothing: resolve \
                               it, or set a new rerunToken";

impl Turn<'_> {
    /// Ends the run in doubt. The same doubt again is no change. Doubt about the check before
    /// the first start is none about the command, which certainly did not start.
    pub(super) fn end_in_doubt(&mut self, doubt: Doubt, message: String) {
        let own = |a: &Attempt| !self.is_of_earlier_run(a);
        let first_check = self.stage.starts == 0
            && self.stage.cancelled.is_none()
            && self.unfenced().is_some_and(|a| a.is_verify() && own(a));
        let (ending, message) = if first_check {
            let message = format!("the check: {message}; the command was not started");
            (Ending::Failed(Failure::VerifyFailed), message)
        } else {
            (Ending::Unknown(doubt), message)
        };
        let same = |o: &Outcome| o.ending == ending || !o.is_unknown();
        if self.stage.deleting.is_some() || self.stage.outcome.as_ref().is_some_and(same) {
            return;
        }
        self.end_run(ending, message, None);
    }

    /// The doubt is over: the attempt is followed again, or its run waits again.
    pub(super) fn leave_doubt(&mut self) {
        let Some(attempt) = self.unfenced() else { return };
        let doubted = self.stage.outcome.as_ref().is_some_and(Outcome::is_unknown);
        if doubted && self.is_under_way_again(attempt) && self.stage.deleting.is_none() {
            self.stage.outcome = None;
        }
    }

    /// True when what is known of the attempt now says that its run is not over after all. To
    /// wait for a launch again is nothing that was found out: that is left to the classes which
    /// may be repeated, and to attempts of the run itself. A claim that was not taken yet proves
    /// nothing.
    fn is_under_way_again(&self, attempt: &Attempt) -> bool {
        let unclaimed = attempt.place == Place::Launching && self.stage.cancelled.is_none();
        let seen = is_followed(&self.stage, attempt) && !unclaimed;
        let heard = attempt.uncertain.is_none() && !self.is_of_earlier_run(attempt);
        heard && (seen || self.is_repeatable())
    }

    /// What stood before this run is gone. One that was shown as over by then stays that.
    pub(super) fn say_that_earlier_is_over(&mut self) {
        if let Some(outcome) = self.stage.outcome.as_mut().filter(|o| o.is_unknown()) {
            outcome.message.push_str(EARLIER_IS_OVER);
        }
    }

    /// A run that was shown as over may have been done by hand since, so that one which must
    /// not be repeated launches nothing more without a new word.
    pub(super) fn stay_over(&mut self) {
        let open = self.stage.outcome.is_none() && self.stage.cancelled.is_none();
        if !open || self.is_repeatable() {
            return;
        }
        match self.stage.last_start.clone() {
            Some(last) => self.end_with(&last.fate),
            None => {
                let message = format!(
                    "never started on {}, which could not be told in time: another run has to be \
                     asked for",
                    self.host()
                );
                let ending = Ending::Failed(Failure::QueueTimeout);
                self.end_run(ending, message, Some(&Fate::NeverStarted));
            }
        }
    }

    /// A Retry that came to nothing is used up with the end of its run: whoever reads that it
    /// is over may rely on it. What the host is not known to have been told to stop for it goes
    /// on, and is followed when it answers.
    pub(super) fn use_up_retry(&mut self) {
        if self.stage.next != Next::PersonsRetry {
            return;
        }
        self.stage.next = Next::Ordinary;
        if let Some(current) = &mut self.stage.current
            && let Place::Stopping(stop) = &current.place
            && stop.reason == StopReason::Fenced
            && stop.signalled.is_none()
        {
            current.place = Place::Running;
        }
    }

    /// A doubt that came back says so where the one Retry of its attempt was used.
    pub(super) fn in_words(&self, ending: Ending, message: String) -> String {
        let spent = matches!(ending, Ending::Unknown(_)) && self.retry_is_spent();
        if spent { message + RETRY_IS_SPENT } else { message }
    }

    fn retry_is_spent(&self) -> bool {
        let used = self.asked.resolution.as_ref().map(UsedResolution::from);
        let used = used.filter(|word| self.stage.resolution.as_ref() == Some(word));
        used.is_some_and(|word| {
            word.verdict == Verdict::Retry
                && (word.run, word.attempt) == (self.stage.run, self.stage.attempt)
        })
    }
}
