//! Which limit ran out: execution (Direct), termination, resolve, queue, clean-up.
//!
//! Idle and execution limits of recorded attempts are judged by host time, in `observe`.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::action::StopReason;
use crate::core::outcome::{Doubt, Ending, Failure, Fate, Loss};
use crate::core::plan::HoldKind;
use crate::core::stage::{Attempt, Next, Place, Stop, Waiting, WaitingOn, after};

use super::Turn;

/// How long something referred to may be missing before that is reported as stalled.
pub const MISSING_GRACE: Duration = Duration::from_secs(120);

impl Turn<'_> {
    pub(super) fn apply_limits(&mut self) {
        self.time_out_direct();
        self.kill_after_grace();
        self.give_up_on_record();
        self.give_up_on_silence();
        self.give_up_on_finishing();
        self.mark_overdue();
    }

    fn reached(&self, limit: Timestamp) -> bool {
        self.now.at >= limit
    }

    /// When the next limit runs out of what an action may have to wait for: then something else
    /// is decided, although the host was not asked.
    pub(super) fn next_limit(&self) -> Option<Timestamp> {
        let limits = &self.plan.limits;
        let cleanup = self.stage.deleting.as_ref().map(|d| after(d.since, limits.cleanup));
        let attempt = self.unfenced();
        let launching = attempt.is_some_and(|attempt| attempt.place == Place::Launching);
        let queued = cleanup.is_none() && (self.is_pending() || launching);
        let queue = self.queue_ends().filter(|_| queued);
        let patience = attempt.and_then(|attempt| self.patience_ends(attempt));
        let all = [cleanup, queue, patience].into_iter().flatten();
        all.filter(|limit| *limit > self.now.at).min()
    }

    /// A Direct command has no watcher on the host.
    fn time_out_direct(&mut self) {
        let at = self.now.at;
        let Some(attempt) = &mut self.stage.current else { return };
        if attempt.direct && attempt.place == Place::Running && at >= attempt.execution_ends() {
            attempt.place = Place::Stopping(Stop::new(StopReason::ExecutionTimeout, at));
        }
    }

    fn kill_after_grace(&mut self) {
        let at = self.now.at;
        let Some(attempt) = &mut self.stage.current else { return };
        let due = attempt.grace_ends().is_some_and(|ends| at >= ends);
        if let Some(stop) = attempt.stop_mut().filter(|_| due) {
            stop.killed = Some(at);
        }
    }

    /// The host showed that the stopped tree is gone and has not answered since, for
    /// `timeouts.resolve`: how the command ended is not learnt, and that it was stopped is known.
    fn give_up_on_record(&mut self) {
        let Some(attempt) = self.unfenced() else { return };
        let (Some(stop), Some(uncertain)) = (attempt.stop_seen_through(), &attempt.uncertain)
        else {
            return;
        };
        let fate = Fate::Stopped { reason: stop.reason, exit: None };
        if self.reached(after(uncertain.since, self.plan.limits.resolve))
            && let Some(attempt) = &mut self.stage.current
        {
            attempt.place = Place::Ended(fate);
        }
    }

    /// What is to be known of the attempt was not to be had within `timeouts.resolve`.
    fn give_up_on_silence(&mut self) {
        let Some(attempt) = self.unfenced() else { return };
        if !self.patience_ends(attempt).is_some_and(|ends| self.reached(ends)) {
            return;
        }
        let host = self.host();
        let (doubt, message) = match (&attempt.place, &attempt.uncertain) {
            _ if self.blocks_launch(attempt) => self.doubt_of_unfenced(attempt),
            (Place::Fencing { loss, stop }, _) => {
                let doubt = if self.is_before_retry(stop) {
                    Doubt::PreviousAttemptUncertain
                } else {
                    Doubt::from(*loss)
                };
                (doubt, format!("{} on {host}, which does not answer", loss.phrase()))
            }
            (_, Some(uncertain)) => {
                let doubt = Doubt::of_silence(uncertain.cause);
                (doubt, format!("no answer from {host}: {}", uncertain.message))
            }
            (_, None) => return,
        };
        self.end_in_doubt(doubt, message);
    }

    /// When `timeouts.resolve` ends the run for want of knowledge of its attempt: it is counted
    /// from the silence, but from the word where a person said Retry, and from the loss where
    /// the class repeats, because both are told to wait for that and no longer. `None` while the
    /// host answers, and for an attempt of an earlier run: what stands before a run that has
    /// launched nothing is bounded by `timeouts.queue`.
    pub(super) fn patience_ends(&self, attempt: &Attempt) -> Option<Timestamp> {
        if self.stage.outcome.is_some() || self.is_of_earlier_run(attempt) {
            return None;
        }
        let silence = attempt.uncertain.as_ref().map(|uncertain| uncertain.since);
        let since = match attempt.stop() {
            _ if self.stage.next == Next::PersonsRetry => {
                let stuck = attempt.why_not_made_sure_of().is_some();
                self.stage.queue.since.filter(|_| stuck)
            }
            Some(stop) if self.is_before_retry(stop) => silence.map(|_| stop.asked),
            Some(_) | None => silence,
        };
        since.map(|since| after(since, self.plan.limits.resolve))
    }

    /// True for the fence that the class's own retry waits for.
    fn is_before_retry(&self, stop: &Stop) -> bool {
        stop.reason == StopReason::Fenced && self.stage.cancelled.is_none()
    }

    /// What is said of an attempt that could not be made sure of.
    fn doubt_of_unfenced(&self, attempt: &Attempt) -> (Doubt, String) {
        let doubt = if attempt.stop().is_some_and(Stop::failed) {
            Doubt::SurvivorsRemain
        } else {
            Doubt::PreviousAttemptUncertain
        };
        let why = attempt.why_not_made_sure_of().unwrap_or_else(|| {
            format!("the earlier attempt on {} could not be made sure of", attempt.host)
        });
        (doubt, why)
    }

    /// The command is gone and its supervisor never writes the exit record.
    fn give_up_on_finishing(&mut self) {
        let limit = self.plan.limits.resolve;
        // One that another launch waits for is ended instead.
        let own = self.unfenced().filter(|a| !self.blocks_launch(a));
        let over = own.is_some_and(|a| match &a.place {
            Place::Finishing { since } => self.reached(after(*since, limit)),
            Place::Launching
            | Place::Running
            | Place::Vanished
            | Place::Stopping(_)
            | Place::Lost(_)
            | Place::Fencing { .. }
            | Place::Ended(_) => false,
        });
        if over && self.stage.outcome.is_none() {
            let host = self.host();
            let message = format!("it ended on {host}, and its exit was not put on record");
            self.end_in_doubt(Doubt::LostNoRecord, message);
        }
    }

    fn mark_overdue(&mut self) {
        let at = self.now.at;
        let open = self.stage.outcome.is_none();
        if let Some(waiting) = self.stage.waiting.as_mut().filter(|_| open) {
            waiting.overdue |= waiting.overdue_at().is_some_and(|limit| at >= limit);
        }
    }

    /// Ends a run that waits: cancelled, or at its queue limit.
    pub(super) fn end_pending_run(&mut self) {
        if self.stage.deleting.is_some() || !self.is_pending() {
            return;
        }
        if self.stage.cancelled.is_some() {
            self.end_cancelled();
        } else if self.spec_moved_on() && self.stage.starts > 0 && self.unfenced().is_none() {
            self.end_superseded();
        } else if self.queue_is_over() {
            self.end_at_queue_limit();
        }
    }

    /// The spec is another than the one this run was made from: whatever is started next
    /// belongs to the next run, and this one ends as its last start did.
    fn end_superseded(&mut self) {
        if let Some(last) = self.stage.last_start.clone() {
            self.stage.next = Next::Ordinary;
            self.end_with(&last.fate);
        }
    }

    /// When `timeouts.queue` runs out for the launch that is waited for. A sitting in which nothing
    /// was heard yet has the whole of it: it was begun as a word to try.
    pub(super) fn queue_ends(&self) -> Option<Timestamp> {
        let limit = self.plan.limits.queue;
        let untried = self.stage.sat.filter(|sat| sat.untried);
        let tried = untried.map(|sat| after(sat.began, limit));
        self.stage.queue.ends(limit).map(|ends| tried.map_or(ends, |tried| ends.max(tried)))
    }

    /// True when it has.
    pub(super) fn queue_is_over(&self) -> bool {
        self.queue_ends().is_some_and(|ends| self.reached(ends))
    }

    /// A run that waits and is cancelled ends at once, unless something of it may be alive:
    /// then that is ended first.
    fn end_cancelled(&mut self) {
        if self.unfenced().is_some_and(|attempt| !self.is_of_earlier_run(attempt)) {
            return;
        }
        match self.stage.last_start.as_ref().map(|last| last.fate.clone()) {
            Some(Fate::Lost(loss)) => {
                let message = format!("{}; cancelled before another attempt", loss.phrase());
                self.end_in_doubt(loss.into(), message);
            }
            Some(_) if self.stage.is_overlapped() => {
                let loss = Loss::ConnectionLost;
                let message = format!("{} of an earlier attempt; cancelled", loss.phrase());
                self.end_in_doubt(loss.into(), message);
            }
            Some(fate) => {
                let message = "cancelled before another attempt".to_owned();
                self.end_run(Ending::Failed(Failure::Cancelled), message, Some(&fate));
            }
            None => {
                // Cancel is final for a run: taking it back later would change nothing.
                let at_once = self.stage.cancelled == self.stage.run_request_time;
                let message = if at_once {
                    "cancelled before it started: spec.cancel was true when this run was asked \
                     for; take it out of the spec, then give a new rerunToken"
                } else {
                    "cancelled before it started"
                };
                let message = message.to_owned();
                self.end_run(Ending::Failed(Failure::Cancelled), message, None);
            }
        }
    }

    fn end_at_queue_limit(&mut self) {
        if let Some(attempt) = self.unfenced() {
            let (doubt, why) = self.doubt_of_unfenced(attempt);
            // Whatever the earlier attempt does, nothing of this run ever started. Only where a
            // person's word is all there ever is, the run has to be one that takes a word.
            if self.is_of_earlier_run(attempt) && !attempt.is_beyond_asking() {
                let message = format!("never started on {}: {why}", self.plan.host);
                return self.end_run(Ending::Failed(Failure::QueueTimeout), message, None);
            }
            return self.end_in_doubt(doubt, why);
        }
        match self.stage.last_start.clone() {
            Some(last) => self.end_with(&last.fate),
            None => {
                let (failure, message) = self.why_it_never_started();
                let never = self.stage.attempt > 0;
                let fate = never.then_some(Fate::NeverStarted);
                self.end_run(Ending::Failed(failure), message, fate.as_ref());
            }
        }
    }

    fn why_it_never_started(&self) -> (Failure, String) {
        let host = &self.plan.host;
        match &self.stage.waiting {
            Some(Waiting { on: WaitingOn::Fault(cause), message, .. }) => {
                (Failure::at_queue_limit(*cause), format!("never started on {host}: {message}"))
            }
            Some(Waiting { on: WaitingOn::HostChanged, message, .. }) => {
                (Failure::HostChanged, format!("never started on {host}: {message}"))
            }
            Some(Waiting { on: WaitingOn::Hold(..), message, .. }) => {
                (Failure::QueueTimeout, format!("never started on {host}: {message}"))
            }
            None if self.check_was_lost() => {
                (Failure::VerifyFailed, format!("the check on {host} gave no answer"))
            }
            None => (Failure::QueueTimeout, format!("never started on {host} within its limit")),
        }
    }

    /// True when the earlier attempt stands in the way of a launch asked for by a person:
    /// of a new run, or of a Retry.
    pub(super) fn blocks_launch(&self, attempt: &Attempt) -> bool {
        self.is_of_earlier_run(attempt) || self.stage.next == Next::PersonsRetry
    }

    /// True when the run has no outcome and waits for a launch, or for what stands in the way
    /// of one that a person asked for. The fence of a lost attempt of its own is no wait: it is
    /// bounded by grace and silence, and only the back-off after it starts the clock again.
    pub(super) fn is_pending(&self) -> bool {
        let open = self.stage.run > 0 && self.stage.outcome.is_none();
        open && self.unfenced().is_none_or(|a| self.blocks_launch(a))
    }

    /// Gives up on clean-up when its limit runs out, with a list of what stays.
    pub(super) fn abandon_when_due(&mut self) {
        let limit = self.plan.limits.cleanup;
        let what = self.what_stays();
        let at = self.now.at;
        if let Some(deleting) = &mut self.stage.deleting
            && !deleting.swept
            && deleting.abandoned.is_empty()
            && at >= after(deleting.since, limit)
        {
            deleting.abandoned = what;
        }
    }

    /// A sentence for each thing that is left on the host.
    pub(super) fn what_stays(&self) -> Vec<String> {
        let host = self.host();
        let mut left = Vec::new();
        if let Some(attempt) = self.unfenced() {
            let entry = &attempt.entry;
            let of = format!("run {} attempt {} on {host}", entry.run, entry.attempt);
            match attempt.processes.as_ref().filter(|_| !attempt.direct) {
                Some(ids) => {
                    left.push(format!("{of} may be alive as process {}", ids.command.pid));
                }
                None => left.push(format!("{of} may be alive or start")),
            }
            for survivor in attempt.stop().map(|s| s.survivors.as_slice()).unwrap_or_default() {
                let (pid, uid, name) = (survivor.pid, survivor.uid, &survivor.command);
                left.push(format!("process {pid} ({name}, user {uid}) is alive on {host}"));
            }
        }
        if self.stage.overlapped > 0 {
            let run = self.stage.overlapped;
            let own = self.stage.current.as_ref().is_some_and(|a| a.entry.run == run);
            let at = if own { host } else { "the host it ran on" };
            left.push(format!("an attempt of run {run} may be alive on {at}"));
        }
        let uid = &self.plan.uid;
        let own_swept = self.stage.deleting.as_ref().is_some_and(|d| d.own_swept);
        if self.stage.current.as_ref().is_some_and(|a| !a.direct && !own_swept) {
            left.push(format!("the records of {uid} may stay on {host}"));
        }
        for trace in &self.stage.traces {
            let user = trace.run_as.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
            left.push(format!("earlier records of {uid} may stay on {}{user}", trace.host));
        }
        if self.stage.untraced > 0 {
            left.push(format!(
                "earlier records of {uid} may stay in {} stores",
                self.stage.untraced
            ));
        }
        if left.is_empty() {
            left.push(format!("nothing is known to be left on {host}"));
        }
        left
    }

    fn check_was_lost(&self) -> bool {
        let lost = |a: &Attempt| a.is_verify() && a.fate().is_some_and(|f| f.loss().is_some());
        self.stage.current.as_ref().is_some_and(lost)
    }
}

