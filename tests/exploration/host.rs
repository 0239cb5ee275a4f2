//! The far side: entries, claims, processes and marks, as the verbs' documentation says.

use remote_command::core::action::{Action, Entry, Kind, Refusal, Seen, StopReason};
use remote_command::core::record::{
    DirectSeen, EntrySeen, HostRecord, Identity, OutputSeen, StreamSeen, Survivor, Tree,
};

use crate::mutants::Mutant;
use crate::place::{Claim, Place};
use crate::world::ELSEWHERE;

/// The host's uptime at every moment: what is saved of it ages instead.
pub const UPTIME_MS: u64 = 10_000_000;

/// How the commands and the host of a plan behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nature {
    pub ignores_term: bool,
    /// A command leaves a child behind, which outlives it and holds the output open.
    pub leaves_child: bool,
    /// KILL does nothing to that child; it ends when it likes.
    pub unkillable: bool,
    /// Neither boot identity nor start times nor a way to look for processes.
    pub cannot_tell: bool,
    pub direct: bool,
}

/// What an unclean reboot takes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unsynced {
    Nothing,
    /// Claims, marks, exit records.
    Claims,
    /// The entries with everything in them, tombstones too.
    Entries,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    pub boot: u8,
    /// Which store it is: another one after the first was removed as a whole.
    pub store: u8,
    pub places: Vec<Place>,
    pub nature: Nature,
    pub mutant: Mutant,
}

impl Host {
    pub fn new(nature: Nature, mutant: Mutant) -> Self {
        Self { boot: 0, store: 0, places: Vec::new(), nature, mutant }
    }

    fn boot_name(&self) -> String {
        let seen = if self.mutant == Mutant::BootIgnored { 0 } else { self.boot };
        let none = self.nature.cannot_tell || self.nature.direct;
        if none { String::new() } else { format!("boot-{seen}") }
    }

    fn store_name(&self) -> String {
        format!("store-{}", self.store)
    }

    /// The place a verb acts on: the one with its token.
    pub fn find(&mut self, entry: &Entry) -> Option<&mut Place> {
        let ignored = self.mutant == Mutant::TokenIgnored;
        let number = |e: &Entry| (e.run, e.attempt, e.kind);
        self.places
            .iter_mut()
            .rev()
            .find(|p| p.entry.token == entry.token || ignored && number(&p.entry) == number(entry))
    }

    /// Performs a verb and gives its answer.
    pub fn perform(&mut self, action: &Action) -> Seen {
        match action {
            Action::Prepare { entry } => self.prepare(entry),
            Action::Launch { entry, expect } => {
                let here = expect.boot == self.boot_name() && expect.store == self.store_name();
                let taken = |place: &mut Place| place.present && place.claim != Claim::Free;
                if !self.nature.direct && self.find(entry).is_some_and(taken) {
                    return self.record(entry, false);
                }
                if !self.nature.direct && (!here || expect.latest_uptime_ms < UPTIME_MS) {
                    let why = Refusal::HostChanged("the host has changed".to_owned());
                    return Seen::Refused { entry: entry.clone(), why };
                }
                self.launch(entry);
                self.record(entry, false)
            }
            Action::Probe { entry } => {
                let place = self.find(entry);
                let look = place.is_some_and(|p| p.stop.is_some() || p.exit.is_some());
                self.record(entry, look)
            }
            Action::Terminate { entry, reason, .. } => {
                self.signal(entry, *reason, false);
                self.record(entry, true)
            }
            Action::Kill { entry, reason, .. } => {
                self.signal(entry, *reason, true);
                self.record(entry, true)
            }
            Action::Revoke { entry, boot, store } => {
                let same = *boot == self.boot_name() && *store == self.store_name();
                if let Some(place) = self.find(entry).filter(|p| p.present && same)
                    && place.claim == Claim::Free
                {
                    place.claim = Claim::Revoked;
                }
                self.record(entry, false)
            }
            Action::Sweep { uid, machine, store, .. } => {
                if machine != ELSEWHERE {
                    self.sweep();
                }
                let (uid, machine, store) = (uid.clone(), machine.clone(), store.clone());
                Seen::Swept { uid, machine, store }
            }
        }
    }

    fn prepare(&mut self, entry: &Entry) -> Seen {
        let known = self.find(entry).is_some_and(|p| p.present || p.tombstone);
        if !known && !self.nature.direct {
            self.make(entry);
        }
        let nameless = self.nature.direct;
        let named = |name: String| if nameless { String::new() } else { name };
        let identity = Identity {
            machine: named("machine".to_owned()),
            boot: self.boot_name(),
            store: named(self.store_name()),
            uptime_ms: UPTIME_MS,
            can_tell: !nameless && !self.nature.cannot_tell,
        };
        Seen::Prepared { entry: entry.clone(), identity, connection: String::new() }
    }

