//! One machine's connections: shared by many commands, bounded, and renewed when they end.
//!
//! One dial at a time; all who wait share it, and it ends soon after the last of them has gone. A
//! failed dial is remembered for a while, so that a thousand waiting commands do not hammer a dead
//! host: they are told its fault at once.

mod lease;
mod link;
mod wait;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub(super) use self::lease::Lease;
pub(crate) use self::link::Link;
use self::wait::{Dialing, Waiting};
use super::dial::{Dialling, Etiquette, Undialled, dial};
use super::exec::{self, Started, Unopened};
use super::outlet::Outlet;
use super::progress::Progress;
use super::session::Session;
use crate::core::connection::Connection;
use crate::core::fault::{Cause, Fault, Standing, Transient};
use crate::host::account;
use crate::host::contact::Noted;
use crate::host::{HostFacts, Input, Lookup, Recall, Sink};

/// An unused connection is closed after this long.
const IDLE: Duration = Duration::from_secs(300);
/// How long to wait for one of the host's sessions to become free.
const TURN_LIMIT: Duration = Duration::from_secs(30);
/// Connections to one machine at once.
const CONNECTIONS: usize = 16;
/// How often an exec that certainly was not sent is tried on another connection.
const TRIES: usize = 4;
/// How long a host is believed to allow no more sessions than it was seen to.
const LIMIT_REST: Duration = Duration::from_secs(600);
/// How often what answers may be the reason for new connections.
const RENEW_REST: Duration = Duration::from_secs(30);
/// How long a standing fault is believed without being asked to look again.
const STANDING_REST: Duration = Duration::from_secs(300);
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Pieces of input queued for a channel.
const INPUTS: usize = 64;
/// Events queued for a consumer, none larger than a piece of output.
const EVENTS: usize = 8;

/// The connections to one machine, for one namespace.
pub(crate) struct Pool {
    /// The namespace.
    scope: String,
    connection: Connection,
    lookup: Arc<dyn Lookup>,
    contact: Noted,
    etiquette: Arc<Etiquette>,
    state: Mutex<State>,
    changed: Notify,
    /// What the dial that is under way waits for.
    progress: Progress,
    /// Ends a dial that is under way at shutdown.
    closing: CancellationToken,
}

struct State {
    live: Vec<Live>,
    dialing: bool,
    /// How many wait for a session.
    waiting: usize,
    rest: Option<Rest>,
    failures: u32,
    /// Sessions per connection; learned downwards when the server refuses one, for a while.
    limit: usize,
    learned: Option<Instant>,
    renewed: Option<Instant>,
    /// Counts pokes, so that an answer to an older question is not remembered.
    epoch: u64,
    shut: bool,
    made: u64,
}

struct Live {
    id: u64,
    session: Arc<Session>,
    /// Commands on it.
    open: usize,
    /// Channels closed by us while their process ran on: they still count on the server.
    left: usize,
    /// Takes no more commands and is closed with its last one.
    retired: bool,
    idle_since: Instant,
}

struct Rest {
    fault: Fault,
    until: Instant,
}

enum Turn {
    Lease(Lease),
    Dial(u64),
    /// Until something changes, or for a rest to be over.
    Wait(Option<Instant>),
    Refuse(Fault),
}

