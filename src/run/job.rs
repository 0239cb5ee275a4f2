//! One command of the files, ready to be run: planned, with its store taken.

use std::path::Path;
use std::sync::Arc;

use crate::api;
use crate::core::outcome::{Ending, Outcome};
use crate::core::plan::{Asked, Execution, Idempotency, Plan};
use crate::core::sitting::Sitting;
use crate::core::stage::Stage;
use crate::host::{Lookup, Material};
use crate::material::material;

use super::documents::{BadInput, Documents, Key, Namespace, Written};
use super::origin::{Change, Origin, digests};
use super::reach::LOCAL;
use super::report::EndedBefore;
use super::store::{Store, StoreError};

/// What is wanted of a command, and what is known of it.
#[derive(Debug)]
pub struct Job {
    pub key: Key,
    pub plan: Plan,
    pub asked: Asked,
    pub stage: Stage,
    pub store: Store,
    /// What its run was made from; of a run to come, what the files say.
    pub origin: Origin,
    /// The `spec.rerunToken` of the file.
    of_spec: String,
    /// The files say something else than its last run, which is over, was made from.
    changed: bool,
    pub again: Again,
    /// Bytes of each output stream's end in the report.
    pub tail_bytes: usize,
}

/// Why a command cannot be run as asked.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    BadInput(#[from] BadInput),
    #[error("{0} cannot be taken up")]
    Store(String, #[source] StoreError),
}

/// Which commands that have ended are to be run again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// `--new-run`: all of them.
    pub new_run: bool,
    /// `--only-unfinished`: none that succeeded.
    pub only_unfinished: bool,
}

/// How commands are to be run, whichever they are.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    pub state_directory: &'a Path,
    pub again: Again,
    pub local: bool,
}

impl Again {
    /// Whether a run that ended so is followed by another one.
    fn wants(self, ending: Ending, class: Idempotency) -> bool {
        match ending {
            _ if !self.only_unfinished => self.new_run,
            Ending::Succeeded(_) => false,
            Ending::Failed(_) => true,
            // It may have done its work. Where that does no harm the class says so, and else
            // only the person can.
            Ending::Unknown(_) => match class {
                Idempotency::Idempotent | Idempotency::Verifiable => true,
                Idempotency::NonIdempotent => self.new_run,
            },
        }
    }
}

