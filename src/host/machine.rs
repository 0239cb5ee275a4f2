//! One machine: which of the two ways an action goes, and the helper shells of the recorded one.
//!
//! The two never meet in one entry: Prepare of a recorded entry fills in the machine it was
//! prepared on, and a Direct entry names none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::direct::DirectHost;
use super::recorded::{Recorded, Shells};
use super::spools::Spools;
use super::ssh::{Link, Pool};
use super::{Chunk, Host, Material, Recall, Stream, Transport};
use crate::core::action::{Action, Entry, Seen};
use crate::core::fault::Fault;
use crate::core::plan::{Execution, Plan};
use crate::journal::Saved;
use crate::shim::Account;

/// Helper shells nobody asked anything for this long are closed, and their connection with
/// them.
const IDLE: Duration = Duration::from_secs(300);
/// How long an account with a forced command is believed to have one, unless something about
/// it changes: every look runs that command once more.
pub(super) const FORCED_REST: Duration = Duration::from_secs(3600);

/// One machine, as reached with one set of parameters from one scope.
pub(super) struct Machine {
    pub(super) pool: Arc<Pool>,
    direct: Arc<DirectHost>,
    account: Account,
    shells: Arc<Mutex<Slot>>,
}

/// The helper shells while they are in use.
#[derive(Default)]
struct Slot(Option<InUse>);

struct InUse {
    shells: Arc<Shells>,
    used: Instant,
}

impl Machine {
    pub(super) fn new(pool: Arc<Pool>, state_directory: Option<String>, spools: Spools) -> Self {
        Self {
            direct: Arc::new(DirectHost::new(pool.clone(), spools)),
            account: Account { state_directory, ..Account::default() },
            shells: Arc::default(),
            pool,
        }
    }

    /// True while forgetting it would lose something.
    pub(super) fn is_used(&self) -> bool {
        !self.pool.is_idle() || !self.direct.is_empty() || lock(&self.shells).is_forced()
    }

    /// Forgets what is remembered of an object that is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.direct.forget(uid);
    }

    /// Looks again at once, with new connections and shells.
    pub(super) fn poke(&self) {
        self.pool.poke();
        self.direct.poke();
        lock(&self.shells).0 = None;
    }

    /// Forgets what stood in the way, for what a changed object may have mended; connections that
    /// stand are used on.
    pub(super) fn reconsider(&self) {
        self.pool.reconsider();
        self.direct.poke();
        lock(&self.shells).0 = None;
    }

    fn recorded(&self) -> Recorded {
        let mut slot = lock(&self.shells);
        slot.believe_no_longer();
        let now = Instant::now();
        let in_use = slot.0.get_or_insert_with(|| {
            let link: Arc<dyn Transport> = Arc::new(Link(self.pool.clone()));
            let shells = Arc::new(Shells::new(link, self.account.clone()));
            tokio::spawn(close_when_idle(Arc::downgrade(&self.shells), Arc::downgrade(&shells)));
            InUse { shells, used: now }
        });
        in_use.used = now;
        Recorded::new(in_use.shells.clone())
    }
}

impl Slot {
    /// Whether a forced command was met lately.
    fn is_forced(&self) -> bool {
        let known = self.0.as_ref().and_then(|in_use| in_use.shells.forced_for());
        known.is_some_and(|known| known <= FORCED_REST)
    }

    /// Shells that met a forced command run nothing ever after; others may, after a while.
    fn believe_no_longer(&mut self) {
        let known = self.0.as_ref().and_then(|in_use| in_use.shells.forced_for());
        if known.is_some_and(|known| known > FORCED_REST) {
            self.0 = None;
        }
    }
}

#[async_trait]
impl Host for Machine {
    async fn act(&self, plan: &Plan, action: &Saved<Action>, material: Option<Material>) -> Seen {
        let never = Recall::new();
        let seen = self.act_unless(plan, (action, material), &never).await;
        // Nobody has said it.
        seen.unwrap_or(Seen::Nothing)
    }

    async fn act_unless(
        &self,
        plan: &Plan,
        (action, material): (&Saved<Action>, Option<Material>),
        recall: &Recall,
    ) -> Option<Seen> {
        if is_direct(plan, action.get(), |uid| self.direct.knows(uid)) {
            let acting = self.direct.act(plan, action.get(), material, recall);
            let shells = lock(&self.shells).0.as_ref().map(|in_use| in_use.shells.clone());
            return match shells {
                Some(shells) => shells.making_room(acting).await,
                None => acting.await,
            };
        }
        self.recorded().act_unless(plan, (action, material), recall).await
    }

    fn waits_for(&self) -> Option<String> {
        self.pool.waits_for()
    }

