//! From what is known to the status of a RemoteCommand, and how conditions are kept.
//!
//! Pure: the same knowledge gives the same status, to the byte, so that nothing is written
//! when nothing changed. What the phase is and why is decided elsewhere
//! ([`phase`](crate::core::phase)).

use jiff::{Timestamp, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::bounds::{self, bounded};
use super::command::RemoteCommand;
use super::status::{
    AttemptStatus, OutputStatus, Phase, ProcessStatus, RemoteCommandStatus, StageRecord,
    StreamStatus,
};
use crate::core::bounds::{message as message_of, word as word_of};
use crate::core::cut::Cut;
use crate::core::outcome::PastAttempt;
use crate::core::phase::{self, Summary, Truth};
use crate::core::record::{OutputSeen, StreamSeen, Survivor};
use crate::core::stage::Stage;

/// What a status is made from, besides the object.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// Decided from exactly this version of the object.
    pub stage: &'a Stage,
    /// This version asks for another run than the stage's. Its generation becomes the observed
    /// one when that run begins: until then whoever waits for it would take this run's end for
    /// the end of that one.
    pub to_be_followed: bool,
    /// The stage as it is stored.
    pub record: StageRecord,
    pub summary: &'a Summary,
    /// Its fields are always there, so that who reads them need not ask whether they are.
    pub output: OutputStatus,
    /// The status before, for the times at which conditions changed.
    pub previous: Option<&'a RemoteCommandStatus>,
    pub now: Timestamp,
}

/// The status that says what is known.
pub fn status(command: &RemoteCommand, known: Known<'_>) -> RemoteCommandStatus {
    let Known { stage, .. } = known;
    let summary = &with_cut(known.summary, cut(command, &known.output));
    let generation = match known.previous.filter(|_| known.to_be_followed) {
        Some(previous) => previous.observed_generation,
        None => command.metadata.generation.unwrap_or_default(),
    };
    let before = known.previous.and_then(|status| status.conditions.as_deref());
    let aspects = aspects(command, summary);
    let status = RemoteCommandStatus {
        observed_generation: generation,
        phase: summary.phase.into(),
        reason: Some(summary.reason.clone()),
        message: Some(summary.message.clone()),
        run: Some(stage.run).filter(|run| *run > 0),
        attempt: Some(stage.attempt).filter(|attempt| stage.run > 0 && *attempt > 0),
        evidence: summary.evidence.map(|evidence| evidence.word().to_owned()),
        exit_code: summary.exit_code,
        signal: summary.signal.clone(),
        start_time: summary.start_time.map(seconds),
        completion_time: summary.completion_time.map(seconds),
        run_request_time: stage.run_request_time.map(seconds),
        observed_rerun_token: Some(stage.observed_rerun_token.clone()).filter(|t| !t.is_empty()),
        stop_requested: summary.stop_requested.then_some(true),
        left_running: left_running(&summary.left_running),
        output: Some(known.output),
        attempts: attempts(&stage.attempts),
        conditions: Some(conditions(&aspects, before.unwrap_or_default(), generation, known.now)),
        stage: Some(known.record),
    };
    bounded(status, command.spec.output.tail_bytes)
}

/// What is missing of this output, if something is.
pub fn cut(command: &RemoteCommand, output: &OutputStatus) -> Option<Cut> {
    let seen = |stream: &StreamStatus| StreamSeen {
        bytes: u64::try_from(stream.bytes).unwrap_or_default(),
        truncated: stream.truncated,
        ended: !output.open,
    };
    let seen = OutputSeen { stdout: seen(&output.stdout), stderr: seen(&output.stderr) };
    let limit = command.spec.output.size_limit.bytes().ok()?;
    Cut::of(&seen, limit)
}

/// A result says also what is missing of its output: whoever takes the output for the whole
/// would go wrong.
fn with_cut(summary: &Summary, cut: Option<Cut>) -> Summary {
    let mut summary = summary.clone();
    if let Some(cut) = cut.filter(|_| summary.finished == Truth::True) {
        summary.message = format!("{}; {cut}", summary.message);
    }
    summary
}

/// The status of an object whose stage cannot be read: as it is, and that it stands still.
pub fn unreadable(command: &RemoteCommand, now: Timestamp) -> RemoteCommandStatus {
    let generation = command.metadata.generation.unwrap_or_default();
    let mut status = command.status.clone().unwrap_or_default();
    let aspect = |name, status| Aspect {
        name,
        status,
        reason: "StageUnreadable".to_owned(),
        message: "the stage in this status was written by another version of the operator and \
                  cannot be read; nothing is done, and nothing is known to have ended"
            .to_owned(),
    };
    let said = [
        aspect("Ready", Truth::False),
        aspect("Reconciling", Truth::False),
        aspect("Stalled", Truth::True),
    ];
    let before = status.conditions.take().unwrap_or_default();
    let said = conditions(&said, &before, generation, now);
    let mut all = before;
    all.retain(|old| said.iter().all(|new| new.type_ != old.type_));
    // The first are kept where there are too many: somebody else's come last.
    all.splice(0..0, said);
    status.conditions = Some(all);
    bounded(status, command.spec.output.tail_bytes)
}

