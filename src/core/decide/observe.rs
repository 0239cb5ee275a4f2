//! What the host said, read as evidence about the current attempt.
//!
//! Nothing is concluded for the run here. Silence is not evidence: it leaves the attempt
//! where it is and only starts the clock of `timeouts.resolve`.

use std::time::Duration;

use crate::core::action::{Entry, Refusal, Seen, StopReason};
use crate::core::fault::{Cause, Fault, Transient};
use crate::core::outcome::{Fate, Loss};
use crate::core::record::{Claimed, DirectSeen, EntrySeen, HostRecord, Life, Tree};
use crate::core::stage::{Attempt, Place, Quiet, Stop, Uncertain, Waiting, WaitingOn, after};

use super::Turn;

/// How long after a stopped tree was seen gone the end of its output is waited for.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);
/// The same for its exit record: a supervisor that lives writes it at once, or cannot.
const RECORD_PATIENCE: Duration = Duration::from_secs(5);

/// Whether an answer comes from the boot the attempt was prepared in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Boot {
    Same,
    /// Nothing of the attempt can be alive, and no launch of it is accepted any more.
    Other,
    /// Same boot, but earlier than already seen: a snapshot was restored.
    RolledBack,
    /// The host offers no boot identity.
    CannotTell,
}

impl Turn<'_> {
    pub(super) fn observe(&mut self) {
        if !matches!(self.seen, Seen::Nothing | Seen::Prepared { .. }) {
            self.note_tried();
        }
        match self.seen {
            Seen::Nothing | Seen::Prepared { .. } => {}
            Seen::Unreachable(fault) => self.hear_nothing(fault),
            Seen::Refused { entry, why } => self.hear_refusal(entry, why),
            Seen::Host { entry, record } => self.hear_record(entry, record),
            Seen::Direct { entry, seen } => self.hear_channel(entry, seen),
            Seen::Swept { uid, machine, store } => {
                if *uid == self.plan.uid {
                    self.hear_of_sweep(machine, store);
                }
            }
            Seen::Unswept { machine, store, fault } => {
                self.hear_no_sweep(machine, store, fault);
            }
        }
    }

    /// An unanswered contact: about the live attempt, else about the next launch.
    fn hear_nothing(&mut self, fault: &Fault) {
        let at = self.now.at;
        let live = self.stage.current.as_mut().filter(|attempt| !attempt.is_fenced());
        if let Some(attempt) = live {
            renew(&mut attempt.uncertain, fault, at);
            // Time without contact is no time without output.
            attempt.quiet = None;
        } else if self.stage.outcome.is_none() && self.stage.deleting.is_none() {
            self.wait_on(WaitingOn::Fault(fault.cause), fault.message.clone());
        }
    }

    /// Notes what the next launch waits on. The same thing again is no change, so that
    /// asking in vain writes nothing: what is said of a fault that may pass can differ every
    /// time. It is taken when there is something to write anyway, because somebody mended
    /// something, and of a standing fault, which is rarely asked about.
    pub(super) fn wait_on(&mut self, on: WaitingOn, message: String) {
        self.note_tried();
        let poke = self.asked.poke.clone();
        match &mut self.stage.waiting {
            Some(waiting) if waiting.on == on => {
                if waiting.poke != poke || on.is_standing() {
                    waiting.message = message;
                }
                waiting.poke = poke;
            }
            Some(_) | None => {
                let since = self.now.at;
                self.stage.waiting = Some(Waiting { on, message, since, overdue: false, poke });
            }
        }
    }

    /// The one Launch of an entry was turned away, or was never sent, so nothing of it ever
    /// started.
    fn hear_refusal(&mut self, entry: &Entry, why: &Refusal) {
        let launching = |a: &&mut Attempt| a.entry == *entry && a.place == Place::Launching;
        if let Some(attempt) = self.stage.current.as_mut().filter(launching) {
            attempt.uncertain = None;
            attempt.place = Place::Ended(Fate::NeverStarted);
            match why {
                Refusal::HostChanged(message) => {
                    self.wait_on(WaitingOn::HostChanged, message.clone());
                }
                Refusal::Unable(fault) | Refusal::Unsent(fault) => {
                    self.wait_on(WaitingOn::Fault(fault.cause), fault.message.clone());
                }
            }
        }
    }

    /// A record says nothing about an attempt that never had one.
    fn hear_record(&mut self, entry: &Entry, record: &HostRecord) {
        let at = self.now.at;
        let recorded = |a: &&mut Attempt| a.entry == *entry && !a.direct;
        let Some(attempt) = self.stage.current.as_mut().filter(recorded) else { return };
        if attempt.is_fenced() {
            return;
        }
        let silence = attempt.uncertain.take();
        if record.boot.is_empty() {
            attempt.identity.boot.clear();
        }
        let boot = boot_of(attempt, record);
        if boot == Boot::Same {
            self.highest_uptime = Some(record.uptime_ms);
        }
        let ours = record.store == attempt.identity.store;
        let reading = Reading { record, boot, ours, at };
        attempt.place = match &record.entry {
            EntrySeen::Claimed(claimed) => {
                if attempt.processes.is_none() {
                    attempt.processes = Some(claimed.processes.clone());
                    attempt.started = Some(at);
                }
                // What outlives a stop is not there on purpose.
                let by_itself = claimed.exit.is_some() && claimed.stop.is_none();
                match &record.tree {
                    Tree::Alive(left) if by_itself => attempt.left_running.clone_from(left),
                    Tree::Empty => attempt.left_running.clear(),
                    Tree::Alive(_) | Tree::Unsearched | Tree::CannotTell => {}
                }
                reading.claimed(attempt, claimed)
            }
            EntrySeen::Revoked => reading.revoked(attempt),
            EntrySeen::Unclaimed => reading.unclaimed(attempt),
            EntrySeen::Wiped => reading.forgotten(attempt, Loss::RecordWiped),
        };
        // Why its launch had no answer is why it never started, where that is known.
        let lacking = silence.filter(|_| attempt.place == Place::Ended(Fate::NeverStarted));
        let lacking = lacking.filter(|s| s.cause == Cause::Transient(Transient::ProcessLimit));
        if let EntrySeen::Claimed(claimed) = &record.entry {
            self.soon = claimed.exit.is_some() || attempt.place == Place::Vanished;
            watch_host_time(attempt, claimed, &reading);
        }
        if let Some(Uncertain { cause, message, .. }) = lacking {
            self.wait_on(WaitingOn::Fault(cause), message);
        }
    }

    /// A channel says nothing about an attempt that has its record on the host.
    fn hear_channel(&mut self, entry: &Entry, seen: &DirectSeen) {
        let at = self.now.at;
        let carried = |a: &&mut Attempt| a.entry == *entry && a.direct;
        let Some(attempt) = self.stage.current.as_mut().filter(carried) else { return };
        if attempt.is_fenced() {
            return;
        }
        attempt.uncertain = None;
        match seen {
            DirectSeen::NeverStarted(fault) if attempt.place == Place::Launching => {
                attempt.place = Place::Ended(Fate::NeverStarted);
                self.wait_on(WaitingOn::Fault(fault.cause), fault.message.clone());
            }
            DirectSeen::NeverStarted(_) | DirectSeen::Lost => {
                // A channel that we closed after a KILL in vain tells nothing new.
                let given_up = attempt.stop().is_some_and(Stop::failed);
                if !given_up || self.stage.deleting.is_some() {
                    attempt.place = Place::Lost(Loss::ConnectionLost);
                }
            }
            DirectSeen::Running => {
                attempt.started.get_or_insert(at);
                if attempt.place == Place::Launching {
                    attempt.place = Place::Running;
                } else if let Some(stop) = attempt.stop_mut() {
                    stop.signalled.get_or_insert(at);
                    stop.unverifiable = stop.killed.is_some();
                }
            }
            DirectSeen::Exited(exit) => {
                attempt.started.get_or_insert(at);
                // Nobody can say whether the end came before the signal, so a success stays
                // one and anything else is put down to the stop.
                let stopped =
                    attempt.stop().filter(|_| !attempt.bounds.success.contains(&exit.code()));
                attempt.place = Place::Ended(match stopped {
                    Some(stop) => Fate::Stopped { reason: stop.reason, exit: Some(exit.clone()) },
                    None => Fate::Received(exit.clone()),
                });
            }
        }
    }
}

