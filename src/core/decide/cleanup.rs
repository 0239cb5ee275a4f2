//! Deletion: what is left is ended, and every store with records of the object is swept.

use jiff::Timestamp;

use crate::core::action::{Action, Seen};
use crate::core::fault::Fault;
use crate::core::stage::{Attempt, Place, Stop, Unswept, after};

use super::Turn;
use super::ask::{SILENCE_PACE, earliest};
use super::observe::renew;

impl Turn<'_> {
    /// Deletion: revoke, stop, verify, sweep, in this order, until the limit. A host that does
    /// not answer for the last attempt keeps nobody from sweeping the stores of earlier ones.
    pub(super) fn clean_up(&mut self) -> (Option<Action>, Option<Timestamp>) {
        self.release_what_leaves_nothing();
        self.abandon_when_due();
        if self.stage.released() {
            return (None, None);
        }
        let Some(deleting) = &self.stage.deleting else { return (None, None) };
        let limit = Some(after(deleting.since, self.plan.limits.cleanup));
        let pace = self.by_age(deleting.blocked.as_ref().map(|b| b.since), SILENCE_PACE);
        let (action, wake, stuck) = match self.to_be_ended() {
            Some(attempt) => {
                let (action, wake) = self.ask(attempt);
                let survives = attempt.stop().is_some_and(Stop::failed);
                (action, wake, attempt.uncertain.is_some() || survives)
            }
            None => (None, Some(after(self.now.at, pace)), true),
        };
        match action.or_else(|| self.next_sweep().filter(|_| stuck)) {
            Some(action) => (Some(action), None),
            None => (None, earliest(limit, wake).filter(|_| wake.is_some())),
        }
    }

    /// The attempt that has to be ended first. A Direct one whose channel is lost cannot be.
    fn to_be_ended(&self) -> Option<&Attempt> {
        self.unfenced().filter(|attempt| !is_lost_channel(attempt))
    }

    /// The next sweep of a round, in which every store is tried once whatever became of the ones
    /// before it. The answer names its store, so that a round needs no place in the stage and a
    /// store that does not answer costs no write.
    fn next_sweep(&self) -> Option<Action> {
        let tried = match self.seen {
            Seen::Swept { machine, store, .. } | Seen::Unswept { machine, store, .. } => {
                Some(self.was.unswept().position(|left| left.is(machine, store))?)
            }
            Seen::Nothing
            | Seen::Unreachable(_)
            | Seen::Prepared { .. }
            | Seen::Refused { .. }
            | Seen::Host { .. }
            | Seen::Direct { .. } => None,
        };
        let before = self.was.unswept().take(tried.map_or(0, |tried| tried + 1));
        let before: Vec<_> = before.map(|left| (left.machine, left.store)).collect();
        let next = self.stage.unswept().find(|left| {
            !before.contains(&(left.machine, left.store)) && self.may_be_swept(left)
        })?;
        Some(Action::Sweep {
            uid: self.plan.uid.clone(),
            machine: next.machine.to_owned(),
            store: next.store.to_owned(),
            run_as: next.run_as.map(str::to_owned),
        })
    }

    /// While something is to be ended, only what is on other machines may be swept: a sweep takes
    /// what it finds, and another store of the same machine may be gone and its place be taken by
    /// the one that has the record.
    fn may_be_swept(&self, store: &Unswept<'_>) -> bool {
        self.to_be_ended().is_none_or(|attempt| store.machine != attempt.identity.machine)
    }

    pub(super) fn hear_of_sweep(&mut self, machine: &str, store: &str) {
        let first = self.comes_first(machine, store);
        let Some(deleting) = &mut self.stage.deleting else { return };
        let current = self.stage.current.as_ref().filter(|attempt| attempt.is_fenced());
        let names = current.map(|attempt| &attempt.identity);
        deleting.own_swept |= names.is_some_and(|of| of.machine == machine && of.store == store);
        self.stage.traces.retain(|trace| !trace.is(machine, store));
        if first {
            deleting.blocked = None;
        }
    }

    /// What is said is about the store that comes first: others may fail in other ways, and a
    /// write for each would be one for every try.
    pub(super) fn hear_no_sweep(&mut self, machine: &str, store: &str, fault: &Fault) {
        let first = self.comes_first(machine, store);
        if let Some(deleting) = self.stage.deleting.as_mut().filter(|_| first) {
            renew(&mut deleting.blocked, fault, self.now.at);
        }
    }

    fn comes_first(&self, machine: &str, store: &str) -> bool {
        self.stage.unswept().next().is_some_and(|left| left.is(machine, store))
    }

    /// Where nothing was ever saved as launched nothing has to be removed, and a Direct
    /// command leaves nothing; what cannot be ended or reached any more is named as soon as
    /// the rest is done.
    fn release_what_leaves_nothing(&mut self) {
        let stays = self.what_stays();
        let current = self.stage.current.as_ref();
        let lost = current.is_some_and(is_lost_channel);
        let beyond_reach = self.stage.overlapped > 0 || self.stage.untraced > 0 || lost;
        let Some(deleting) = &mut self.stage.deleting else { return };
        match current {
            None => deleting.own_swept = true,
            Some(attempt) => deleting.own_swept |= attempt.direct && (attempt.is_fenced() || lost),
        }
        if deleting.own_swept && self.stage.traces.is_empty() {
            if beyond_reach {
                deleting.abandoned = stays;
            } else {
                deleting.swept = true;
            }
        }
    }
}

fn is_lost_channel(attempt: &Attempt) -> bool {
    attempt.direct && matches!(attempt.place, Place::Lost(_))
}
