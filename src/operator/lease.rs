//! Who acts: leadership by a Lease, so that one operator of several does the work.
//!
//! A Lease is not a fence, and nothing here is what makes a command start at most once:
//! that is the resourceVersion of every status write and the claim on the host. The
//! Lease keeps two operators from getting in each other's way.
//!
//! Every write carries the resourceVersion that was read, so two candidates cannot both win,
//! and only the fields it means to change. Clocks of different machines are never compared: a
//! lease has run out when its record did not change for its whole duration on the *local*
//! monotonic clock. Each term of a holder has its number (`leaseTransitions`), so that a process whose own
//! identity was taken over by its successor notices. A term that this state directory knows
//! to have been its own is taken up again at once: its process cannot be alive. The identity
//! alone proves nothing, as two operators may have been given the same.
//!
//! A holder that cannot reach the API server keeps its term: nobody else can take it
//! there either, and without that server no stage can be saved, so nothing new starts.
//! It asks again until it learns who holds the Lease.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::fault::{Failure, bounded};

/// What a term is measured by.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The Lease's name.
    pub name: String,
    /// Who we are.
    pub identity: String,
    /// Where the last term of ours is noted, to be known again after a restart.
    pub note: PathBuf,
    /// Whole seconds: how long others must see no renewal before they may take over.
    pub duration: Duration,
    /// How long renewals may fail before the term is called doubtful.
    pub renew_deadline: Duration,
    /// Pause between two tries.
    pub retry_period: Duration,
}

/// A candidate for, or the holder of, the Lease.
#[derive(Debug)]
pub struct Leadership {
    api: Api<Lease>,
    terms: Terms,
    seen: Option<Observed>,
    held: Option<Lease>,
}

/// The last record seen, and when it was first seen like that.
#[derive(Debug)]
struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

/// What a candidate may do about a Lease.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// Nobody holds it, its holder's time has run out, or it is known to be our own.
    Free,
    /// Somebody else holds it.
    Taken,
}

impl Leadership {
    /// A candidate for the Lease in the namespace of `api`. `api`'s client must not retry writes.
    pub fn new(api: Api<Lease>, terms: Terms) -> Self {
        Self { api, terms, seen: None, held: None }
    }

