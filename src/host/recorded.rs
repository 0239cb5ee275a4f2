//! The verbs on a machine that keeps a record, over any transport.
//!
//! [`Shells`] are the helper shells of one account, shared by all commands on it;
//! [`Recorded`] is one command's view of them. Every wait for the far shell has the reply
//! limit; making a connection has limits of its own. A fault says nothing about the command.
//! Every verb may be repeated but Launch, whose refusal proves something only while it was
//! sent once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::inputs::inputs;
use super::shell::{Shell, Unanswered, call};
use super::{Chunk, Host, Material, Stream, Transport};
use crate::core::action::{Action, Entry, Expect, Seen};
use crate::core::fault::{Cause, Fault, Ours, Standing, Transient};
use crate::core::plan::Plan;
use crate::core::record::Identity;
use crate::journal::Saved;
use crate::shim::Account;
use crate::shim::wire::{self, Flaw, Inputs, Report};

/// How long a report may take once there is a channel for it.
pub const REPLY_LIMIT: Duration = Duration::from_secs(20);

/// Helper shells of one user on one transport: two, so that a slow verb does not hold up the rest.
const SHELLS: usize = 2;
/// How many reply limits a verb waits for one of them while one is being opened.
const TURNS: u32 = 6;

/// The helper shells of one account. Made once for a transport and shared.
pub struct Shells {
    transport: Arc<dyn Transport>,
    account: Account,
    reply_limit: Duration,
    users: Mutex<BTreeMap<Option<String>, Arc<Pool>>>,
    /// A shell that has not answered its greeting yet. It may be a forced command at work, so
    /// it is waited for, and no other exec is begun beside it.
    silent: tokio::sync::Mutex<Option<Shell>>,
    /// Set once and for all when the account runs a forced command: no further exec.
    forced: OnceLock<(Fault, Instant)>,
}

struct Pool {
    permits: Semaphore,
    idle: Mutex<Vec<Shell>>,
    /// How many shells are being opened.
    opening: AtomicUsize,
}

type Answer = (Report, Vec<u8>);

impl Shells {
    /// Opens nothing yet.
    pub fn new(transport: Arc<dyn Transport>, account: Account) -> Self {
        Self {
            transport,
            account,
            reply_limit: REPLY_LIMIT,
            users: Mutex::default(),
            silent: tokio::sync::Mutex::default(),
            forced: OnceLock::new(),
        }
    }

    /// The same with another reply limit.
    #[must_use]
    pub fn with_reply_limit(mut self, limit: Duration) -> Self {
        self.reply_limit = limit;
        self
    }

    /// How long the account has been known to run a forced command.
    pub(super) fn forced_for(&self) -> Option<Duration> {
        self.forced.get().map(|(_, since)| since.elapsed())
    }

    /// Who the host is. Starts nothing and leaves no entry.
    ///
    /// # Errors
    /// Whatever stands between us and a usable host.
    pub async fn identify(&self, run_as: Option<&str>) -> Result<Identity, Fault> {
        let pool = self.pool(run_as);
        let _permit = self.turn(&pool).await?;
        let shell = self.open(run_as, &pool).await?;
        let identity = shell.identity().clone();
        pool.put(shell);
        Ok(identity)
    }

    /// Asks one question. A shell that had died since it was last used is replaced once.
    async fn ask(&self, run_as: Option<&str>, question: &Question<'_>) -> Result<Answer, Fault> {
        let pool = self.pool(run_as);
        let _permit = self.turn(&pool).await?;
        if let Some(shell) = pool.take() {
            match self.put(question, shell, &pool).await {
                Err(unanswered) if question.may_be_asked_again(&unanswered) => {}
                answer => return answer.map_err(|unanswered| unanswered.fault),
            }
        }
        let shell = self.open(run_as, &pool).await?;
        self.put(question, shell, &pool).await.map_err(|unanswered| unanswered.fault)
    }

    /// A failed shell is dropped, and so is one that says it ends. One that belongs to another
    /// machine than is meant is kept only while new connections may not be made.
    async fn put(
        &self,
        question: &Question<'_>,
        mut shell: Shell,
        pool: &Pool,
    ) -> Result<Answer, Unanswered> {
        if let Err(fault) = question.is_for(shell.identity()) {
            if self.transport.renew() {
                self.forget();
            } else {
                pool.put(shell);
            }
            return Err(Unanswered { fault, written: false });
        }
        let asked = timeout(self.reply_limit, shell.ask(question.line, question.inputs));
        let answer = match asked.await {
            Ok(answer) => answer?,
            Err(_) => return Err(Unanswered { fault: self.no_report(), written: true }),
        };
        if !answer.0.over {
            pool.put(shell);
        }
        Ok(answer)
    }

    /// Makes a supervisor of a shell of its own, for hosts that cannot fork one away.
    async fn hand_over(
        &self,
        run_as: Option<&str>,
        question: &Question<'_>,
    ) -> Result<Answer, Fault> {
        let mut shell = self.open(run_as, &self.pool(run_as)).await?;
        question.is_for(shell.identity())?;
        let asked = shell.ask(question.line, question.inputs);
        let asked = async { asked.await.map_err(|unanswered| unanswered.fault) };
        let answer = self.within_limit(asked).await?;
        if answer.0.taken {
            shell.release();
        }
        Ok(answer)
    }

