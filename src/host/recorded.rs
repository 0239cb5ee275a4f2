//! The verbs on a machine that keeps a record, over any transport.
//!
//! [`Shells`] are the helper shells of one account, shared by all commands on it;
//! [`Recorded`] is one command's view of them. Every wait has the reply limit. A fault says
//! nothing about the command, and a verb may always be repeated.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::inputs::inputs;
use super::shell::{Shell, call};
use super::{Chunk, Host, Material, Stream, Transport};
use crate::core::action::{Action, Entry, Expect, Seen};
use crate::core::fault::{Cause, Fault, Ours, Standing, Transient};
use crate::core::plan::Plan;
use crate::core::record::Identity;
use crate::journal::Saved;
use crate::shim::Account;
use crate::shim::wire::{self, Flaw, Inputs, Report};

/// How long a report may take, opening a shell included.
pub const REPLY_LIMIT: Duration = Duration::from_secs(20);

/// Helper shells of one user on one transport: two, so that a slow verb does not hold up the rest.
const SHELLS: usize = 2;

/// The helper shells of one account. Made once for a transport and shared.
pub struct Shells {
    transport: Arc<dyn Transport>,
    account: Account,
    reply_limit: Duration,
    users: Mutex<BTreeMap<Option<String>, Arc<Pool>>>,
    /// Set once and for all when the account runs a forced command: no further exec.
    forced: OnceLock<Fault>,
}

struct Pool {
    permits: Semaphore,
    idle: Mutex<Vec<Shell>>,
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
            forced: OnceLock::new(),
        }
    }

    /// The same with another reply limit.
    #[must_use]
    pub fn with_reply_limit(mut self, limit: Duration) -> Self {
        self.reply_limit = limit;
        self
    }

    /// Who the host is. Starts nothing and leaves no entry.
    ///
    /// # Errors
    /// Whatever stands between us and a usable host.
    pub async fn identify(&self, run_as: Option<&str>) -> Result<Identity, Fault> {
        self.within_limit(async {
            let pool = self.pool(run_as);
            let _permit = pool.permits.acquire().await.map_err(|_| closed())?;
            let shell = self.open(run_as).await?;
            let identity = shell.identity().clone();
            pool.put(shell);
            Ok(identity)
        })
        .await
    }

    /// Asks one question. A shell that had died since it was last used is replaced once.
    async fn ask(&self, run_as: Option<&str>, question: &Question<'_>) -> Result<Answer, Fault> {
        self.within_limit(async {
            let pool = self.pool(run_as);
            let _permit = pool.permits.acquire().await.map_err(|_| closed())?;
            if let Some(shell) = pool.take() {
                match question.put_to(shell, &pool).await {
                    Err(Fault { cause: Cause::Transient(Transient::ConnectionLost), .. }) => {}
                    answer => return answer,
                }
            }
            question.put_to(self.open(run_as).await?, &pool).await
        })
        .await
    }

    /// Makes a supervisor of a shell of its own, for hosts that cannot fork one away.
    async fn hand_over(
        &self,
        run_as: Option<&str>,
        question: &Question<'_>,
    ) -> Result<Answer, Fault> {
        self.within_limit(async {
            let mut shell = self.open(run_as).await?;
            question.is_for(shell.identity())?;
            let answer = shell.ask(question.line, question.inputs).await?;
            if answer.0.taken {
                shell.release();
            }
            Ok(answer)
        })
        .await
    }

    /// Whether supervisors can be forked away, as any helper shell knows.
    async fn forks(&self, run_as: Option<&str>) -> Result<bool, Fault> {
        self.within_limit(async {
            let pool = self.pool(run_as);
            let _permit = pool.permits.acquire().await.map_err(|_| closed())?;
            let shell = match pool.take() {
                Some(shell) => shell,
                None => self.open(run_as).await?,
            };
            let forks = shell.forks();
            pool.put(shell);
            Ok(forks)
        })
        .await
    }

    async fn open(&self, run_as: Option<&str>) -> Result<Shell, Fault> {
        if let Some(fault) = self.forced.get() {
            return Err(fault.clone());
        }
        let greeting = self.reply_limit / 2;
        let opened = Shell::open(self.transport.as_ref(), &self.account, run_as, greeting).await;
        if let Err(fault) = &opened
            && fault.cause == Cause::Standing(Standing::ForcedCommand)
        {
            let _ = self.forced.set(fault.clone());
        }
        opened
    }

    async fn within_limit<T>(
        &self,
        what: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        tokio::time::timeout(self.reply_limit, what).await.unwrap_or_else(|_| {
            let message = format!("no report within {:?}", self.reply_limit);
            Err(Fault::new(Transient::ReplyTimeout, message))
        })
    }

    fn pool(&self, run_as: Option<&str>) -> Arc<Pool> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.entry(run_as.map(str::to_owned)).or_insert_with(Pool::new).clone()
    }
}

impl Pool {
    fn new() -> Arc<Self> {
        Arc::new(Self { permits: Semaphore::new(SHELLS), idle: Mutex::default() })
    }

    fn take(&self) -> Option<Shell> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn put(&self, shell: Shell) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(shell);
    }
}

/// One request, and the machine it is meant for.
struct Question<'a> {
    line: &'a str,
    inputs: &'a [u8],
    /// Empty when any machine will do.
    machine: &'a str,
}

impl Question<'_> {
    /// A failed shell is dropped, and so is one that says it ends.
    async fn put_to(&self, mut shell: Shell, pool: &Pool) -> Result<Answer, Fault> {
        if let Err(fault) = self.is_for(shell.identity()) {
            pool.put(shell);
            return Err(fault);
        }
        let answer = shell.ask(self.line, self.inputs).await?;
        if !answer.0.over {
            pool.put(shell);
        }
        Ok(answer)
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
            Action::Sweep { uid, machine, .. } => {
                let line = wire::sweep(&id, uid).map_err(flawed)?;
                self.ask(&line, machine).await?;
                return Ok(Seen::Swept { uid: uid.clone() });
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
        let question = Question { line: &line, inputs: &bytes, machine: &entry.machine };
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
        self.shells.ask(self.run_as.as_deref(), &Question { line, inputs: &[], machine }).await
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
        Ok(Chunk { stream, offset, bytes })
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
