//! The watches: what the API server shows, as a store and a stream of changes.
//!
//! Each kind has its own watch with its own back-off; errors are logged and counted here and
//! go no further, so that one failing watch never holds up another. An object that cannot be
//! read (written by a newer version) is logged and left out, instead of hiding all others.
//!
//! The list is a quorum read (no `resourceVersion=0`), so a restarted operator never sees a
//! state older than the one its predecessor acted on.
//!
//! A connection can die without a word: a silent watch is renewed after a while, and the client
//! gives up a list, or the beginning of a watch, that gets no answer for a little longer.

use std::fmt::Debug;
use std::future::ready;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, NamespaceResourceScope};
use kube::runtime::reflector::{self, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, reflector as reflect, watcher as start};
use kube::{Client, Resource, ResourceExt};
use rand::RngExt;
use serde::de::DeserializeOwned;
use tracing::{error, warn};

use crate::core::foreign::foreign;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How much longer than a watch a connection may be silent: the API server ends a watch at its
/// time, and no sooner.
pub const MARGIN: Duration = Duration::from_secs(5);

/// How often watches have failed since the start, all kinds together.
pub static FAILURES: AtomicU64 = AtomicU64::new(0);

/// What one kind's watch gives.
pub struct Watched<K: Resource<DynamicType = ()> + 'static> {
    pub store: Store<K>,
    pub events: BoxStream<'static, Event<K>>,
}

/// What is watched, and how patiently.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `None` for all namespaces.
    pub namespace: Option<&'a str>,
    /// How long a watch lasts. Whole seconds.
    pub timeout: Duration,
}

/// Watches the objects of `K` in `scope`. The client bounds how long nothing may arrive.
pub fn watch<K>(client: Client, scope: &Scope<'_>) -> Watched<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let resource = ApiResource::erase::<K>(&());
    let api = match scope.namespace {
        Some(name) => Api::<DynamicObject>::namespaced_with(client, name, &resource),
        None => Api::<DynamicObject>::all_with(client, &resource),
    };
    let (store, writer) = reflector::store();
    let timeout = u32::try_from(scope.timeout.as_secs()).unwrap_or(u32::MAX);
    let config = watcher::Config::default().timeout(timeout);
    let events = readable::<K>(start(api, config).backoff(Pause::default()));
    let events = reflect(writer, events.map(Ok)).filter_map(|event| ready(event.ok()));
    Watched { store, events: events.boxed() }
}

/// The events whose objects can be read as `K`.
fn readable<K>(
    events: impl Stream<Item = watcher::Result<Event<DynamicObject>>>,
) -> impl Stream<Item = Event<K>>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    events.filter_map(|event| {
        ready(match event {
            Ok(Event::Apply(object)) => read(object).map(Event::Apply),
            Ok(Event::InitApply(object)) => read(object).map(Event::InitApply),
            Ok(Event::Delete(object)) => read(object).map(Event::Delete),
            Ok(Event::Init) => Some(Event::Init),
            Ok(Event::InitDone) => Some(Event::InitDone),
            Err(failure) => {
                FAILURES.fetch_add(1, Ordering::Relaxed);
                let why = foreign(&failure.to_string());
                warn!(kind = %K::kind(&()), why, "watch failed; trying again");
                None
            }
        })
    })
}

fn read<K>(mut object: DynamicObject) -> Option<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    // The largest part of many objects, and of no use here.
    object.metadata.managed_fields = None;
    let (namespace, name) = (object.namespace(), object.name_any());
    match object.try_parse() {
        Ok(object) => Some(object),
        Err(failure) => {
            // The values that do not fit are in it.
            let why = foreign(&failure.to_string());
            error!(kind = %K::kind(&()), ?namespace, name, why, "object cannot be read");
            None
        }
    }
}

/// Doubling pauses with jitter, short enough that a restarted API server is noticed soon.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = pause.saturating_mul(2).min(LONGEST_PAUSE);
        Some(pause.mul_f64(rand::rng().random_range(0.5..=1.0)))
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {
        *self = Self::default();
    }
}