    /// Whether supervisors can be forked away, as any helper shell knows.
    async fn forks(&self, run_as: Option<&str>) -> Result<bool, Fault> {
        let pool = self.pool(run_as);
        let _permit = self.turn(&pool).await?;
        let shell = match pool.take() {
            Some(shell) => shell,
            None => self.open(run_as, &pool).await?,
        };
        let forks = shell.forks();
        pool.put(shell);
        Ok(forks)
    }

    /// Waits for one of the user's shells. While one is being opened, the limits of its
    /// stages are what bounds the wait; but not for one caller after the other.
    async fn turn<'a>(&self, pool: &'a Pool) -> Result<SemaphorePermit<'a>, Fault> {
        let acquiring = pool.permits.acquire();
        tokio::pin!(acquiring);
        let latest = Instant::now() + self.reply_limit * TURNS;
        loop {
            match timeout(self.reply_limit, &mut acquiring).await {
                Ok(permit) => return permit.map_err(|_| closed()),
                Err(_) if pool.opening.load(Ordering::Relaxed) > 0 && Instant::now() < latest => {}
                Err(_) => {
                    let limit = self.reply_limit;
                    let message = format!("the helper shells stayed in use for {limit:?}");
                    return Err(Fault::new(Transient::ReplyTimeout, message));
                }
            }
        }
    }

    async fn open(&self, run_as: Option<&str>, pool: &Pool) -> Result<Shell, Fault> {
        let _opening = Opening::begin(&pool.opening);
        let shell = self.greeted().await?;
        self.within_limit(shell.load(&self.account, run_as)).await
    }

    /// A shell that has echoed its greeting.
    async fn greeted(&self) -> Result<Shell, Fault> {
        let mut silent = self.silent.lock().await;
        if let Some((fault, _)) = self.forced.get() {
            return Err(fault.clone());
        }
        // Left in its place meanwhile, so that it outlives a caller who gives up.
        let shell = match &mut *silent {
            Some(shell) => shell,
            none => none.insert(Shell::begin(self.transport.as_ref(), &self.account).await?),
        };
        let limit = self.reply_limit / 2;
        let greeted = shell.greeted(limit).await;
        if let Ok(false) = greeted {
            let message = format!("no shell answered within {limit:?}");
            return Err(Fault::new(Transient::ReplyTimeout, message));
        }
        let shell = silent.take();
        if let Err(fault) = greeted {
            if fault.cause == Cause::Standing(Standing::ForcedCommand) {
                let _ = self.forced.set((fault.clone(), Instant::now()));
            }
            return Err(fault);
        }
        shell.ok_or_else(closed)
    }

    /// Lets go of every shell that is not in use.
    fn forget(&self) {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in users.values() {
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    async fn within_limit<T>(
        &self,
        what: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        timeout(self.reply_limit, what).await.unwrap_or_else(|_| Err(self.no_report()))
    }

    fn no_report(&self) -> Fault {
        let message = format!("no report within {:?}", self.reply_limit);
        Fault::new(Transient::ReplyTimeout, message)
    }

    fn pool(&self, run_as: Option<&str>) -> Arc<Pool> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.entry(run_as.map(str::to_owned)).or_insert_with(Pool::new).clone()
    }
}

impl Pool {
    fn new() -> Arc<Self> {
        let (permits, opening) = (Semaphore::new(SHELLS), AtomicUsize::new(0));
        Arc::new(Self { permits, idle: Mutex::default(), opening })
    }

    /// An idle shell whose end is not known.
    fn take(&self) -> Option<Shell> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut shell) = idle.pop() {
            if shell.is_open() {
                return Some(shell);
            }
        }
        None
    }

    fn put(&self, shell: Shell) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(shell);
    }
}

/// Counts an opening while it lives.
struct Opening<'a>(&'a AtomicUsize);

impl<'a> Opening<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request, and the machine it is meant for.
struct Question<'a> {
    line: &'a str,
    inputs: &'a [u8],
    /// Empty when any machine will do.
    machine: &'a str,
    /// True for what must not be sent twice: a Launch. A second copy that a restarted host
    /// refuses would read as proof that nothing started, though the first one did.
    once: bool,
}

impl Question<'_> {
    /// Whether another shell may be asked, after one that had died since it was last used.
    fn may_be_asked_again(&self, unanswered: &Unanswered) -> bool {
        let died = unanswered.fault.cause == Cause::Transient(Transient::ConnectionLost);
        died && !(self.once && unanswered.written)
    }

    /// Checked before the verb is sent: nothing may be done on a machine by mistake.
    fn is_for(&self, identity: &Identity) -> Result<(), Fault> {
        if self.machine.is_empty() || self.machine == identity.machine {
            return Ok(());
        }
        let message = format!("machine {} answers, launched on {}", identity.machine, self.machine);
        Err(Fault::new(Transient::WrongHost, message))
    }
}

