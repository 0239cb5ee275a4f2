//! RemoteHosts: one real connection when they, or what they refer to, have changed.
//!
//! Apart from that a ready host is checked at most hourly, one with a passing fault with
//! growing pauses, and one with a standing fault only when its Secret or ConfigMap has another
//! version (which is looked at, without reading the content, since there is no watch on
//! Secrets), or every ten minutes: a wrong credential is never hammered.
//! Status is written only when something other than the time of the last connection changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::watcher::Event;
use rand::RngExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::host_status::{self, Verdict};
use super::lookup::Namespace;
use super::supervisor::Context;
use super::wishes::find;
use crate::api::{self, RemoteHost};
use crate::core::connection::Connection;
use crate::core::fault::Cause;
use crate::core::plan::Hold;

/// Between two checks of a host that is ready.
const READY_PERIOD: Duration = Duration::from_secs(3600);
/// Between two checks of a host with a standing fault when nothing it refers to changes.
const STANDING_PERIOD: Duration = Duration::from_secs(600);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// How often what a host refers to is looked at: while it is not ready, and while it is.
const LOOK_PERIODS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The checks of all hosts: one task each, by UID.
pub struct HostChecks {
    context: Arc<Context>,
    checked: HashMap<String, Checked>,
    listed: Vec<RemoteHost>,
}

struct Checked {
    namespace: String,
    name: String,
    host: watch::Sender<Arc<RemoteHost>>,
    /// Counts changes of other hosts of the namespace: one may be a jump host.
    others: watch::Sender<u64>,
    task: AbortHandle,
}

impl HostChecks {
    /// No host yet.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, checked: HashMap::new(), listed: Vec::new() }
    }

    /// Takes note of a change.
    pub fn changed(&mut self, event: Event<RemoteHost>) {
        match event {
            Event::Apply(host) => self.take(host),
            Event::Init => self.listed.clear(),
            Event::InitApply(host) => self.listed.push(host),
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let uids: Vec<_> = listed.iter().filter_map(ResourceExt::uid).collect();
                self.checked.retain(|uid, checked| {
                    let kept = uids.contains(uid);
                    if !kept {
                        checked.task.abort();
                    }
                    kept
                });
                listed.into_iter().for_each(|host| self.take(host));
            }
            Event::Delete(host) => {
                if let Some(checked) = host.uid().and_then(|uid| self.checked.remove(&uid)) {
                    checked.task.abort();
                    self.tell_others(&checked.namespace, &checked.name);
                }
            }
        }
    }

    /// Ends all checks.
    pub async fn shutdown(&mut self) {
        self.checked.drain().for_each(|(_, checked)| checked.task.abort());
        tokio::task::yield_now().await;
    }

    fn take(&mut self, host: RemoteHost) {
        let (Some(uid), Some(namespace)) = (host.uid(), host.namespace()) else { return };
        let name = host.name_any();
        let host = Arc::new(host);
        if let Some(known) = self.checked.get(&uid) {
            let former = known.host.send_replace(Arc::clone(&host));
            if former.metadata.generation != host.metadata.generation {
                self.tell_others(&namespace, &name);
            }
            return;
        }
        let (sender, receiver) = watch::channel(host);
        let (others, changes) = watch::channel(0);
        let check = Check::new(Arc::clone(&self.context), receiver, changes, &namespace);
        let task = tokio::spawn(check.run()).abort_handle();
        self.tell_others(&namespace, &name);
        let checked = Checked { namespace, name, host: sender, others, task };
        self.checked.insert(uid, checked);
    }

    fn tell_others(&self, namespace: &str, name: &str) {
        let others = self.checked.values().filter(|c| c.namespace == namespace && c.name != name);
        others.for_each(|checked| checked.others.send_modify(|changes| *changes += 1));
    }
}

/// The checking of one host.
struct Check {
    context: Arc<Context>,
    host: watch::Receiver<Arc<RemoteHost>>,
    others: watch::Receiver<u64>,
    lookup: Namespace,
    namespace: String,
    pause: Duration,
}

/// What a check was made of. Another one is a reason to check again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Basis {
    way: Result<Connection, Hold>,
    /// Versions of the Secrets and ConfigMaps on the way; `None` for a missing one.
    versions: Vec<Option<String>>,
}

