//! The stage: what is durably known about an object's runs.
//!
//! It is kept in `.status.stage` (or in a file), produced by `decide` alone and saved
//! before the action that goes with it is performed. It holds what must survive a crash
//! and nothing that merely ticks: a probe that finds the same thing changes nothing here.
//!
//! Operator times are [`Timestamp`]s. Host uptimes are milliseconds since the host's boot
//! and are only ever compared with other uptimes of the same boot.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::action::{Action, StopReason};
pub use super::attempt::{Attempt, Bounds, Place, Quiet, Stop, Uncertain};
use super::bounds::{WAYS_BYTES, stored_bytes};
use super::fault::Cause;
use super::outcome::{Fate, Outcome, PastAttempt};
use super::phase::AsItWas;
use super::plan::{Asked, HoldKind, Verdict};
use super::sitting::Sat;

/// The version of the stage's shape that this program reads and writes.
pub const VERSION: u32 = 1;

/// How many stores of earlier attempts are kept in mind.
const TRACES: usize = 8;

/// How many ended attempts are kept.
pub const HISTORY: usize = 10;

/// What is durably known. A fresh object has [`Stage::default`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage {
    /// Always [`VERSION`]; any other is refused when read.
    #[serde(deserialize_with = "known_version")]
    pub version: u32,
    /// Grows by one with every change.
    pub revision: i64,
    /// The run's number, from 1; 0 before the first.
    pub run: i32,
    /// The attempt's number within the run, from 1; 0 before the first launch.
    pub attempt: i32,
    /// Attempts of this run that may have started.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub starts: u32,
    /// Entries ever prepared and saved for this object; the serial in their tokens.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub entries: u32,
    /// The `rerunToken` last taken.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub observed_rerun_token: String,
    /// The digest of the frozen fields this run is made from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub frozen_digest: String,
    /// When the run was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_request_time: Option<Timestamp>,
    /// The clock of `timeouts.queue`.
    #[serde(default, skip_serializing_if = "Queue::is_unset")]
    pub queue: Queue,
    /// Where nobody is at work in between: when somebody sat down to it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sat: Option<Sat>,
    /// When `cancel` was first seen for this run. It is final for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Timestamp>,
    /// What the next launch is for.
    #[serde(default, skip_serializing_if = "Next::is_ordinary")]
    pub next: Next,
    /// Why the next launch waits; `None` when nothing is known to hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The next launch is not before this (back-off).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// The entry launched last, command or verify. It is replaced only once it is fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<Attempt>,
    /// Stores that earlier attempts used and the current one does not: on other hosts, or of
    /// other users. Their records are swept too. Oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traces: Vec<Trace>,
    /// How many more there were than are kept in mind.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub untraced: u32,
    /// The end of the run, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The last ended attempts of the command, oldest first, at most [`HISTORY`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<PastAttempt>,
    /// How often in a row nothing of the command started; the back-off grows with it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unstarted: u32,
    /// The last run of which a Direct attempt was given up with its connection lost and another
    /// one was allowed beside it: that attempt may be alive for ever. 0 for none.
    #[serde(default, skip_serializing_if = "is_zero_i32")]
    pub overlapped: i32,
    /// The last attempt of this run that may have started and has ended; its evidence
    /// decides what follows, however many attempts after it never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_start: Option<LastStart>,
    /// The person's word that was used last. The same word is never used twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<UsedResolution>,
    /// Set once deletion was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleting: Option<Deleting>,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            version: VERSION,
            revision: 0,
            run: 0,
            attempt: 0,
            starts: 0,
            entries: 0,
            observed_rerun_token: String::new(),
            frozen_digest: String::new(),
            run_request_time: None,
            queue: Queue::default(),
            sat: None,
            cancelled: None,
            next: Next::Ordinary,
            waiting: None,
            not_before: None,
            current: None,
            traces: Vec::new(),
            untraced: 0,
            outcome: None,
            attempts: Vec::new(),
            unstarted: 0,
            overlapped: 0,
            last_start: None,
            resolution: None,
            deleting: None,
        }
    }
}

