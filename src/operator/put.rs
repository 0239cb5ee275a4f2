//! One try to store a status, and what its answer means.
//!
//! Every PUT carries the UID and the resourceVersion of a copy that was read: the UID alone
//! would be enough for the API server to refuse a namesake, the version makes every other
//! writer's change a conflict. After a conflict, and after a try that may have been stored,
//! the object is read anew. Three answers are possible: it shows the stage we started from, or
//! an earlier one (write again), the stage we were about to write (it was stored), or another
//! one (somebody else acts; the supervisor has to start from that).
//!
//! A refusal of a write to the newest version is an answer, too: the supervisor may have
//! something else to say by now.

use std::sync::Arc;

use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};

use super::fault::{Failure, bounded};
use super::memory::differing;
use super::stage::is_same;
use super::writer::Request;
use crate::api::{RemoteCommand, RemoteCommandStatus, StageRecord};

/// What we know to be stored, because we wrote it.
#[derive(Clone, Debug)]
pub struct Known {
    pub resource_version: String,
    pub status: RemoteCommandStatus,
    /// The fields of what somebody else had written over ours before, and that this replaced.
    pub displaced: Vec<String>,
}

/// What became of a try.
#[derive(Debug)]
pub enum Answer {
    Written(Box<Known>),
    Overtaken(Arc<RemoteCommand>),
    Gone,
    /// Refused for what it is, on the newest version of the object: repeating it unchanged will
    /// not help.
    Refused(String),
    /// Not known, or refused for now: try again after a while, reading first.
    Uncertain(Failure),
    /// The same, and the object could be read: it is this write that does not get through.
    Unstored(Failure),
}

/// Tries to store the status of `request`.
pub async fn put(
    client: Client,
    request: &Request,
    known: Option<Known>,
    doubtful: bool,
) -> Answer {
    let api = Api::<RemoteCommand>::namespaced(client, &request.key.namespace);
    let last = known.clone();
    let attempt = match version(request, known) {
        Some(version) if !doubtful => replace(&api, request, &request.status, version).await,
        _ => Err(Failure::Conflict),
    };
    match attempt {
        Ok(stored) => stored,
        Err(Failure::Missing) => Answer::Gone,
        Err(Failure::Conflict | Failure::Refused(_)) => again(&api, request, last).await,
        Err(failure @ (Failure::Exists | Failure::Busy | Failure::Doubtful(_))) => {
            Answer::Uncertain(failure)
        }
    }
}

/// The version to base the write on without reading: the newer one of what we wrote last and
/// what the watch showed, if the stage we started from is in it.
fn version(request: &Request, known: Option<Known>) -> Option<String> {
    let shown = request.base.resource_version()?;
    let number = |version: &str| version.parse::<u64>().ok();
    let (stage, version) = match known {
        Some(known) if number(&known.resource_version)? >= number(&shown)? => {
            (known.status.stage, known.resource_version)
        }
        Some(_) | None => (stage(&request.base).cloned(), shown),
    };
    is_same(stage.as_ref(), request.before.as_ref()).then_some(version)
}

/// Reads the object and decides from what it shows.
async fn again(api: &Api<RemoteCommand>, request: &Request, last: Option<Known>) -> Answer {
    let live = match bounded(api.get_opt(&request.key.name)).await {
        Ok(Some(live)) if live.uid().as_deref() == Some(request.key.uid.as_str()) => live,
        Ok(_) => return Answer::Gone,
        Err(failure) => return Answer::Uncertain(failure),
    };
    let Some(version) = live.resource_version() else { return Answer::Gone };
    if live.status.as_ref() == Some(&request.status) {
        return Answer::Written(Box::new(Known {
            resource_version: version,
            status: request.status.clone(),
            displaced: Vec::new(),
        }));
    }
    if is_overtaken(request, stage(&live)) {
        return Answer::Overtaken(Arc::new(live));
    }
    let answer = shrinking(api, request, &version).await;
    match (answer, last) {
        (Answer::Written(mut known), Some(last)) if live.status.as_ref() != Some(&last.status) => {
            known.displaced = differing(&last.status, live.status.as_ref());
            Answer::Written(known)
        }
        (answer, _) => answer,
    }
}

/// Whether somebody else has gone on from the stage we started from. A stored stage that is
/// behind it (restored, or dropped by an older definition) is nobody's progress: what was
/// begun since would be begun again from there.
fn is_overtaken(request: &Request, shown: Option<&StageRecord>) -> bool {
    let revision = |stage: Option<&StageRecord>| stage.map_or(0, |stage| stage.revision);
    let before = request.before.as_ref();
    !is_same(shown, before)
        && !is_same(shown, request.status.stage.as_ref())
        && revision(shown) >= revision(before)
}

/// Tries the status, and after a refusal what is left of it when it goes without what can be
/// done without: what is stored then is less, and true.
async fn shrinking(api: &Api<RemoteCommand>, request: &Request, version: &str) -> Answer {
    let mut status = request.status.clone();
    let mut refusal = None;
    for shrink in [whole, without_tails, bare] {
        let former = status.clone();
        shrink(&mut status);
        if refusal.is_some() && status == former {
            continue;
        }
        match replace(api, request, &status, version.to_owned()).await {
            Ok(answer) => return answer,
            Err(Failure::Missing) => return Answer::Gone,
            Err(Failure::Refused(message)) => refusal = refusal.or(Some(message)),
            Err(failure) => return Answer::Unstored(failure),
        }
    }
    Answer::Refused(refusal.unwrap_or_default())
}

fn whole(_: &mut RemoteCommandStatus) {}

/// The part that is no word of ours, and the largest.
fn without_tails(status: &mut RemoteCommandStatus) {
    for stream in status.output.iter_mut().flat_map(|out| [&mut out.stdout, &mut out.stderr]) {
        stream.tail = None;
    }
}

/// The outcome, the conditions and the stage; nothing that can be read elsewhere.
fn bare(status: &mut RemoteCommandStatus) {
    (status.output, status.attempts, status.left_running) = (None, None, None);
}

/// The PUT itself. An answer without the stage that was sent is not a success: an older CRD
/// drops the fields it does not know.
async fn replace(
    api: &Api<RemoteCommand>,
    request: &Request,
    status: &RemoteCommandStatus,
    version: String,
) -> Result<Answer, Failure> {
    let object = RemoteCommand {
        metadata: ObjectMeta {
            name: Some(request.key.name.clone()),
            namespace: Some(request.key.namespace.clone()),
            uid: Some(request.key.uid.clone()),
            resource_version: Some(version),
            ..ObjectMeta::default()
        },
        spec: request.base.spec.clone(),
        status: Some(status.clone()),
    };
    let parameters = PostParams::default();
    let stored = bounded(api.replace_status(&request.key.name, &parameters, &object)).await?;
    if stage(&stored) != status.stage.as_ref() {
        let message = "the API server dropped parts of the stage; are the CRDs current?";
        return Ok(Answer::Refused(message.to_owned()));
    }
    let resource_version = stored.resource_version().unwrap_or_default();
    let (status, displaced) = (status.clone(), Vec::new());
    Ok(Answer::Written(Box::new(Known { resource_version, status, displaced })))
}

/// The stage an object shows, as it is stored.
fn stage(object: &RemoteCommand) -> Option<&StageRecord> {
    object.status.as_ref()?.stage.as_ref()
}

#[cfg(test)]
mod tests;
