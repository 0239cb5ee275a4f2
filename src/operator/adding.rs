//! Finalizers being added: one try at a time for each object.

use std::collections::HashSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use kube::ResourceExt;
use tokio::task::JoinSet;
use tracing::error;

use crate::api::RemoteCommand;

/// The tries that are under way.
#[derive(Debug, Default)]
pub struct Adding {
    tries: JoinSet<Arc<RemoteCommand>>,
    uids: HashSet<String>,
}

impl Adding {
    /// Begins to add the finalizer to `object` by doing `work`, unless that is being done.
    pub fn begin<F>(&mut self, object: Arc<RemoteCommand>, work: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(uid) = object.uid() else { return };
        if !self.uids.insert(uid) {
            return;
        }
        let work = work();
        self.tries.spawn(async move {
            // Its object would never be tried again if a panic went further.
            if AssertUnwindSafe(work).catch_unwind().await.is_err() {
                error!(name = object.name_any(), "adding the finalizer panicked");
            }
            object
        });
    }

    /// Waits for a try that ends: the version of the object that it was made for. Pends while
    /// none is under way.
    pub async fn ended(&mut self) -> Arc<RemoteCommand> {
        loop {
            match self.tries.join_next().await {
                Some(Ok(object)) => {
                    self.uids.remove(&object.uid().unwrap_or_default());
                    return object;
                }
                // Only `shutdown` cuts one off.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Ends all tries.
    pub async fn shutdown(&mut self) {
        self.tries.shutdown().await;
        self.uids.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_finalizer_whose_adding_panicked_is_tried_again() {
        let object = serde_json::json!({
            "metadata": {"namespace": "ns", "name": "a", "uid": "a"},
            "spec": {"hostRef": {"name": "db-1"}, "command": ["true"]},
        });
        let object: Arc<RemoteCommand> = Arc::new(serde_json::from_value(object).unwrap());
        let mut adding = Adding::default();
        adding.begin(Arc::clone(&object), || async { panic!("while it is added") });
        let ended = tokio::time::timeout(Duration::from_secs(5), adding.ended());
        assert_eq!(ended.await.unwrap().uid(), object.uid());
        let mut tried = false;
        adding.begin(object, || {
            tried = true;
            std::future::ready(())
        });
        assert!(tried);
    }
}
