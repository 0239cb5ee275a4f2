//! The status of a RemoteHost, and its writing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Resource, ResourceExt};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::asking::Word;
use super::context::Context;
use super::events::Announcement;
use super::fault::{Failure, bounded};
use crate::api::conditions::{Aspect, conditions, seconds};
use crate::api::{RemoteHost, RemoteHostStatus};
use crate::core::fault::{Cause, Fault};
use crate::core::foreign::printable;
use crate::core::phase::Truth;
use crate::core::plan::{Hold, HoldKind};
use crate::host::HostFacts;

/// How often a status that was not stored for certain is tried again.
const TRIES: u32 = 8;
/// Characters of what a server says of itself; the schema takes no more.
const VERSION_CHARS: usize = 255;
const KEY_CHARS: usize = 128;

/// What a check came to.
#[derive(Clone, Debug)]
pub enum Verdict {
    Ready(HostFacts),
    Faulty(Fault),
    /// Something it refers to is missing, or the spec cannot be carried out.
    Held {
        hold: Hold,
        /// What is missing has been so for longer than it is expected to come.
        overdue: bool,
    },
}

/// All that is told of a host.
#[derive(Clone, Copy, Debug)]
pub struct Finding<'a> {
    pub verdict: &'a Verdict,
    /// In use at this moment.
    pub sessions: usize,
    /// When this operator last made a connection.
    pub connected: Option<Timestamp>,
}

impl Verdict {
    /// Whether commands can run there.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// The three conditions Ready, Reconciling and Stalled, their reason and message.
    fn words(&self) -> ([Truth; 3], &str, String) {
        match self {
            Self::Ready(facts) => {
                let message = format!("connected to {}", facts.server_version);
                ([Truth::True, Truth::False, Truth::False], "Connected", message)
            }
            Self::Faulty(fault) => {
                let standing = matches!(fault.cause, Cause::Standing(_));
                (not_ready(standing), fault.reason(), fault.message.clone())
            }
            Self::Held { hold, overdue } => {
                let stalled = hold.kind == HoldKind::Invalid || *overdue;
                (not_ready(stalled), hold.reason.as_str(), hold.message.clone())
            }
        }
    }
}

/// Not ready: stalled until somebody mends it, or still being tried.
fn not_ready(stalled: bool) -> [Truth; 3] {
    let truth = |yes| if yes { Truth::True } else { Truth::False };
    [Truth::False, truth(!stalled), truth(stalled)]
}

/// Whether the object says that it is stalled for this reason.
pub fn is_stalled(host: &RemoteHost, reason: &str) -> bool {
    let said = condition(host, "Stalled");
    said.is_some_and(|stalled| stalled.status == "True" && stalled.reason == reason)
}

/// Whether commands may find the host to be another one than before: its spec has changed, somebody
/// asks to look again, or it became ready or ceased to be.
pub fn is_other(former: &RemoteHost, host: &RemoteHost) -> bool {
    let ready = |host| condition(host, "Ready").map(|c| (&c.status, &c.last_transition_time));
    Word::of(&former.metadata) != Word::of(&host.metadata) || ready(former) != ready(host)
}

/// What people are told when `verdict` takes the place of what `former` shows: each reason why it
/// is not ready once, and that it is ready again.
fn news(former: &RemoteHost, verdict: &Verdict) -> Option<Announcement> {
    let (_, reason, note) = verdict.words();
    let said = condition(former, "Ready").filter(|ready| ready.status != "Unknown");
    let other = said.is_none_or(|ready| ready.reason != reason);
    let unready = said.is_some_and(|ready| ready.status == "False");
    (other && (unready || !verdict.is_ready())).then(|| Announcement {
        warning: !verdict.is_ready(),
        reason: reason.to_owned(),
        action: "Checking",
        note,
    })
}

fn condition<'a>(host: &'a RemoteHost, name: &str) -> Option<&'a Condition> {
    let conditions = host.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == name)
}

