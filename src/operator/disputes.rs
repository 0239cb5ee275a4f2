//! Statuses that somebody else keeps writing: how often each is put right.
//!
//! Two writers that correct each other would do so as fast as the API server lets them. The
//! first corrections are made at once, the others with growing pauses, and a command that is
//! left in peace for a while begins anew. Writes that save progress are not counted.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many writes that only show the same stage anew are made without a pause.
const AT_ONCE: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// After so much peace an object begins anew.
const PEACE: Duration = Duration::from_secs(900);

/// How often the statuses of objects were shown anew, by UID.
#[derive(Debug, Default)]
pub struct Disputes(Mutex<HashMap<String, Dispute>>);

#[derive(Debug)]
struct Dispute {
    /// A new spec is shown at once.
    generation: Option<i64>,
    count: u32,
    last: Instant,
}

impl Disputes {
    /// Until when the object's status is left as it is; `None` when it may be written.
    pub fn pause(&self, uid: &str, generation: Option<i64>) -> Option<Instant> {
        let disputes = self.kept();
        let dispute = disputes.get(uid).filter(|dispute| dispute.generation == generation)?;
        let doublings = dispute.count.checked_sub(AT_ONCE)?.min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
        let until = dispute.last + pause;
        (until > Instant::now()).then_some(until)
    }

    /// The object's status is written, and nothing of it is progress.
    pub fn note(&self, uid: &str, generation: Option<i64>) {
        let mut disputes = self.kept();
        let now = Instant::now();
        let former = disputes.get(uid);
        let former = former.filter(|d| d.generation == generation && d.last.elapsed() < PEACE);
        let count = former.map_or(0, |dispute| dispute.count).saturating_add(1);
        disputes.insert(uid.to_owned(), Dispute { generation, count, last: now });
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.kept().remove(uid);
    }

    /// Forgets all objects but these, by UID.
    pub fn keep(&self, uids: &HashSet<String>) {
        self.kept().retain(|uid, _| uids.contains(uid));
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Dispute>> {
        // Every change is complete when the lock is released, whatever panicked since.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_writers_that_correct_each_other_do_so_ever_more_rarely() {
        let disputes = Disputes::default();
        let mut count = 0;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3600) {
            match disputes.pause("a", Some(1)) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => {
                    disputes.note("a", Some(1));
                    count += 1;
                }
            }
        }
        assert!((10..30).contains(&count), "{count}");
        assert_eq!(disputes.pause("a", Some(2)), None, "a new spec is shown at once");
        assert_eq!(disputes.pause("b", Some(1)), None);
        tokio::time::sleep(PEACE + LONGEST_PAUSE).await;
        for _ in 0..AT_ONCE {
            assert_eq!(disputes.pause("a", Some(1)), None, "after a while of peace");
            disputes.note("a", Some(1));
        }
        assert!(disputes.pause("a", Some(1)).is_some());
    }
}