/// One aspect of an object's state, as it is said now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aspect {
    /// The condition's type.
    pub name: &'static str,
    pub status: Truth,
    /// One CamelCase word.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Conditions that say these aspects. The time of the last transition is kept from `before`
/// while a condition's status stays the same.
pub fn conditions(
    aspects: &[Aspect],
    before: &[Condition],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let said = |aspect: &Aspect| {
        let status = word(aspect.status);
        let unchanged = before.iter().find(|old| {
            // The definition's default stands at the beginning of time: nobody said it.
            old.type_ == aspect.name && old.status == status && old.last_transition_time.0 > START
        });
        Condition {
            type_: aspect.name.to_owned(),
            status: status.to_owned(),
            reason: bounds::shortened(&aspect.reason, word_of),
            message: bounds::shortened(&aspect.message, message_of),
            observed_generation: Some(generation),
            last_transition_time: unchanged
                .map_or_else(|| seconds(now), |old| old.last_transition_time.clone()),
        }
    };
    aspects.iter().map(said).collect()
}

const START: Timestamp = Timestamp::UNIX_EPOCH;

fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "True",
        Truth::False => "False",
        Truth::Unknown => "Unknown",
    }
}

/// The seven aspects of a command, and a warning where there is one.
fn aspects(command: &RemoteCommand, summary: &Summary) -> Vec<Aspect> {
    let own = |name, status| Aspect {
        name,
        status,
        reason: summary.reason.clone(),
        message: summary.message.clone(),
    };
    let cleanup = |name, status| match &summary.deleting {
        None => own(name, status),
        Some(cleanup) => {
            let (reason, message) = (cleanup.reason.to_owned(), cleanup.message.clone());
            Aspect { name, status, reason, message }
        }
    };
    let host = &summary.host_reachable;
    let mut aspects = vec![
        own("Accepted", summary.accepted),
        Aspect {
            name: "HostReachable",
            status: host.status,
            reason: host.reason.clone(),
            message: host.message.clone(),
        },
        own("Finished", summary.finished),
        own("Succeeded", summary.succeeded),
        cleanup("Ready", summary.ready),
        cleanup("Reconciling", summary.reconciling),
        own("Stalled", summary.stalled),
    ];
    aspects.extend(ttl_under_gitops(command));
    aspects
}

/// A tool that keeps objects as they are in a repository creates a deleted one again, and it
/// would run again.
fn ttl_under_gitops(command: &RemoteCommand) -> Option<Aspect> {
    command.spec.ttl_seconds_after_finished?;
    let annotations = ["argocd.argoproj.io/tracking-id"];
    let labels = [
        "argocd.argoproj.io/instance",
        "kustomize.toolkit.fluxcd.io/name",
        "helm.toolkit.fluxcd.io/name",
    ];
    let tracked = annotations.iter().any(|key| command.annotations().contains_key(*key))
        || labels.iter().any(|key| command.labels().contains_key(*key));
    tracked.then(|| Aspect {
        name: "TTLUnderGitOps",
        status: Truth::True,
        reason: "WouldRunAgain".to_owned(),
        message: "Argo CD or Flux creates this object again when ttlSecondsAfterFinished has \
                  deleted it, and the command runs again; take the limit out of the manifest"
            .to_owned(),
    })
}

impl From<phase::Phase> for Phase {
    fn from(phase: phase::Phase) -> Self {
        match phase {
            phase::Phase::Pending => Self::Pending,
            phase::Phase::Running => Self::Running,
            phase::Phase::Succeeded => Self::Succeeded,
            phase::Phase::Failed => Self::Failed,
            phase::Phase::Unknown => Self::Unknown,
        }
    }
}

/// As Kubernetes stores times; a status that was read back is equal to the one written.
pub fn seconds(time: Timestamp) -> Time {
    let floor = jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Floor);
    Time(time.round(floor).unwrap_or(time))
}

fn left_running(found: &[Survivor]) -> Option<Vec<ProcessStatus>> {
    let process = |survivor: &Survivor| ProcessStatus {
        pid: survivor.pid.into(),
        uid: survivor.uid.into(),
        command: survivor.command.clone(),
    };
    (!found.is_empty()).then(|| found.iter().map(process).collect())
}

fn attempts(past: &[PastAttempt]) -> Option<Vec<AttemptStatus>> {
    let attempt = |past: &PastAttempt| AttemptStatus {
        run: past.run,
        attempt: past.attempt,
        start_time: past.start_time.map(seconds),
        completion_time: past.completion_time.map(seconds),
        evidence: Some(past.evidence.word().to_owned()),
        reason: Some(past.reason.clone()),
        exit_code: past.exit_code,
        signal: past.signal.clone(),
    };
    (!past.is_empty()).then(|| past.iter().map(attempt).collect())
}

#[cfg(test)]
mod rows;
#[cfg(test)]
mod tests;
