//! Drives one command to its end: turn after turn, and in between waiting, for the time that
//! was decided or for the person at the keyboard.

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
use super::report::{CommandReport, Reached};
use crate::core::action::{Action, Entry, Seen};
use crate::core::decide::Now;
use crate::core::phase::{Phase, Summary, Truth, summary};
use crate::core::stage::Attempt;
use crate::host::Host;
use crate::journal::{NotSaved, save};
use crate::step::{Reach, Step, Turned};

/// Pause before a turn that was put off is taken again.
const RETRY: Duration = Duration::from_secs(1);

/// The longest wait: clocks can be set while we sleep.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

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
    /// The stage cannot be kept.
    Trouble(NotSaved),
}

impl Drive {
    /// Drives the command to its end, its output included, and tells what became of it.
    pub async fn to_the_end(mut self) -> CommandReport {
        if *self.wanted.borrow() != Wanted::Results && self.attempt().is_none() {
            self.progress.warn("not started: interrupted");
            return self.report(ExitCode::NotStarted);
        }
        let stopped = self.turns().await;
        let code = match stopped {
            Stopped::Ended => self.end().await,
            Stopped::Stalled => {
                self.progress.warn(&format!("{}; nothing was started", self.line()));
                ExitCode::NotStarted
            }
            Stopped::Left => self.leave(),
            Stopped::Trouble(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                self.progress.warn(&format!("{error}: {}", cause.unwrap_or_default()));
                ExitCode::Trouble
            }
        };
        self.report(code)
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
                turned = self.turn(&seen) => turned,
                _ = leave.wait_for(|wanted| *wanted == Wanted::Leave) => return Stopped::Left,
            };
            let summary = self.summary();
            self.progress.show(&summary);
            seen = match turned {
                Ok(Turned::Acted { seen, connection }) => {
                    self.output.observe(&seen, self.machines.host(&connection)).await;
                    *seen
                }
                Ok(Turned::Resting { .. }) if self.job.is_over() => return Stopped::Ended,
                Ok(Turned::Resting { .. }) if is_stalled(&summary) => return Stopped::Stalled,
                Ok(Turned::Resting { wake }) => {
                    self.wait(wake).await;
                    Seen::Nothing
                }
                Ok(Turned::Deferred { message }) => {
                    self.progress.note(&message);
                    sleep(RETRY).await;
                    Seen::Nothing
                }
                Err(error) => return Stopped::Trouble(error),
            };
        }
    }

    async fn turn(&mut self, seen: &Seen) -> Result<Turned, NotSaved> {
        let now = Now { at: Timestamp::now(), seed: rand::random() };
        let step = Step {
            plan: &self.job.plan,
            asked: &self.job.asked,
            reach: self.machines.as_ref(),
            lookup: self.machines.ways.lookup(),
        };
        step.turn(&mut self.job.store, &mut self.job.stage, seen, &now).await
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
                () = sleep(CATCH_UP), if behind => self.output.catch_up().await,
            }
        }
    }

    /// What is left to do after the end: the rest of the output, and leaving the host clean.
    async fn end(&mut self) -> ExitCode {
        let outcome = self.job.stage.outcome.clone();
        let code = outcome.as_ref().map_or(ExitCode::Unknown, ExitCode::of);
        if !self.job.store.is_delivered() {
            let host = self.look_again().await;
            let mut leave = self.wanted.clone();
            let whole = tokio::select! {
                whole = self.output.deliver(self.job.plan.limits.resolve) => whole,
                _ = leave.wait_for(|wanted| *wanted == Wanted::Leave) => false,
            };
            if !whole {
                self.progress.warn("not all of its output could be written");
            }
            let known = outcome.as_ref().is_some_and(|outcome| !outcome.is_unknown());
            if whole && known {
                self.note(|job| job.store.note_delivered());
                self.sweep(host).await;
            }
        } else if !self.job.store.is_swept() {
            let host = self.attempt().map(|attempt| self.machines.host(&attempt.connection));
            self.sweep(host).await;
        }
        let summary = self.summary();
        self.progress.end(&summary);
        code
    }

    /// The host of the last attempt. An attempt whose output nobody has followed in this
    /// process is looked at once more: an earlier one may have written part of it.
    async fn look_again(&mut self) -> Option<Arc<dyn Host>> {
        let attempt = self.attempt().filter(|attempt| !attempt.direct)?.clone();
        let host = self.machines.host(&attempt.connection);
        if !self.output.is_followed() {
            let seen = self.act(&host, Action::Probe { entry: attempt.entry }).await?;
            self.output.observe(&seen, Arc::clone(&host)).await;
        }
        Some(host)
    }

    /// Removes what the command's record takes on the host. Its result is kept here.
    async fn sweep(&mut self, host: Option<Arc<dyn Host>>) {
        let attempt = self.attempt().filter(|attempt| !attempt.direct).cloned();
        let (Some(host), Some(attempt)) = (host, attempt) else { return };
        let Entry { uid, machine, run_as, .. } = attempt.entry;
        let sweep = Action::Sweep { uid, machine, run_as };
        match self.act(&host, sweep).await {
            Some(Seen::Swept { .. }) => self.note(|job| job.store.note_swept()),
            Some(Seen::Unreachable(fault)) => {
                let message = fault.message;
                self.progress.warn(&format!("its record is still on the host: {message}"));
            }
            Some(_) | None => self.progress.warn("its record is still on the host"),
        }
    }

    /// Performs an action that goes with the stage as it is saved.
    async fn act(&mut self, host: &Arc<dyn Host>, action: Action) -> Option<Seen> {
        let stage = self.job.stage.clone();
        let saved = save(&mut self.job.store, &stage, &stage, action).await.ok()?;
        Some(host.act(&self.job.plan, &saved, None).await)
    }

    fn note(&mut self, note: impl FnOnce(&mut Job) -> std::io::Result<()>) {
        if let Err(error) = note(&mut self.job) {
            self.progress.warn(&format!("cannot note what was done: {error}"));
        }
    }

    fn leave(&self) -> ExitCode {
        if self.attempt().is_none() {
            self.progress.warn("not started: interrupted");
            return ExitCode::NotStarted;
        }
        let host = &self.job.plan.host;
        self.progress.warn(&format!(
            "left running on {host}; the same command line again goes on from here"
        ));
        ExitCode::StillRunning
    }

    /// The last attempt of this run, if there was one.
    fn attempt(&self) -> Option<&Attempt> {
        let stage = &self.job.stage;
        stage.current.as_ref().filter(|attempt| attempt.entry.run == stage.run)
    }

    fn summary(&self) -> Summary {
        summary(&self.job.plan, &self.job.stage)
    }

    fn line(&self) -> String {
        let summary = self.summary();
        format!("{}/{}: {}", summary.phase.word(), summary.reason, summary.message)
    }

    fn report(self, code: ExitCode) -> CommandReport {
        let reached = Reached { run: self.job.stage.run, attempt: self.job.stage.attempt };
        let mut report =
            CommandReport::new(&self.job.key, self.job.store.uid(), reached, self.summary(), code);
        report.output = self.output.report();
        report
    }
}

/// True when waiting mends nothing: somebody has to.
fn is_stalled(summary: &Summary) -> bool {
    summary.phase == Phase::Pending && summary.stalled == Truth::True
}
