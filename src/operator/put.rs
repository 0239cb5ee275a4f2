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
use super::writer::Request;
use crate::api::{RemoteCommand, RemoteCommandStatus, StageRecord};

/// What we know to be stored, because we wrote it.
#[derive(Clone, Debug)]
pub struct Known {
    pub resource_version: String,
    pub status: RemoteCommandStatus,
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
    let attempt = match version(request, known) {
        Some(version) if !doubtful => replace(&api, request, &request.status, version).await,
        _ => Err(Failure::Conflict),
    };
    match attempt {
        Ok(stored) => stored,
        Err(Failure::Missing) => Answer::Gone,
        Err(Failure::Conflict | Failure::Refused(_)) => again(&api, request).await,
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
    (stage == request.before).then_some(version)
}

/// Reads the object and decides from what it shows.
async fn again(api: &Api<RemoteCommand>, request: &Request) -> Answer {
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
        }));
    }
    if is_overtaken(request, stage(&live)) {
        return Answer::Overtaken(Arc::new(live));
    }
    match replace(api, request, &request.status, version.clone()).await {
        Ok(answer) => answer,
        Err(Failure::Missing) => Answer::Gone,
        Err(Failure::Refused(message)) => without_tails(api, request, version, message).await,
        Err(failure) => Answer::Unstored(failure),
    }
}

/// Whether somebody else has gone on from the stage we started from. A stored stage that is
/// behind it (restored, or dropped by an older definition) is nobody's progress: what was
/// begun since would be begun again from there.
fn is_overtaken(request: &Request, shown: Option<&StageRecord>) -> bool {
    let revision = |stage: Option<&StageRecord>| stage.map_or(0, |stage| stage.revision);
    let before = request.before.as_ref();
    shown != before && shown != request.status.stage.as_ref() && revision(shown) >= revision(before)
}

/// One more try after a refusal, with the part that can be done without and can be large.
async fn without_tails(
    api: &Api<RemoteCommand>,
    request: &Request,
    version: String,
    refusal: String,
) -> Answer {
    let mut status = request.status.clone();
    for stream in status.output.iter_mut().flat_map(|out| [&mut out.stdout, &mut out.stderr]) {
        stream.tail = None;
    }
    if status == request.status {
        return Answer::Refused(refusal);
    }
    match replace(api, request, &status, version).await {
        Ok(answer) => answer,
        Err(Failure::Missing) => Answer::Gone,
        Err(Failure::Refused(message)) => Answer::Refused(message),
        Err(failure) => Answer::Unstored(failure),
    }
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
    Ok(Answer::Written(Box::new(Known { resource_version, status: status.clone() })))
}

/// The stage an object shows, as it is stored.
fn stage(object: &RemoteCommand) -> Option<&StageRecord> {
    object.status.as_ref()?.stage.as_ref()
}

#[cfg(test)]
mod tests;
