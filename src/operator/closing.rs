//! The ends: sweeping a host after a result, and letting a deleted object go.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::Api;
use kube::{Resource, ResourceExt};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::context::Context;
use super::events::Announcement;
use super::fault::{Failure, bounded};
use super::{finalizer, stage};
use crate::api::plan::limits_where_valid;
use crate::api::{MANAGED_BY, RemoteCommand};
use crate::core::action::{Action, Seen};
use crate::core::connection::Connection;
use crate::core::plan::Plan;
use crate::core::stage::{Stage, after};
use crate::journal::Saved;
use crate::reach::Ways;
use crate::step::Reach;

const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What is left to do on the host of a run whose result is acknowledged: its record may go. A
/// result in doubt keeps it: evidence may still be found.
pub fn sweep_of(stage: &Stage, uid: &str) -> Option<(Action, String)> {
    let known = stage.outcome.as_ref().is_some_and(|outcome| !outcome.is_unknown());
    let current = stage.current.as_ref().filter(|current| current.is_fenced())?;
    let (machine, store) = (current.identity.machine.clone(), current.identity.store.clone());
    let run_as = current.entry.run_as.clone();
    let action = Action::Sweep { uid: uid.to_owned(), machine, store, run_as };
    known.then(|| (action, current.connection.clone()))
}

/// Which ended runs' files were removed from their hosts since this operator leads (their
/// objects can go without another call on a host that may be gone by then), and which objects
/// it has let go.
#[derive(Debug, Default)]
pub struct Swept {
    /// By UID, the number of entries the object had then.
    entries: Mutex<HashMap<String, u32>>,
    /// UIDs whose finalizers we remove ourselves.
    let_go: Mutex<HashSet<String>>,
}

impl Swept {
    /// Takes note that the store of the stage's last attempt has no files of the object.
    pub fn note(&self, uid: &str, stage: &Stage) {
        locked(&self.entries).insert(uid.to_owned(), stage.entries);
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        locked(&self.entries).remove(uid);
        locked(&self.let_go).remove(uid);
    }

    /// Forgets all objects but these, by UID.
    pub fn keep(&self, uids: &HashSet<String>) {
        locked(&self.entries).retain(|uid, _| uids.contains(uid));
        locked(&self.let_go).retain(|uid| uids.contains(uid));
    }

    /// Whether the host certainly has no files of the object and no process of it: nothing
    /// was ever launched, or all of it has ended and was swept.
    pub fn leaves_nothing(&self, uid: &str, stage: &Stage) -> bool {
        let Some(current) = &stage.current else { return true };
        let elsewhere = !stage.traces.is_empty() || stage.untraced > 0 || stage.overlapped > 0;
        let swept = locked(&self.entries).get(uid) == Some(&stage.entries);
        !elsewhere && swept && current.is_fenced()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is complete when the lock is released, whatever panicked since.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes an ended run's files from its host, once, and tells whether they are gone. A host
/// that does not answer keeps them until the object is deleted.
pub async fn sweep(ways: &Ways, plan: &Plan, sweep: &Saved<Action>, connection: &str) -> bool {
    match ways.host(connection).act(plan, sweep, None).await {
        Seen::Swept { .. } => {
            debug!(uid = plan.uid, "swept");
            true
        }
        other => {
            debug!(uid = plan.uid, ?other, "not swept");
            false
        }
    }
}

/// Removes the finalizer of an object whose host is clean or was given up on, after saying
/// what was `left` behind. Nothing is removed when a later stage than `revision` is stored:
/// somebody else has gone on, and the object is given as it is stored.
pub async fn release(
    context: &Context,
    object: &RemoteCommand,
    revision: i64,
    left: &[String],
) -> Option<RemoteCommand> {
    if !left.is_empty() {
        let note = left.join("; ");
        warn!(namespace = ?object.namespace(), name = object.name_any(), note, "abandoned");
        let reason = "Abandoned".to_owned();
        let announcement = Announcement { warning: true, reason, action: "CleaningUp", note };
        context.announcer.tell_surely(object.object_ref(&()), announcement).await;
    }
    locked(&context.swept.let_go).extend(object.uid());
    let mut pause = Duration::from_millis(100);
    let mut latest = object.clone();
    loop {
        match finalizer::remove(context.client.clone(), &latest).await {
            Ok(()) => {
                info!(name = object.name_any(), "finalizer removed");
                return None;
            }
            Err(failure) => debug!(%failure, "finalizer not removed yet"),
        }
        match look(context, object).await {
            Ok(Some(live)) => {
                if stage::shown(&live).is_some_and(|shown| shown.revision > revision) {
                    return Some(live);
                }
                latest = live;
            }
            Ok(None) => return None,
            Err(failure) => debug!(%failure, "it is not known how it is stored"),
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = context.stop.cancelled() => return None,
        }
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// When deletion gives up on an object's host; `None` while the object is not being deleted.
pub fn gives_up_at(object: &RemoteCommand) -> Option<Timestamp> {
    let since = object.metadata.deletion_timestamp.as_ref()?.0;
    Some(after(since, limits_where_valid(&object.spec).cleanup))
}

/// Logs what an object leaves on its host that goes without having been let go: somebody took
/// our finalizer off it. Only the log is left to say so.
pub fn mourn(context: &Context, object: &RemoteCommand) {
    let ours = object.spec.managed_by == MANAGED_BY;
    let let_go = object.uid().is_some_and(|uid| locked(&context.swept.let_go).contains(&uid));
    if let_go || !ours {
        return;
    }
    let Ok(stage) = stage::read(object) else { return };
    let Some(attempt) = stage::live(&stage).filter(|_| !stage.released()) else { return };
    let (run, number) = (attempt.entry.run, attempt.entry.attempt);
    let pid = attempt.processes.as_ref().map(|processes| processes.command.pid);
    let host = serde_json::from_str::<Connection>(&attempt.connection).ok();
    let host = host.and_then(|way| way.hops.last().map(|hop| hop.name.clone()));
    warn!(
        namespace = ?object.namespace(), name = object.name_any(), uid = ?object.uid(),
        ?host, run, attempt = number, ?pid,
        "its finalizer was removed by somebody else: the command may be alive on the host, and \
         its records stay there"
    );
}

/// The object as it is stored; `None` when it, or that UID, is gone.
async fn look(context: &Context, object: &RemoteCommand) -> Result<Option<RemoteCommand>, Failure> {
    let namespace = object.namespace().unwrap_or_default();
    let api = Api::<RemoteCommand>::namespaced(context.client.clone(), &namespace);
    let found = bounded(api.get_opt(&object.name_any())).await?;
    Ok(found.filter(|live| live.metadata.uid == object.metadata.uid))
}
