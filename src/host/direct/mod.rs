//! `execution: Direct`: the command runs on the SSH channel itself and leaves nothing behind.
//!
//! What is known of an attempt is what its channel told this process. Nothing outlives the
//! process: another one finds no attempt, which is Lost, and says so.

mod attempt;
mod bootstrap;
mod spool;
mod taker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

use self::attempt::Attempt;
use self::taker::Taker;
use super::spools::Spools;
use super::ssh::Pool;
use super::{Chunk, Input, Material, Recall, Stream, account};
use crate::core::action::{Action, Entry, Seen};
use crate::core::fault::{Cause, Fault, Ours, Standing};
use crate::core::plan::{Execution, Plan};
use crate::core::record::{DirectSeen, Identity};

/// How long a launch waits for the account's shell to run our line.
const BEGIN_LIMIT: Duration = Duration::from_secs(20);
/// How long a kill waits for the end.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// A KILL that does nothing for this long is followed by closing the channel.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// How long an account whose shell does not run our line is left alone, unless it says why.
const UNUSABLE_REST: Duration = crate::host::machine::FORCED_REST;
/// How long an end is kept for somebody to ask for it, when no sweep comes: a run that ends in
/// doubt has none.
const END_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long after the end the output is kept to be read. It is what takes room.
const OUTPUT_KEPT: Duration = Duration::from_secs(3600);

/// The Direct attempts on one machine.
pub(crate) struct DirectHost {
    pool: Arc<Pool>,
    spools: Spools,
    attempts: Mutex<HashMap<Entry, Arc<Attempt>>>,
    /// Why nothing is launched here for a while, by the user who was to run it: every exec
    /// would run something of theirs, or be turned away.
    unusable: Mutex<HashMap<Option<String>, Unusable>>,
}

/// Why nothing is launched.
#[derive(Clone)]
enum Unusable {
    /// The account's shell ended without running our line.
    Resting { fault: Fault, until: Instant },
    /// It has not run our line yet, and may be something else at work. Nothing of the command
    /// was sent to it, nor will be.
    Silent(Arc<Attempt>),
}

impl Unusable {
    /// Whether it still keeps anything from being launched.
    fn is_told(&self) -> bool {
        match self {
            Self::Resting { until, .. } => Instant::now() < *until,
            Self::Silent(attempt) => {
                !attempt.is_over() || attempt.is_foreign() && !attempt.ended_before(UNUSABLE_REST)
            }
        }
    }
}

impl DirectHost {
    pub(crate) fn new(pool: Arc<Pool>, spools: Spools) -> Self {
        Self { pool, spools, attempts: Mutex::default(), unusable: Mutex::default() }
    }

    /// True when nothing is remembered that anybody may still ask for.
    pub(crate) fn is_empty(&self) -> bool {
        let mut attempts = self.attempts();
        tidy(&mut attempts);
        let mut unusable = self.unusable();
        unusable.retain(|_, unusable| unusable.is_told());
        attempts.is_empty() && unusable.is_empty()
    }

    /// Whether an attempt of the object is remembered.
    pub(crate) fn knows(&self, uid: &str) -> bool {
        self.attempts().keys().any(|entry| entry.uid == uid)
    }

    /// Forgets the attempts of an object.
    pub(crate) fn forget(&self, uid: &str) {
        self.attempts().retain(|entry, _| entry.uid != uid);
    }

    /// Forgets that the account was found unusable, and does not wait for what is silent.
    pub(crate) fn poke(&self) {
        for (_, unusable) in self.unusable().drain() {
            if let Unusable::Silent(attempt) = unusable {
                attempt.close();
            }
        }
    }