impl Job {
    /// Prepares a command. Nothing is started, and nothing is asked of any host.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn prepare(
        documents: &Arc<Documents>,
        written: &Written,
        manner: Manner<'_>,
    ) -> Result<Self, Refused> {
        let mut command = written.command.clone();
        // Before anything is made on disk: is the command one that can be carried out?
        command.metadata.uid = Some("unknown yet".to_owned());
        api::pace::check(&command.spec).map_err(|error| written.wrong(&error))?;
        let plan = api::plan::plan(&command).map_err(|error| written.wrong(&error))?;
        if manner.local && matches!(plan.execution, Execution::Direct(_)) {
            Err(written.wrong(&"spec.execution Direct is about SSH channels; --local has none"))?;
        }
        let lookup = Namespace::new(Arc::clone(documents), &written.key.0);
        let values = values(written, &plan, &lookup).await?;
        let mut asked = api::plan::asked(&command);
        asked.connection = connection(documents, written, manner.local)?;
        asked.delete = false;
        if asked.suspend {
            Err(written.wrong(
                &"spec.suspend is true, and a file is read only once: nothing would ever start; \
                  take it out",
            ))?;
        }
        let mut store = open(written, manner)?;
        let of_spec = std::mem::take(&mut asked.rerun_token);
        asked.rerun_token = store.rerun_token(&of_spec);
        // Earlier versions of this program took an inline host into the digest.
        if store.stage().frozen_digest != asked.frozen_digest {
            asked.frozen_digest = api::plan::digest_without_host(&command.spec);
        }
        let now = Origin::new(&written.file, &asked.connection, digests(store.key(), &values));
        let origin = store.origin().unwrap_or_else(|| now.clone());
        store.is_made_from(now.clone());
        let mut job = Self {
            key: written.key.clone(),
            plan: Plan { uid: store.uid().to_owned(), ..plan },
            asked,
            stage: store.stage().clone(),
            store,
            origin,
            of_spec,
            changed: false,
            again: manner.again,
            tail_bytes: usize::try_from(command.spec.output.tail_bytes).unwrap_or_default(),
        };
        job.refuse_changed(written, &now)?;
        if job.is_made_anew() {
            job.origin = now;
        } else {
            job.changed = job.change(&now).is_some();
        }
        Ok(job)
    }

    /// True when the last run that was asked for has ended, be it by a token or by a change of
    /// spec.
    pub fn is_over(&self) -> bool {
        self.stage.outcome.is_some() && !self.stage.is_to_be_followed(&self.asked)
    }

    /// True when its last run has ended for good and all of it was told: nothing is left to do
    /// but to tell the result again.
    pub fn has_ended_before(&self) -> bool {
        let unknown = self.stage.outcome.as_ref().is_some_and(Outcome::is_unknown);
        self.is_over() && (unknown || self.store.is_delivered())
    }

    /// When and where its last run ended, if there is nothing left to do but to tell its result
    /// again.
    pub fn ended_before(&self) -> Option<EndedBefore> {
        let outcome = self.stage.outcome.as_ref().filter(|_| self.has_ended_before())?;
        let (machine, file) = (self.origin.machine(), self.origin.shown_file());
        Some(EndedBefore { time: outcome.time, machine, file })
    }

    /// True when its last run is over and the command line asks for another one after such an
    /// end.
    pub fn is_to_be_run_again(&self) -> bool {
        let ended = self.stage.outcome.as_ref().filter(|_| self.is_over());
        ended.is_some_and(|outcome| self.again.wants(outcome.ending, self.plan.idempotency))
    }

    /// Begins a sitting. From now on the time counts.
    pub fn sit_down(&mut self, began: jiff::Timestamp) {
        self.asked.sitting = Some(Sitting { began, left: self.store.left() });
    }

    /// True when what became of its last run may be known by now, which decides whether another
    /// one is wanted: the host is to be asked first.
    pub fn is_to_be_looked_at_first(&self) -> bool {
        let unknown = self.stage.outcome.as_ref().is_some_and(Outcome::is_unknown);
        self.again.only_unfinished && unknown && self.is_over() && !self.changed
    }

    /// True when its last run has succeeded and the command line wants nothing more of it.
    pub fn is_skipped(&self) -> bool {
        let succeeded = |outcome: &Outcome| matches!(outcome.ending, Ending::Succeeded(_));
        let succeeded = self.stage.outcome.as_ref().is_some_and(succeeded);
        self.again.only_unfinished && succeeded && self.has_ended_before()
    }

    /// Asks for another run, of what the files say now.
    ///
    /// # Errors
    /// When the wish cannot be made durable.
    pub fn ask_for_new_run(&mut self) -> Result<(), StoreError> {
        self.store.ask_for_new_run(&self.of_spec)?;
        self.asked.rerun_token = self.store.rerun_token(&self.of_spec);
        Ok(())
    }

    /// True when what is started next is made from the files as they are now.
    fn is_made_anew(&self) -> bool {
        let fresh = self.stage.run == 0 || self.stage.has_launched_nothing();
        fresh || self.stage.is_to_be_followed(&self.asked) && self.stage.outcome.is_some()
    }

    /// What was changed since the run in the store was made, if it was.
    fn change(&self, now: &Origin) -> Option<Change> {
        let other = self.stage.frozen_digest != self.asked.frozen_digest;
        if other { Some(Change::Command) } else { self.origin.change(now) }
    }

    /// A command that was changed since its run began is not quietly taken for the same.
    fn refuse_changed(&self, written: &Written, now: &Origin) -> Result<(), BadInput> {
        if self.is_made_anew() {
            return Ok(());
        }
        let Some(change) = self.change(now) else { return Ok(()) };
        let followed = self.asked.on_change && change == Change::Command;
        if followed || self.is_to_be_run_again() {
            return Ok(());
        }
        let Origin { file, .. } = &self.origin;
        let other = if *file == written.file { "" } else { "another file, " };
        let (made, machine) = (self.origin.shown_file(), self.origin.machine());
        let Some(outcome) = &self.stage.outcome else {
            return Err(written.wrong(&format!(
                "{change} while its run is not over; run it unchanged to see that run to its end, \
                 or give this one another metadata.name. That run is on {machine}, started from \
                 {other}{made}"
            )));
        };
        let (ended, time) = (outcome.ending, outcome.time);
        Err(written.wrong(&format!(
            "{change} since it was run; --new-run runs it as it is now, and another metadata.name \
             runs it beside that. The earlier run ended as {}/{} at {time:.0} on {machine}, \
             started from {other}{made}",
            ended.word(),
            ended.reason(),
        )))
    }
}

/// What a launch of it is given. Values that are nowhere in the files will not appear in them by
/// waiting.
async fn values(written: &Written, plan: &Plan, lookup: &dyn Lookup) -> Result<Material, BadInput> {
    material(plan, lookup).await.map_err(|missing| written.wrong(&missing))
}

fn connection(documents: &Documents, written: &Written, local: bool) -> Result<String, BadInput> {
    if local {
        return Ok(LOCAL.to_owned());
    }
    let connection = documents.connection(written)?;
    serde_json::to_string(&connection).map_err(|error| written.wrong(&error))
}

fn open(written: &Written, manner: Manner<'_>) -> Result<Store, Refused> {
    // What was begun on this machine is never continued on another: `@` is in no namespace.
    let local = manner.state_directory.join("@local");
    let directory = if manner.local { &local } else { manner.state_directory };
    Store::open(directory, &written.key)
        .map_err(|error| Refused::Store(written.key.1.clone(), error))
}
