//! The ends: sweeping a host after a result, and letting a deleted object go.

use std::time::Duration;

use kube::api::Api;
use kube::{Resource, ResourceExt};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::events::Announcement;
use super::fault::bounded;
use super::finalizer;
use super::supervisor::Context;
use crate::api::RemoteCommand;
use crate::core::action::{Action, Seen};
use crate::core::plan::Plan;
use crate::core::stage::Stage;
use crate::journal::Saved;
use crate::reach::Ways;
use crate::step::Reach;

const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is left to do on the host of a run whose result is acknowledged: its record may go. A
/// result in doubt keeps it: evidence may still be found.
pub fn sweep_of(stage: &Stage, uid: &str) -> Option<(Action, String)> {
    let known = stage.outcome.as_ref().is_some_and(|outcome| !outcome.is_unknown());
    let current = stage.current.as_ref().filter(|current| current.is_fenced())?;
    let machine = current.identity.machine.clone();
    let run_as = current.entry.run_as.clone();
    let action = Action::Sweep { uid: uid.to_owned(), machine, run_as };
    known.then(|| (action, current.connection.clone()))
}

/// Removes an ended run's files from its host, once. A host that does not answer keeps them
/// until the object is deleted.
pub async fn sweep(ways: &Ways, plan: &Plan, sweep: &Saved<Action>, connection: &str) {
    match ways.host(connection).act(plan, sweep, None).await {
        Seen::Swept { .. } => debug!(uid = plan.uid, "swept"),
        other => debug!(uid = plan.uid, ?other, "not swept"),
    }
}

/// Removes the finalizer of an object whose host is clean or was given up on, and says what
/// was left behind.
pub async fn release(context: &Context, object: &RemoteCommand, stage: &Stage) {
    let abandoned = stage.deleting.as_ref().map(|d| d.abandoned.as_slice()).unwrap_or_default();
    if !abandoned.is_empty() {
        let note = abandoned.join("; ");
        warn!(namespace = ?object.namespace(), name = object.name_any(), note, "abandoned");
        let reason = "Abandoned".to_owned();
        let announcement = Announcement { warning: true, reason, action: "CleaningUp", note };
        context.announcer.tell(object.object_ref(&()), announcement);
    }
    let mut pause = Duration::from_millis(100);
    let mut latest = object.clone();
    loop {
        match finalizer::remove(context.client.clone(), &latest).await {
            Ok(()) => return info!(name = object.name_any(), "finalizer removed"),
            Err(failure) => debug!(%failure, "finalizer not removed yet"),
        }
        match look(context, object).await {
            Ok(Some(live)) => latest = live,
            Ok(None) => return,
            Err(()) => {}
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = context.stop.cancelled() => return,
        }
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// The object as it is stored; `None` when it, or that UID, is gone.
async fn look(context: &Context, object: &RemoteCommand) -> Result<Option<RemoteCommand>, ()> {
    let namespace = object.namespace().unwrap_or_default();
    let api = Api::<RemoteCommand>::namespaced(context.client.clone(), &namespace);
    let found = bounded(api.get_opt(&object.name_any())).await.map_err(drop)?;
    Ok(found.filter(|live| live.metadata.uid == object.metadata.uid))
}
