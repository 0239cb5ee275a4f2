//! Drives one command to its end: turn after turn, and in between waiting, for the time that
//! was decided or for the person at the keyboard.

use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::sleep;

use super::exit::ExitCode;
use super::interrupt::Wanted;
use super::job::Job;
use super::output::Output;
use super::progress::Progress;
use super::reach::Machines;
use super::report::{CommandReport, EndedBefore, Machine, Reached, Started, When};
use crate::core::action::Seen;
use crate::core::decide::Now;
use crate::core::outcome::Outcome;
use crate::core::phase::{Phase, Summary, Truth, summary};
use crate::core::stage::Attempt;
use crate::host::Recall;
use crate::journal::NotSaved;
use crate::step::{Reach, Step, Turned};

/// Pause before a turn that was put off is taken again.
const RETRY: Duration = Duration::from_secs(1);

/// The longest wait: clocks can be set while we sleep.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A turn that takes longer tells what it waits for.
const MOMENT: Duration = Duration::from_secs(1);

/// Pause before output that is there is read on.
const CATCH_UP: Duration = Duration::from_millis(5);

/// A command on its way.
pub struct Drive {
    pub job: Job,
    pub machines: Arc<Machines>,
    pub output: Output,
    pub progress: Progress,
    pub wanted: watch::Receiver<Wanted>,
}

/// Why driving stopped.
enum Stopped {
    /// The run has an outcome.
    Ended,
    /// Nothing was started, and nothing will be before somebody mends something.
    Stalled,
    /// Somebody wants to be gone.
    Left,
    /// The state cannot be kept.
    Trouble(Trouble),
}

/// Why the state cannot be kept: the error and what caused it.
struct Trouble(String);

impl Trouble {
    fn of(error: &dyn Error) -> Self {
        let causes = std::iter::successors(Some(error), |&cause| cause.source());
        let causes: Vec<String> = causes.map(ToString::to_string).collect();
        Self(causes.join(": "))
    }
}

impl Drive {
    /// Drives the command to its end, its output included, and tells what became of it.
    pub async fn to_the_end(mut self) -> CommandReport {
        let launches = self.attempt().is_none() || self.job.is_to_be_run_again();
        if self.is_interrupted() && launches {
            self.progress.warn("not started: interrupted");
            return self.report(ExitCode::NotStarted, Started::default());
        }
        let entries = self.job.stage.entries;
        let mut ended_before = self.job.ended_before();
        let code = match self.attended(&mut ended_before).await {
            Stopped::Ended => self.end().await,
            Stopped::Stalled => {
                self.progress.warn(&format!("{}; nothing was started", self.line()));
                ExitCode::NotStarted
            }
            Stopped::Left => self.leave(),
            Stopped::Trouble(error) => self.tell_trouble(&error),
        };
        let launched = self.job.stage.entries > entries;
        let started = match self.job.stage.starts {
            0 => When::Never,
            _ if launched => When::Now,
            _ => When::Earlier,
        };
        self.report(code, Started { when: started, ended_before })
    }

    /// Drives it with its time counted, through the run that it is in and then, where one is
    /// wanted, through another. `ended_before` is taken back with a new run.
    async fn attended(&mut self, ended_before: &mut Option<EndedBefore>) -> Stopped {
        self.job.sit_down(Timestamp::now());
        let attendance = match self.job.store.attend() {
            Ok(attendance) => attendance,
            Err(error) => return Stopped::Trouble(Trouble::of(&error)),
        };
        tokio::select! {
            stopped = self.runs(ended_before) => stopped,
            never = attendance => match never {},
        }
    }

    async fn runs(&mut self, ended_before: &mut Option<EndedBefore>) -> Stopped {
        if self.job.is_to_be_looked_at_first() {
            let stopped = self.turns().await;
            if !matches!(stopped, Stopped::Ended) {
                return stopped;
            }
            *ended_before = self.job.ended_before();
        }
        if self.job.is_to_be_run_again() && !self.is_interrupted() {
            *ended_before = None;
            if let Err(error) = self.job.ask_for_new_run() {
                return Stopped::Trouble(Trouble::of(&error));
            }
        }
        if let Some(before) = &ended_before {
            self.tell_ended_before(before);
        }
        self.turns().await
    }

    fn is_interrupted(&self) -> bool {
        *self.wanted.borrow() != Wanted::Results
    }

    fn tell_ended_before(&self, before: &EndedBefore) {
        let EndedBefore { time, machine, file } = before;
        let when = format!("ended at {time:.0} on {machine}, started from {file}");
        let unknown = self.job.stage.outcome.as_ref().is_some_and(Outcome::is_unknown);
        if self.job.is_skipped() {
            self.progress.note(&format!("skipped: it had succeeded before ({when})"));
        } else if unknown && self.job.again.only_unfinished {
            self.progress.warn(&format!(
                "nobody knows whether it did its work, and it may do harm twice: nothing was \
                 started; --only-unfinished --new-run runs it again ({when})"
            ));
        } else {
            self.progress.warn(&format!(
                "it had ended before; nothing was started; --new-run asks for another run ({when})"
            ));
        }
    }

    /// Tells that the state cannot be kept, and what is known of the command.
    fn tell_trouble(&self, trouble: &Trouble) -> ExitCode {
        let host = &self.job.plan.host;
        let known = match self.attempt() {
            Some(attempt) if !attempt.is_fenced() => {
                let host = &attempt.host;
                format!("it may be running on {host}; the same command line again goes on")
            }
            Some(_) => format!("nothing of it is running on {host}"),
            None => "it was not started".to_owned(),
        };
        self.progress.warn(&format!("{}; {known}", trouble.0));
        ExitCode::Trouble
    }