impl Stage {
    /// The connection an action goes over: an attempt is followed with the one it was
    /// launched with, and only the next attempt's Prepare takes the host's current one.
    pub fn connection_for<'a>(&'a self, action: &Action, asked: &'a Asked) -> &'a str {
        let own = self.current.as_ref().map_or(&asked.connection, |current| &current.connection);
        match action {
            Action::Prepare { .. } => &asked.connection,
            Action::Sweep { machine, store, .. } => {
                let earlier = self.traces.iter().find(|trace| trace.is(machine, store));
                earlier.map_or(own, |trace| &trace.connection)
            }
            Action::Launch { .. }
            | Action::Probe { .. }
            | Action::Terminate { .. }
            | Action::Kill { .. }
            | Action::Revoke { .. } => own,
        }
    }

    /// True when the run has ended in doubt although a stop was asked for: the stop is
    /// carried out when the host answers.
    pub fn stop_requested(&self) -> bool {
        let unknown = self.outcome.as_ref().is_some_and(Outcome::is_unknown);
        let wished = |stop: &Stop| stop.reason != StopReason::Fenced;
        let stopping = self.current.as_ref().and_then(Attempt::stop).is_some_and(wished);
        let stopped = |last: &LastStart| matches!(last.fate, Fate::Stopped { .. });
        let beside = self.is_overlapped() && self.last_start.as_ref().is_some_and(stopped);
        unknown && (stopping || beside || self.cancelled.is_some())
    }

    /// True while nothing of this run may have started, and nothing of it is under way.
    pub fn has_launched_nothing(&self) -> bool {
        let own = self.current.as_ref().filter(|attempt| attempt.entry.run == self.run);
        self.outcome.is_none() && self.starts == 0 && own.is_none_or(Attempt::is_fenced)
    }

    /// True when an attempt of this run may be alive beside its last one.
    pub fn is_overlapped(&self) -> bool {
        self.run > 0 && self.overlapped == self.run
    }

    /// The stores that hold records of the object, as far as is known, in the order in which
    /// deletion turns to them: the last attempt's own comes first.
    pub fn unswept(&self) -> impl Iterator<Item = Unswept<'_>> {
        let swept = self.deleting.as_ref().is_some_and(|deleting| deleting.own_swept);
        let own = self.current.as_ref().filter(|_| !swept).map(Unswept::own);
        own.into_iter().chain(self.traces.iter().map(Unswept::earlier))
    }

    /// Takes the place of the last attempt, whose store is kept in mind when it is another.
    pub(super) fn follow(&mut self, next: Attempt) {
        let store = |trace: &Trace| (trace.machine.clone(), trace.store.clone());
        let (new, old) = (Trace::of(&next), self.current.replace(next));
        self.traces.extend(old.filter(|old| !old.direct).map(|old| Trace::of(&old)));
        let mut known = vec![store(&new)];
        self.traces.retain(|trace| {
            let fresh = !known.contains(&store(trace));
            known.push(store(trace));
            fresh
        });
        let own = stored_bytes(&new.connection);
        let bytes = |traces: &[Trace]| {
            let ways = traces.iter().map(|trace| stored_bytes(&trace.connection));
            ways.fold(own, usize::saturating_add)
        };
        while self.traces.len() > TRACES
            || (bytes(&self.traces) > WAYS_BYTES && !self.traces.is_empty())
        {
            self.traces.remove(0);
            self.untraced = self.untraced.saturating_add(1);
        }
    }

    /// True when another run than this one is asked for: by a new `rerunToken` or, under
    /// OnChange, by a spec that has moved on. It begins once this run has its outcome on record.
    pub fn is_to_be_followed(&self, asked: &Asked) -> bool {
        let token = &asked.rerun_token;
        let rerun = !token.is_empty() && *token != self.observed_rerun_token;
        let moved_on = asked.on_change && asked.frozen_digest != self.frozen_digest;
        self.run > 0 && (rerun || moved_on)
    }

    /// True once deletion may remove the finalizer: the host is clean, or was given up on.
    pub fn released(&self) -> bool {
        self.deleting.as_ref().is_some_and(|d| d.swept || !d.abandoned.is_empty())
    }
}

/// The clock of `timeouts.queue`: time since `since`, less the time suspended or with nobody at
/// work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queue {
    /// The run's request, or the end of the back-off before a retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Milliseconds suspended or with nobody at work since then, without the suspension under
    /// way.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub suspended_ms: u64,
    /// The suspension under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_since: Option<Timestamp>,
}

impl Queue {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    /// When the queue limit is reached; `None` while suspended or before the run.
    pub fn ends(&self, limit: Duration) -> Option<Timestamp> {
        if self.suspended_since.is_some() {
            return None;
        }
        let limit = limit.saturating_add(Duration::from_millis(self.suspended_ms));
        self.since.map(|since| after(since, limit))
    }
}

