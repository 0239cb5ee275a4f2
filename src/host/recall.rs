//! An action may be recalled as long as nothing of it was sent: something else is wanted by now,
//! or a limit ran out.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::core::action::Action;
use crate::core::fault::{Fault, Transient};

/// Whether an action that waits for its host is still wanted. Clones are of the same one.
#[derive(Clone, Debug, Default)]
pub struct Recall {
    word: CancellationToken,
    limit: Option<Instant>,
}

impl Recall {
    /// Nothing is recalled before somebody says so.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same word, which is also taken as said when `limit` has passed from now on.
    #[must_use]
    pub fn within(&self, limit: Option<Duration>) -> Self {
        let limit = limit.and_then(|limit| Instant::now().checked_add(limit));
        Self { word: self.word.clone(), limit: limit.or(self.limit) }
    }

    /// Recalls what waits.
    pub fn say(&self) {
        self.word.cancel();
    }

    /// Whether it was recalled.
    pub fn is_said(&self) -> bool {
        self.word.is_cancelled() || self.limit.is_some_and(|limit| Instant::now() >= limit)
    }

    /// Waits until it is recalled.
    pub async fn said(&self) {
        match self.limit {
            None => self.word.cancelled().await,
            Some(limit) => tokio::select! {
                () = self.word.cancelled() => {}
                () = sleep_until(limit) => {}
            },
        }
    }

    /// What comes of `waiting`; `None` when it was recalled first, and `waiting` is dropped.
    pub async fn unless<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = waiting => Some(done),
            () = self.said() => None,
        }
    }

    /// The same for what can fail.
    ///
    /// # Errors
    /// Also when it was recalled.
    pub(super) async fn unless_failed<T>(
        &self,
        waiting: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.unless(waiting).await.unwrap_or_else(|| Err(recalled()))
    }
}

/// Whether the action may be torn apart wherever it is, because it starts and ends nothing. What
/// became of it on the host does not matter, and it is repeated when it is wanted again.
pub(super) fn may_be_torn(action: &Action) -> bool {
    match action {
        Action::Prepare { .. } | Action::Probe { .. } | Action::Sweep { .. } => true,
        Action::Launch { .. }
        | Action::Terminate { .. }
        | Action::Kill { .. }
        | Action::Revoke { .. } => false,
    }
}

fn recalled() -> Fault {
    let message = "nothing was sent: what was wanted changed while a connection was waited for";
    Fault::new(Transient::ConnectionLost, message)
}