impl Check {
    fn new(
        context: Arc<Context>,
        host: watch::Receiver<Arc<RemoteHost>>,
        others: watch::Receiver<u64>,
        namespace: &str,
    ) -> Self {
        let lookup = Namespace::new(context.client.clone(), namespace);
        let namespace = namespace.to_owned();
        Self { context, host, others, lookup, namespace, pause: FIRST_PAUSE }
    }

    async fn run(mut self) {
        loop {
            let host = self.host.borrow_and_update().clone();
            self.others.borrow_and_update();
            let Some(basis) = self.basis(&host).await else {
                sleep(FIRST_PAUSE).await;
                continue;
            };
            let verdict = self.check(&basis, &host).await;
            let ready = verdict.is_ready();
            let again = Instant::now() + self.again_after(&verdict);
            let sessions = match &basis.way {
                Ok(way) => self.context.hosts.active_sessions(&self.namespace, way),
                Err(_) => 0,
            };
            host_status::write(&self.context.client, &self.host, verdict, sessions).await;
            self.wait(&basis, again, ready).await;
        }
    }

    /// What a check would be made of now; `None` when that cannot be found out.
    async fn basis(&self, host: &RemoteHost) -> Option<Basis> {
        let resolve = |name: &str| find(&self.context.remote_hosts, &self.namespace, name);
        let way = api::connection(&host.spec, &host.name_any(), &resolve);
        let way = way.map_err(|error| error.hold());
        let mut versions = Vec::new();
        for hop in way.iter().flat_map(|way| &way.hops) {
            versions.push(self.lookup.secret_version(&hop.credentials).await.ok()?);
            if let Some((name, _)) = &hop.host_keys.config_map {
                versions.push(self.lookup.config_map_version(name).await.ok()?);
            }
        }
        Some(Basis { way, versions })
    }

    async fn check(&self, basis: &Basis, host: &RemoteHost) -> Verdict {
        let way = match &basis.way {
            Ok(way) => way,
            Err(hold) => return Verdict::Held(hold.clone()),
        };
        let ways = crate::reach::Ways::new(
            Arc::clone(&self.context.hosts),
            &self.namespace,
            Arc::new(self.lookup.clone()),
        );
        match ways.missing(way).await {
            Ok(None) => {}
            Ok(Some(hold)) => return Verdict::Held(hold),
            Err(failure) => debug!(%failure, "what the host refers to could not be looked at"),
        }
        self.context.hosts.poke(&self.namespace, &host.name_any());
        let lookup = Arc::new(self.lookup.clone());
        match self.context.hosts.check(&self.namespace, way, lookup).await {
            Ok(facts) => Verdict::Ready(facts),
            Err(fault) => Verdict::Faulty(fault),
        }
    }

    fn again_after(&mut self, verdict: &Verdict) -> Duration {
        let passing = match verdict {
            Verdict::Faulty(fault) => !matches!(fault.cause, Cause::Standing(_)),
            Verdict::Ready(_) | Verdict::Held(_) => false,
        };
        if !passing {
            self.pause = FIRST_PAUSE;
            return if verdict.is_ready() { READY_PERIOD } else { STANDING_PERIOD };
        }
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        pause.mul_f64(rand::rng().random_range(0.75..=1.25))
    }

    /// Waits until `again`, or until a check would be made of something else.
    async fn wait(&mut self, basis: &Basis, again: Instant, ready: bool) {
        let generation = self.host.borrow().metadata.generation;
        let period = if ready { LOOK_PERIODS.1 } else { LOOK_PERIODS.0 };
        while Instant::now() < again {
            let pause = period.min(again - Instant::now());
            tokio::select! {
                changed = self.host.changed() => {
                    if changed.is_err() {
                        return sleep(READY_PERIOD).await;
                    }
                    if self.host.borrow().metadata.generation == generation {
                        continue;
                    }
                    self.pause = FIRST_PAUSE;
                    return;
                }
                _ = self.others.changed() => {}
                () = sleep(pause) => {}
            }
            let host = self.host.borrow().clone();
            if self.basis(&host).await.is_some_and(|found| found != *basis) {
                self.pause = FIRST_PAUSE;
                return;
            }
        }
    }
}