/// One command's host.
pub struct Recorded {
    shells: Arc<Shells>,
    run_as: Option<String>,
}

impl Recorded {
    /// The verbs for a command that runs as `run_as` (the login's user when `None`), on the
    /// account that `shells` belong to.
    pub fn new(shells: Arc<Shells>, run_as: Option<String>) -> Self {
        Self { shells, run_as }
    }

    async fn perform(
        &self,
        plan: &Plan,
        action: &Action,
        material: Option<Material>,
    ) -> Result<Seen, Fault> {
        let id = call();
        let (entry, line) = match action {
            Action::Prepare { entry } => {
                let line = wire::request("prepare", &id, entry, "").map_err(flawed)?;
                let report = self.ask(&line, &entry.machine).await?.0;
                let identity = report.identity.ok_or_else(nobody)?;
                let (entry, connection) = (entry.clone(), String::new());
                return Ok(Seen::Prepared { entry, identity, connection });
            }
            Action::Sweep { uid, machine, store, .. } => {
                let line = wire::sweep(&id, uid).map_err(flawed)?;
                self.ask(&line, machine).await?;
                let (uid, machine, store) = (uid.clone(), machine.clone(), store.clone());
                return Ok(Seen::Swept { uid, machine, store });
            }
            Action::Launch { entry, expect } => {
                return match inputs(plan, entry.kind, material) {
                    Ok(inputs) => self.launch(&id, entry, expect, &inputs).await,
                    Err(message) => Ok(Seen::Refused { entry: entry.clone(), message }),
                };
            }
            Action::Probe { entry } => (entry, wire::request("probe", &id, entry, "")),
            Action::Terminate { entry, reason, processes, grace_ms } => {
                let grace = Some(Duration::from_millis(*grace_ms));
                let words = wire::stop_words(*reason, grace, processes.as_ref());
                (entry, wire::request("stop", &id, entry, &words))
            }
            Action::Kill { entry, reason, processes } => {
                let words = wire::stop_words(*reason, None, processes.as_ref());
                (entry, wire::request("stop", &id, entry, &words))
            }
            Action::Revoke { entry, boot, store } => {
                (entry, wire::request("revoke", &id, entry, &wire::revoke_words(boot, store)))
            }
        };
        let report = self.ask(&line.map_err(flawed)?, &entry.machine).await?.0;
        seen(entry, &report)
    }

    async fn launch(
        &self,
        id: &str,
        entry: &Entry,
        expect: &Expect,
        inputs: &Inputs,
    ) -> Result<Seen, Fault> {
        let run_as = self.run_as.as_deref();
        let forks = self.shells.forks(run_as).await?;
        let words = wire::launch_words(expect, inputs, !forks);
        let line = wire::request("launch", id, entry, &words).map_err(flawed)?;
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        inputs.put(id, &mut bytes);
        let question =
            Question { line: &line, inputs: &bytes, machine: &entry.machine, once: true };
        let (report, _) = if forks {
            self.shells.ask(run_as, &question).await?
        } else {
            self.shells.hand_over(run_as, &question).await?
        };
        if let Some(message) = report.refused {
            return Ok(Seen::Refused { entry: entry.clone(), message });
        }
        if !report.taken {
            return seen(entry, &report);
        }
        let probe = wire::request("probe", id, entry, "").map_err(flawed)?;
        seen(entry, &self.ask(&probe, &entry.machine).await?.0)
    }

    async fn ask(&self, line: &str, machine: &str) -> Result<Answer, Fault> {
        let question = Question { line, inputs: &[], machine, once: false };
        self.shells.ask(self.run_as.as_deref(), &question).await
    }
}

#[async_trait]
impl Host for Recorded {
    async fn act(&self, plan: &Plan, action: &Saved<Action>, material: Option<Material>) -> Seen {
        match self.perform(plan, action.get(), material).await {
            Ok(seen) => seen,
            Err(fault) => Seen::Unreachable(fault),
        }
    }

    async fn read(
        &self,
        entry: &Entry,
        stream: Stream,
        offset: u64,
        max: u32,
    ) -> Result<Chunk, Fault> {
        let words = wire::read_words(stream, offset, max);
        let line = wire::request("read", &call(), entry, &words).map_err(flawed)?;
        let (_, bytes) = self.ask(&line, &entry.machine).await?;
        Ok(Chunk { stream, offset, bytes, truncated: false })
    }
}

fn seen(entry: &Entry, report: &Report) -> Result<Seen, Fault> {
    if let Some(message) = &report.fault {
        return Err(Fault::new(Standing::HostUnusable, message));
    }
    let record = report.record(&entry.token).map_err(flawed)?;
    Ok(Seen::Host { entry: entry.clone(), record })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn flawed(flaw: Flaw) -> Fault {
    Fault::new(Ours::ProtocolError, flaw.to_string())
}

fn nobody() -> Fault {
    Fault::new(Ours::ProtocolError, "the report names no host")
}

fn closed() -> Fault {
    Fault::new(Ours::LibraryLimit, "the helper shells are closed")
}