    fn attempts(&self) -> MutexGuard<'_, HashMap<Entry, Arc<Attempt>>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unusable(&self) -> MutexGuard<'_, HashMap<Option<String>, Unusable>> {
        self.unusable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs one verb; `None` when it was recalled. Only a Prepare and a Launch wait for a
    /// connection, and a Launch that is recalled then has NeverStarted.
    pub(crate) async fn act(
        self: &Arc<Self>,
        plan: &Plan,
        action: &Action,
        material: Option<Material>,
        recall: &Recall,
    ) -> Option<Seen> {
        tidy(&mut self.attempts());
        let seen = match action {
            Action::Prepare { entry } => return recall.unless(self.prepare(plan, entry)).await,
            Action::Launch { entry, .. } => {
                self.launch(plan, entry, material.unwrap_or_default(), recall).await
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
            Action::Sweep { uid, machine, store, .. } => {
                self.forget(uid);
                let (uid, machine, store) = (uid.clone(), machine.clone(), store.clone());
                Seen::Swept { uid, machine, store }
            }
        };
        Some(seen)
    }

    /// Output from `offset`; where that is gone, from the oldest byte kept.
    ///
    /// # Errors
    /// `LibraryLimit` when the disk does not give back what it took.
    pub(crate) async fn read(
        &self,
        entry: &Entry,
        stream: Stream,
        offset: u64,
        max: u32,
    ) -> Result<Chunk, Fault> {
        match self.attempt(entry) {
            Some(attempt) => attempt.read(stream, offset, max).await,
            None => Ok(Chunk { stream, offset, bytes: Vec::new(), truncated: false }),
        }
    }

    /// Nobody asks again for output of the entry below this offset.
    pub(crate) fn release(&self, entry: &Entry, stream: Stream, below: u64) {
        if let Some(attempt) = self.attempt(entry) {
            attempt.release(stream, below);
        }
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
        // What was found out about the account's shell says nothing to those who do without it.
        let by_shell = match &plan.execution {
            Execution::Direct(direct) => !direct.is_plain(),
            Execution::Recorded => true,
        };
        let away = by_shell.then(|| self.turned_away(&plan.program.run_as)).flatten();
        if let Some(fault) = away {
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

    /// Why nothing is launched for this user now.
    fn turned_away(&self, run_as: &Option<String>) -> Option<Fault> {
        let mut unusable = self.unusable();
        match unusable.get(run_as)?.clone() {
            Unusable::Resting { fault, until } if Instant::now() < until => return Some(fault),
            Unusable::Silent(attempt) if attempt.is_foreign() => {
                let message = "the account runs something else than our shell";
                let fault = Fault::new(unusable_for(run_as), message);
                unusable.insert(run_as.clone(), resting(fault.clone()));
                return Some(fault);
            }
            Unusable::Silent(attempt) if attempt.is_ready() => attempt.close(),
            Unusable::Silent(attempt) if !attempt.is_over() => {
                return Some(attempt.why_unanswered());
            }
            Unusable::Resting { .. } | Unusable::Silent(_) => {}
        }
        unusable.remove(run_as);
        None
    }

    async fn launch(
        self: &Arc<Self>,
        plan: &Plan,
        entry: &Entry,
        material: Material,
        recall: &Recall,
    ) -> Seen {
        let request = match &plan.execution {
            Execution::Direct(direct) => bootstrap::request(plan, direct, entry.kind, material),
            Execution::Recorded => Err("the execution was changed before the launch".to_owned()),
        };
        let request = match request {
            Ok(request) => request,
            // The plan lets nothing through that cannot be sent: a bug of ours.
            Err(message) => {
                let seen = DirectSeen::NeverStarted(Fault::new(Ours::ProtocolError, message));
                return Seen::Direct { entry: entry.clone(), seen };
            }
        };
        let unusable = unusable_for(&plan.program.run_as);
        let limit = plan.program.output_limit;
        let attempt = Attempt::new(request.nonce.as_deref(), limit, unusable);
        let Some(attempt) = self.remember(entry, attempt) else { return self.seen(entry) };
        // In a task of its own: a launch that is begun is never left without its end.
        let begun = tokio::spawn(self.clone().begin(attempt.clone(), request, recall.clone()));
        if begun.await.is_err() {
            attempt.settle(DirectSeen::Lost);
        }
        if let DirectSeen::NeverStarted(fault) = attempt.seen() {
            self.learn(&plan.program.run_as, &attempt, fault);
        }
        self.seen(entry)
    }

    /// Takes note of an attempt that is launched; `None` for an entry that was launched before.
    fn remember(&self, entry: &Entry, attempt: Attempt) -> Option<Arc<Attempt>> {
        let mut attempts = self.attempts();
        tidy(&mut attempts);
        if attempts.contains_key(entry) {
            return None;
        }
        Some(attempts.entry(entry.clone()).or_insert(Arc::new(attempt)).clone())
    }

    /// Opens the channel, and sends the command once the far shell has shown that it runs our
    /// line.
    async fn begin(
        self: Arc<Self>,
        attempt: Arc<Attempt>,
        request: bootstrap::Request,
        recall: Recall,
    ) {
        let taker = Box::new(Taker::new(attempt.clone(), self.spools.clone()));
        let input = match self.pool.open_into(&request.line, taker, &recall).await {
            Ok(input) => input,
            // Without a nonce the exec is the command.
            Err(unopened) if unopened.sent && request.nonce.is_none() => {
                return attempt.settle(DirectSeen::Lost);
            }
            Err(unopened) => return attempt.settle(DirectSeen::NeverStarted(unopened.fault)),
        };
        attempt.connect(input.clone());
        // The queue is empty and longer than this: no send waits.
        if !request.head.is_empty() {
            let _ = input.send(Input::Bytes(Zeroizing::new(request.head))).await;
        }
        let settled = async {
            tokio::select! {
                () = attempt.settled(BEGIN_LIMIT) => {}
                () = attempt.misled() => {}
            }
        };
        let _ = recall.unless(settled).await;
        if !attempt.may_send() {
            return attempt.give_up(attempt.why_unanswered());
        }
        if !request.input.is_empty() {
            let _ = input.send(Input::Bytes(request.input)).await;
        }
        let _ = input.send(Input::Eof).await;
        // What the shell could not begin with is the answer to the launch.
        attempt.begun(BEGIN_LIMIT).await;
    }

    /// Leaves the account alone for a while when its shell did not run our line. What somebody
    /// mends on the host is looked at with a new connection: a server may decide once in a
    /// connection what an account may do in it.
    fn learn(&self, run_as: &Option<String>, attempt: &Arc<Attempt>, fault: Fault) {
        let to_be_mended = fault.cause == Cause::Standing(Standing::HostUnusable);
        if to_be_mended {
            attempt.close();
            self.pool.renew();
        }
        let unusable = if attempt.is_foreign() || to_be_mended {
            resting(fault)
        } else if !attempt.is_over() {
            Unusable::Silent(attempt.clone())
        } else {
            return;
        };
        self.unusable().insert(run_as.clone(), unusable);
    }
}

/// Lets go of what nobody asks for any more.
fn tidy(attempts: &mut HashMap<Entry, Arc<Attempt>>) {
    attempts.retain(|_, attempt| !attempt.ended_before(END_KEPT));
    for attempt in attempts.values().filter(|attempt| attempt.ended_before(OUTPUT_KEPT)) {
        attempt.drop_output();
    }
}

/// What it says of an account that its shell, or sudo's, ends without running our line.
fn unusable_for(run_as: &Option<String>) -> Standing {
    if run_as.is_some() { Standing::RunAsRestricted } else { Standing::ForcedCommand }
}

fn resting(fault: Fault) -> Unusable {
    let rest = match fault.cause {
        Cause::Standing(Standing::HostUnusable) => account::REST,
        Cause::Standing(_) | Cause::Transient(_) | Cause::Ours(_) => UNUSABLE_REST,
    };
    Unusable::Resting { fault, until: Instant::now() + rest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::Kind;
    use crate::core::connection::Connection;
    use crate::core::fault::Transient;
    use crate::host::contact::Contacts;
    use crate::host::ssh::Dialer;
    use crate::host::{Event, Lookup, LookupError, SecretValues};

    struct Nothing;

    #[async_trait::async_trait]
    impl Lookup for Nothing {
        async fn secret(&self, name: &str) -> Result<SecretValues, LookupError> {
            Err(LookupError::SecretNotFound(name.to_owned()))
        }

        async fn config_map(&self, name: &str, key: &str) -> Result<Vec<u8>, LookupError> {
            Err(LookupError::ConfigMapNotFound(name.to_owned(), key.to_owned()))
        }
    }

    fn host() -> DirectHost {
        let connection = Connection { hops: Vec::new(), state_directory: None, sessions: 8 };
        let noted = Contacts::default().noted("scope", &connection);
        let pool = Dialer::default().pool("scope", connection, Arc::new(Nothing), noted);
        DirectHost::new(pool, Spools::default())
    }

    fn entry(uid: &str, attempt: i32) -> Entry {
        let (uid, token) = (uid.to_owned(), format!("{attempt:032x}"));
        let machine = String::new();
        Entry { uid, run: 1, attempt, kind: Kind::Command, token, machine, run_as: None }
    }

    /// Launches something that writes `out` and is lost, without a sweep to come.
    fn lose(host: &DirectHost, entry: &Entry) -> Arc<Attempt> {
        let attempt = Attempt::new(None, 100, Standing::ForcedCommand);
        let attempt = host.remember(entry, attempt).unwrap();
        attempt.take(Event::Stdout(b"out".to_vec()));
        attempt.take(Event::Lost(Fault::new(Transient::ConnectionLost, "cut")));
        attempt
    }

    /// Guards against megabytes for each run that ends in doubt, for as long as the machine is
    /// in use.
    #[tokio::test(start_paused = true)]
    async fn what_is_never_swept_is_let_go_of_while_the_machine_is_in_use() {
        let host = host();
        let first = entry("a", 1);
        lose(&host, &first);
        tokio::time::advance(OUTPUT_KEPT / 2).await;
        lose(&host, &entry("a", 2));
        assert_eq!(host.read(&first, Stream::Stdout, 0, 9).await.unwrap().bytes, b"out");
        tokio::time::advance(OUTPUT_KEPT / 2).await;
        lose(&host, &entry("a", 3));
        let chunk = host.read(&first, Stream::Stdout, 0, 9).await.unwrap();
        assert_eq!((chunk.offset, chunk.bytes.len()), (3, 0), "it is told as missing");
        assert!(host.attempt(&first).is_some(), "its end is kept for longer");
        tokio::time::advance(END_KEPT).await;
        lose(&host, &entry("a", 4));
        assert_eq!(host.attempts().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_is_gone_is_forgotten_and_no_other() {
        let host = host();
        let gone = Arc::downgrade(&lose(&host, &entry("a", 1)));
        lose(&host, &entry("b", 1));
        host.forget("a");
        assert!(gone.upgrade().is_none() && !host.knows("a") && host.knows("b"));
    }
}