/// Writes what is known, if that says something new. Failures are left to the next time.
pub async fn write(
    context: &Context,
    host: &watch::Receiver<Arc<RemoteHost>>,
    finding: &Finding<'_>,
) {
    let mut latest = RemoteHost::clone(&host.borrow());
    let Some(namespace) = latest.namespace() else { return };
    let api = Api::<RemoteHost>::namespaced(context.client.clone(), &namespace);
    let name = latest.name_any();
    let mut pause = Duration::from_millis(200);
    for _ in 0..TRIES {
        let Some(status) = status(&latest, finding) else { return };
        match put(&api, &latest, status).await {
            Ok(()) => {
                let (_, reason, said) = finding.verdict.words();
                info!(namespace, name, reason, said, "status of the host written");
                if let Some(news) = news(&latest, finding.verdict) {
                    context.announcer.tell(latest.object_ref(&()), news);
                }
                return;
            }
            Err(Failure::Missing) => return,
            Err(Failure::Conflict) => {}
            // Repeating it does not help. It is told, and tried again when there is news.
            Err(failure @ Failure::Refused(_)) => {
                warn!(namespace, name, %failure, "status of the host refused");
                let note = format!("its status is not up to date: {failure}");
                let (warning, reason) = (true, "StatusRefused".to_owned());
                let what = Announcement { warning, reason, action: "Showing", note };
                return context.announcer.tell(latest.object_ref(&()), what);
            }
            Err(failure) => {
                warn!(namespace, name, %failure, "status of the host not written yet");
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(Duration::from_secs(5));
            }
        }
        match bounded(api.get_opt(&name)).await {
            Ok(Some(live)) if live.metadata.uid == latest.metadata.uid => latest = live,
            Ok(_) => return,
            Err(_) => {}
        }
    }
}

async fn put(
    api: &Api<RemoteHost>,
    host: &RemoteHost,
    status: RemoteHostStatus,
) -> Result<(), Failure> {
    let name = host.name_any();
    let object = RemoteHost {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: host.metadata.namespace.clone(),
            uid: host.metadata.uid.clone(),
            resource_version: host.metadata.resource_version.clone(),
            ..ObjectMeta::default()
        },
        spec: host.spec.clone(),
        status: Some(status),
    };
    bounded(api.replace_status(&name, &PostParams::default(), &object)).await.map(drop)
}

/// The status that says what is known; `None` when the object says it already.
fn status(host: &RemoteHost, finding: &Finding<'_>) -> Option<RemoteHostStatus> {
    let former = host.status.clone().unwrap_or_default();
    // A number that somebody has raised by hand cannot be taken back, and holds up nothing.
    let generation = host.metadata.generation.unwrap_or_default();
    let observed = generation.max(former.observed_generation);
    let (values, reason, message) = finding.verdict.words();
    let aspects = ["Ready", "Reconciling", "Stalled"].into_iter().zip(values);
    let aspects: Vec<Aspect> = aspects
        .map(|(name, status)| {
            let (reason, message) = (reason.to_owned(), message.clone());
            Aspect { name, status, reason, message }
        })
        .collect();
    let before = former.conditions.as_deref().unwrap_or_default();
    let conditions = conditions(&aspects, before, generation, Timestamp::now());
    let mut status = RemoteHostStatus {
        observed_generation: observed,
        conditions: Some(conditions),
        active_sessions: i32::try_from(finding.sessions).ok(),
        ..former.clone()
    };
    if let Some(connected) = finding.connected {
        status.last_connected_time = Some(seconds(connected));
    }
    if let Verdict::Ready(facts) = finding.verdict {
        status.server_version = Some(printable(&facts.server_version, VERSION_CHARS));
        status.host_key_fingerprint = Some(printable(&facts.host_key_fingerprint, KEY_CHARS));
    }
    (status != former).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_told_and_what_is_told_already_is_not_written() {
        let facts = HostFacts {
            server_version: "SSH-2.0-x".to_owned(),
            host_key_fingerprint: "SHA256:x".to_owned(),
        };
        let object = serde_json::json!({
            "metadata": {"name": "db-1", "namespace": "ns", "generation": 1},
            "spec": {"address": "db-1", "user": "deploy", "hostKeys": {"knownHosts": "x"},
                     "credentials": {"secretRef": {"name": "ssh"}}},
        });
        let mut host: RemoteHost = serde_json::from_value(object).unwrap();
        let verdict = Verdict::Ready(facts);
        let connected = "2026-01-02T03:04:05.678Z".parse::<Timestamp>().unwrap();
        let found = |sessions, later| {
            let connected = Some(connected + Duration::from_secs(later));
            Finding { verdict: &verdict, sessions, connected }
        };
        let mut told = |finding| {
            let status = status(&host, &finding)?;
            // As it comes back from the API server.
            host.status =
                Some(serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap());
            Some((status.active_sessions?, status.last_connected_time?.0.to_string()))
        };
        assert_eq!(told(found(0, 0)), Some((0, "2026-01-02T03:04:05Z".to_owned())));
        assert_eq!(told(found(0, 0)), None);
        assert_eq!(told(found(2, 0)), Some((2, "2026-01-02T03:04:05Z".to_owned())));
        assert_eq!(told(found(2, 60)), Some((2, "2026-01-02T03:05:05Z".to_owned())));
        assert_eq!(told(found(2, 60)), None);
        let unknown = Finding { verdict: &verdict, sessions: 2, connected: None };
        assert_eq!(told(unknown), None, "a new operator has not connected yet");
    }
}