    fn make(&mut self, entry: &Entry) {
        if let Some(place) = self.places.iter_mut().find(|p| p.entry.token == entry.token) {
            // Gone without a trace, and made again.
            place.present = true;
            place.forget();
            return;
        }
        self.places.push(Place::new(entry.clone()));
    }

    fn launch(&mut self, entry: &Entry) {
        if self.nature.direct {
            // Nothing on the host knows tokens: what arrives is run.
            self.make(entry);
        }
        let stalls = self.mutant == Mutant::ClaimNotAtomic;
        let child = self.nature.leaves_child;
        let Some(place) = self.find(entry) else { return };
        if place.present && place.claim == Claim::Free {
            if stalls && place.entry.kind == Kind::Command && !place.stalled {
                place.stalled = true;
                return;
            }
            place.entry.token.clone_from(&entry.token);
            place.start(child);
        }
    }

    /// A launch that stood between looking at the claim and taking it goes on.
    pub fn resume_stalled(&mut self) {
        let child = self.nature.leaves_child;
        if let Some(place) = self.places.iter_mut().find(|p| p.stalled) {
            place.stalled = false;
            place.start(child);
        }
    }

    fn signal(&mut self, entry: &Entry, reason: StopReason, kill: bool) {
        let nature = self.nature;
        let Some(place) = self.find(entry) else { return };
        let ended_before = place.exit.is_some() && place.stop.is_none();
        if place.present && (ended_before || place.claim != Claim::Taken) {
            return;
        }
        // What a finished command left running lives on, whoever asks after the sweep.
        if !place.present && place.tombstone {
            return;
        }
        if place.present {
            place.stop.get_or_insert(reason);
        }
        match (kill, nature.direct) {
            (true, true) => place.channel = false,
            (true, false) => place.kill(nature.unkillable),
            (false, _) if nature.ignores_term => {}
            (false, _) => place.terminate(),
        }
    }

    fn sweep(&mut self) {
        let tombstones = self.mutant != Mutant::SweepWithoutTombstone;
        for place in &mut self.places {
            if place.present && tombstones {
                place.tombstone = true;
                if place.claim == Claim::Free {
                    place.claim = Claim::Revoked;
                }
            }
            place.present = false;
        }
    }

    fn record(&mut self, entry: &Entry, look: bool) -> Seen {
        let (boot, store) = (self.boot_name(), self.store_name());
        let nature = self.nature;
        let place = self.find(entry).cloned();
        if nature.direct {
            let seen = place.map_or(DirectSeen::Lost, |place| place.seen_on_its_channel());
            return Seen::Direct { entry: entry.clone(), seen };
        }
        let something = |p: &Place| p.command || p.child;
        let tree = match (look, place.as_ref().is_some_and(something)) {
            (false, _) => Tree::Unsearched,
            (true, _) if nature.cannot_tell => Tree::CannotTell,
            (true, false) => Tree::Empty,
            (true, true) => {
                Tree::Alive(vec![Survivor { pid: 2, uid: 0, command: "it".to_owned() }])
            }
        };
        let ended = !place.as_ref().is_some_and(|p| p.command || p.child);
        let seen = match &place {
            Some(place) if place.present => place.seen(&boot, nature.cannot_tell),
            Some(_) | None => EntrySeen::Wiped,
        };
        let stream = StreamSeen { ended, ..StreamSeen::default() };
        let record = HostRecord {
            boot,
            store,
            uptime_ms: UPTIME_MS,
            entry: seen,
            tree,
            output: OutputSeen { stdout: stream.clone(), stderr: stream },
        };
        Seen::Host { entry: entry.clone(), record }
    }

    /// A probe that reads the exit record before the end of the command and looks for its
    /// processes after it.
    pub fn torn_probe(&mut self, entry: &Entry, code: i32) -> Seen {
        let exit = self.find(entry).and_then(|p| p.exit);
        if let Some(place) = self.find(entry) {
            place.end(code);
            place.put_on_record();
        }
        let after = self.find(entry).and_then(|p| std::mem::replace(&mut p.exit, exit));
        let seen = self.record(entry, false);
        if let Some(place) = self.find(entry) {
            place.exit = after;
        }
        seen
    }

    /// Every process ends; what was not synced may be lost with it.
    pub fn reboot(&mut self, lost: Unsynced) {
        self.boot += 1;
        for place in &mut self.places {
            place.die();
            match lost {
                Unsynced::Nothing => {}
                Unsynced::Claims => place.forget(),
                Unsynced::Entries => {
                    place.present = false;
                    place.tombstone = false;
                }
            }
        }
    }

    /// The same boot as it was before anything was claimed, from a snapshot.
    pub fn roll_back(&mut self) {
        for place in &mut self.places {
            place.die();
            place.forget();
        }
    }

    /// The entries are removed while their processes live, with the whole store or without it.
    pub fn wipe(&mut self, store: bool) {
        self.store += u8::from(store);
        for place in &mut self.places {
            place.present = false;
            place.tombstone = false;
        }
    }
}