    async fn turns(&mut self) -> Stopped {
        let mut seen = Seen::Nothing;
        loop {
            let wanted = *self.wanted.borrow_and_update();
            match wanted {
                Wanted::Results => {}
                Wanted::Cancel => self.job.asked.cancel = true,
                Wanted::Leave => return Stopped::Left,
            }
            let mut leave = self.wanted.clone();
            let turned = tokio::select! {
                turned = self.turn(&seen, wanted) => turned,
                _ = leave.wait_for(|wanted| *wanted == Wanted::Leave) => return Stopped::Left,
            };
            let summary = self.summary();
            self.progress.show(&summary);
            seen = match turned {
                Ok(Turned::Acted { seen, connection }) => {
                    self.output.observe(&seen, self.machines.host(&connection)).await;
                    self.tell_failure();
                    *seen
                }
                Ok(Turned::Recalled) => Seen::Nothing,
                Ok(Turned::Resting { .. }) if self.job.is_over() => return Stopped::Ended,
                Ok(Turned::Resting { .. }) if self.is_stalled(&summary) => return Stopped::Stalled,
                Ok(Turned::Resting { wake }) => {
                    self.wait(wake).await;
                    Seen::Nothing
                }
                Ok(Turned::Deferred { message }) => {
                    self.progress.note(&message);
                    sleep(RETRY).await;
                    Seen::Nothing
                }
                Err(error) => return Stopped::Trouble(Trouble::of(&error)),
            };
        }
    }

    /// Takes a turn. An interrupt ends what waits for the host; what that is is told when it
    /// takes more than a moment.
    async fn turn(&mut self, seen: &Seen, known: Wanted) -> Result<Turned, NotSaved> {
        let now = Now { at: Timestamp::now(), seed: rand::random(), secret: rand::random() };
        let recall = Recall::new();
        let step = Step {
            plan: &self.job.plan,
            asked: &self.job.asked,
            reach: self.machines.as_ref(),
            lookup: self.machines.ways.lookup(),
            recall: &recall,
        };
        let mut wanted = self.wanted.clone();
        let mut told = false;
        let mut turning = pin!(step.turn(&mut self.job.store, &mut self.job.stage, seen, &now));
        loop {
            tokio::select! {
                biased;
                turned = &mut turning => return turned,
                Ok(_) = wanted.wait_for(|wanted| *wanted != known), if !recall.is_said() => {
                    recall.say();
                }
                () = sleep(MOMENT), if !told => {
                    told = true;
                    let host = self.machines.host(&self.job.asked.connection);
                    if let Some(waits_for) = host.waits_for() {
                        self.progress.note(&format!("connecting: {waits_for}"));
                    }
                }
            }
        }
    }

    /// Waits until `wake`, and reads output meanwhile; an interrupt ends it early.
    async fn wait(&mut self, wake: Option<Timestamp>) {
        let until = wake.map_or(LONGEST_WAIT, |wake| {
            let left = wake.duration_since(Timestamp::now());
            Duration::try_from(left).unwrap_or_default().min(LONGEST_WAIT)
        });
        let until = self.output.look_again().map_or(until, |soon| until.min(soon));
        let over = sleep(until);
        tokio::pin!(over);
        loop {
            let behind = self.output.is_behind();
            tokio::select! {
                () = &mut over => return,
                _ = self.wanted.changed() => return,
                () = sleep(CATCH_UP), if behind => {
                    self.output.catch_up().await;
                    self.tell_failure();
                }
            }
        }
    }

    /// Tells at once that output cannot be written: the command may run for hours.
    fn tell_failure(&mut self) {
        if let Some(failure) = self.output.failure() {
            self.progress.not_written(failure);
        }
    }

    fn leave(&self) -> ExitCode {
        let (host, again) = (&self.job.plan.host, "the same command line again goes on from here");
        match self.attempt() {
            Some(attempt) if !attempt.is_fenced() => {
                self.progress.warn(&format!("left running on {host}; {again}"));
                ExitCode::StillRunning
            }
            _ if self.job.stage.starts > 0 => {
                self.progress.warn(&format!("left before another attempt on {host}; {again}"));
                ExitCode::StillRunning
            }
            _ => {
                self.progress.warn("not started: interrupted");
                ExitCode::NotStarted
            }
        }
    }

    /// The last attempt of this run, if there was one.
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        let stage = &self.job.stage;
        stage.current.as_ref().filter(|attempt| attempt.entry.run == stage.run)
    }

    pub(super) fn summary(&self) -> Summary {
        summary(&self.job.plan, &self.job.stage)
    }

    /// True when nothing has started and waiting mends nothing: somebody has to. What may have
    /// started already is seen to its end, which comes with `timeouts.queue` at the latest.
    fn is_stalled(&self, summary: &Summary) -> bool {
        let stalled = summary.phase == Phase::Pending && summary.stalled == Truth::True;
        stalled && self.job.stage.starts == 0
    }

    fn line(&self) -> String {
        let summary = self.summary();
        format!("{}/{}: {}", summary.phase.word(), summary.reason, summary.message)
    }

    fn report(self, code: ExitCode, started: Started) -> CommandReport {
        let Job { stage, asked, key, plan, store, .. } = &self.job;
        let connection = self.attempt().map_or(&asked.connection, |attempt| &attempt.connection);
        let reached = Reached {
            run: stage.run,
            attempt: stage.attempt,
            machine: Machine::new(&plan.host, connection),
            started,
        };
        let mut report = CommandReport::new(key, store.uid(), reached, self.summary(), code);
        report.output = self.output.report();
        report
    }
}
