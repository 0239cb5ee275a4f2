//! One turn of *decide, save, act, observe*.
//!
//! The operator and `remote-command run` drive the same turn; only the journal and the way
//! to a machine differ. Not here: waiting, and what to do with output.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;

use crate::core::action::{Action, Seen};
use crate::core::decide::{Decision, Now, decide};
use crate::core::fault::{Fault, Transient};
use crate::core::plan::{Asked, Hold, HoldKind, Plan};
use crate::core::stage::{Stage, after};
use crate::host::{Host, Lookup, LookupError, Material, Recall};
use crate::journal::{Journal, NotSaved, save};
use crate::material::{Unfit, material};

/// How long a first run may be prepared before it is put on record that it is: mostly there is
/// something else to be saved by then.
const MOMENT: Duration = Duration::from_millis(500);

/// After how long without an answer it is put on record that a host is being connected to anew.
const SILENCE: Duration = Duration::from_secs(2);

/// How machines are reached: by the opaque connection text that is kept with an attempt.
pub trait Reach: Send + Sync {
    /// The host at the other end. Does not connect.
    fn host(&self, connection: &str) -> Arc<dyn Host>;
}

/// What a turn needs besides the stage.
pub struct Step<'a> {
    pub plan: &'a Plan,
    pub asked: &'a Asked,
    pub reach: &'a dyn Reach,
    pub lookup: &'a dyn Lookup,
    /// Ends what waits for the host, because something else is wanted.
    pub recall: &'a Recall,
}

/// What came of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turned {
    /// An action was performed, over the host at `connection`: take the next turn at once
    /// with what was seen.
    Acted { seen: Box<Seen>, connection: String },
    /// Nothing came of the action, because it was recalled or a limit ran out: take the next
    /// turn at once, having seen nothing.
    Recalled,
    /// Nothing to do before `wake` (`None`: ever) unless something changes.
    Resting { wake: Option<Timestamp> },
    /// The source of Secrets could not be asked; nothing was decided. Try again after a while.
    Deferred { message: String },
}

