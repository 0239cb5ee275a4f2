//! The helper shells of one account: opened when they are needed, and shared by all commands
//! on it.
//!
//! Every wait has a limit. Whoever asks something waits for a shell for at most [`TURNS`] reply
//! limits, and then at most the reply limit for the answer. If a new shell is needed, there are
//! between the two the limits of a connection and its channel, half a reply limit for the shell
//! to answer at all (twice that where an earlier one had been slow), a moment for its last words,
//! and one reply limit for it to take its program. Not here: what is asked (`recorded`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout, timeout_at};

use super::machine::FORCED_REST;
use super::shell::{Shell, Unanswered};
use super::{Recall, Transport, account};
use crate::core::fault::{Cause, Fault, Ours, Standing, Transient};
use crate::core::record::Identity;
use crate::shim::Account;
use crate::shim::wire::Report;

/// How long a report may take once there is a channel for it.
pub const REPLY_LIMIT: Duration = Duration::from_secs(20);

/// Helper shells of one user on one transport: two, so that a slow verb does not hold up the rest.
const SHELLS: usize = 2;
/// How many reply limits whoever asks something waits for a shell while others are being opened.
const TURNS: u32 = 6;
/// How often it is looked whether an idle shell is to make room for one that is being opened.
const ROOM_PERIOD: Duration = Duration::from_secs(1);

/// The helper shells of one account. Made once for a transport and shared.
pub struct Shells {
    transport: Arc<dyn Transport>,
    account: Account,
    reply_limit: Duration,
    users: Mutex<BTreeMap<Option<String>, Arc<Pool>>>,
    door: tokio::sync::Mutex<Door>,
    /// Set once and for all when the account runs a forced command: no further exec.
    forced: OnceLock<(Fault, Instant)>,
}

/// Where new shells come from, one after the other.
#[derive(Default)]
struct Door {
    /// A shell that has not answered its greeting yet. It may be a forced command at work, so it
    /// is waited for, and no other exec is begun beside it; but not for ever.
    silent: Option<Silent>,
    /// One of them was only slow.
    is_slow: bool,
    /// When no shell came last, and why.
    failed: Option<(Instant, Fault)>,
}

/// A shell that is waited for.
struct Silent {
    shell: Shell,
    since: Instant,
    /// Somebody has waited for it in vain.
    awaited: bool,
}

/// The shells of one user.
struct Pool {
    permits: Semaphore,
    /// Those that nobody uses and since when, longest first.
    idle: Mutex<Vec<(Instant, Shell)>>,
    /// How many shells are being opened.
    opening: AtomicUsize,
}

/// A report, and the bytes of output that came with it.
pub(super) type Answer = (Report, Vec<u8>);

impl Shells {
    /// Opens nothing yet.
    pub fn new(transport: Arc<dyn Transport>, account: Account) -> Self {
        Self {
            transport,
            account,
            reply_limit: REPLY_LIMIT,
            users: Mutex::default(),
            door: tokio::sync::Mutex::default(),
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
        let (pool, latest) = (self.pool(run_as), self.latest());
        let _permit = self.turn(&pool, latest).await?;
        let shell = self.open(run_as, &pool, latest).await?;
        let identity = shell.identity().clone();
        pool.put(shell);
        Ok(identity)
    }

    /// Asks one question. A shell that had died since it was last used is replaced once.
    ///
    /// # Errors
    /// [`Unanswered`], whose `written` is about all that was tried.
    pub(super) async fn ask(
        &self,
        run_as: Option<&str>,
        question: &Question<'_>,
    ) -> Result<Answer, Unanswered> {
        let (pool, latest) = (self.pool(run_as), self.latest());
        let turn = question.recall.unless_failed(self.turn(&pool, latest)).await;
        let _permit = turn.map_err(Unanswered::unsent)?;
        let mut written = false;
        if let Some(shell) = pool.take() {
            match self.put(question, shell, &pool).await {
                Err(unanswered) if question.may_be_asked_again(&unanswered) => {
                    written = unanswered.written;
                }
                answer => return answer,
            }
        }
        let opened = question.recall.unless_failed(self.open(run_as, &pool, latest)).await;
        let answer = match opened {
            Ok(shell) => self.put(question, shell, &pool).await,
            Err(fault) => Err(Unanswered::unsent(fault)),
        };
        answer.map_err(|last| Unanswered { written: written || last.written, ..last })
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
            return Err(Unanswered::unsent(fault));
        }
        let answer = self.answer(question, &mut shell).await?;
        if !answer.0.over {
            pool.put(shell);
        }
        Ok(answer)
    }

