//! How much log the output of one attempt may make: so many bytes a second, and so many in all.
//!
//! The writer counts what it writes, as it is written. Whoever reads the output asks first, and
//! waits where the rate is in the way: the host keeps what is not read yet. Beyond what may be
//! written in all nothing is read for the log any more, and the log says how much that was.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::line::LONGEST;

/// The longest record: each byte of a piece of a line has six in JSON at most, and base64 takes
/// another 4 for 3 of them.
const LONGEST_RECORD: u64 = 8 * LONGEST as u64;

/// The least that may come at once, however low the rate is: a record is never cut.
const LEAST_BURST: u64 = 2 * LONGEST_RECORD;

const NANOS: u128 = 1_000_000_000;

/// The bounds of each attempt's log, in bytes as written; 0 stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes a second. As much as a second gives, and 256 KiB at least, may come at once.
    pub rate: u64,
    /// Bytes in all; the record that goes beyond is the last one. One stream alone has seven
    /// eighths of it at most, so that the other can still say why all ended.
    pub total: u64,
}

impl LogLimits {
    /// What may come at once beyond what the rate gives.
    pub fn burst(self) -> u64 {
        self.rate.max(LEAST_BURST)
    }

    fn of_one_stream(self) -> u64 {
        self.total - self.total / 8
    }
}

/// What the log of one attempt has used, both streams together.
#[derive(Debug)]
pub struct Budget {
    limits: LogLimits,
    used: Mutex<Used>,
}

#[derive(Debug)]
struct Used {
    /// Bytes written so far.
    written: u64,
    /// What the rate lets be written at `at`; less than nothing after the last record.
    balance: i128,
    at: Instant,
}

/// Whether more log may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// So many bytes.
    Now(u64),
    /// Not before that: the rate.
    In(Duration),
    /// Never again: the limit in all was reached.
    Spent,
}

impl Budget {
    /// Of an attempt whose log has `written` bytes already.
    pub fn new(limits: LogLimits, written: u64) -> Self {
        let balance = capacity(limits);
        Self { limits, used: Mutex::new(Used { written, balance, at: Instant::now() }) }
    }

    /// Whether more may be written now of a stream that has `logged` bytes of log.
    pub fn room(&self, logged: u64) -> Room {
        self.room_at(logged, Instant::now())
    }

    /// Counts what was written.
    pub fn charge(&self, bytes: usize) {
        let mut used = self.used();
        used.written = used.written.saturating_add(bytes as u64);
        if self.limits.rate > 0 {
            used.balance -= bytes as i128;
        }
    }

    fn room_at(&self, logged: u64, now: Instant) -> Room {
        let LogLimits { rate, total } = self.limits;
        let mut used = self.used();
        let own = self.limits.of_one_stream().saturating_sub(logged);
        let left = if total == 0 { u64::MAX } else { total.saturating_sub(used.written).min(own) };
        if left == 0 {
            return Room::Spent;
        }
        if rate == 0 {
            return Room::Now(left);
        }
        let nanos = now.saturating_duration_since(used.at).as_nanos();
        let gained = i128::try_from(u128::from(rate).saturating_mul(nanos) / NANOS);
        let gained = gained.unwrap_or(i128::MAX);
        if gained > 0 {
            used.balance = used.balance.saturating_add(gained).min(capacity(self.limits));
            used.at = now;
        }
        match u64::try_from(used.balance) {
            Ok(balance @ 1..) => Room::Now(balance.min(left)),
            // A quarter of a burst at a time: less would be many small reads.
            Ok(0) | Err(_) => {
                let lacking = capacity(self.limits) / 4 - used.balance;
                let lacking = u128::try_from(lacking).unwrap_or_default();
                let nanos = lacking.saturating_mul(NANOS) / u128::from(rate) + 1;
                Room::In(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
            }
        }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        // Every change is complete when the lock is released, whatever panicked since.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a full bucket holds: the last record is written whole, on top of it.
fn capacity(limits: LogLimits) -> i128 {
    i128::from(limits.burst() - LONGEST_RECORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_gives_a_burst_and_then_so_much_a_second() {
        let limits = LogLimits { rate: 1 << 20, total: 0 };
        let budget = Budget::new(limits, 0);
        let begun = Instant::now();
        let (mut written, mut now) = (0, begun);
        while now < begun + Duration::from_secs(5) {
            match budget.room_at(0, now) {
                Room::Now(_) => {
                    budget.charge(LONGEST_RECORD as usize);
                    written += LONGEST_RECORD;
                }
                Room::In(wait) => now += wait,
                Room::Spent => panic!("there is no limit in all"),
            }
        }
        let most = limits.burst() + 5 * limits.rate;
        assert!(written <= most && written > most - limits.rate, "{written} of {most}");
    }

    #[test]
    fn what_was_written_before_a_restart_counts_in_all() {
        let budget = Budget::new(LogLimits { rate: 0, total: 100 }, 60);
        assert_eq!(budget.room(0), Room::Now(40));
        budget.charge(70);
        assert_eq!(budget.room(0), Room::Spent);
        assert_eq!(Budget::new(LogLimits { rate: 1, total: 100 }, 100).room(0), Room::Spent);
    }

    #[test]
    fn a_stream_that_talks_without_end_leaves_room_for_the_other() {
        let budget = Budget::new(LogLimits { rate: 0, total: 800 }, 700);
        assert_eq!((budget.room(700), budget.room(0)), (Room::Spent, Room::Now(100)));
    }

    #[test]
    fn without_bounds_there_is_always_room() {
        let budget = Budget::new(LogLimits::default(), u64::MAX);
        budget.charge(usize::MAX);
        assert_eq!(budget.room(u64::MAX), Room::Now(u64::MAX));
    }
}
