//! One command of the files, ready to be run: planned, with its store taken.

use std::path::Path;
use std::sync::Arc;

use crate::api;
use crate::core::outcome::Outcome;
use crate::core::plan::{Asked, Execution, Plan};
use crate::core::stage::Stage;
use crate::host::Lookup;
use crate::step;

use super::documents::{BadInput, Documents, Key, Namespace, Written};
use super::reach::LOCAL;
use super::store::{Store, StoreError};

/// What is wanted of a command, and what is known of it.
#[derive(Debug)]
pub struct Job {
    pub key: Key,
    pub plan: Plan,
    pub asked: Asked,
    pub stage: Stage,
    pub store: Store,
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

/// How commands are to be run, whichever they are.
#[derive(Clone, Copy, Debug)]
pub struct Manner<'a> {
    pub state_directory: &'a Path,
    pub new_run: bool,
    pub local: bool,
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
        check_values(written, &plan, &lookup).await?;
        let mut asked = api::plan::asked(&command);
        asked.connection = connection(documents, written, manner.local)?;
        asked.delete = false;
        if asked.suspend {
            Err(written.wrong(
                &"spec.suspend is true, and a file is read only once: nothing would ever start; \
                  take it out",
            ))?;
        }
        let store = open(written, manner)?;
        let stage = store.stage().clone();
        let mut job = Self {
            key: written.key.clone(),
            plan: Plan { uid: store.uid().to_owned(), ..plan },
            asked,
            stage,
            store,
            tail_bytes: usize::try_from(command.spec.output.tail_bytes).unwrap_or_default(),
        };
        job.refuse_changed(written, manner.new_run)?;
        job.ask_for_run(manner.new_run)?;
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

    /// A command that was changed since its run began is not quietly taken for the same.
    fn refuse_changed(&self, written: &Written, new_run: bool) -> Result<(), BadInput> {
        let changed = self.stage.run > 0 && self.stage.frozen_digest != self.asked.frozen_digest;
        if !changed || self.asked.on_change {
            return Ok(());
        }
        if self.stage.outcome.is_none() {
            return Err(written.wrong(
                &"it was changed while its run is not over; run it unchanged to see that run to \
                  its end",
            ));
        }
        if new_run {
            return Ok(());
        }
        Err(written.wrong(
            &"it was changed since it was run; --new-run runs it as it is, and run unchanged it \
              tells its result",
        ))
    }

    fn ask_for_run(&mut self, new_run: bool) -> Result<(), Refused> {
        let of_spec = std::mem::take(&mut self.asked.rerun_token);
        self.asked.rerun_token = self.store.rerun_token(&of_spec);
        // A run that is under way is followed to its end, also with --new-run: whoever types
        // the same line again after a crash wants that one.
        if new_run && self.is_over() {
            let asked = self.store.ask_for_new_run(&of_spec);
            asked.map_err(|error| Refused::Store(self.key.1.clone(), error))?;
            self.asked.rerun_token = self.store.rerun_token(&of_spec);
        }
        Ok(())
    }
}

/// Values that are nowhere in the files will not appear in them by waiting.
async fn check_values(written: &Written, plan: &Plan, lookup: &dyn Lookup) -> Result<(), BadInput> {
    let found = step::material(plan, lookup).await;
    found.map(drop).map_err(|missing| written.wrong(&missing))
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
