//! The loop that looks at every object that changes: quick, level-triggered, without I/O.
//!
//! It is our own loop over the watches' events and not kube's `Controller`, because there
//! objects are keyed by name (a re-created object is the same one to its queue), a panic
//! ends the program, one back-off holds up all triggers, and deletions trigger nothing. What
//! an object needs is read off its latest version: a finalizer, a supervisor, or nothing.
//!
//! Watches can lose deletions, so supervisors are compared with the store every half minute.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::{Client, Resource, ResourceExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::adding::Adding;
use super::context::Context;
use super::events::Announcement;
use super::fault::{Failure, bounded};
use super::hosts::HostChecks;
use super::registry::{End, Key, Registry};
use super::supervisor::Supervisor;
use super::watch::Watched;
use super::{closing, finalizer, ttl};
use crate::api::{MANAGED_BY, RemoteCommand, RemoteHost};

const SWEEP_PERIOD: Duration = Duration::from_secs(30);

/// How often a finalizer that may not have been stored is tried again.
const FINALIZER_TRIES: u32 = 10;

/// Everything that is known of the objects by this operator while it leads.
pub struct Reconciler {
    context: Arc<Context>,
    commands: Store<RemoteCommand>,
    registry: Registry,
    hosts: HostChecks,
    expiry: ttl::Expiry,
    adding: Adding,
    listed: Vec<Arc<RemoteCommand>>,
    /// Orphans being looked up.
    looking: JoinSet<(Key, Result<Option<RemoteCommand>, Failure>)>,
}

impl Reconciler {
    /// Nothing is looked at before [`Reconciler::run`].
    pub fn new(context: Arc<Context>, commands: Store<RemoteCommand>) -> Self {
        Self {
            hosts: HostChecks::new(Arc::clone(&context)),
            context,
            commands,
            registry: Registry::default(),
            expiry: ttl::Expiry::default(),
            adding: Adding::default(),
            listed: Vec::new(),
            looking: JoinSet::new(),
        }
    }

    /// Looks at everything that changes, for ever. Dropping the future stops looking;
    /// supervisors go on until [`Reconciler::finish`].
    pub async fn run(
        &mut self,
        mut commands: Watched<RemoteCommand>,
        mut hosts: Watched<RemoteHost>,
    ) {
        // Commands are looked at once all hosts are known, or theirs would seem to be missing.
        while let Some(event) = hosts.events.next().await {
            let listed = matches!(event, Event::InitDone);
            self.host_changed(event);
            if listed {
                break;
            }
        }
        let mut sweep = interval(SWEEP_PERIOD);
        loop {
            let expiry = self.next_expiry();
            tokio::select! {
                Some(event) = commands.events.next() => self.command_changed(event),
                Some(event) = hosts.events.next() => self.host_changed(event),
                // Not `Some(ended)`: one that was stopped would leave those that end after it
                // unnoticed until something else happens.
                ended = self.registry.ended() => if let Some(ended) = ended {
                    self.supervisor_ended(ended);
                },
                object = self.adding.ended() => self.finalizer_tried(&object),
                Some(Ok((key, found))) = self.looking.join_next() => self.orphan_found(&key, found),
                _ = sweep.tick() => self.sweep(),
                () = sleep_until(expiry) => self.expire(),
            }
        }
    }

    /// Ends all supervision: `limit` is given to finish the turn that each is in.
    pub async fn finish(&mut self, limit: Duration) {
        self.context.stop.cancel();
        if tokio::time::timeout(limit, self.registry.all_ended()).await.is_err() {
            warn!("some supervisors did not end in time");
        }
        self.registry.shutdown().await;
        self.hosts.shutdown().await;
        self.adding.shutdown().await;
        self.looking.shutdown().await;
    }

    fn command_changed(&mut self, event: Event<RemoteCommand>) {
        match event {
            Event::Apply(object) => self.consider(Arc::new(object)),
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => self.listed.push(Arc::new(object)),
            Event::InitDone => self.all_listed(),
            Event::Delete(object) => {
                if let Some(key) = Key::of(&object) {
                    closing::mourn(&self.context, &object);
                    self.forget(&key);
                }
            }
        }
    }

    /// Commands that live on a host are first, so that they have their places before anybody
    /// else asks for one; the others come in the order in which they were created.
    fn all_listed(&mut self) {
        let mut listed = std::mem::take(&mut self.listed);
        listed.sort_by_cached_key(|object| {
            let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (!super::stage::is_live(object), created, object.name_any())
        });
        info!(objects = listed.len(), "all commands listed");
        for object in listed {
            self.consider(object);
        }
        self.keep_what_is_there();
        self.sweep();
    }

    /// What an object needs, by its latest version.
    fn consider(&mut self, object: Arc<RemoteCommand>) {
        let Some(key) = Key::of(&object) else { return };
        if object.spec.managed_by != MANAGED_BY {
            return;
        }
        self.expiry.note(&object);
        let deleting = object.metadata.deletion_timestamp.is_some();
        match (finalizer::is_on(&object), deleting) {
            (true, _) => {
                let context = Arc::clone(&self.context);
                context.words.heed(&object, &context.hosts, &context.remote_hosts);
                self.registry.show(object, |seat| Supervisor::new(context, seat).run());
            }
            // Somebody removed our finalizer: nothing holds the object any more.
            (false, true) => {
                closing::mourn(&self.context, &object);
                self.forget(&key);
            }
            (false, false) => self.add_finalizer(object),
        }
    }

