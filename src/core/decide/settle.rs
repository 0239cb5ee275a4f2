//! What the end of an attempt, or the loss of it, means for its run: an outcome, or
//! another attempt.

use crate::core::action::{Kind, StopReason};
use crate::core::backoff;
use crate::core::outcome::{
    Doubt, Ending, Evidence, Failure, Fate, Loss, Outcome, PastAttempt, Success,
};
use crate::core::plan::{Execution, Idempotency};
use crate::core::record::{ExitRecord, StartFailure};
use crate::core::stage::{Attempt, HISTORY, LastStart, Next, Place, Queue, after};

use super::Turn;

/// The check found the effect in place.
const IN_PLACE: i32 = 100;
/// The check found that it is not.
const ABSENT: i32 = 101;

impl Turn<'_> {
    /// Draws the conclusions of what this turn learnt about the current attempt.
    pub(super) fn settle(&mut self) {
        if self.learnt_something() {
            self.accept_overlap();
            match self.stage.current.as_ref().map(|attempt| attempt.place.clone()) {
                Some(Place::Ended(fate)) => self.settle_end(&fate),
                Some(Place::Lost(loss)) => self.settle_loss(loss),
                Some(Place::Stopping(stop) | Place::Fencing { stop, .. }) if stop.failed() => {
                    let alive = self.stage.current.as_ref().map(Attempt::what_survives);
                    self.end_in_doubt(Doubt::SurvivorsRemain, alive.unwrap_or_default());
                }
                Some(
                    Place::Launching
                    | Place::Running
                    | Place::Finishing { .. }
                    | Place::Vanished
                    | Place::Stopping(_)
                    | Place::Fencing { .. },
                ) => self.leave_doubt(),
                None => {}
            }
        }
        // What was learnt may leave the run waiting, which stops its clock while suspended.
        self.run_queue_clock();
        self.end_pending_run();
    }

    /// True when the current attempt is elsewhere than before, or the host answers again.
    fn learnt_something(&self) -> bool {
        match (&self.was.current, &self.stage.current) {
            (Some(was), Some(is)) => {
                was.place != is.place || was.uncertain.is_some() && is.uncertain.is_none()
            }
            (None | Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// A lost Direct attempt counts as over where the user has said that a repeat may run
    /// beside it.
    fn accept_overlap(&mut self) {
        let accepted = match &self.plan.execution {
            Execution::Direct(direct) => direct.may_overlap,
            Execution::Recorded => false,
        };
        let repeatable = self.plan.idempotency != Idempotency::NonIdempotent;
        if let Some(current) = &mut self.stage.current
            && accepted
            && repeatable
            && current.place == Place::Lost(Loss::ConnectionLost)
        {
            current.place = Place::Ended(Fate::Lost(Loss::ConnectionLost));
            self.stage.overlapped = current.entry.run;
        }
    }

    /// True when outcome and phase are not this attempt's to change: the run is another, its
    /// end is final, or the object is being deleted.
    fn is_beyond(&self, attempt: &Attempt) -> bool {
        let done = self.stage.outcome.as_ref().is_some_and(|o| !o.is_unknown());
        self.is_of_earlier_run(attempt) || done || self.stage.deleting.is_some()
    }

    fn settle_end(&mut self, fate: &Fate) {
        self.keep_history(fate);
        let Some(attempt) = self.stage.current.clone() else { return };
        if self.is_of_earlier_run(&attempt) && self.stage.deleting.is_none() {
            return self.say_that_earlier_is_over();
        }
        if self.is_beyond(&attempt) {
            return;
        }
        let was_over = self.stage.outcome.take().is_some();
        match attempt.entry.kind {
            Kind::Command => self.settle_command(&attempt, fate),
            Kind::Verify => self.settle_check(&attempt, fate),
        }
        if was_over {
            self.stay_over();
        }
    }

    fn settle_command(&mut self, attempt: &Attempt, fate: &Fate) {
        if *fate == Fate::NeverStarted {
            self.stage.starts = self.stage.starts.saturating_sub(1);
            if self.stage.next != Next::PersonsRetry {
                self.stage.next = attempt.purpose;
            }
            return self.try_again_unstarted();
        }
        let asked_by_person = self.stage.next == Next::PersonsRetry;
        self.stage.last_start =
            Some(LastStart { attempt: attempt.entry.attempt, fate: fate.clone() });
        match fate {
            // The fence before a person's Retry; the word holds.
            Fate::Lost(_) | Fate::Stopped { reason: StopReason::Fenced, .. } if asked_by_person => {
            }
            Fate::Lost(loss) if self.goes_on_after_loss(*loss, attempt) => self.try_again(),
            // The fence before a Retry that was given up: the class decides.
            Fate::Stopped { reason: StopReason::Fenced, .. }
                if self.is_repeatable() && self.starts_are_left() =>
            {
                self.try_again();
            }
            Fate::Exited(exit) | Fate::Received(exit) if self.is_retried(exit) => self.try_again(),
            // A result outranks the word that was given without knowing it.
            Fate::NeverStarted
            | Fate::Exited(_)
            | Fate::Received(_)
            | Fate::Stopped { .. }
            | Fate::Lost(_) => {
                self.stage.next = Next::Ordinary;
                self.end_with(fate);
            }
        }
    }

    /// Ends the run as its last start ended. A stop of that one is no stop of the run where an
    /// earlier attempt may still be alive beside it.
    pub(super) fn end_with(&mut self, fate: &Fate) {
        match fate {
            Fate::Stopped { .. } if self.stage.is_overlapped() => {
                let lost = Fate::Lost(Loss::ConnectionLost);
                let message = format!(
                    "{}; an earlier attempt may be alive, since {}",
                    self.message_of(fate),
                    Loss::ConnectionLost.phrase()
                );
                self.end_run(self.ending_of(&lost), message, Some(&lost));
            }
            Fate::NeverStarted
            | Fate::Exited(_)
            | Fate::Received(_)
            | Fate::Stopped { .. }
            | Fate::Lost(_) => {
                self.end_run(self.ending_of(fate), self.message_of(fate), Some(fate));
            }
        }
    }

    fn settle_check(&mut self, attempt: &Attempt, fate: &Fate) {
        let asked_by_person = self.stage.next == Next::PersonsRetry;
        match fate {
            Fate::Exited(exit) | Fate::Received(exit) if exit.code() == IN_PLACE => {
                let message = format!("the check found the effect in place on {}", self.host());
                self.end_run(Ending::Succeeded(Success::Verified), message, None);
            }
            Fate::Exited(exit) | Fate::Received(exit) if exit.code() == ABSENT => {
                self.stage.next = Next::CheckedAbsent;
            }
            Fate::NeverStarted => {
                self.stage.next =
                    if asked_by_person { Next::PersonsRetry } else { attempt.purpose };
                self.try_again_unstarted();
            }
            // Cancelled: the pending run ends below.
            Fate::Stopped { reason: StopReason::Cancelled, .. } => {}
            Fate::Lost(_) | Fate::Stopped { reason: StopReason::Fenced, .. } if asked_by_person => {
            }
            // Read-only, so another check does no harm; the queue limit bounds it.
            Fate::Lost(_) | Fate::Stopped { reason: StopReason::Fenced, .. } => {
                self.try_again_unstarted();
            }
            Fate::Exited(_) | Fate::Received(_) | Fate::Stopped { .. } => self.end_unchecked(fate),
        }
    }

    /// The check cannot tell. Before the first start that is a failure: nothing started.
    fn end_unchecked(&mut self, fate: &Fate) {
        let said = match fate {
            Fate::Exited(exit) | Fate::Received(exit) => {
                format!("the check ended with exit code {}", exit.code())
            }
            Fate::Stopped { .. } | Fate::Lost(_) | Fate::NeverStarted => {
                "the check did not end in time".to_owned()
            }
        };
        if self.stage.starts == 0 {
            let message = format!("{said}; the command was not started");
            self.end_run(Ending::Failed(Failure::VerifyFailed), message, None);
        } else {
            let message = format!("{said}, which does not tell whether the effect is in place");
            self.end_in_doubt(Doubt::VerifyInconclusive, message);
        }
    }

    fn settle_loss(&mut self, loss: Loss) {
        let Some(attempt) = self.stage.current.clone() else { return };
        if self.is_beyond(&attempt) || self.blocks_launch(&attempt) {
            return;
        }
        // The host has answered, so its silence is no end any more: the class decides.
        self.stage.outcome = None;
        if attempt.is_verify() {
            if attempt.direct {
                self.end_unchecked(&Fate::Lost(loss));
            }
            return;
        }
        let to_be_fenced = !attempt.direct
            && (self.stage.cancelled.is_some() || self.goes_on_after_loss(loss, &attempt));
        if !to_be_fenced {
            self.keep_history(&Fate::Lost(loss));
            self.end_in_doubt(loss.into(), self.message_of(&Fate::Lost(loss)));
        }
    }

    /// Another attempt after a loss: the class allows it, starts are left, and the host can
    /// tell a loss from silence.
    fn goes_on_after_loss(&self, loss: Loss, attempt: &Attempt) -> bool {
        let overlap = match &self.plan.execution {
            Execution::Direct(direct) => direct.may_overlap,
            Execution::Recorded => true,
        };
        let shown = match loss {
            Loss::ConnectionLost => overlap,
            Loss::LostByReboot | Loss::LostNoRecord | Loss::RecordWiped | Loss::HostRolledBack => {
                !attempt.cannot_tell()
            }
        };
        shown && self.is_repeatable() && self.starts_are_left()
    }

    pub(super) fn is_repeatable(&self) -> bool {
        match self.plan.idempotency {
            Idempotency::Idempotent | Idempotency::Verifiable => true,
            Idempotency::NonIdempotent => false,
        }
    }

    /// Another attempt after an exit: the user named its code.
    fn is_retried(&self, exit: &ExitRecord) -> bool {
        self.plan.idempotency != Idempotency::NonIdempotent
            && !self.is_success(exit)
            && self.plan.retry.exit_codes.contains(&exit.code())
            && self.starts_are_left()
            && self.stage.next != Next::PersonsRetry
    }

    fn starts_are_left(&self) -> bool {
        self.stage.starts <= self.plan.retry.limit
            && self.stage.cancelled.is_none()
            && !self.spec_moved_on()
    }

    /// The next attempt waits for its back-off; the queue counts anew from the end of it.
    fn try_again(&mut self) {
        let n = self.stage.starts.saturating_sub(1);
        let until = after(self.now.at, self.backoff(n));
        self.stage.next = Next::Ordinary;
        self.stage.not_before = Some(until);
        self.stage.unstarted = 0;
        self.stage.queue = Queue { since: Some(until), ..Queue::default() };
    }

    /// Nothing of the command started, so it may be tried as often as the queue limit lets it.
    fn try_again_unstarted(&mut self) {
        let until = after(self.now.at, self.backoff(self.stage.unstarted));
        self.stage.unstarted = self.stage.unstarted.saturating_add(1);
        self.stage.not_before = Some(until);
    }

    fn backoff(&self, n: u32) -> std::time::Duration {
        let retry = &self.plan.retry;
        backoff::delay(n, retry.initial, retry.max, self.now.seed)
    }

    /// Gives the run its outcome.
    pub(super) fn end_run(&mut self, ending: Ending, message: String, fate: Option<&Fate>) {
        let ours = |a: &&Attempt| !self.is_of_earlier_run(a) && !a.is_verify();
        let current = self.stage.current.as_ref().filter(ours).and_then(Attempt::evidence);
        let last = self.stage.last_start.as_ref().map(|last| last.fate.evidence());
        // What a check showed is about the check. A run that ended without a start never started.
        let unstarted = self.stage.starts == 0 && !matches!(ending, Ending::Unknown(_));
        // An attempt that never started says nothing about one before it that did.
        let own = current.filter(|e| *e != Evidence::NeverStarted).or(last).or(current);
        let known = own.or(unstarted.then_some(Evidence::NeverStarted));
        let exit = fate.and_then(Fate::exit);
        let message = self.in_words(ending, message);
        self.use_up_retry();
        self.stage.outcome = Some(Outcome {
            ending,
            message,
            time: self.now.at,
            evidence: fate.map(Fate::evidence).or(known),
            exit_code: exit.map(ExitRecord::code),
            signal: exit.and_then(ExitRecord::signal).map(str::to_owned),
        });
        self.stage.not_before = None;
    }

    fn is_success(&self, exit: &ExitRecord) -> bool {
        let codes = match &self.stage.current {
            Some(attempt) => &attempt.bounds.success,
            None => &self.plan.success_exit_codes,
        };
        exit.start_failure() == StartFailure::None && codes.contains(&exit.code())
    }

    /// What the run comes to if this was its last attempt.
    pub(super) fn ending_of(&self, fate: &Fate) -> Ending {
        match fate {
            Fate::NeverStarted => Ending::Failed(Failure::QueueTimeout),
            Fate::Exited(exit) | Fate::Received(exit) if self.is_success(exit) => {
                Ending::Succeeded(Success::Completed)
            }
            Fate::Exited(exit) | Fate::Received(exit) => Ending::Failed(Failure::of_exit(exit)),
            Fate::Stopped { reason, .. } => match reason {
                StopReason::Cancelled => Ending::Failed(Failure::Cancelled),
                StopReason::ExecutionTimeout => Ending::Failed(Failure::ExecutionTimeout),
                StopReason::IdleTimeout => Ending::Failed(Failure::IdleTimeout),
                StopReason::Deleted | StopReason::Fenced if self.stage.cancelled.is_some() => {
                    Ending::Failed(Failure::Cancelled)
                }
                StopReason::Deleted | StopReason::Fenced => {
                    Ending::Unknown(Doubt::PreviousAttemptUncertain)
                }
            },
            Fate::Lost(loss) => Ending::Unknown((*loss).into()),
        }
    }

    /// The end in words, with the host and, when there were several, the starts.
    pub(super) fn message_of(&self, fate: &Fate) -> String {
        let what = match fate {
            Fate::NeverStarted => "never started".to_owned(),
            Fate::Exited(exit) | Fate::Received(exit) => exit_phrase(exit),
            Fate::Stopped { reason, .. } => stop_phrase(*reason).to_owned(),
            Fate::Lost(loss) => loss.phrase().to_owned(),
        };
        let starts = self.stage.starts;
        let counted = if starts > 1 { format!(" after {starts} starts") } else { String::new() };
        format!("{what} on {}{counted}", self.host())
    }

    /// Keeps the ended attempt for `status.attempts`; checks are not attempts of the command.
    fn keep_history(&mut self, fate: &Fate) {
        let Some(attempt) = self.stage.current.as_ref().filter(|a| !a.is_verify()) else { return };
        let exit = fate.exit();
        let past = PastAttempt {
            run: attempt.entry.run,
            attempt: attempt.entry.attempt,
            start_time: attempt.started,
            completion_time: Some(self.now.at),
            evidence: fate.evidence(),
            reason: self.reason_of(fate).to_owned(),
            exit_code: exit.map(ExitRecord::code),
            signal: exit.and_then(ExitRecord::signal).map(str::to_owned),
        };
        let attempts = &mut self.stage.attempts;
        attempts.retain(|p| (p.run, p.attempt) != (past.run, past.attempt));
        attempts.push(past);
        let surplus = attempts.len().saturating_sub(HISTORY);
        attempts.drain(..surplus);
    }

    fn reason_of(&self, fate: &Fate) -> &'static str {
        match fate {
            Fate::NeverStarted => "NeverStarted",
            Fate::Stopped { reason: StopReason::Deleted, .. } => "Deleted",
            Fate::Stopped { reason: StopReason::Fenced, .. } => "Fenced",
            Fate::Exited(_) | Fate::Received(_) | Fate::Stopped { .. } | Fate::Lost(_) => {
                self.ending_of(fate).reason()
            }
        }
    }
}

impl Failure {
    fn of_exit(exit: &ExitRecord) -> Self {
        match exit.start_failure() {
            StartFailure::CommandNotFound => Self::CommandNotFound,
            StartFailure::PermissionDenied => Self::PermissionDenied,
            StartFailure::None if exit.signal().is_some() => Self::Signaled,
            StartFailure::None => Self::NonZeroExit,
        }
    }
}

fn exit_phrase(exit: &ExitRecord) -> String {
    match (exit.start_failure(), exit.signal()) {
        (StartFailure::CommandNotFound, _) => {
            "not started: no such program or working directory; its stderr says which".to_owned()
        }
        (StartFailure::PermissionDenied, _) => "not started: its program or working directory \
             was not allowed; its stderr says which"
            .to_owned(),
        (StartFailure::None, Some(signal)) => format!("ended by signal {signal}"),
        (StartFailure::None, None) => format!("exit code {}", exit.code()),
    }
}

fn stop_phrase(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Cancelled => "cancelled and stopped",
        StopReason::ExecutionTimeout => "ran longer than its execution limit and was stopped",
        StopReason::IdleTimeout => "wrote no output for its idle limit and was stopped",
        StopReason::Deleted => "stopped for its deletion",
        StopReason::Fenced => "stopped before another attempt",
    }
}
