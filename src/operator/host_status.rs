//! The status of a RemoteHost, and its writing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::fault::{Failure, bounded};
use crate::api::conditions::{Aspect, conditions};
use crate::api::{RemoteHost, RemoteHostStatus};
use crate::core::fault::{Cause, Fault};
use crate::core::phase::Truth;
use crate::core::plan::{Hold, HoldKind};
use crate::host::HostFacts;

/// How often a status that was not stored for certain is tried again.
const TRIES: u32 = 8;

/// What a check came to.
#[derive(Clone, Debug)]
pub enum Verdict {
    Ready(HostFacts),
    Faulty(Fault),
    /// Something it refers to is missing, or the spec cannot be carried out.
    Held(Hold),
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
            Self::Held(hold) => {
                let stalled = hold.kind == HoldKind::Invalid;
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

/// Writes what a check came to, if that says something new. Failures are left to the next check.
pub async fn write(
    client: &Client,
    host: &watch::Receiver<Arc<RemoteHost>>,
    verdict: Verdict,
    sessions: usize,
) {
    let mut latest = RemoteHost::clone(&host.borrow());
    let Some(namespace) = latest.namespace() else { return };
    let api = Api::<RemoteHost>::namespaced(client.clone(), &namespace);
    let name = latest.name_any();
    let mut pause = Duration::from_millis(200);
    for _ in 0..TRIES {
        let Some(status) = status(&latest, &verdict, sessions) else { return };
        match put(&api, &latest, status).await {
            Ok(()) => {
                let (_, reason, message) = verdict.words();
                return info!(namespace, name, reason, message, "host checked");
            }
            Err(Failure::Missing) => return,
            Err(Failure::Conflict) => {}
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

/// The status that says what the check came to; `None` when the object says it already.
fn status(host: &RemoteHost, verdict: &Verdict, sessions: usize) -> Option<RemoteHostStatus> {
    let former = host.status.clone().unwrap_or_default();
    let generation = host.metadata.generation.unwrap_or_default();
    let (values, reason, message) = verdict.words();
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
        observed_generation: generation,
        conditions: Some(conditions),
        ..former.clone()
    };
    if let Verdict::Ready(facts) = verdict {
        status.server_version = Some(facts.server_version.chars().take(255).collect());
        status.host_key_fingerprint = Some(facts.host_key_fingerprint.clone());
    }
    if status == former {
        return None;
    }
    // These two never are the reason for a write.
    status.active_sessions = i32::try_from(sessions).ok();
    if verdict.is_ready() {
        status.last_connected_time = Some(Time(Timestamp::now()));
    }
    Some(status)
}
