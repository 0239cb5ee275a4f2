//! The supervisor of one object: decides, saves, acts and observes, and waits in between.
//!
//! It does all the waiting for its object and writes nothing itself: the status writer does.
//! It ends when nothing is left to be done before the object changes; the registry starts it
//! again with the next version. A live attempt is followed over the connection it was
//! launched with, whatever became of its RemoteHost since.

mod entrance;
mod heed;
mod obstacles;
mod overwritten;
mod showing;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, info, warn};

use entrance::Entrance;
use obstacles::Obstacles;
use showing::Showing;
use waiting::{Recheck, instant};

use super::admission::Guest;
use super::context::Context;
use super::following::Following;
use super::hearing::Hearing;
use super::ledger::{self, Ledger};
use super::registry::Seat;
use super::stage;
use super::wishes::{Wishes, wishes};
use crate::api::RemoteCommand;
use crate::core::action::Seen;
use crate::core::decide::Now;
use crate::core::fault::Cause;
use crate::core::foreign::foreign;
use crate::core::plan::HoldKind;
use crate::core::record::{EntrySeen, Life, Tree};
use crate::core::stage::Stage;
use crate::host::Host;
use crate::journal::NotSaved;
use crate::reach::Ways;
use crate::step::{Reach, Step, Turned};

/// Pause before a turn that could not be taken is taken again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How soon to look again in the moment between a command's end and the record of it, and how
/// often: Finishing in status is one more write, and says little.
const BETWEEN: Duration = Duration::from_millis(100);
const LOOKS_BETWEEN: u32 = 10;

/// What comes after a turn.
enum Next {
    Again,
    Wait(Instant),
    Rest,
}

/// The supervisor of one object.
pub struct Supervisor {
    pub(super) context: Arc<Context>,
    seat: Seat,
    /// `None` when the object's stage cannot be read.
    stage: Option<Stage>,
    seen: Seen,
    ledger: Ledger,
    following: Following,
    ways: Ways,
    entrance: Entrance,
    recheck: Recheck,
    showing: Showing,
    obstacles: Obstacles,
    /// A save was lost to another stage: what is stored.
    overtaken: Option<Arc<RemoteCommand>>,
    /// The outcome was reached under this supervision.
    ended_here: bool,
    /// How many sights in a row were of between a command's end and the record of it.
    between: u32,
}

impl Supervisor {
    /// Takes the seat. An attempt that may be alive has its place on the host from here on.
    pub fn new(context: Arc<Context>, seat: Seat) -> Self {
        let object = seat.object.borrow().clone();
        let (writer, announcer) = (context.writer.clone(), context.announcer.clone());
        let lookup = context.lookup(&seat.key.namespace);
        let guest = Guest {
            uid: seat.key.uid.clone(),
            name: format!("{}/{}", seat.key.namespace, seat.key.name),
            wake: Arc::clone(&seat.poke),
        };
        let entrance = Entrance::new(Arc::clone(&context.admission), guest);
        let mut supervisor = Self {
            ledger: Ledger::new(seat.key.clone(), writer, announcer, &object),
            following: Following::new(context.output.clone()),
            ways: Ways::new(
                Arc::clone(&context.hosts),
                &seat.key.namespace,
                Arc::new(lookup.clone()),
            ),
            context,
            seat,
            stage: None,
            seen: Seen::Nothing,
            entrance,
            recheck: Recheck::new(),
            showing: Showing::new(),
            obstacles: Obstacles::new(lookup.clone()),
            overtaken: None,
            ended_here: false,
            between: 0,
        };
        supervisor.adopt(&object);
        if supervisor.stage.as_ref().is_some_and(|stage| stage::live(stage).is_some()) {
            let host = wishes(&object, &supervisor.context.remote_hosts).host;
            supervisor.entrance.occupy(host);
        }
        supervisor
    }

    /// Supervises until nothing is left to do. Gives the version of the object that was seen
    /// last.
    pub async fn run(mut self) -> Arc<RemoteCommand> {
        loop {
            let object = self.seat.object.borrow_and_update().clone();
            if self.context.stop.is_cancelled() {
                return object;
            }
            self.notice_other_writers(&object).await;
            let wishes = wishes(&object, &self.context.remote_hosts);
            self.put_right(&object, &wishes).await;
            let next = match self.stage.take() {
                None => self.leave_alone(&object).await,
                Some(stage) if wishes.asked.delete && self.leaves_nothing(&stage) => {
                    self.let_go(&object, stage, &[]).await
                }
                Some(stage) => match self.is_out_of_reach(&object, &stage).await {
                    Some(left) => self.let_go(&object, stage, &[left]).await,
                    None => self.turn(&object, wishes, stage).await,
                },
            };
            match next {
                Next::Again => tokio::task::yield_now().await,
                Next::Wait(until) => self.wait(&object, until).await,
                Next::Rest => return object,
            }
        }
    }

