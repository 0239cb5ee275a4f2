//! `execution: Direct`: the command runs on the SSH channel itself and leaves nothing behind.
//!
//! What is known of an attempt is what its channel told this process. Nothing outlives the
//! process: another one finds no attempt, which is Lost, and says so.

mod attempt;
mod bootstrap;
mod spool;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::attempt::Attempt;
use super::ssh::Pool;
use super::{Chunk, Input, Material, Stream};
use crate::core::action::{Action, Entry, Seen};
use crate::core::fault::{Fault, Standing};
use crate::core::plan::{Direct, Plan};
use crate::core::record::{DirectSeen, Identity};

/// How long a launch waits for the first word of the command.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);
/// How long a kill waits for the end.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// A KILL that does nothing for this long is followed by closing the channel.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// How long an account whose shell does not run our line is left alone.
const UNUSABLE_REST: Duration = Duration::from_secs(300);

/// The Direct attempts on one machine.
pub(crate) struct DirectHost {
    pool: Arc<Pool>,
    attempts: Mutex<HashMap<Entry, Arc<Attempt>>>,
    /// Why nothing is launched here for a while, by the user who was to run it: every exec
    /// would run something of theirs, or be turned away.
    unusable: Mutex<HashMap<Option<String>, (Fault, Instant)>>,
}

impl DirectHost {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, attempts: Mutex::default(), unusable: Mutex::default() }
    }

    /// True when nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.attempts().is_empty()
    }

    /// Forgets that the account was found unusable.
    pub(crate) fn poke(&self) {
        self.unusable().clear();
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<Entry, Arc<Attempt>>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unusable(&self) -> MutexGuard<'_, HashMap<Option<String>, (Fault, Instant)>> {
        self.unusable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs one verb. `direct` is the plan's.
    pub(crate) async fn act(
        self: &Arc<Self>,
        plan: &Plan,
        direct: &Direct,
        action: &Action,
        material: Option<Material>,
    ) -> Seen {
        match action {
            Action::Prepare { entry } => self.prepare(plan, entry).await,
            Action::Launch { entry, .. } => {
                self.launch(plan, direct, entry, material.unwrap_or_default()).await
            }
            Action::Probe { entry } | Action::Revoke { entry, .. } => self.seen(entry),
            Action::Terminate { entry, .. } => {
                if let Some(attempt) = self.attempt(entry) {
                    attempt.signal("TERM");
                }
                self.seen(entry)
            }
            Action::Kill { entry, .. } => {
                if let Some(attempt) = self.attempt(entry) {
                    attempt.kill(KILL_PATIENCE);
                    attempt.ended(KILL_LIMIT).await;
                }
                self.seen(entry)
            }
            Action::Sweep { uid, .. } => {
                self.attempts().retain(|entry, _| entry.uid != *uid);
                Seen::Swept { uid: uid.clone() }
            }
        }
    }

    /// Output from `offset`; where that is gone, from the oldest byte kept.
    pub(crate) fn read(&self, entry: &Entry, stream: Stream, offset: u64, max: u32) -> Chunk {
        let (offset, bytes) = match self.attempt(entry) {
            Some(attempt) => attempt.read(stream, offset, max),
            None => (offset, Vec::new()),
        };
        Chunk { stream, offset, bytes }
    }

    fn attempt(&self, entry: &Entry) -> Option<Arc<Attempt>> {
        self.attempts().get(entry).cloned()
    }

    /// An entry this process does not know was held by a former one, with its channel.
    fn seen(&self, entry: &Entry) -> Seen {
        let seen = self.attempt(entry).map_or(DirectSeen::Lost, |attempt| attempt.seen());
        Seen::Direct { entry: entry.clone(), seen }
    }

    async fn prepare(&self, plan: &Plan, entry: &Entry) -> Seen {
        let unusable = self.unusable().get(&plan.program.run_as).cloned();
        if let Some((fault, until)) = unusable
            && Instant::now() < until
        {
            return Seen::Unreachable(fault);
        }
        match self.pool.check().await {
            Err(fault) => Seen::Unreachable(fault),
            Ok(_) => {
                let identity = Identity {
                    machine: String::new(),
                    boot: String::new(),
                    store: String::new(),
                    uptime_ms: 0,
                    can_tell: false,
                };
                let (entry, connection) = (entry.clone(), String::new());
                Seen::Prepared { entry, identity, connection }
            }
        }
    }

    async fn launch(
        self: &Arc<Self>,
        plan: &Plan,
        direct: &Direct,
        entry: &Entry,
        material: Material,
    ) -> Seen {
        let request = match bootstrap::request(plan, direct, entry.kind, material) {
            Ok(request) => request,
            Err(message) => {
                let seen = DirectSeen::NeverStarted { message };
                return Seen::Direct { entry: entry.clone(), seen };
            }
        };
        let attempt = {
            let mut attempts = self.attempts();
            if attempts.contains_key(entry) {
                drop(attempts);
                return self.seen(entry);
            }
            let attempt = Attempt::new(request.nonce.as_deref(), plan.program.output_limit);
            attempts.entry(entry.clone()).or_insert(Arc::new(attempt)).clone()
        };
        // In a task of its own: a launch that is begun is never left without its end.
        let shell = request.nonce.is_some();
        let begun = tokio::spawn(self.clone().begin(attempt.clone(), request));
        let opened = begun.await.unwrap_or_else(|_| {
            attempt.settle(DirectSeen::Lost);
            false
        });
        if let (true, DirectSeen::NeverStarted { message }) = (opened && shell, attempt.seen()) {
            self.rest(&plan.program.run_as, message);
        }
        self.seen(entry)
    }

    /// Opens the channel and waits a while for the command to begin. False when there is none.
    async fn begin(self: Arc<Self>, attempt: Arc<Attempt>, request: bootstrap::Request) -> bool {
        let taker = attempt.clone();
        let sink = Box::new(move |event| taker.take(event));
        let input = match self.pool.open_into(&request.line, sink).await {
            Ok(input) => input,
            Err(unopened) if unopened.sent => {
                attempt.settle(DirectSeen::Lost);
                return false;
            }
            Err(unopened) => {
                let message = unopened.fault.message;
                attempt.settle(DirectSeen::NeverStarted { message });
                return false;
            }
        };
        // The queue is empty and longer than this: neither send waits.
        if !request.input.is_empty() {
            let _ = input.send(Input::Bytes(request.input)).await;
        }
        let _ = input.send(Input::Eof).await;
        attempt.connect(input);
        attempt.settled(BEGIN_LIMIT).await;
        true
    }

    /// Leaves the account alone for a while: its shell ended without running our line.
    fn rest(&self, run_as: &Option<String>, message: String) {
        let cause =
            if run_as.is_some() { Standing::RunAsRestricted } else { Standing::ForcedCommand };
        let until = Instant::now() + UNUSABLE_REST;
        self.unusable().insert(run_as.clone(), (Fault::new(cause, message), until));
    }
}