/// Notes a silence, which began at `at` unless it has lasted already. A fault of the same cause
/// is no news, whatever is said of it, unless it is a standing one.
pub(super) fn renew(slot: &mut Option<Uncertain>, fault: &Fault, at: jiff::Timestamp) {
    let known = slot.as_ref().is_some_and(|u| u.cause == fault.cause);
    if known && !matches!(fault.cause, Cause::Standing(_)) {
        return;
    }
    let since = slot.as_ref().map_or(at, |known| known.since);
    let (cause, message) = (fault.cause, fault.message.clone());
    *slot = Some(Uncertain { since, cause, message });
}

fn boot_of(attempt: &Attempt, record: &HostRecord) -> Boot {
    let saved = &attempt.identity;
    if saved.boot.is_empty() {
        Boot::CannotTell
    } else if saved.boot != record.boot {
        Boot::Other
    } else if record.uptime_ms < saved.uptime_ms {
        Boot::RolledBack
    } else {
        Boot::Same
    }
}

/// One answer of the host about one entry.
struct Reading<'a> {
    record: &'a HostRecord,
    boot: Boot,
    /// It is the store that the attempt was prepared in. In another one no launch of it is
    /// accepted, whatever has its name there.
    ours: bool,
    at: jiff::Timestamp,
}