impl Step<'_> {
    /// Takes one turn: decides from `stage` and `seen`, makes the new stage durable, performs
    /// the action. `stage` is the new one afterwards, if it was saved.
    ///
    /// # Errors
    /// [`NotSaved`]; nothing was done then.
    pub async fn turn<J: Journal + ?Sized>(
        &self,
        journal: &mut J,
        stage: &mut Stage,
        seen: &Seen,
        now: &Now,
    ) -> Result<Turned, NotSaved> {
        let (decision, material) = match self.decide(stage, seen, now).await {
            Ok(decided) => decided,
            Err(message) => return Ok(Turned::Deferred { message }),
        };
        let Decision { stage: next, action, wake, announced } = decision;
        let Some(action) = action else {
            save(journal, stage, &next, ()).await?;
            *stage = next;
            return Ok(Turned::Resting { wake });
        };
        let connection = next.connection_for(&action, self.asked).to_owned();
        let saved = save(journal, stage, &next, action).await?;
        *stage = next;
        let left = wake.map(|wake| wake.duration_since(now.at));
        let left = left.map(|left| Duration::try_from(left).unwrap_or_default());
        let recall = self.recall.within(left);
        let host = self.reach.host(&connection);
        let mut acting = pin!(host.act_unless(self.plan, (&saved, material), &recall));
        let moment = sleep(left.map_or(MOMENT, |left| left.min(MOMENT)));
        let seen = tokio::select! {
            biased;
            () = moment, if announced.is_some() => {
                let announced = announced.unwrap_or_default();
                save(journal, stage, &announced, ()).await?;
                *stage = announced;
                acting.await
            }
            seen = &mut acting => seen,
            () = sleep(SILENCE), if announced.is_none() => {
                let at = after(now.at, SILENCE);
                let now = Now { at, ..*now };
                let unheard = self.unheard(host.as_ref(), saved.get(), stage, &now);
                if let Some(unheard) = unheard {
                    save(journal, stage, &unheard, ()).await?;
                    *stage = unheard;
                    // With that on record other limits apply.
                    self.recall.say();
                }
                acting.await
            }
        };
        let Some(seen) = seen else { return Ok(Turned::Recalled) };
        let seen = Box::new(about(seen, saved.get(), &connection));
        Ok(Turned::Acted { seen, connection })
    }

    /// The stage with a silence that nobody has noted, when a connection is being made anew to a
    /// host that has something to say about an attempt: its limits may be long.
    fn unheard(&self, host: &dyn Host, action: &Action, stage: &Stage, now: &Now) -> Option<Stage> {
        match action {
            Action::Probe { .. }
            | Action::Terminate { .. }
            | Action::Kill { .. }
            | Action::Revoke { .. }
            | Action::Sweep { .. } => {}
            Action::Prepare { .. } | Action::Launch { .. } => return None,
        }
        // Once is enough: a limit of every try that follows would be a write more.
        let silent = stage.current.as_ref().is_some_and(|attempt| attempt.uncertain.is_some());
        let blocked = stage.deleting.as_ref().is_some_and(|deleting| deleting.blocked.is_some());
        if silent || blocked {
            return None;
        }
        let fault = Fault::new(Transient::ConnectionLost, host.waits_for()?);
        let seen = about(Seen::Unreachable(fault), action, "");
        let told = decide(self.plan, self.asked, stage, &seen, now);
        // An action goes with its own turn.
        (told.action.is_none() && told.stage != *stage).then_some(told.stage)
    }

    /// Decides, with the values of Secrets and ConfigMaps at hand if a launch comes of it. A
    /// missing one is a reason not to launch, found before anything is saved or sent.
    async fn decide(
        &self,
        stage: &Stage,
        seen: &Seen,
        now: &Now,
    ) -> Result<(Decision, Option<Material>), String> {
        let decision = decide(self.plan, self.asked, stage, seen, now);
        let launches = matches!(decision.action, Some(Action::Launch { .. }));
        let leads_to_launch = matches!(decision.action, Some(Action::Prepare { .. }));
        if !launches && !leads_to_launch {
            return Ok((decision, None));
        }
        let hold = match material(self.plan, self.lookup).await {
            Ok(material) => return Ok((decision, launches.then_some(material))),
            // Once the run is on record its limit applies, and asking again writes nothing.
            Err(Unfit::Lookup(LookupError::Unavailable(message)))
                if is_on_record(stage, &decision) =>
            {
                return Err(message);
            }
            Err(Unfit::Lookup(error)) => hold(&error),
            Err(unusable @ (Unfit::Unusable(_) | Unfit::Script(..))) => Hold {
                kind: HoldKind::Invalid,
                reason: "InvalidSpec".to_owned(),
                message: unusable.to_string(),
            },
        };
        let asked = Asked { hold: Some(hold), ..self.asked.clone() };
        Ok((decide(self.plan, &asked, stage, seen, now), None))
    }
}

/// What was seen, with what a host cannot know of it.
fn about(seen: Seen, action: &Action, connection: &str) -> Seen {
    match (seen, action) {
        (Seen::Prepared { entry, identity, .. }, _) => {
            Seen::Prepared { entry, identity, connection: connection.to_owned() }
        }
        (Seen::Unreachable(fault), Action::Sweep { machine, store, .. }) => {
            Seen::Unswept { machine: machine.clone(), store: store.clone(), fault }
        }
        (seen, _) => seen,
    }
}

/// Whether the run that a decision is about was saved before.
pub fn is_on_record(stage: &Stage, decision: &Decision) -> bool {
    stage.run > 0 && decision.stage.run == stage.run
}

/// Why a launch waits for something that could not be had.
pub fn hold(error: &LookupError) -> Hold {
    let (kind, reason) = match error {
        LookupError::SecretNotFound(_) => (HoldKind::Missing, "SecretNotFound"),
        LookupError::SecretKeyNotFound(..) => (HoldKind::Missing, "SecretKeyNotFound"),
        LookupError::ConfigMapNotFound(..) => (HoldKind::Missing, "ConfigMapNotFound"),
        LookupError::Binary(..) => (HoldKind::Invalid, "InvalidSpec"),
        LookupError::Denied(..) | LookupError::Unlabelled(..) => {
            (HoldKind::Invalid, "PolicyDenied")
        }
        // Nothing is known to be wrong with what the user wrote.
        LookupError::Unavailable(_) => (HoldKind::Busy, "Queued"),
    };
    Hold { kind, reason: reason.to_owned(), message: error.to_string() }
}
