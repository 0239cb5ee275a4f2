//! RemoteHosts: one check for each, by UID, for as long as it exists.
//!
//! What a check does is in [`host_check`](super::host_check). A panic ends one check, and it
//! begins anew after a while.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::ResourceExt;
use kube::runtime::watcher::Event;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tracing::error;

use super::asking::Word;
use super::context::Context;
use super::host_check::{Check, View};
use super::host_status::is_other;
use crate::api::RemoteHost;
use crate::host::hosts::Whose;

/// How long a check that panicked is left alone.
const AFTER_PANIC: Duration = Duration::from_secs(60);

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

    /// Takes note of a change. Gives the namespaces whose commands may have waited for it.
    pub fn changed(&mut self, event: Event<RemoteHost>) -> BTreeSet<String> {
        let mut news = BTreeSet::new();
        match event {
            Event::Apply(host) => news.extend(self.take(host, true)),
            Event::Init => self.listed.clear(),
            Event::InitApply(host) => self.listed.push(host),
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let uids: BTreeSet<_> = listed.iter().filter_map(ResourceExt::uid).collect();
                let gone = self.checked.keys().filter(|uid| !uids.contains(*uid)).cloned();
                for uid in gone.collect::<Vec<_>>() {
                    news.extend(self.forget(&uid));
                }
                for host in listed {
                    news.extend(self.take(host, false));
                }
            }
            Event::Delete(host) => news.extend(host.uid().and_then(|uid| self.forget(&uid))),
        }
        news
    }

    /// Ends all checks.
    pub async fn shutdown(&mut self) {
        self.checked.drain().for_each(|(_, checked)| checked.task.abort());
        tokio::task::yield_now().await;
    }

    /// Shows a host to its check. `fresh` for one that was created a moment ago, if it is new.
    fn take(&mut self, host: RemoteHost, fresh: bool) -> Option<String> {
        let (uid, namespace) = (host.uid()?, host.namespace()?);
        let name = host.name_any();
        let host = Arc::new(host);
        if let Some(known) = self.checked.get(&uid) {
            let former = known.host.borrow().clone();
            let (was, is) = (Word::of(&former.metadata), Word::of(&host.metadata));
            is.tell(&was, &self.context.hosts, &namespace, Whose::RemoteHost(&name));
            known.host.send_replace(Arc::clone(&host));
            if former.metadata.generation != host.metadata.generation {
                self.tell_others(&namespace, &name);
            }
            return is_other(&former, &host).then_some(namespace);
        }
        let (sender, receiver) = watch::channel(host);
        let (others, changes) = watch::channel(0);
        let view = View { namespace: namespace.clone(), host: receiver, others: changes };
        let (context, mut fresh) = (Arc::clone(&self.context), fresh);
        let check = move || {
            let fresh = std::mem::take(&mut fresh);
            Check::new(Arc::clone(&context), view.clone(), fresh).run()
        };
        let task = tokio::spawn(kept_up(format!("{namespace}/{name}"), check)).abort_handle();
        self.tell_others(&namespace, &name);
        let checked = Checked { namespace: namespace.clone(), name, host: sender, others, task };
        self.checked.insert(uid, checked);
        Some(namespace)
    }

    /// Ends the check of a host that is gone.
    fn forget(&mut self, uid: &str) -> Option<String> {
        let checked = self.checked.remove(uid)?;
        checked.task.abort();
        self.tell_others(&checked.namespace, &checked.name);
        Some(checked.namespace)
    }

    fn tell_others(&self, namespace: &str, name: &str) {
        let others = self.checked.values().filter(|c| c.namespace == namespace && c.name != name);
        others.for_each(|checked| checked.others.send_modify(|changes| *changes += 1));
    }
}

/// Does `work`, and does it again a while after it panicked.
async fn kept_up<F: Future<Output = ()>>(name: String, mut work: impl FnMut() -> F) {
    while AssertUnwindSafe(async { work().await }).catch_unwind().await.is_err() {
        error!(name, "the check of a host panicked; it is begun anew later");
        sleep(AFTER_PANIC).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_check_that_panics_is_begun_anew_after_a_while() {
        let begun = Instant::now();
        let tries = Cell::new(0);
        kept_up("ns/db-1".to_owned(), || {
            tries.set(tries.get() + 1);
            assert!(tries.get() > 2, "the first panics before it can be waited for");
            async { assert!(tries.get() > 3, "the next one while it is waited for") }
        })
        .await;
        assert_eq!(tries.get(), 4);
        assert_eq!(begun.elapsed(), AFTER_PANIC * 3);
    }
}