    /// Begins again from the stage that `object` shows.
    fn adopt(&mut self, object: &RemoteCommand) {
        self.ledger.adopt(object);
        self.seen = Seen::Nothing;
        self.stage = match stage::read(object) {
            Ok(stage) => Some(stage),
            Err(failure) => {
                let key = &self.seat.key;
                let cause = std::error::Error::source(&failure).map(|c| foreign(&c.to_string()));
                error!(namespace = key.namespace, name = key.name, ?cause, "{failure}; left alone");
                None
            }
        };
        self.notice_forged_end(object);
    }

    /// A later stage than ours was written by another operator: go on from that.
    async fn notice_other_writers(&mut self, object: &Arc<RemoteCommand>) {
        let revision = |object: &RemoteCommand| stage::shown(object).map(|shown| shown.revision);
        let ours = self.stage.as_ref().map(|stage| stage.revision);
        if let Some(stored) = self.overtaken.take() {
            self.give_way(&stored).await;
            self.adopt(&stored);
        } else if ours.is_some() && revision(object) > ours {
            info!(name = self.seat.key.name, "another operator has gone on with it");
            self.give_way(object).await;
            self.adopt(object);
        }
    }

    /// Takes one turn from `stage`, and keeps what became of it.
    async fn turn(
        &mut self,
        object: &Arc<RemoteCommand>,
        mut wishes: Wishes,
        mut stage: Stage,
    ) -> Next {
        let now = Now { at: Timestamp::now(), seed: rand::random(), secret: rand::random() };
        let versions = self.what_may_mend(object, &wishes, &stage).await;
        wishes.may_be_mended_by(&versions);
        if let Err(unavailable) = self.admit(&mut wishes, &stage, &now).await {
            return self.retry(stage, &unavailable.to_string());
        }
        let (had_ended, revision) = (stage.outcome.is_some(), stage.revision);
        let heed = self.heed(object, &wishes);
        let recall = heed.recall();
        let mut entry = ledger::Entry {
            ledger: &mut self.ledger,
            object,
            wishes: &wishes,
            following: &mut self.following,
            ways: &self.ways,
            overtaken: None,
        };
        let step = Step {
            plan: &wishes.plan,
            asked: &wishes.asked,
            reach: &self.ways,
            lookup: self.ways.lookup(),
            recall: &recall,
        };
        let turned = heed.during(step.turn(&mut entry, &mut stage, &self.seen, &now)).await;
        self.overtaken = entry.overtaken;
        self.ended_here |= !had_ended && stage.outcome.is_some();
        if stage.revision > revision {
            self.obstacles.overcome();
        }
        match turned {
            Ok(Turned::Acted { seen, connection }) => {
                let host = self.ways.host(&connection);
                let next = self.acted(object, &wishes, *seen, &host).await;
                self.stage = Some(stage);
                next
            }
            Ok(Turned::Resting { wake }) => {
                self.seen = Seen::Nothing;
                self.settle(object, &wishes, stage, wake).await
            }
            Ok(Turned::Deferred { message }) => self.retry(stage, &message),
            Ok(Turned::Recalled) | Err(NotSaved::Overtaken) => {
                (self.stage, self.seen) = (Some(stage), Seen::Nothing);
                Next::Again
            }
            Err(NotSaved::Gone) => Next::Rest,
            Err(NotSaved::Refused(why)) => self.refused(object, stage, &why).await,
            Err(failure @ NotSaved::Failed(_)) => self.retry(stage, &failure.to_string()),
        }
    }

    /// Goes on from what an action told, with the output that it told of.
    async fn acted(
        &mut self,
        object: &Arc<RemoteCommand>,
        wishes: &Wishes,
        seen: Seen,
        host: &Arc<dyn Host>,
    ) -> Next {
        let mut hearing = Hearing::new(&self.seat.object, object);
        self.following.observe(&wishes.source, &seen, host, Some(&mut hearing)).await;
        self.between = if is_between(&seen) { self.between.saturating_add(1) } else { 0 };
        if (1..=LOOKS_BETWEEN).contains(&self.between) {
            self.seen = Seen::Nothing;
            return Next::Wait(Instant::now() + BETWEEN);
        }
        self.seen = if self.may_have_been_mended(&seen, wishes) { Seen::Nothing } else { seen };
        Next::Again
    }

    /// Whether a standing fault was found while what leads to the host was changed, or somebody
    /// asked to look again: it may be an answer to the question before that.
    fn may_have_been_mended(&self, seen: &Seen, known: &Wishes) -> bool {
        let standing =
            matches!(seen, Seen::Unreachable(fault) if matches!(fault.cause, Cause::Standing(_)));
        let now = || wishes(&self.seat.object.borrow(), &self.context.remote_hosts).word;
        standing && now() != known.word
    }