impl Attempt {
    /// When a Direct command has run for too long.
    pub(super) fn execution_ends(&self) -> Timestamp {
        let since = self.started.unwrap_or(self.launched);
        after(since, Duration::from_millis(self.bounds.execution_ms))
    }

    /// When KILL follows TERM; `None` when it is not due to, or there is nobody left for it.
    pub(super) fn grace_ends(&self) -> Option<Timestamp> {
        let stop = self.stop().filter(|stop| stop.killed.is_none() && stop.gone.is_none())?;
        let grace = Duration::from_millis(self.bounds.termination_ms);
        stop.signalled.map(|sent| after(sent, grace))
    }
}

impl Waiting {
    /// When something missing is reported as stalled; `None` when it is or never will be.
    pub(super) fn overdue_at(&self) -> Option<Timestamp> {
        match &self.on {
            WaitingOn::Hold(HoldKind::Missing, _) if !self.overdue => {
                Some(after(self.since, MISSING_GRACE))
            }
            WaitingOn::Hold(HoldKind::Missing | HoldKind::Busy | HoldKind::Invalid, _)
            | WaitingOn::Fault(_)
            | WaitingOn::HostChanged => None,
        }
    }
}

impl Loss {
    /// The loss in words.
    pub(super) fn phrase(self) -> &'static str {
        match self {
            Self::LostByReboot => "the host rebooted and has no exit on record",
            Self::LostNoRecord => "the process is gone and left no exit on record",
            Self::RecordWiped => "the record was removed from the host",
            Self::HostRolledBack => "the host went back to an earlier state",
            Self::ConnectionLost => "the connection that carried it was lost",
        }
    }
}