impl Reading<'_> {
    /// The claim was taken by Revoke. That proves that nothing started only in the saved
    /// boot and store, and only if the claim was never seen taken by a process.
    fn revoked(&self, attempt: &Attempt) -> Place {
        match self.boot {
            Boot::Same if !self.ours => self.forgotten(attempt, Loss::RecordWiped),
            Boot::Same if attempt.processes.is_none() && attempt.place == Place::Launching => {
                Place::Ended(Fate::NeverStarted)
            }
            // The host went on and the entry did not: it is another one of the same name.
            Boot::Same => self.forgotten(attempt, Loss::RecordWiped),
            Boot::RolledBack => self.forgotten(attempt, Loss::HostRolledBack),
            Boot::Other => self.forgotten(attempt, Loss::LostByReboot),
            Boot::CannotTell => self.forgotten(attempt, Loss::LostNoRecord),
        }
    }

    /// Not claimed yet, which proves nothing: a launch may still be on its way.
    fn unclaimed(&self, attempt: &Attempt) -> Place {
        match self.boot {
            Boot::Same if !self.ours => self.forgotten(attempt, Loss::RecordWiped),
            Boot::Same | Boot::CannotTell if attempt.place == Place::Launching => Place::Launching,
            Boot::Same | Boot::CannotTell => self.forgotten(attempt, Loss::RecordWiped),
            Boot::RolledBack => self.forgotten(attempt, Loss::HostRolledBack),
            Boot::Other => self.forgotten(attempt, Loss::LostByReboot),
        }
    }

    /// The host has no say about this attempt any more. In another boot nothing of it can
    /// be alive; in the same one that has to be shown by a search.
    fn forgotten(&self, attempt: &Attempt, loss: Loss) -> Place {
        if let Some(end) = self.seen_through(attempt) {
            return end;
        }
        let known = match &attempt.place {
            Place::Fencing { loss, .. } | Place::Lost(loss) => Some(*loss),
            Place::Launching
            | Place::Running
            | Place::Finishing { .. }
            | Place::Vanished
            | Place::Stopping(_)
            | Place::Ended(_) => None,
        };
        if self.boot == Boot::Other {
            return Place::Ended(Fate::Lost(known.unwrap_or(Loss::LostByReboot)));
        }
        let loss = match self.boot {
            Boot::RolledBack => known.unwrap_or(Loss::HostRolledBack),
            Boot::Same | Boot::Other | Boot::CannotTell => known.unwrap_or(loss),
        };
        match &attempt.place {
            Place::Stopping(stop) | Place::Fencing { stop, .. } => {
                self.carry_on(Some(loss), stop.clone(), None)
            }
            Place::Launching
            | Place::Running
            | Place::Finishing { .. }
            | Place::Vanished
            | Place::Lost(_)
            | Place::Ended(_) => Place::Lost(loss),
        }
    }

    /// The end of a stop whose tree was seen gone, for a host that tells no more about it. A
    /// snapshot of the host may hold living processes.
    fn seen_through(&self, attempt: &Attempt) -> Option<Place> {
        let stop = attempt.stop_seen_through().filter(|_| self.boot != Boot::RolledBack)?;
        Some(Place::Ended(Fate::Stopped { reason: stop.reason, exit: None }))
    }

    fn claimed(&self, attempt: &Attempt, claimed: &Claimed) -> Place {
        if let Some(exit) = &claimed.exit
            && claimed.stop.is_none()
        {
            // The end came first: whatever was being done about this attempt is moot.
            let quiet = self.record.output_is_over(exit) || self.boot != Boot::Same;
            return if quiet {
                Place::Ended(Fate::Exited(exit.clone()))
            } else {
                attempt.place.clone()
            };
        }
        if let Some(stop) = self.stop_under_way(attempt, claimed) {
            return self.stopping(attempt, claimed, stop);
        }
        match self.boot {
            Boot::Other => self.forgotten(attempt, Loss::LostByReboot),
            Boot::RolledBack => self.forgotten(attempt, Loss::HostRolledBack),
            Boot::Same | Boot::CannotTell => self.alive_or_not(attempt, claimed),
        }
    }

    /// The stop that we, or the host's own deadline, are carrying out.
    fn stop_under_way(&self, attempt: &Attempt, claimed: &Claimed) -> Option<Stop> {
        match (attempt.stop(), claimed.stop) {
            (Some(stop), mark) => {
                let reason = mark.unwrap_or(stop.reason);
                Some(Stop { reason, ..stop.clone() })
            }
            (None, Some(mark)) => Some(Stop::new(mark, self.at)),
            (None, None) => None,
        }
    }

    /// A stop goes on until the tree is shown to be gone.
    fn stopping(&self, attempt: &Attempt, claimed: &Claimed, stop: Stop) -> Place {
        let loss = match (&attempt.place, self.boot) {
            (Place::Fencing { loss, .. } | Place::Lost(loss), _) => Some(*loss),
            (_, Boot::RolledBack) => Some(Loss::HostRolledBack),
            (_, Boot::Other) if claimed.stop.is_none() => Some(Loss::LostByReboot),
            (_, Boot::Same | Boot::Other | Boot::CannotTell) => None,
        };
        if loss.is_some()
            && let Some(end) = self.seen_through(attempt)
        {
            return end;
        }
        self.carry_on(loss, stop, Some(claimed))
    }

    fn carry_on(&self, loss: Option<Loss>, mut stop: Stop, claimed: Option<&Claimed>) -> Place {
        let marked = claimed.is_some_and(|c| c.stop.is_some());
        let searched = self.record.tree != Tree::Unsearched;
        let takeable = self.record.entry == EntrySeen::Unclaimed && self.ours;
        stop.takeable = takeable;
        // A host that was asked to end what is left and did not look cannot show anything.
        let unseeing = loss.is_some() && stop.claimed && !searched;
        stop.claimed |= !takeable;
        let gone = self.boot == Boot::Other || self.record.tree == Tree::Empty && !takeable;
        if gone && (marked || loss.is_some()) {
            if loss.is_none() && claimed.is_some_and(|claimed| self.is_to_come(&stop, claimed)) {
                stop.gone.get_or_insert(self.at);
                stop.signalled.get_or_insert(self.at);
                stop.survivors.clear();
                stop.unverifiable = false;
                return Place::Stopping(stop);
            }
            let exit = claimed.and_then(|c| c.exit.clone());
            return Place::Ended(match loss {
                Some(loss) => Fate::Lost(loss),
                None => Fate::Stopped { reason: stop.reason, exit },
            });
        }
        stop.gone = None;
        if marked || searched || unseeing {
            stop.signalled.get_or_insert(self.at);
        }
        if stop.killed.is_some() {
            stop.survivors = match &self.record.tree {
                Tree::Alive(left) => left.clone(),
                Tree::Unsearched | Tree::Empty | Tree::CannotTell => Vec::new(),
            };
            stop.unverifiable = stop.survivors.is_empty() && !takeable;
        }
        match loss {
            Some(loss) => Place::Fencing { loss, stop },
            None => Place::Stopping(stop),
        }
    }

    /// Whether the exit record of a stopped tree that is gone, or the end of its output, is worth
    /// waiting for. They are written by the supervisor and its drains, which a search for the tree
    /// does not find. How long is counted from when it was seen gone, and not from the exit: what
    /// the command left in its tree may have written until then.
    fn is_to_come(&self, stop: &Stop, claimed: &Claimed) -> bool {
        let record = claimed.exit.is_none() && claimed.supervisor != Life::Gone;
        let output = !self.record.output.has_ended();
        let patience = if record { RECORD_PATIENCE } else { OUTPUT_PATIENCE };
        let until = after(stop.gone.unwrap_or(self.at), patience);
        (record || output) && self.boot != Boot::Other && self.at < until
    }

    fn alive_or_not(&self, attempt: &Attempt, claimed: &Claimed) -> Place {
        match (claimed.supervisor, claimed.command) {
            (Life::Gone, Life::Gone) => match &attempt.place {
                Place::Vanished => Place::Lost(Loss::LostNoRecord),
                Place::Lost(loss) => Place::Lost(*loss),
                Place::Launching
                | Place::Running
                | Place::Finishing { .. }
                | Place::Stopping(_)
                | Place::Fencing { .. }
                | Place::Ended(_) => Place::Vanished,
            },
            (Life::Alive, Life::Gone) => match &attempt.place {
                Place::Finishing { since } => Place::Finishing { since: *since },
                Place::Launching
                | Place::Running
                | Place::Vanished
                | Place::Stopping(_)
                | Place::Lost(_)
                | Place::Fencing { .. }
                | Place::Ended(_) => Place::Finishing { since: self.at },
            },
            (Life::Alive | Life::Gone | Life::CannotTell, Life::Alive | Life::CannotTell)
            | (Life::CannotTell, Life::Gone) => Place::Running,
        }
    }
}

