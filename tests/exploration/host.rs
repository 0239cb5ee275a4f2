//! The far side: entries, claims, processes and marks, as the verbs' documentation says.

use remote_command::core::action::{Action, Entry, Kind, Seen, StopReason};
use remote_command::core::record::{
    Claimed, DirectSeen, EntrySeen, HostRecord, Identity, Life, OutputSeen, ProcessId, ProcessIds,
    StreamSeen, Survivor, Tree, exit_from_channel,
};

use crate::mutants::Mutant;

/// The host's uptime at every moment: what is saved of it ages instead.
pub const UPTIME_MS: u64 = 10_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    Free,
    Revoked,
    Taken,
}

/// One entry with the process it started. The files may be gone while the process lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub entry: Entry,
    /// The entry's files are there.
    pub present: bool,
    /// Swept: only the claim is left.
    pub tombstone: bool,
    pub claim: Claim,
    pub stop: Option<StopReason>,
    pub exit: Option<i32>,
    pub claimed_uptime_ms: u64,
    pub supervisor: bool,
    pub command: bool,
    pub starts: u8,
    /// A launch that has checked the claim and not taken it yet (a broken host only).
    pub stalled: bool,
    /// The end reached the operator's channel (Direct).
    pub channel: bool,
    /// Ends that were really there, for the invariants.
    pub ended_with: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    pub boot: u8,
    pub places: Vec<Place>,
    pub ignores_term: bool,
    pub direct: bool,
    pub mutant: Mutant,
}

impl Host {
    pub fn new(ignores_term: bool, direct: bool, mutant: Mutant) -> Self {
        Self { boot: 0, places: Vec::new(), ignores_term, direct, mutant }
    }

    fn boot_name(&self) -> String {
        let seen = if self.mutant == Mutant::BootIgnored { 0 } else { self.boot };
        format!("boot-{seen}")
    }

    /// The place a verb acts on: the one with its token.
    fn find(&mut self, entry: &Entry) -> Option<&mut Place> {
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
                let boot = expect.boot == self.boot_name();
                if !self.direct && (!boot || expect.latest_uptime_ms < UPTIME_MS) {
                    let message = "the host has changed".to_owned();
                    return Seen::Refused { entry: entry.clone(), message };
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
            Action::Revoke { entry, boot, .. } => {
                let same = *boot == self.boot_name();
                if let Some(place) = self.find(entry).filter(|p| p.present && same)
                    && place.claim == Claim::Free
                {
                    place.claim = Claim::Revoked;
                }
                self.record(entry, false)
            }
            Action::Sweep { uid, .. } => {
                self.sweep();
                Seen::Swept { uid: uid.clone() }
            }
        }
    }

    fn prepare(&mut self, entry: &Entry) -> Seen {
        let known = if self.mutant == Mutant::TokenIgnored {
            // The number is the name: another token takes the entry over and makes it anew,
            // the same one again finds it as it is.
            let number = |e: &Entry| (e.run, e.attempt, e.kind);
            let named = |p: &&mut Place| number(&p.entry) == number(entry) && !p.tombstone;
            let place = self.places.iter_mut().find(named);
            if let Some(place) = place {
                if place.entry.token != entry.token {
                    place.entry.token.clone_from(&entry.token);
                    place.claim = Claim::Free;
                }
                true
            } else {
                false
            }
        } else {
            self.places.iter().any(|p| p.entry.token == entry.token && (p.present || p.tombstone))
        };
        if !known && !self.direct {
            self.make(entry);
        }
        let identity = Identity {
            machine: "machine".to_owned(),
            boot: if self.direct { String::new() } else { self.boot_name() },
            store: "store".to_owned(),
            uptime_ms: UPTIME_MS,
            can_tell: !self.direct,
        };
        Seen::Prepared { entry: entry.clone(), identity, connection: String::new() }
    }

    fn make(&mut self, entry: &Entry) {
        if let Some(place) = self.places.iter_mut().find(|p| p.entry.token == entry.token) {
            // Wiped or swept away without a trace, and made again.
            place.present = true;
            place.claim = Claim::Free;
            place.stop = None;
            place.exit = None;
            return;
        }
        self.places.push(Place {
            entry: entry.clone(),
            present: true,
            tombstone: false,
            claim: Claim::Free,
            stop: None,
            exit: None,
            claimed_uptime_ms: UPTIME_MS,
            supervisor: false,
            command: false,
            starts: 0,
            stalled: false,
            channel: false,
            ended_with: None,
        });
    }

    fn launch(&mut self, entry: &Entry) {
        if self.direct {
            // Nothing on the host knows tokens: what arrives is run.
            self.make(entry);
        }
        let stalls = self.mutant == Mutant::ClaimNotAtomic;
        let token = entry.token.clone();
        let Some(place) = self.find(entry) else { return };
        if place.present && place.claim == Claim::Free {
            if stalls && place.entry.kind == Kind::Command && !place.stalled {
                place.stalled = true;
                return;
            }
            place.entry.token = token;
            place.start();
        }
    }