    async fn answer(
        &self,
        question: &Question<'_>,
        shell: &mut Shell,
    ) -> Result<Answer, Unanswered> {
        match timeout(self.reply_limit, shell.ask(question.line, question.inputs, question.most))
            .await
        {
            Ok(answer) => answer,
            Err(_) => {
                let fault = shell.shortage().unwrap_or_else(|| self.no_report(shell));
                Err(Unanswered { fault, written: true })
            }
        }
    }

    /// Makes a supervisor of a shell of its own, for hosts that cannot fork one away.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub(super) async fn hand_over(
        &self,
        run_as: Option<&str>,
        question: &Question<'_>,
    ) -> Result<Answer, Unanswered> {
        let pool = self.pool(run_as);
        let opening = self.open(run_as, &pool, self.latest());
        let opened = question.recall.unless_failed(opening).await;
        let mut shell = opened.map_err(Unanswered::unsent)?;
        question.is_for(shell.identity()).map_err(Unanswered::unsent)?;
        let answer = self.answer(question, &mut shell).await?;
        if answer.0.taken {
            shell.release();
        }
        Ok(answer)
    }

    /// Whether supervisors can be forked away, as any helper shell knows.
    ///
    /// # Errors
    /// Whatever stands between us and a helper shell.
    pub(super) async fn forks(&self, run_as: Option<&str>) -> Result<bool, Fault> {
        let (pool, latest) = (self.pool(run_as), self.latest());
        let _permit = self.turn(&pool, latest).await?;
        let shell = match pool.take() {
            Some(shell) => shell,
            None => self.open(run_as, &pool, latest).await?,
        };
        let forks = shell.forks();
        pool.put(shell);
        Ok(forks)
    }

    /// Until when whoever asks now waits for a shell.
    fn latest(&self) -> Instant {
        Instant::now() + self.reply_limit * TURNS
    }

    /// Waits for one of the user's shells. While one is being opened, the limits of its
    /// stages are what bounds the wait; but not for one caller after the other.
    async fn turn<'a>(
        &self,
        pool: &'a Pool,
        latest: Instant,
    ) -> Result<SemaphorePermit<'a>, Fault> {
        let acquiring = pool.permits.acquire();
        tokio::pin!(acquiring);
        loop {
            let until = latest.min(Instant::now() + self.reply_limit);
            match timeout_at(until, &mut acquiring).await {
                Ok(permit) => return permit.map_err(|_| closed()),
                Err(_) if pool.opening.load(Ordering::Relaxed) > 0 && until < latest => {}
                Err(_) => return Err(in_use(self.reply_limit)),
            }
        }
    }

    async fn open(
        &self,
        run_as: Option<&str>,
        pool: &Pool,
        latest: Instant,
    ) -> Result<Shell, Fault> {
        let _opening = Opening::begin(&pool.opening);
        let mut shell = self.greeted(latest).await?;
        match timeout(self.reply_limit, shell.load(&self.account, run_as)).await {
            Ok(loaded) => loaded.map(|()| shell),
            Err(_) => Err(shell.shortage().unwrap_or_else(|| self.no_report(&shell))),
        }
    }

    /// A shell that has echoed its greeting. Whoever waits while others fail to get one is told
    /// the same: each trying for itself would keep the next one waiting once more.
    async fn greeted(&self, latest: Instant) -> Result<Shell, Fault> {
        let came = Instant::now();
        let door = timeout_at(latest, self.door.lock()).await;
        let mut door = door.map_err(|_| in_use(self.reply_limit * TURNS))?;
        if let Some((fault, _)) = self.forced.get() {
            return Err(fault.clone());
        }
        let still_holds = |(when, fault): &&(Instant, Fault)| {
            let to_be_mended = fault.cause == Cause::Standing(Standing::HostUnusable);
            *when > came || to_be_mended && when.elapsed() < account::REST
        };
        if let Some((_, fault)) = door.failed.as_ref().filter(still_holds) {
            return Err(fault.clone());
        }
        let greeted = self.greet(&mut door).await;
        door.failed = greeted.as_ref().err().map(|fault| (Instant::now(), fault.clone()));
        greeted
    }

    async fn greet(&self, door: &mut Door) -> Result<Shell, Fault> {
        // As seldom as an account that is known to run something else is looked at.
        door.silent.take_if(|silent| silent.since.elapsed() > FORCED_REST);
        let greeted = self.hear(door).await?;
        let shell = door.silent.take().map(|silent| silent.shell);
        match greeted {
            Ok(()) => shell.ok_or_else(closed),
            Err(fault) => {
                if fault.cause == Cause::Standing(Standing::ForcedCommand) {
                    let _ = self.forced.set((fault.clone(), Instant::now()));
                }
                // A server may decide once in a connection what an account may do in it.
                if matches!(fault.cause, Cause::Standing(_)) {
                    self.transport.renew();
                }
                Err(fault)
            }
        }
    }

    /// Waits for the shell at the door to show itself, and has one come if there is none. It is
    /// left there meanwhile, so that it outlives a caller who gives up.
    ///
    /// # Errors
    /// It said nothing that tells. What it is to be told apart from is in the inner result.
    async fn hear(&self, door: &mut Door) -> Result<Result<(), Fault>, Fault> {
        let limit = self.reply_limit / 2;
        loop {
            let silent = match &mut door.silent {
                Some(silent) => silent,
                none => {
                    let begun = Shell::begin(self.transport.as_ref(), &self.account);
                    let shell = self.making_room(begun).await?;
                    none.insert(Silent { shell, since: Instant::now(), awaited: false })
                }
            };
            let shell = &mut silent.shell;
            let mut heard = shell.greeted(limit).await;
            // A shell that reads its commands up to their end is silent before.
            if heard == Ok(false) && silent.awaited && !door.is_slow {
                heard = shell.sounded_out().await;
            }
            match heard {
                Ok(true) if shell.has_no_input() => {
                    door.is_slow = true;
                    door.silent = None;
                }
                Ok(true) => return Ok(Ok(())),
                Ok(false) => {
                    silent.awaited = true;
                    return Err(shell.shortage().unwrap_or_else(|| unanswered(limit, shell)));
                }
                Err(fault) => return Ok(Err(fault)),
            }
        }
    }

    /// Waits for something that opens a channel, while idle shells make room for it where all
    /// channels are in use: those of many users could otherwise keep everybody else out.
    pub(super) async fn making_room<T>(&self, opening: impl Future<Output = T>) -> T {
        tokio::pin!(opening);
        loop {
            if self.transport.is_full() {
                self.let_one_go();
            }
            if let Ok(opened) = timeout(ROOM_PERIOD, &mut opening).await {
                return opened;
            }
        }
    }

    /// Lets go of the shell that has been idle longest, whosever it is.
    fn let_one_go(&self) {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let idle_since = |pool: &&Arc<Pool>| pool.idle().first().map(|(since, _)| *since);
        let longest =
            users.values().filter(|pool| idle_since(pool).is_some()).min_by_key(idle_since);
        if let Some(pool) = longest {
            pool.idle().drain(..1);
        }
    }

    /// Lets go of every shell that is not in use.
    fn forget(&self) {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        for pool in users.values() {
            pool.idle().clear();
        }
    }

    fn no_report(&self, shell: &Shell) -> Fault {
        let message = format!("no report within {:?}{}", self.reply_limit, shell.words());
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

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Shell)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle shell whose end is not known.
    fn take(&self) -> Option<Shell> {
        let mut idle = self.idle();
        while let Some((_, mut shell)) = idle.pop() {
            if shell.is_open() {
                return Some(shell);
            }
        }
        None
    }

    fn put(&self, shell: Shell) {
        self.idle().push((Instant::now(), shell));
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
pub(super) struct Question<'a> {
    pub(super) line: &'a str,
    pub(super) inputs: &'a [u8],
    /// Empty when any machine will do.
    pub(super) machine: &'a str,
    /// True for what must not be sent twice: a Launch. A second copy that a restarted host
    /// refuses would read as proof that nothing started, though the first one did.
    pub(super) once: bool,
    /// How many bytes of output are asked for.
    pub(super) most: u32,
    /// Ends the wait for a shell.
    pub(super) recall: &'a Recall,
}

impl<'a> Question<'a> {
    /// A line to the machine, without inputs.
    pub(super) fn of(line: &'a str, machine: &'a str, recall: &'a Recall) -> Self {
        Self { line, inputs: &[], machine, once: false, most: 0, recall }
    }

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

fn unanswered(limit: Duration, shell: &Shell) -> Fault {
    let words = shell.words();
    let message = format!(
        "no shell answered within {limit:?}{words}. Look at the start-up files of the login shell, \
         which may wait for something; what was begun may be a command of the account's own, so \
         it is waited for"
    );
    Fault::new(Transient::ReplyTimeout, message)
}

fn in_use(limit: Duration) -> Fault {
    let message = format!("the helper shells stayed in use for {limit:?}");
    Fault::new(Transient::ReplyTimeout, message)
}

fn closed() -> Fault {
    Fault::new(Ours::LibraryLimit, "the helper shells are closed")
}

#[cfg(test)]
mod tests;
