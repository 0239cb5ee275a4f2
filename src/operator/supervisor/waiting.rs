//! The time between two turns: how long it lasts, and what ends it early.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use super::Supervisor;
use super::entrance::HOST_BUSY;
use crate::api::RemoteCommand;
use crate::core::plan::HoldKind;
use crate::core::stage::Stage;
use crate::operator::hearing::Hearing;
use crate::operator::stage;

/// First pause before something missing is looked for again, and the longest.
const FIRST_RECHECK: Duration = Duration::from_secs(2);
const LONGEST_RECHECK: Duration = Duration::from_secs(10);
/// How often one that waits for a place looks by itself; it is woken when one is free.
const BUSY_RECHECK: Duration = Duration::from_secs(60);

/// When to look again, without being told to, for what the next launch waits on.
pub(super) struct Recheck {
    pause: Duration,
    /// What was waited for when the pause was worked out last.
    waited_for: Option<String>,
}

impl Recheck {
    pub(super) fn new() -> Self {
        Self { pause: FIRST_RECHECK, waited_for: None }
    }

    /// Something may have changed: looks again soon.
    fn hasten(&mut self) {
        self.pause = FIRST_RECHECK;
    }

    /// The next time to look for what `stage` waits for, which is of the kind `waits_on`.
    pub(super) fn next(&mut self, stage: &Stage, waits_on: Option<HoldKind>) -> Option<Instant> {
        let reason = stage.waiting.as_ref().map(|waiting| waiting.reason().to_owned());
        if self.waited_for != reason {
            self.hasten();
            self.waited_for.clone_from(&reason);
        }
        let pause = match waits_on? {
            HoldKind::Busy if reason.as_deref() == Some(HOST_BUSY) => BUSY_RECHECK,
            HoldKind::Busy | HoldKind::Missing | HoldKind::Invalid => {
                let pause = self.pause;
                self.pause = pause.saturating_mul(2).min(LONGEST_RECHECK);
                pause
            }
        };
        Some(Instant::now() + pause)
    }
}

impl Supervisor {
    /// Waits until `until`, or until something is not as it was when `known` was looked at.
    pub(super) async fn wait(&mut self, known: &RemoteCommand, until: Instant) {
        let poke = Arc::clone(&self.seat.poke);
        // Not one of several things that are waited for: a read that is cut off costs the host
        // another shell. It may go on for as long as the log has no room, so all else is heard.
        while self.following.is_behind() && Instant::now() < until {
            self.following.catch_up(&mut Hearing::new(&self.seat.object, known)).await;
            if self.seat.object.has_changed().unwrap_or(true) || self.context.stop.is_cancelled() {
                return;
            }
            if poke.notified().now_or_never().is_some() {
                self.recheck.hasten();
                return;
            }
            if Instant::now() >= self.obstacles.next_look() && self.may_be_mended().await {
                return;
            }
        }
        let mut sleep = pin!(sleep_until(until));
        loop {
            let look = self.obstacles.next_look();
            let compare = self.next_comparison();
            if compare.is_some_and(|at| at <= Instant::now()) {
                return;
            }
            tokio::select! {
                changed = self.seat.object.changed() => {
                    let latest = self.seat.object.borrow_and_update().clone();
                    if changed.is_err() || self.is_news(known, &latest) {
                        return;
                    }
                }
                () = poke.notified() => {
                    self.recheck.hasten();
                    return;
                }
                () = sleep_until(compare.unwrap_or(look)), if compare.is_some() => {}
                () = sleep_until(look) => if self.may_be_mended().await {
                    return;
                },
                () = self.context.stop.cancelled() => return,
                () = &mut sleep => return,
            }
        }
    }

    /// Whether a version shows more than what we have written ourselves: our own writes come
    /// back over the watch, and are no reason to ask the host again.
    fn is_news(&self, known: &RemoteCommand, latest: &RemoteCommand) -> bool {
        let (old, new) = (&known.metadata, &latest.metadata);
        let ours = self.stage.as_ref().map_or(0, |stage| stage.revision);
        old.generation != new.generation
            || old.deletion_timestamp != new.deletion_timestamp
            || old.finalizers != new.finalizers
            || old.labels != new.labels
            || old.annotations != new.annotations
            || stage::shown(latest).is_some_and(|shown| shown.revision > ours)
    }
}

/// A wall-clock time on the monotonic clock. An hour at most: the wall clock may be set.
pub(super) fn instant(time: Timestamp) -> Instant {
    let wait = Timestamp::now().duration_until(time);
    let wait = Duration::try_from(wait).unwrap_or_default();
    Instant::now() + wait.min(Duration::from_secs(3600))
}