/// What the next launch is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Next {
    /// The command; for Verifiable the check comes first where the rules ask for it.
    #[default]
    Ordinary,
    /// The check has said that the effect is not in place: the command itself.
    CheckedAbsent,
    /// A person said Retry: the command itself, once the earlier attempt is fenced.
    PersonsRetry,
}

impl Next {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(super) fn is_ordinary(&self) -> bool {
        *self == Self::Ordinary
    }
}

/// Why the next launch waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Waiting {
    pub on: WaitingOn,
    /// For people.
    pub message: String,
    /// Since when it waits on this.
    pub since: Timestamp,
    /// Something missing has been missing for long enough to be reported as stalled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub overdue: bool,
    /// `Asked::poke` when this was last found; another value is a reason to look again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub poke: String,
}

/// What the next launch waits on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WaitingOn {
    /// The host could not be prepared.
    Fault(Cause),
    /// The host turned a launch away because it had changed since it was prepared.
    HostChanged,
    /// Something outside the host; its reason is one CamelCase word.
    Hold(HoldKind, String),
}

/// An attempt that may have started and has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastStart {
    pub attempt: i32,
    pub fate: Fate,
}

/// A resolution that was used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UsedResolution {
    pub run: i32,
    pub attempt: i32,
    #[serde(rename = "as")]
    pub verdict: Verdict,
}

/// A store that holds records of an attempt, and the way to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trace {
    pub connection: String,
    pub machine: String,
    pub store: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// The host's name, for messages.
    pub host: String,
}

/// A store with records of the object, and the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unswept<'a> {
    pub machine: &'a str,
    pub store: &'a str,
    pub connection: &'a str,
    pub run_as: Option<&'a str>,
    /// The host's name, for messages.
    pub host: &'a str,
}

impl<'a> Unswept<'a> {
    fn own(attempt: &'a Attempt) -> Self {
        Self {
            machine: &attempt.identity.machine,
            store: &attempt.identity.store,
            connection: &attempt.connection,
            run_as: attempt.entry.run_as.as_deref(),
            host: &attempt.host,
        }
    }

    fn earlier(trace: &'a Trace) -> Self {
        Self {
            machine: &trace.machine,
            store: &trace.store,
            connection: &trace.connection,
            run_as: trace.run_as.as_deref(),
            host: &trace.host,
        }
    }

    /// Whether this is the store of these names.
    pub fn is(&self, machine: &str, store: &str) -> bool {
        (self.machine, self.store) == (machine, store)
    }
}

impl Trace {
    /// Whether this is the store of these names.
    pub(super) fn is(&self, machine: &str, store: &str) -> bool {
        (self.machine.as_str(), self.store.as_str()) == (machine, store)
    }

    fn of(attempt: &Attempt) -> Self {
        Self {
            connection: attempt.connection.clone(),
            machine: attempt.identity.machine.clone(),
            store: attempt.identity.store.clone(),
            run_as: attempt.entry.run_as.clone(),
            host: attempt.host.clone(),
        }
    }
}

/// How far deletion has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deleting {
    pub since: Timestamp,
    /// What a run without an outcome was shown as until then, and is shown as ever after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<AsItWas>,
    /// The store of the last attempt has nothing of it but tombstones.
    #[serde(default, skip_serializing_if = "is_false")]
    pub own_swept: bool,
    /// No host has anything of it but tombstones, or never had anything.
    #[serde(default, skip_serializing_if = "is_false")]
    pub swept: bool,
    /// The host did not answer the sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Uncertain>,
    /// Set when the clean-up limit ran out: what stays where, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abandoned: Vec<String>,
}

impl Deleting {
    /// Asked for at `since`, and nothing done yet.
    pub fn new(since: Timestamp) -> Self {
        Self {
            since,
            shown: None,
            own_swept: false,
            swept: false,
            blocked: None,
            abandoned: Vec::new(),
        }
    }
}

/// `time + by`, or the end of time.
pub fn after(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn known_version<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let version = u32::deserialize(from)?;
    if version == VERSION {
        Ok(version)
    } else {
        Err(serde::de::Error::custom(format!(
            "stage version {version} is not {VERSION}, which this program knows"
        )))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero_i32(n: &i32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero_u64(n: &u64) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
pub(super) fn is_false(b: &bool) -> bool {
    !*b
}