impl Pool {
    pub(super) fn new(
        scope: &str,
        connection: Connection,
        (lookup, contact): (Arc<dyn Lookup>, Noted),
        etiquette: Arc<Etiquette>,
    ) -> Arc<Self> {
        let limit = sessions(&connection);
        let state = State {
            live: Vec::new(),
            dialing: false,
            waiting: 0,
            rest: None,
            failures: 0,
            limit,
            learned: None,
            renewed: None,
            epoch: 0,
            shut: false,
            made: 0,
        };
        let state = Mutex::new(state);
        let scope = scope.to_owned();
        let (changed, closing) = (Notify::new(), CancellationToken::new());
        let progress = Progress::default();
        Arc::new(Self {
            scope,
            connection,
            lookup,
            contact,
            etiquette,
            state,
            changed,
            progress,
            closing,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `line` on some connection; tried elsewhere while it certainly did not start. The
    /// wait for a connection ends when it is recalled.
    pub(super) async fn start(
        self: &Arc<Self>,
        line: &str,
        recall: &Recall,
    ) -> Result<Started, Unopened> {
        let mut tries = 1;
        loop {
            let lease = recall.unless_failed(self.lease()).await;
            let lease = lease.map_err(|fault| Unopened { fault, sent: false })?;
            match exec::start(lease, line).await {
                Err(unopened) if !unopened.sent && elsewhere(&unopened.fault) && tries < TRIES => {
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// Runs `line` and gives every event to `sink`.
    ///
    /// # Errors
    /// [`Unopened`], which knows whether the command may have started.
    pub(crate) async fn open_into(
        self: &Arc<Self>,
        line: &str,
        sink: Box<dyn Sink>,
        recall: &Recall,
    ) -> Result<mpsc::Sender<Input>, Unopened> {
        let started = self.start(line, recall).await?;
        let (input, inputs) = mpsc::channel(INPUTS);
        started.pump(inputs, Outlet::Sink(sink));
        Ok(input)
    }

    /// A real exchange with the machine that runs nothing on it: a connection and a ping.
    pub(crate) async fn check(self: &Arc<Self>) -> Result<HostFacts, Fault> {
        let lease = self.lease().await?;
        let session = lease.session();
        let limit = self.connection.hops.last().map_or(TURN_LIMIT, |hop| hop.timeouts.handshake);
        let ping = tokio::time::timeout(limit, session.handle.send_ping()).await;
        if session.ending.is_over() {
            return Err(session.ending.fault().await);
        }
        match ping {
            Ok(Ok(())) => Ok(session.facts()),
            Ok(Err(_)) => Err(session.ending.fault().await),
            Err(_) => {
                lease.suspect();
                let message = format!("the server did not answer a ping in {limit:?}");
                Err(Fault::new(Transient::ReplyTimeout, message))
            }
        }
    }

    /// Commands on this machine's connections.
    pub(crate) fn sessions(&self) -> usize {
        self.lock().live.iter().map(|live| live.open).sum()
    }

    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        let rested = state.rest.as_ref().is_none_or(|rest| Instant::now() >= rest.until);
        state.live.is_empty() && !state.dialing && rested
    }

    /// Forgets what failed and takes new commands to new connections: keys, credentials or
    /// the host itself changed.
    pub(crate) fn poke(&self) {
        let mut state = self.lock();
        state.epoch += 1;
        (state.rest, state.failures) = (None, 0);
        state.limit = sessions(&self.connection);
        state.live.iter_mut().for_each(|live| live.retired = true);
        self.sweep(&mut state);
    }

    /// Forgets what failed. Connections that stand are used on.
    pub(crate) fn reconsider(&self) {
        let mut state = self.lock();
        (state.rest, state.failures) = (None, 0);
    }

    /// Takes new commands to new connections, because another machine answers than was asked
    /// for, or an account that may not be used; what is remembered of failures stands. False when that was done a moment ago.
    pub(crate) fn renew(&self) -> bool {
        let mut state = self.lock();
        if state.renewed.is_some_and(|last| last.elapsed() < RENEW_REST) {
            return false;
        }
        state.renewed = Some(Instant::now());
        state.live.iter_mut().for_each(|live| live.retired = true);
        self.sweep(&mut state);
        true
    }

    /// Ends every connection; nothing is dialled afterwards.
    pub(crate) async fn shut(&self) {
        let sessions: Vec<_> = {
            let mut state = self.lock();
            state.shut = true;
            state.live.drain(..).map(|live| live.session).collect()
        };
        self.closing.cancel();
        self.changed.notify_waiters();
        futures::future::join_all(sessions.iter().map(|session| session.close())).await;
    }

    async fn lease(self: &Arc<Self>) -> Result<Lease, Fault> {
        let deadline = Instant::now() + self.dial_limit() + TURN_LIMIT;
        let _waiting = Waiting::begin(self);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let rested = match self.turn() {
                Turn::Lease(lease) => return Ok(lease),
                Turn::Refuse(fault) => return Err(fault),
                Turn::Dial(epoch) => {
                    tokio::spawn(self.clone().dial(epoch));
                    None
                }
                Turn::Wait(rested) => rested,
            };
            let until = rested.map_or(deadline, |rested| rested.min(deadline));
            if timeout_at(until, changed).await.is_err() && Instant::now() >= deadline {
                return Err(self.no_turn());
            }
        }
    }

    /// What is waited for while a connection is being made; `None` while none is, or another
    /// one stands.
    pub(crate) fn waits_for(&self) -> Option<String> {
        let none_stands = self.lock().serving() == 0;
        self.progress.told().filter(|_| none_stands)
    }

    fn no_turn(&self) -> Fault {
        if self.lock().dialing {
            let message = "a connection is still being made, or waits for its turn at the host";
            return Fault::new(Transient::Throttled, message);
        }
        Fault::new(Transient::ChannelRefused, "all sessions of this host stayed in use")
    }

    fn turn(self: &Arc<Self>) -> Turn {
        let mut state = self.lock();
        if state.shut {
            return Turn::Refuse(closing());
        }
        self.sweep(&mut state);
        if state.learned.is_some_and(|learned| learned.elapsed() >= LIMIT_REST) {
            state.learned = None;
            state.limit = sessions(&self.connection);
        }
        let limit = state.limit;
        if let Some(live) = state.live.iter_mut().find(|live| live.is_free(limit)) {
            live.open += 1;
            let session = live.session.clone();
            return Turn::Lease(Lease { pool: self.clone(), id: live.id, session });
        }
        if let Some(rest) = state.rest.as_ref().filter(|rest| Instant::now() < rest.until) {
            let wait = Turn::Wait(Some(rest.until));
            return if state.serving() > 0 { wait } else { Turn::Refuse(rest.fault.clone()) };
        }
        if state.dialing || state.has_all_connections() {
            return Turn::Wait(None);
        }
        state.dialing = true;
        Turn::Dial(state.epoch)
    }

    /// True when another session has to wait until one of those in use is given back.
    fn is_full(&self) -> bool {
        let state = self.lock();
        let rests = state.rest.as_ref().is_some_and(|rest| Instant::now() < rest.until);
        let no_more = state.has_all_connections() || rests && state.serving() > 0;
        let free = state.live.iter().any(|live| live.is_free(state.limit));
        no_more && !free && !state.dialing
    }

    /// Drops ended connections and closes spent ones that no command is on.
    fn sweep(&self, state: &mut State) {
        for live in &mut state.live {
            let worn = live.session.switch.moved() > self.etiquette.wear.worn;
            live.retired |= live.session.ending.is_over() || worn;
            live.retired |= live.left >= state.limit;
        }
        let (spent, kept) = std::mem::take(&mut state.live)
            .into_iter()
            .partition::<Vec<_>, _>(|live| live.retired && live.open == 0);
        state.live = kept;
        for live in spent {
            tokio::spawn(async move { live.session.close().await });
        }
    }

    /// The most a dial may take: every limit of every hop.
    fn dial_limit(&self) -> Duration {
        let limits = self.connection.hops.iter().map(|hop| &hop.timeouts);
        limits.map(|t| t.connect + t.handshake + t.authenticate).sum()
    }

    async fn dial(self: Arc<Self>, epoch: u64) {
        let dialing = Dialing(self.clone());
        let dialling = Dialling {
            scope: &self.scope,
            lookup: self.lookup.as_ref(),
            etiquette: &self.etiquette,
            progress: &self.progress,
        };
        let dialled = tokio::select! {
            dialled = dial(&self.connection, dialling) => dialled,
            () = self.closing.cancelled() => Err(closing().into()),
            () = self.unwanted() => return,
        };
        let unwanted = self.settle(dialled, epoch);
        drop(dialing);
        if let Some(session) = unwanted {
            session.close().await;
        }
    }

    /// Takes a dial's result into account; gives back a connection nobody wants any more.
    fn settle(
        self: &Arc<Self>,
        dialled: Result<Session, Undialled>,
        epoch: u64,
    ) -> Option<Session> {
        let mut state = self.lock();
        let current = state.epoch == epoch && !state.shut;
        match dialled {
            Err(undialled) if current => {
                self.contact.failed(&undialled.fault);
                state.remember(undialled.fault);
                if let (Some(rest), Some(until)) = (&mut state.rest, undialled.rests_until) {
                    rest.until = rest.until.min(until);
                }
            }
            Err(_) => {}
            Ok(session) if current => {
                self.contact.made(session.facts_on_the_way());
                self.admit(&mut state, session);
            }
            Ok(session) => return Some(session),
        }
        None
    }

    fn admit(self: &Arc<Self>, state: &mut State, session: Session) {
        let (session, id) = (Arc::new(session), state.made);
        state.made += 1;
        (state.rest, state.failures) = (None, 0);
        let idle_since = Instant::now();
        let watched = session.clone();
        state.live.push(Live { id, session, open: 0, left: 0, retired: false, idle_since });
        tokio::spawn(watch(Arc::downgrade(self), id, watched));
    }

    /// Retires the connection when it has been unused for long; the time until the next look.
    fn look(&self, id: u64) -> Option<Duration> {
        let mut state = self.lock();
        let live = state.live.iter_mut().find(|live| live.id == id)?;
        let idle = live.idle_since.elapsed();
        if live.open > 0 {
            return Some(IDLE);
        }
        if idle < IDLE {
            return Some(IDLE - idle);
        }
        live.retired = true;
        self.sweep(&mut state);
        None
    }
}

impl Live {
    /// Whether it takes one more command.
    fn is_free(&self, limit: usize) -> bool {
        !self.retired && self.open + self.left < limit
    }
}

impl State {
    /// Connections that take commands.
    fn serving(&self) -> usize {
        self.live.iter().filter(|live| !live.retired).count()
    }

    /// Whether no further connection is made.
    fn has_all_connections(&self) -> bool {
        self.serving() >= CONNECTIONS || self.live.len() >= 2 * CONNECTIONS
    }

    fn remember(&mut self, fault: Fault) {
        self.failures = self.failures.saturating_add(1);
        let rest = match fault.cause {
            Cause::Standing(Standing::HostUnusable) => account::REST,
            Cause::Standing(_) => STANDING_REST,
            Cause::Transient(_) | Cause::Ours(_) => {
                let doubled = FIRST_REST * 2_u32.saturating_pow(self.failures.min(10) - 1);
                doubled.min(LONGEST_REST).mul_f64(rand::random_range(0.5..1.0))
            }
        };
        self.rest = Some(Rest { fault, until: Instant::now() + rest });
    }

    fn live(&mut self, id: u64) -> Option<&mut Live> {
        self.live.iter_mut().find(|live| live.id == id)
    }
}

/// Sessions per connection as they were asked for.
fn sessions(connection: &Connection) -> usize {
    usize::try_from(connection.sessions).unwrap_or(8).max(1)
}

fn closing() -> Fault {
    Fault::new(Transient::ConnectionLost, "shutting down")
}

/// Whether another connection may do better.
fn elsewhere(fault: &Fault) -> bool {
    matches!(fault.cause, Cause::Transient(Transient::ConnectionLost | Transient::ChannelRefused))
}

/// Removes a connection when it ends or has been unused for long.
async fn watch(pool: Weak<Pool>, id: u64, session: Arc<Session>) {
    let mut next = IDLE;
    loop {
        let ended = tokio::time::timeout(next, session.ending.over()).await.is_ok();
        let Some(pool) = pool.upgrade() else { return };
        if ended {
            let mut state = pool.lock();
            pool.sweep(&mut state);
            drop(state);
            pool.changed.notify_waiters();
            return;
        }
        match pool.look(id) {
            Some(wait) => next = wait,
            None => return,
        }
    }
}