    /// Waits until the Lease is ours, however long that takes.
    pub async fn acquire(&mut self) {
        loop {
            match self.try_acquire().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(failure) => warn!(%failure, "the lease could not be asked for"),
            }
            sleep(self.terms.retry_period).await;
        }
    }

    /// Renews the Lease until somebody else holds it.
    pub async fn hold(&mut self) {
        let mut renewed = Instant::now();
        let mut doubtful = false;
        loop {
            sleep(self.terms.retry_period).await;
            match self.renew().await {
                Ok(true) => {
                    if std::mem::take(&mut doubtful) {
                        info!("leadership is certain again");
                    }
                    renewed = Instant::now();
                }
                Ok(false) => return,
                Err(failure) => {
                    debug!(%failure, "the lease could not be renewed");
                    if !doubtful && renewed.elapsed() > self.terms.renew_deadline {
                        warn!(%failure, "leadership is in doubt");
                        doubtful = true;
                    }
                }
            }
        }
    }

    /// Gives the Lease up, so that the next operator need not wait for it to run out.
    /// Does nothing when it is in other hands.
    pub async fn release(&mut self) {
        let Some(lease) = &self.held else { return };
        let nobody = json!({
            "holderIdentity": null,
            "leaseDurationSeconds": 1,
            "renewTime": MicroTime(Timestamp::now()),
        });
        let mut released = self.change(lease, nobody.clone()).await;
        // The renewal that was under way when we were asked to end may have been stored.
        if released == Err(Failure::Conflict)
            && matches!(self.recover().await, Ok(true))
            && let Some(lease) = &self.held
        {
            released = self.change(lease, nobody).await;
        }
        self.held = None;
        match released {
            Ok(_) => info!("lease released"),
            Err(failure) => warn!(%failure, "the lease was not released and must run out"),
        }
    }

    async fn try_acquire(&mut self) -> Result<bool, Failure> {
        let Some(lease) = self.read().await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.terms.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.term(None)),
            };
            let made = bounded(self.api.create(&PostParams::default(), &lease)).await;
            return self.keep(made);
        };
        if self.standing(&lease) == Standing::Taken {
            return Ok(false);
        }
        let term = json!(self.term(lease.spec.as_ref()));
        let changed = self.change(&lease, term).await;
        self.keep(changed)
    }

    /// One renewal; false when the Lease is in other hands.
    async fn renew(&mut self) -> Result<bool, Failure> {
        let Some(lease) = &self.held else { return Ok(false) };
        let renewal = json!({"renewTime": MicroTime(Timestamp::now())});
        match self.change(lease, renewal).await {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(true)
            }
            // A renewal whose answer was lost conflicts with itself: look who holds it.
            Err(Failure::Conflict | Failure::Missing) => self.recover().await,
            Err(failure) => Err(failure),
        }
    }

    /// Changes these fields of exactly this version of the Lease.
    async fn change(&self, lease: &Lease, spec: Value) -> Result<Lease, Failure> {
        let version = &lease.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": spec});
        let (name, params) = (&self.terms.name, PatchParams::default());
        bounded(self.api.patch(name, &params, &Patch::Merge(patch))).await
    }

    /// Takes up our own term again if the stored Lease still shows it.
    async fn recover(&mut self) -> Result<bool, Failure> {
        let Some(stored) = self.read().await? else {
            self.held = None;
            return self.try_acquire().await;
        };
        let ours = self.held.as_ref().and_then(|lease| lease.spec.as_ref());
        let theirs = stored.spec.as_ref();
        let same = ours.zip(theirs).is_some_and(|(ours, theirs)| {
            ours.holder_identity == theirs.holder_identity
                && ours.lease_transitions == theirs.lease_transitions
        });
        if same {
            self.held = Some(stored);
        } else {
            let holder = theirs.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
            warn!(holder, "the lease is in other hands");
            self.held = None;
        }
        Ok(same)
    }

    async fn read(&self) -> Result<Option<Lease>, Failure> {
        bounded(self.api.get_opt(&self.terms.name)).await
    }

    /// Takes the answer to a write that would make the Lease ours.
    fn keep(&mut self, answer: Result<Lease, Failure>) -> Result<bool, Failure> {
        match answer {
            Ok(lease) => {
                info!(identity = self.terms.identity, "leading");
                if let Err(failure) = fs::write(&self.terms.note, mark(&lease)) {
                    warn!(%failure, "the term is not noted; after a restart it must run out");
                }
                self.held = Some(lease);
                Ok(true)
            }
            // Somebody was quicker, or our own write was stored and its answer lost; in
            // both cases the next look tells.
            Err(Failure::Conflict | Failure::Exists) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Whether the Lease may be taken, after noting what it looks like.
    fn standing(&mut self, lease: &Lease) -> Standing {
        let spec = lease.spec.clone().unwrap_or_default();
        let since = match &self.seen {
            Some(seen) if seen.spec == spec => seen.since,
            _ => Instant::now(),
        };
        self.seen = Some(Observed { spec: spec.clone(), since });
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || (holder == self.terms.identity && self.is_own(lease)) {
            return Standing::Free;
        }
        let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        let duration = seconds.map_or(self.terms.duration, Duration::from_secs);
        if since.elapsed() >= duration { Standing::Free } else { Standing::Taken }
    }

    /// Whether the term is one that this state directory's operator began. Nobody else can
    /// use the directory while we do.
    fn is_own(&self, lease: &Lease) -> bool {
        fs::read_to_string(&self.terms.note).is_ok_and(|noted| noted == mark(lease))
    }

    /// A new term of ours, after the one stored.
    fn term(&self, former: Option<&LeaseSpec>) -> LeaseSpec {
        let transitions = former.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        let moment = MicroTime(Timestamp::now());
        LeaseSpec {
            acquire_time: Some(moment.clone()),
            holder_identity: Some(self.terms.identity.clone()),
            lease_duration_seconds: i32::try_from(self.terms.duration.as_secs()).ok(),
            lease_transitions: Some(transitions.saturating_add(1)),
            preferred_holder: None,
            renew_time: Some(moment),
            strategy: None,
        }
    }
}

/// Names one term of one Lease.
fn mark(lease: &Lease) -> String {
    let spec = lease.spec.as_ref();
    let term = spec.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    format!("{} {term} {holder}\n", lease.uid().unwrap_or_default())
}

#[cfg(test)]
mod tests;
