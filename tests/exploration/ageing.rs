//! Time that passes makes everything older that was saved. What is older than every limit is
//! all the same age.

use std::time::Duration;

use jiff::Timestamp;
use remote_command::core::action::StopReason;
use remote_command::core::stage::{Place as At, Stage};

use crate::host::UPTIME_MS;
use crate::world::now;

/// How old something has to be for its limit to have run out and its pace to be the slowest;
/// what is older is no different.
const SOON_OVER: Duration = Duration::from_secs(10);
const GRACE_OVER: Duration = Duration::from_secs(20);
const RESOLVE_OVER: Duration = Duration::from_secs(40);
const QUEUE_OVER: Duration = Duration::from_secs(50);
/// How far ahead the uptimes are that a snapshot of the host has taken away. Nobody waits
/// until the host has caught up.
pub const ROLLED_BACK_MS: u64 = 100_000_000;

/// A claim, whose command has a deadline.
pub fn age_claim(uptime_ms: &mut u64, by: Duration) {
    age_uptime(uptime_ms, by, QUEUE_OVER);
}

/// An exit, whose output is waited for.
pub fn age_exit(uptime_ms: &mut u64, by: Duration) {
    age_uptime(uptime_ms, by, SOON_OVER);
}

fn age_uptime(uptime_ms: &mut u64, by: Duration, most: Duration) {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
    *uptime_ms = uptime_ms.saturating_sub(ms(by)).max(UPTIME_MS - ms(most));
}

fn age(time: &mut Timestamp, by: Duration, most: Duration) {
    *time = (*time - by).max(now() - most);
}

/// Everything in the stage gets older. Not the saved uptime, which only has to be no later
/// than the host's, nor a launch under way: a late one is a lost one, and that is tried too.
pub fn age_stage(stage: &mut Stage, by: Duration) {
    let optional = |time: &mut Option<Timestamp>, most| {
        if let Some(time) = time {
            age(time, by, most);
        }
    };
    optional(&mut stage.queue.since, QUEUE_OVER);
    optional(&mut stage.queue.suspended_since, QUEUE_OVER);
    optional(&mut stage.not_before, SOON_OVER);
    if let Some(waiting) = &mut stage.waiting {
        age(&mut waiting.since, by, SOON_OVER);
    }
    if let Some(outcome) = &mut stage.outcome {
        age(&mut outcome.time, by, GRACE_OVER);
    }
    if let Some(deleting) = &mut stage.deleting {
        age(&mut deleting.since, by, QUEUE_OVER);
        if let Some(blocked) = &mut deleting.blocked {
            age(&mut blocked.since, by, GRACE_OVER);
        }
    }
    let Some(current) = &mut stage.current else { return };
    age(&mut current.launched, by, SOON_OVER);
    optional(&mut current.started, QUEUE_OVER);
    if let Some(uncertain) = &mut current.uncertain {
        age(&mut uncertain.since, by, RESOLVE_OVER);
    }
    if let At::Finishing { since } = &mut current.place {
        age(since, by, RESOLVE_OVER);
    }
    // Only the fence before a retry is given up by its age.
    let before_retry = matches!(current.place, At::Fencing { .. });
    if let Some(stop) = current.stop_mut() {
        let given_up = before_retry && stop.reason == StopReason::Fenced;
        age(&mut stop.asked, by, if given_up { RESOLVE_OVER } else { SOON_OVER });
        optional(&mut stop.signalled, GRACE_OVER);
        optional(&mut stop.killed, GRACE_OVER);
        optional(&mut stop.gone, SOON_OVER);
    }
}