    /// A launch that stood between looking at the claim and taking it goes on.
    pub fn resume_stalled(&mut self) {
        if let Some(place) = self.places.iter_mut().find(|p| p.stalled) {
            place.stalled = false;
            place.start();
        }
    }

    fn signal(&mut self, entry: &Entry, reason: StopReason, kill: bool) {
        let ignores = self.ignores_term;
        let direct = self.direct;
        let Some(place) = self.find(entry) else { return };
        let ended_before = place.exit.is_some() && place.stop.is_none();
        if place.present && (ended_before || place.claim != Claim::Taken) {
            return;
        }
        if place.present {
            place.stop.get_or_insert(reason);
        }
        if kill && !direct {
            place.command = false;
            place.supervisor = false;
        } else if kill {
            place.channel = false;
        } else if place.command && !ignores {
            place.end(143);
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
        let boot = self.boot_name();
        let direct = self.direct;
        let place = self.find(entry).cloned();
        if direct {
            return Seen::Direct { entry: entry.clone(), seen: direct_seen(place.as_ref()) };
        }
        let alive = place.as_ref().is_some_and(Place::is_alive);
        let tree = match (look, alive) {
            (false, _) => Tree::Unsearched,
            (true, false) => Tree::Empty,
            (true, true) => {
                Tree::Alive(vec![Survivor { pid: 2, uid: 0, command: "it".to_owned() }])
            }
        };
        let seen = match place {
            Some(place) if place.present => place.seen(&boot),
            Some(_) | None => EntrySeen::Wiped,
        };
        let ended = StreamSeen { ended: true, ..StreamSeen::default() };
        let record = HostRecord {
            boot,
            store: "store".to_owned(),
            uptime_ms: UPTIME_MS,
            entry: seen,
            tree,
            output: OutputSeen { stdout: ended.clone(), stderr: ended },
        };
        Seen::Host { entry: entry.clone(), record }
    }

    /// Every process ends; what was not synced may be lost with it.
    pub fn reboot(&mut self, claims_lost: bool) {
        self.boot += 1;
        for place in &mut self.places {
            let unsynced = place.command || place.supervisor;
            place.command = false;
            place.supervisor = false;
            place.channel = false;
            place.stalled = false;
            if claims_lost && unsynced && place.exit.is_none() {
                place.claim = Claim::Free;
            }
        }
    }

    pub fn wipe(&mut self) {
        for place in &mut self.places {
            place.present = false;
            place.tombstone = false;
        }
    }
}

fn direct_seen(place: Option<&Place>) -> DirectSeen {
    match place {
        Some(place) if place.channel => match (place.command, place.exit) {
            (true, _) => DirectSeen::Running,
            (false, Some(143)) => DirectSeen::Exited(exit_from_channel(Err("TERM".to_owned()))),
            (false, Some(code)) => {
                DirectSeen::Exited(exit_from_channel(Ok(u32::try_from(code).unwrap())))
            }
            (false, None) => DirectSeen::Lost,
        },
        Some(_) | None => DirectSeen::Lost,
    }
}

impl Place {
    pub fn is_alive(&self) -> bool {
        self.command || self.supervisor
    }

    fn start(&mut self) {
        self.claim = Claim::Taken;
        self.starts += 1;
        self.supervisor = true;
        self.command = true;
        self.channel = true;
        self.claimed_uptime_ms = UPTIME_MS;
    }

    /// The command ends; its supervisor, if it lives, puts that on record.
    pub fn end(&mut self, code: i32) {
        self.command = false;
        if self.supervisor {
            self.ended_with = Some(code);
            if self.present {
                self.exit = Some(code);
            }
        }
        self.supervisor = false;
    }

    fn seen(&self, boot: &str) -> EntrySeen {
        match self.claim {
            Claim::Free => EntrySeen::Unclaimed,
            Claim::Revoked => EntrySeen::Revoked,
            Claim::Taken => {
                let life = |alive| if alive { Life::Alive } else { Life::Gone };
                EntrySeen::Claimed(Claimed {
                    processes: ProcessIds {
                        boot: boot.to_owned(),
                        supervisor: ProcessId { pid: 1, start: 1 },
                        command: ProcessId { pid: 2, start: 1 },
                    },
                    supervisor: life(self.supervisor),
                    command: life(self.command),
                    exit: self.exit.map(|code| exit_from_channel(Ok(u32::try_from(code).unwrap()))),
                    stop: self.stop,
                    claimed_uptime_ms: self.claimed_uptime_ms,
                })
            }
        }
    }
}
