//! The checking of one RemoteHost: by a connection of its own, and by the use others make of it.
//!
//! A host is checked when it, or what it refers to, has changed. From then on commands check
//! it: every connection they make or fail to make is heard of. One that was made is as good as
//! a check; one that failed is a reason to check, as the command may have had limits of its
//! own. Without any use a ready host is checked hourly, one with a passing fault with growing
//! pauses, and one with a standing fault every ten minutes: a wrong credential is never
//! hammered. An account that may not be used is looked at each minute: that offers a credential
//! that is accepted. There is no watch on Secrets, so the versions of what the host refers to are
//! looked at now and then, without their content.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::asking::Word;
use super::context::Context;
use super::fault::Failure;
use super::host_status::{self, Finding, Verdict};
use super::host_use::{Listener, Woken};
use super::lookup::Namespace;
use super::wishes::find;
use crate::api::{self, RemoteHost};
use crate::core::connection::Connection;
use crate::core::decide::MISSING_GRACE;
use crate::core::fault::{Cause, Standing};
use crate::core::plan::{Hold, HoldKind};
use crate::host::contact::Contact;
use crate::reach::Ways;

/// Between two checks of a ready host that nobody uses.
const READY_PERIOD: Duration = Duration::from_secs(3600);
/// Between two checks of a host with a standing fault when nothing it refers to changes.
const STANDING_PERIOD: Duration = Duration::from_secs(600);
/// The same of what is mended on the host itself: an account that may not be used.
const MENDED_THERE_PERIOD: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// How often what a ready host refers to is looked at.
const READY_LOOK: Duration = Duration::from_secs(300);
/// The same for a host that is not ready: soon, and then ever more rarely.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// How often the use of a host is told, if it has changed.
const USE_PERIOD: Duration = Duration::from_secs(30);
/// Between two checks that failed connections of others are the reason for.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// What is shown to the check of one host.
#[derive(Clone)]
pub struct View {
    pub namespace: String,
    pub host: watch::Receiver<Arc<RemoteHost>>,
    /// Counts changes of other hosts of the namespace: one may be a jump host.
    pub others: watch::Receiver<u64>,
}

/// The checking of one host.
pub struct Check {
    context: Arc<Context>,
    view: View,
    lookup: Namespace,
    /// What the last check was made of.
    last: Option<Basis>,
    /// The host is new: what is remembered of its way is of another one.
    fresh: bool,
    pause: Duration,
    look: Duration,
    patience: Patience,
    /// Of the object that the check under way is about.
    word: Word,
}

/// What a check is made of. Another one is a reason to check again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Basis {
    way: Result<Connection, Hold>,
    /// Of the Secrets and ConfigMaps on the way.
    versions: Vec<Version>,
}

