//! What is left to do when a command has ended: the rest of its output, and leaving the host
//! clean.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::drive::Drive;
use super::exit::ExitCode;
use super::interrupt::Wanted;
use super::job::Job;
use super::output::Incomplete;
use crate::core::action::{Action, Entry, Seen};
use crate::core::outcome::Fate;
use crate::core::stage::Attempt;
use crate::host::Host;
use crate::journal::Saved;
use crate::step::Reach;

/// Pause before a host that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

impl Drive {
    /// Writes what is left, sweeps the host and tells the end. Missing output has an exit code
    /// of its own, for whoever reads only that and the output.
    pub(super) async fn end(&mut self) -> ExitCode {
        let outcome = self.job.stage.outcome.clone();
        let code = outcome.as_ref().map_or(ExitCode::Unknown, ExitCode::of);
        let known = outcome.as_ref().is_some_and(|outcome| !outcome.is_unknown());
        let missing = if self.job.store.is_delivered() {
            self.look_after_delivered().await
        } else {
            self.end_output(known).await
        };
        for missing in &missing {
            self.progress.warn(&missing.to_string());
        }
        let summary = self.summary();
        self.progress.end(&summary);
        if known && !missing.is_empty() { ExitCode::Trouble } else { code }
    }

    /// Writes what is left of the output and, where the end is `known`, sweeps the host. Gives
    /// what is missing.
    async fn end_output(&mut self, known: bool) -> Vec<Incomplete> {
        let mut leave = self.wanted.clone();
        let delivered = tokio::select! {
            delivered = self.deliver() => delivered,
            _ = leave.wait_for(|wanted| *wanted == Wanted::Leave) => Err(Incomplete::Interrupted),
        };
        let cut = self.output.cut(self.job.plan.program.output_limit);
        match delivered {
            Ok(host) if known => {
                let length = self.output.length();
                if self.note(|job| job.store.note_delivered(length, cut)) {
                    self.output.forget(self.job.store.uid());
                }
                self.sweep(host).await;
            }
            Ok(_) => {}
            Err(incomplete) => return vec![incomplete],
        }
        cut.map(|cut| Incomplete::Cut { cut }).into_iter().collect()
    }

    /// Looks for output that was written before where output goes now, and sweeps the host if
    /// that is left to do. Gives what is missing.
    async fn look_after_delivered(&mut self) -> Vec<Incomplete> {
        let mut missing: Vec<_> =
            self.job.store.cut().map(|cut| Incomplete::Cut { cut }).into_iter().collect();
        // Who wants only what is unfinished has the output of the rest elsewhere.
        let length = self.job.store.delivered_length().filter(|_| !self.job.is_skipped());
        missing.extend(length.and_then(|length| self.output.still_has(length).err()));
        if !self.job.store.is_swept() {
            let host = self.attempt().map(|attempt| self.machines.host(&attempt.connection));
            self.sweep(host).await;
        }
        missing
    }

    /// Writes all output of the last attempt; gives its host, if it has a record there. An
    /// attempt whose output nobody has followed in this process is looked at once more: an
    /// earlier one may have written part of it.
    async fn deliver(&mut self) -> Result<Option<Arc<dyn Host>>, Incomplete> {
        let limit = self.job.plan.limits.resolve;
        let Some(attempt) = self.attempt().cloned() else { return Ok(None) };
        if attempt.direct {
            let started = attempt.fate().is_some_and(|fate| *fate != Fate::NeverStarted);
            if started && !self.output.is_followed() {
                self.progress.warn("its output went with the process that held its channel");
            }
            self.output.deliver(limit).await?;
            return Ok(None);
        }
        let host = self.machines.host(&attempt.connection);
        let asked = Instant::now();
        while !self.output.is_followed() {
            let seen = self.act(&host, Action::Probe { entry: attempt.entry.clone() }).await;
            match seen {
                Some(Seen::Unreachable(_)) | None if asked.elapsed() >= limit => {
                    return Err(Incomplete::Late);
                }
                Some(Seen::Unreachable(_)) | None => sleep(ASK_AGAIN).await,
                Some(seen) => {
                    self.output.observe(&seen, Arc::clone(&host)).await;
                    break;
                }
            }
        }
        self.output.deliver(limit).await?;
        Ok(Some(host))
    }

    /// Removes what the command's record takes on the host. Its result is kept here.
    async fn sweep(&mut self, host: Option<Arc<dyn Host>>) {
        let attempt = self.attempt().filter(|attempt| !attempt.direct).cloned();
        let (Some(host), Some(attempt)) = (host, attempt) else { return };
        let Attempt { entry: Entry { uid, machine, run_as, .. }, identity, .. } = attempt;
        let sweep = Action::Sweep { uid, machine, store: identity.store, run_as };
        match self.act(&host, sweep).await {
            Some(Seen::Swept { .. }) => drop(self.note(|job| job.store.note_swept())),
            Some(Seen::Unreachable(fault)) => {
                let message = fault.message;
                self.progress.warn(&format!("its record is still on the host: {message}"));
            }
            Some(_) | None => self.progress.warn("its record is still on the host"),
        }
    }

    /// Performs an action that needs no save.
    async fn act(&self, host: &Arc<dyn Host>, action: Action) -> Option<Seen> {
        let action = Saved::harmless(action, &self.job.stage)?;
        Some(host.act(&self.job.plan, &action, None).await)
    }

    /// Keeps something in the store, and tells when that is impossible.
    fn note(&mut self, note: impl FnOnce(&mut Job) -> io::Result<()>) -> bool {
        let noted = note(&mut self.job);
        if let Err(error) = &noted {
            self.progress.warn(&format!("cannot note what was done: {error}"));
        }
        noted.is_ok()
    }
}