/// The limits that are judged by the host's own clock: no output for too long, and an
/// execution time-out that the host itself should have enforced and did not.
fn watch_host_time(attempt: &mut Attempt, claimed: &Claimed, reading: &Reading<'_>) {
    let running = attempt.place == Place::Running && reading.boot != Boot::Other;
    if !running || claimed.exit.is_some() {
        return;
    }
    let record = reading.record;
    let bounds = &attempt.bounds;
    let overdue = claimed
        .claimed_uptime_ms
        .saturating_add(bounds.execution_ms)
        .saturating_add(bounds.termination_ms);
    // The host's uptime counts suspend, the deadline does not: while it is watched there, it
    // is left to whoever watches.
    if record.uptime_ms > overdue && claimed.watch != Life::Alive {
        attempt.place = Place::Stopping(Stop::new(StopReason::ExecutionTimeout, reading.at));
        return;
    }
    let Some(idle_ms) = bounds.idle_ms else { return };
    let (out, err) = (&record.output.stdout, &record.output.stderr);
    let bytes = out.bytes.saturating_add(err.bytes);
    let here = Quiet { bytes, uptime_ms: record.uptime_ms };
    if out.truncated || err.truncated {
        attempt.quiet = None;
        return;
    }
    let Some(quiet) = &attempt.quiet else {
        attempt.quiet = Some(here);
        return;
    };
    let silent_ms = record.uptime_ms.saturating_sub(quiet.uptime_ms);
    if quiet.bytes == bytes && silent_ms >= idle_ms {
        attempt.place = Place::Stopping(Stop::new(StopReason::IdleTimeout, reading.at));
    } else if quiet.bytes != bytes && silent_ms >= idle_ms / 4 {
        // Renewed now and then only, so that steady output does not mean steady writing.
        attempt.quiet = Some(here);
    }
}