impl Basis {
    /// Whether all that is referred to is there.
    fn is_complete(&self) -> bool {
        let there = |version: &Version| matches!(version, Version::Seen(Some(_)));
        self.way.is_ok() && self.versions.iter().all(there)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Version {
    /// `None`: there is no such object.
    Seen(Option<String>),
    /// The operator may not look at it, and why.
    Denied(String),
}

/// Something the host refers to that is not there: why, and until when it is expected to come.
#[derive(Default)]
struct Patience(Option<(String, Instant)>);

impl Check {
    /// A check of the host in `view`. `fresh` for one that was just created.
    pub fn new(context: Arc<Context>, view: View, fresh: bool) -> Self {
        let lookup = context.lookup(&view.namespace);
        let (pause, look) = (FIRST_PAUSE, FIRST_PAUSE);
        let patience = Patience::default();
        let word = Word::of(&view.host.borrow().metadata);
        let last = None;
        Self { context, view, lookup, last, fresh, pause, look, patience, word }
    }

    /// Checks, for ever.
    pub async fn run(mut self) {
        loop {
            let host = self.view.host.borrow_and_update().clone();
            self.word = Word::of(&host.metadata);
            self.view.others.borrow_and_update();
            let Some(basis) = self.basis(&host).await else {
                sleep(jittered(FIRST_PAUSE)).await;
                continue;
            };
            self.note(&basis, &host);
            let mut listener = self.contact(&basis).map(Listener::new);
            let mut latest = self.view.host.clone();
            let word = self.word.clone();
            let mut verdict = tokio::select! {
                verdict = self.check(&basis, &host) => verdict,
                // What a check would be made of is no longer the same, or somebody asks anew.
                Ok(_) = latest.wait_for(|host| Word::of(&host.metadata) != word) => continue,
            };
            // Its own try is no news.
            listener.iter_mut().for_each(Listener::forget);
            let checked = Instant::now();
            let mut again = checked + self.again_after(&verdict);
            loop {
                self.tell(&basis, &verdict).await;
                match self.wait(&basis, &verdict, listener.as_mut(), again).await {
                    Woken::Due => break,
                    Woken::Used(facts) => {
                        verdict = Verdict::Ready(facts);
                        again = Instant::now() + self.again_after(&verdict);
                    }
                }
            }
            sleep_until(checked + SHORTEST_PAUSE).await;
        }
    }

    /// What a check would be made of now; `None` when that cannot be found out.
    async fn basis(&self, host: &RemoteHost) -> Option<Basis> {
        let namespace = &self.view.namespace;
        let resolve = |name: &str| find(&self.context.remote_hosts, namespace, name);
        let own = host.metadata.name.as_deref().unwrap_or_default();
        let way = api::connection(&host.spec, own, &resolve);
        let way = way.map_err(|error| error.hold());
        let mut versions = Vec::new();
        for hop in way.iter().flat_map(|way| &way.hops) {
            let secret = self.lookup.secret_version(&hop.credentials).await;
            versions.push(version("secret", &hop.credentials, secret)?);
            if let Some((name, _)) = &hop.host_keys.config_map {
                let map = self.lookup.config_map_version(name).await;
                versions.push(version("config map", name, map)?);
            }
        }
        Some(Basis { way, versions })
    }

    /// Begins anew with connections and pauses when a check would be made of something else
    /// than the last one. Connections that stand are kept while something is missing: there
    /// would be no others, and what runs is still to be followed and stopped over them.
    fn note(&mut self, basis: &Basis, host: &RemoteHost) {
        let changed = self.last.as_ref().is_some_and(|last| last != basis);
        if changed || self.fresh {
            (self.pause, self.look) = (FIRST_PAUSE, FIRST_PAUSE);
        }
        if (changed || self.fresh) && basis.is_complete() {
            self.fresh = false;
            let name = host.metadata.name.as_deref().unwrap_or_default();
            self.context.hosts.poke(&self.view.namespace, name);
        }
        self.last = Some(basis.clone());
    }

    fn contact(&self, basis: &Basis) -> Option<watch::Receiver<Contact>> {
        let way = basis.way.as_ref().ok()?;
        Some(self.context.hosts.contact(&self.view.namespace, way))
    }

    async fn check(&mut self, basis: &Basis, host: &RemoteHost) -> Verdict {
        let way = match &basis.way {
            Ok(way) => way,
            Err(hold) => return self.patience.with(hold.clone(), host),
        };
        let denied = basis.versions.iter().find_map(|version| match version {
            Version::Denied(message) => Some(message.clone()),
            Version::Seen(_) => None,
        });
        if let Some(message) = denied {
            let (kind, reason) = (HoldKind::Invalid, "PolicyDenied".to_owned());
            return self.patience.with(Hold { kind, reason, message }, host);
        }
        let (hosts, lookup) = (Arc::clone(&self.context.hosts), Arc::new(self.lookup.clone()));
        let ways = Ways::new(Arc::clone(&hosts), &self.view.namespace, lookup.clone());
        match ways.missing(way).await {
            Ok(None) => {}
            Ok(Some(hold)) => return self.patience.with(hold, host),
            Err(failure) => debug!(%failure, "what the host refers to could not be looked at"),
        }
        self.patience = Patience::default();
        match hosts.check(&self.view.namespace, way, lookup).await {
            Ok(facts) => Verdict::Ready(facts),
            Err(fault) => Verdict::Faulty(fault),
        }
    }

    fn again_after(&mut self, verdict: &Verdict) -> Duration {
        let standing = match verdict {
            Verdict::Ready(_) => {
                (self.pause, self.look) = (FIRST_PAUSE, FIRST_PAUSE);
                return READY_PERIOD;
            }
            Verdict::Held { .. } => self.patience.left().unwrap_or(STANDING_PERIOD),
            Verdict::Faulty(fault) if fault.cause == Cause::Standing(Standing::HostUnusable) => {
                MENDED_THERE_PERIOD
            }
            Verdict::Faulty(fault) if matches!(fault.cause, Cause::Standing(_)) => STANDING_PERIOD,
            Verdict::Faulty(_) => {
                let pause = self.pause;
                self.pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                return jittered(pause);
            }
        };
        self.pause = FIRST_PAUSE;
        standing
    }

    /// Writes what is known now, if the object does not say it already.
    async fn tell(&self, basis: &Basis, verdict: &Verdict) {
        let (hosts, namespace) = (&self.context.hosts, &self.view.namespace);
        let way = basis.way.as_ref().ok();
        let sessions = way.map_or(0, |way| hosts.active_sessions(namespace, way));
        let connected = self.contact(basis).and_then(|contact| contact.borrow().connected);
        let finding = Finding { verdict, sessions, connected };
        host_status::write(&self.context, &self.view.host, &finding).await;
    }

    /// Waits until `again`, until a check would be made of something else, or until somebody
    /// has learned of the host what is not in `verdict`. Tells how it is used meanwhile.
    async fn wait(
        &mut self,
        basis: &Basis,
        verdict: &Verdict,
        mut listener: Option<&mut Listener>,
        mut again: Instant,
    ) -> Woken {
        let mut look_at = Instant::now() + self.next_look(verdict);
        let mut tell_at = Instant::now() + jittered(USE_PERIOD);
        loop {
            tokio::select! {
                changed = self.view.host.changed() => {
                    if changed.is_err() {
                        // The host is gone, and this check about to be ended.
                        return std::future::pending().await;
                    }
                    if Word::of(&self.view.host.borrow().metadata) == self.word {
                        continue;
                    }
                    return Woken::Due;
                }
                woken = learned(listener.as_deref_mut(), verdict) => {
                    if !woken.says_nothing_new(verdict) {
                        return woken;
                    }
                    // As good as a check; that it is in use is told in time.
                    again = Instant::now() + READY_PERIOD;
                    continue;
                }
                _ = self.view.others.changed() => {}
                () = sleep_until(look_at) => {}
                () = sleep_until(tell_at) => {
                    self.tell(basis, verdict).await;
                    tell_at = Instant::now() + jittered(USE_PERIOD);
                    continue;
                }
                () = sleep_until(again) => return Woken::Due,
            }
            let host = self.view.host.borrow().clone();
            if self.basis(&host).await.is_some_and(|found| found != *basis) {
                return Woken::Due;
            }
            look_at = Instant::now() + self.next_look(verdict);
        }
    }

    fn next_look(&mut self, verdict: &Verdict) -> Duration {
        if verdict.is_ready() {
            return jittered(READY_LOOK);
        }
        let look = self.look;
        self.look = look.saturating_mul(2).min(LONGEST_LOOK);
        jittered(look)
    }
}

impl Patience {
    /// What keeps the host from being used; overdue when it has been missing for long. What a
    /// former operator found overdue still is.
    fn with(&mut self, hold: Hold, host: &RemoteHost) -> Verdict {
        let known = self.0.take().filter(|(reason, _)| *reason == hold.reason);
        if hold.kind == HoldKind::Missing {
            let grace = || {
                let stalled = host_status::is_stalled(host, &hold.reason);
                if stalled { Duration::ZERO } else { MISSING_GRACE }
            };
            let known = known.unwrap_or_else(|| (hold.reason.clone(), Instant::now() + grace()));
            self.0 = Some(known);
        }
        let overdue = self.0.is_some() && self.left().is_none();
        Verdict::Held { hold, overdue }
    }

    /// How long it is still expected; `None` when it is not, or when nothing is missing.
    fn left(&self) -> Option<Duration> {
        let (_, until) = self.0.as_ref()?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

/// As [`Listener::learned`]; nothing is heard of a host that cannot be reached in any way.
async fn learned(listener: Option<&mut Listener>, verdict: &Verdict) -> Woken {
    match listener {
        Some(listener) => listener.learned(verdict).await,
        None => std::future::pending().await,
    }
}

/// `None` when the object could not be asked for.
fn version(kind: &str, name: &str, found: Result<Option<String>, Failure>) -> Option<Version> {
    match found {
        Ok(version) => Some(Version::Seen(version)),
        Err(Failure::Missing) => Some(Version::Seen(None)),
        Err(Failure::Refused(why)) => {
            Some(Version::Denied(format!("{kind} {name:?} may not be read: {why}")))
        }
        Err(Failure::Conflict | Failure::Exists | Failure::Busy | Failure::Doubtful(_)) => None,
    }
}

/// A quarter more or less, so that many checks do not come to be made at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..=1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(stalled_for: &str) -> RemoteHost {
        let condition = |name: &str, status: &str| {
            serde_json::json!({"type": name, "status": status, "reason": stalled_for, "message": "",
                               "lastTransitionTime": "2026-01-02T03:04:05Z"})
        };
        let conditions = [condition("Ready", "False"), condition("Stalled", "True")];
        let object = serde_json::json!({
            "metadata": {"name": "db-1", "namespace": "ns"},
            "spec": {"address": "db-1", "user": "deploy", "hostKeys": {"knownHosts": "x"},
                     "credentials": {"secretRef": {"name": "ssh"}}},
            "status": {"conditions": conditions},
        });
        serde_json::from_value(object).unwrap()
    }

    fn missing(reason: &str) -> Hold {
        let message = "secret does not exist".to_owned();
        Hold { kind: HoldKind::Missing, reason: reason.to_owned(), message }
    }

    fn overdue(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Held { overdue: true, .. })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_expected_for_two_minutes_and_then_overdue() {
        let (host, mut patience) = (host("ConnectionRefused"), Patience::default());
        assert!(!overdue(&patience.with(missing("SecretNotFound"), &host)));
        assert_eq!(patience.left(), Some(MISSING_GRACE));
        tokio::time::advance(MISSING_GRACE / 2).await;
        assert!(!overdue(&patience.with(missing("SecretNotFound"), &host)));
        tokio::time::advance(MISSING_GRACE / 2).await;
        assert!(overdue(&patience.with(missing("SecretNotFound"), &host)));
        assert!(!overdue(&patience.with(missing("ConfigMapNotFound"), &host)), "another thing");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_former_operator_found_overdue_still_is() {
        let host = host("SecretNotFound");
        assert!(overdue(&Patience::default().with(missing("SecretNotFound"), &host)));
        assert!(!overdue(&Patience::default().with(missing("HostNotFound"), &host)));
    }
}