    fn supervisor_ended(&mut self, ended: End) {
        match ended {
            End::Rested(key) => self.forget_status(&key),
            End::Outdated(object) => self.consider(object),
            End::Panicked(object) => {
                let announcement = Announcement {
                    warning: true,
                    reason: "InternalError".to_owned(),
                    action: "Supervise",
                    note: "a fault of the operator's ended the supervision of this command; it is \
                           taken up again in a minute, and what runs on the host is not touched"
                        .to_owned(),
                };
                self.context.announcer.tell(object.object_ref(&()), announcement);
            }
        }
    }

    fn add_finalizer(&mut self, object: Arc<RemoteCommand>) {
        let (client, added) = (self.context.client.clone(), Arc::clone(&object));
        self.adding.begin(object, || async move {
            debug!(name = added.name_any(), "the finalizer is being added");
            keep_adding(client, &added).await;
        });
    }

    /// A version that was not looked at while the finalizer was being added is looked at now.
    fn finalizer_tried(&mut self, tried: &RemoteCommand) {
        let Some(stored) = self.commands.get(&ObjectRef::from_obj(tried)) else { return };
        if stored.metadata.resource_version != tried.metadata.resource_version {
            self.consider(stored);
        }
    }

    fn host_changed(&mut self, event: Event<RemoteHost>) {
        for namespace in self.hosts.changed(event) {
            self.registry.poke(&namespace);
        }
    }

    fn forget(&mut self, key: &Key) {
        self.registry.stop(&key.uid);
        self.expiry.forget(&key.uid);
        self.context.output.marks.forget(&key.uid);
        self.context.swept.forget(&key.uid);
        self.context.disputes.forget(&key.uid);
        self.context.words.forget(&key.uid);
        // One that was deleted while it ran, or in doubt, had no sweep.
        self.context.hosts.forget(&key.namespace, &key.uid);
        self.forget_status(key);
    }

    fn forget_status(&self, key: &Key) {
        let (writer, uid) = (self.context.writer.clone(), key.uid.clone());
        tokio::spawn(async move { writer.forget(uid).await });
    }

    /// Forgets the objects whose deletion no watch has told of. Those that are supervised are
    /// looked for first, by the sweep.
    fn keep_what_is_there(&mut self) {
        let stored = self.commands.state();
        let mut there: HashSet<String> = stored.iter().filter_map(|object| object.uid()).collect();
        there.extend(self.registry.keys().map(|key| key.uid.clone()));
        self.expiry.keep(&there);
        self.context.swept.keep(&there);
        self.context.disputes.keep(&there);
        self.context.words.keep(&there);
        if let Err(failure) = self.context.output.marks.keep(&there) {
            warn!(%failure, "marks of objects that are gone were not removed");
        }
    }

    /// Compares supervisors with the store, and makes up for what was lost on the way.
    fn sweep(&mut self) {
        for object in self.registry.rested() {
            self.consider(object);
        }
        let stored = self.commands.state();
        let uids: HashSet<String> = stored.iter().filter_map(|object| object.uid()).collect();
        for key in self.registry.keys().filter(|key| !uids.contains(&key.uid)) {
            let (client, key) = (self.context.client.clone(), key.clone());
            self.looking.spawn(async move {
                let api = Api::<RemoteCommand>::namespaced(client, &key.namespace);
                let found = bounded(api.get_opt(&key.name)).await;
                (key, found)
            });
        }
        for object in stored {
            self.expiry.note(&object);
            if !finalizer::is_on(&object) && object.metadata.deletion_timestamp.is_none() {
                self.consider(object);
            }
        }
    }

    /// A supervised object that the store does not have: gone, or the store is behind.
    fn orphan_found(&mut self, key: &Key, found: Result<Option<RemoteCommand>, Failure>) {
        match found {
            Ok(Some(live)) if live.uid().as_deref() == Some(key.uid.as_str()) => {
                self.consider(Arc::new(live));
            }
            Ok(_) => {
                info!(namespace = key.namespace, name = key.name, "its deletion was not seen");
                self.forget(key);
            }
            Err(failure) => warn!(namespace = key.namespace, name = key.name, %failure, "orphan?"),
        }
    }

    fn next_expiry(&self) -> Instant {
        let now = Timestamp::now();
        let wait = self.expiry.next().map(|moment| now.duration_until(moment));
        let wait = wait.map(|wait| Duration::try_from(wait).unwrap_or_default());
        Instant::now() + wait.unwrap_or(SWEEP_PERIOD)
    }

    fn expire(&mut self) {
        for key in self.expiry.take(Timestamp::now()) {
            tokio::spawn(ttl::expire(self.context.client.clone(), key));
        }
    }
}

/// Adds the finalizer; goes on a while where nobody can tell whether it was stored.
async fn keep_adding(client: Client, object: &RemoteCommand) {
    let mut pause = Duration::from_millis(200);
    for _ in 0..FINALIZER_TRIES {
        match finalizer::add(client.clone(), object).await {
            Err(Failure::Doubtful(_) | Failure::Busy) => sleep(pause).await,
            Err(Failure::Missing | Failure::Conflict | Failure::Exists) | Ok(()) => return,
            Err(failure @ Failure::Refused(_)) => {
                let (namespace, name) = (object.namespace(), object.name_any());
                warn!(?namespace, name, %failure, "finalizer not added");
                return;
            }
        }
        pause = pause.saturating_mul(2).min(Duration::from_secs(5));
    }
}