    async fn read(
        &self,
        entry: &Entry,
        stream: Stream,
        offset: u64,
        max: u32,
    ) -> Result<Chunk, Fault> {
        if entry.machine.is_empty() {
            return self.direct.read(entry, stream, offset, max).await;
        }
        self.recorded().read(entry, stream, offset, max).await
    }

    fn release(&self, entry: &Entry, stream: Stream, below: u64) {
        if entry.machine.is_empty() {
            self.direct.release(entry, stream, below);
        }
    }
}

/// Whether an action goes the direct way. A spec may change from one way to the other while an
/// attempt runs, so that the plan decides only what is prepared next; an entry that was
/// prepared names a machine when it is recorded, and none when it is direct. `known` tells of
/// an object whether a direct attempt of it is remembered.
fn is_direct(plan: &Plan, action: &Action, known: impl Fn(&str) -> bool) -> bool {
    let planned = matches!(plan.execution, Execution::Direct(_));
    match action {
        Action::Prepare { .. } => planned,
        // Without a machine it may also be about what a prepare left that was never saved.
        Action::Sweep { machine, uid, .. } => machine.is_empty() && (planned || known(uid)),
        Action::Launch { entry, .. }
        | Action::Probe { entry }
        | Action::Terminate { entry, .. }
        | Action::Kill { entry, .. }
        | Action::Revoke { entry, .. } => entry.machine.is_empty(),
    }
}

/// Closes these shells once they are idle, unless others have taken their place by then.
async fn close_when_idle(slot: Weak<Mutex<Slot>>, shells: Weak<Shells>) {
    let mut wait = IDLE;
    loop {
        tokio::time::sleep(wait).await;
        let Some(slot) = slot.upgrade() else { return };
        let mut slot = lock(&slot);
        let Some(in_use) = &slot.0 else { return };
        if !std::ptr::eq(Arc::as_ptr(&in_use.shells), shells.as_ptr()) {
            return;
        }
        let idle = in_use.used.elapsed();
        if slot.is_forced() {
            wait = IDLE;
        } else if idle >= IDLE {
            slot.0 = None;
            return;
        } else {
            wait = IDLE - idle;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::core::connection::Connection;
    use crate::core::fault::Standing;
    use crate::host::contact::Contacts;
    use crate::host::ssh::Dialer;
    use crate::host::{Event, ExecChannel, Lookup, LookupError, SecretValues};

    struct Nothing;

    #[async_trait]
    impl Lookup for Nothing {
        async fn secret(&self, name: &str) -> Result<SecretValues, LookupError> {
            Err(LookupError::SecretNotFound(name.to_owned()))
        }

        async fn config_map(&self, name: &str, key: &str) -> Result<Vec<u8>, LookupError> {
            Err(LookupError::ConfigMapNotFound(name.to_owned(), key.to_owned()))
        }
    }

    /// Runs something that ends at once.
    struct Forced;

    #[async_trait]
    impl Transport for Forced {
        async fn open(&self, _: &str) -> Result<ExecChannel, Fault> {
            let (input, _) = mpsc::channel(4);
            let (told, events) = mpsc::channel(4);
            told.try_send(Event::ExitStatus(0)).unwrap();
            told.try_send(Event::Closed).unwrap();
            Ok(ExecChannel { input, events })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_forced_command_is_believed_for_a_while_however_old_the_shells_are() {
        let connection = Connection { hops: Vec::new(), state_directory: None, sessions: 8 };
        let noted = Contacts::default().noted("scope", &connection);
        let pool = Dialer::default().pool("scope", connection, Arc::new(Nothing), noted);
        let machine = Machine::new(pool, None, Spools::default());
        let shells = Arc::new(Shells::new(Arc::new(Forced), Account::default()));
        lock(&machine.shells).0 = Some(InUse { shells: shells.clone(), used: Instant::now() });
        let kept = async || {
            let fault = shells.identify(None).await.unwrap_err();
            assert_eq!(fault.cause, Standing::ForcedCommand.into());
            let mut slot = lock(&machine.shells);
            slot.believe_no_longer();
            slot.0.is_some()
        };
        tokio::time::advance(2 * FORCED_REST).await;
        assert!(kept().await);
        let slot = Arc::downgrade(&machine.shells);
        tokio::spawn(close_when_idle(slot, Arc::downgrade(&shells)));
        tokio::time::sleep(FORCED_REST / 2).await;
        assert!(machine.is_used() && kept().await, "being idle does not forget it");
        tokio::time::sleep(FORCED_REST).await;
        assert!(!machine.is_used());
        assert!(!kept().await);
    }
}