    fn retry(&mut self, stage: Stage, message: &str) -> Next {
        warn!(name = self.seat.key.name, why = message, "turn put off");
        self.stage = Some(stage);
        Next::Wait(Instant::now() + RETRY_PAUSE)
    }

    /// Nothing to do for now: shows what there is to show, and tells how long to wait.
    async fn settle(
        &mut self,
        object: &Arc<RemoteCommand>,
        wishes: &Wishes,
        stage: Stage,
        wake: Option<Timestamp>,
    ) -> Next {
        let hold = wishes.asked.hold.as_ref().map(|hold| hold.kind);
        // A value that could not be fetched for the launch is a hold that only the stage shows.
        let waits_on = hold.or_else(|| stage::hold(&stage));
        if stage::live(&stage).is_none() && hold != Some(HoldKind::Busy) {
            self.entrance.leave();
        }
        let later = self.show(object, wishes, &stage).await;
        if stage.released() {
            let left = stage.deleting.clone().map(|deleting| deleting.abandoned);
            return self.let_go(object, stage, &left.unwrap_or_default()).await;
        }
        if wake.is_none() && hold.is_none() && later.is_none() {
            if let Some(again) = self.deliver(wishes, &stage).await {
                self.stage = Some(stage);
                return Next::Wait(again);
            }
            self.sweep(object, wishes, &stage).await;
            return Next::Rest;
        }
        let recheck = self.recheck.next(&stage, waits_on);
        let lively = match stage::live(&stage) {
            Some(_) => self.following.look_again().map(|soon| Instant::now() + soon),
            None => self.deliver(wishes, &stage).await,
        };
        self.stage = Some(stage);
        let far = Instant::now() + Duration::from_secs(3600);
        let until = [wake.map(instant), recheck, later, lively].into_iter().flatten().min();
        Next::Wait(until.unwrap_or(far))
    }
}

/// Whether a command was seen gone, and its supervisor about to put the exit on record. That is
/// a moment, and worth a few more looks before it is saved and shown.
fn is_between(seen: &Seen) -> bool {
    let Seen::Host { record, .. } = seen else { return false };
    match &record.entry {
        EntrySeen::Claimed(claimed) => {
            let lives = (claimed.supervisor, claimed.command);
            let over = claimed.stop.is_none() || record.tree == Tree::Empty;
            lives == (Life::Alive, Life::Gone) && claimed.exit.is_none() && over
        }
        EntrySeen::Wiped | EntrySeen::Unclaimed | EntrySeen::Revoked => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::action::{Entry, Kind, StopReason};
    use crate::core::record::parse_exit;
    use crate::core::record::{Claimed, HostRecord, OutputSeen, ProcessId, ProcessIds};

    fn seen(supervisor: Life, command: Life, exit: bool) -> Seen {
        let process = ProcessId { pid: 10, start: 1 };
        let (boot, store) = ("b".to_owned(), "s".to_owned());
        let claimed = Claimed {
            processes: ProcessIds {
                boot: boot.clone(),
                supervisor: process.clone(),
                command: process,
            },
            supervisor,
            command,
            watch: command,
            exit: parse_exit("T 0 - ran 1999 - T 0 .", "T").filter(|_| exit),
            stop: None,
            claimed_uptime_ms: 1,
        };
        let entry = Entry {
            uid: "u".to_owned(),
            run: 1,
            attempt: 1,
            kind: Kind::Command,
            token: "T".to_owned(),
            machine: "m".to_owned(),
            run_as: None,
        };
        let (entry_seen, output) = (EntrySeen::Claimed(claimed), OutputSeen::default());
        let record =
            HostRecord { boot, store, uptime_ms: 1, entry: entry_seen, tree: Tree::Empty, output };
        Seen::Host { entry, record }
    }

    #[test]
    fn only_the_moment_before_an_exit_is_on_record_is_worth_a_second_look() {
        assert!(is_between(&seen(Life::Alive, Life::Gone, false)));
        assert!(!is_between(&seen(Life::Alive, Life::Alive, false)), "it runs");
        assert!(!is_between(&seen(Life::Alive, Life::Gone, true)), "its exit is known");
        assert!(!is_between(&seen(Life::Gone, Life::Gone, false)), "its exit will not come");
        assert!(!is_between(&Seen::Nothing));
    }

    #[test]
    fn a_stop_is_in_that_moment_when_all_of_the_tree_is_gone() {
        let mut stopped = seen(Life::Alive, Life::Gone, false);
        let Seen::Host { record, .. } = &mut stopped else { panic!("{stopped:?}") };
        let EntrySeen::Claimed(claimed) = &mut record.entry else { panic!("{record:?}") };
        claimed.stop = Some(StopReason::Cancelled);
        assert!(is_between(&stopped));
        let Seen::Host { record, .. } = &mut stopped else { panic!("{stopped:?}") };
        record.tree = Tree::Alive(Vec::new());
        assert!(!is_between(&stopped), "there is more to be ended");
    }
}
