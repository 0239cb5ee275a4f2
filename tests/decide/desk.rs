//! Drives `decide` by hand, and what a host says.

use std::time::Duration;

use jiff::Timestamp;
use remote_command::core::action::{Action, Seen, StopReason};
use remote_command::core::decide::{Decision, Now, decide};
use remote_command::core::fault::Fault;
use remote_command::core::outcome::{Doubt, Ending};
use remote_command::core::plan::{Asked, Execution, Idempotency, Limits, Plan, Retry, Verify};
use remote_command::core::record::{
    Claimed, DirectSeen, EntrySeen, HostRecord, Identity, Life, OutputSeen, ProcessId, ProcessIds,
    StreamSeen, Survivor, Tree, exit_from_channel,
};
use remote_command::core::stage::Stage;

pub const CLASSES: [Idempotency; 3] =
    [Idempotency::Idempotent, Idempotency::Verifiable, Idempotency::NonIdempotent];

pub fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn plan(idempotency: Idempotency) -> Plan {
    let verify = Verify { command: vec!["check".to_owned()], timeout: seconds(30) };
    Plan {
        idempotency,
        verify: (idempotency == Idempotency::Verifiable).then_some(verify),
        limits: Limits {
            queue: seconds(3600),
            execution: seconds(3600),
            idle: None,
            termination: seconds(30),
            resolve: seconds(3600),
            cleanup: seconds(600),
        },
        retry: Retry { limit: 1, initial: seconds(2), max: seconds(120), exit_codes: Vec::new() },
        ..Plan::plain("uid", "db-1", &["it"])
    }
}

/// Drives `decide` by hand: time is a number of milliseconds, saves are counted.
pub struct Desk {
    pub plan: Plan,
    pub asked: Asked,
    pub stage: Stage,
    pub at_ms: i64,
    pub saves: u32,
    pub uptime_ms: u64,
    pub machine: String,
}

impl Desk {
    pub fn new(plan: Plan) -> Self {
        let (asked, stage) = (Asked::default(), Stage::default());
        let machine = "machine".to_owned();
        Self { plan, asked, stage, at_ms: 0, saves: 0, uptime_ms: 1_000_000, machine }
    }

    pub fn of(class: Idempotency) -> Self {
        Self::new(plan(class))
    }

    pub fn see(&mut self, seen: Seen) -> Decision {
        let at = Timestamp::from_millisecond(1_000_000_000 + self.at_ms).unwrap_or_default();
        let seed = u64::try_from(self.at_ms).unwrap_or(0);
        let now = Now { at, seed, secret: seed };
        let decision = decide(&self.plan, &self.asked, &self.stage, &seen, &now);
        if decision.stage != self.stage {
            assert_eq!(decision.stage.revision, self.stage.revision + 1);
            self.saves += 1;
        }
        self.stage = decision.stage.clone();
        decision
    }

    pub fn wake(&mut self) -> Decision {
        self.see(Seen::Nothing)
    }

    pub fn pass(&mut self, seconds: i64) -> Decision {
        self.at_ms += seconds * 1000;
        self.uptime_ms += u64::try_from(seconds * 1000).unwrap_or(0);
        self.wake()
    }

    pub fn fault(&mut self, cause: impl Into<remote_command::core::fault::Cause>) -> Decision {
        self.fault_saying(cause, "no answer")
    }

    pub fn fault_saying(
        &mut self,
        cause: impl Into<remote_command::core::fault::Cause>,
        words: &str,
    ) -> Decision {
        self.see(Seen::Unreachable(Fault::new(cause, words)))
    }

    /// From whatever waits to be launched to its saved launch.
    pub fn launch(&mut self) -> Decision {
        let decision = self.wake();
        let Some(Action::Prepare { entry }) = decision.action else {
            panic!("{:?} is not a Prepare", decision.action)
        };
        let identity = self.identity();
        let connection = self.asked.connection.clone();
        self.see(Seen::Prepared { entry, identity, connection })
    }

    /// What a Prepare finds out; for Direct there is nothing to be found.
    pub fn identity(&self) -> Identity {
        let recorded = self.plan.execution == Execution::Recorded;
        let known = |name: &str| if recorded { name.to_owned() } else { String::new() };
        Identity {
            machine: known(&self.machine),
            boot: known("boot"),
            store: known("store"),
            uptime_ms: if recorded { self.uptime_ms } else { 0 },
            can_tell: recorded,
        }
    }

    pub fn record(&self, entry: EntrySeen) -> HostRecord {
        let ended = StreamSeen { ended: true, ..StreamSeen::default() };
        HostRecord {
            boot: "boot".to_owned(),
            store: "store".to_owned(),
            uptime_ms: self.uptime_ms,
            entry,
            tree: Tree::Unsearched,
            output: OutputSeen { stdout: ended.clone(), stderr: ended },
        }
    }

    pub fn host(&mut self, record: HostRecord) -> Decision {
        let Some(current) = &self.stage.current else { panic!("nothing was launched") };
        let entry = current.entry.clone();
        self.see(Seen::Host { entry, record })
    }

    pub fn entry(&mut self, entry: EntrySeen) -> Decision {
        self.host(self.record(entry))
    }

    pub fn with_tree(&mut self, entry: EntrySeen, tree: Tree) -> Decision {
        let record = HostRecord { tree, ..self.record(entry) };
        self.host(record)
    }

    /// Launched, seen started: for Verifiable after a check that found nothing in place.
    pub fn running(class: Idempotency) -> Self {
        let mut desk = Self::of(class);
        desk.launch();
        if class == Idempotency::Verifiable {
            desk.entry(exited(101));
            desk.launch();
        }
        desk.entry(alive());
        desk
    }

    pub fn ending(&self) -> Option<Ending> {
        self.stage.outcome.as_ref().map(|outcome| outcome.ending)
    }
}

pub fn claimed(supervisor: Life, command: Life) -> Claimed {
    Claimed {
        processes: ProcessIds {
            boot: "boot".to_owned(),
            supervisor: ProcessId { pid: 10, start: 1 },
            command: ProcessId { pid: 11, start: 1 },
        },
        supervisor,
        command,
        watch: Life::Alive,
        exit: None,
        stop: None,
        claimed_uptime_ms: 1_000_000,
    }
}

pub fn alive() -> EntrySeen {
    EntrySeen::Claimed(claimed(Life::Alive, Life::Alive))
}

pub fn gone() -> EntrySeen {
    EntrySeen::Claimed(claimed(Life::Gone, Life::Gone))
}

pub fn exited(code: u32) -> EntrySeen {
    let exit = Some(exit_from_channel(Ok(code)));
    EntrySeen::Claimed(Claimed { exit, ..claimed(Life::Gone, Life::Gone) })
}

pub fn marked(reason: StopReason, exit: Option<u32>) -> EntrySeen {
    let exit = exit.map(|code| exit_from_channel(Ok(code)));
    EntrySeen::Claimed(Claimed { exit, stop: Some(reason), ..claimed(Life::Gone, Life::Gone) })
}

pub fn survivors() -> Tree {
    Tree::Alive(vec![Survivor { pid: 11, uid: 0, command: "it".to_owned() }])
}

/// What follows a loss once it is certain: the class decides.
pub fn follows(desk: &mut Desk, class: Idempotency, doubt: Doubt) {
    match class {
        Idempotency::NonIdempotent => assert_eq!(desk.ending(), Some(Ending::Unknown(doubt))),
        Idempotency::Idempotent | Idempotency::Verifiable => {
            assert_eq!(desk.ending(), None, "{class:?}");
            let Some(Action::Prepare { entry }) = desk.pass(5).action else {
                panic!("{class:?} does not go on")
            };
            let check = entry.kind == remote_command::core::action::Kind::Verify;
            assert_eq!(check, class == Idempotency::Verifiable);
        }
    }
}

pub fn channel(desk: &mut Desk, seen: DirectSeen) -> Decision {
    let Some(current) = &desk.stage.current else { panic!("nothing was launched") };
    let entry = current.entry.clone();
    desk.see(Seen::Direct { entry, seen })
}

/// The object's store on this machine was swept.
pub fn swept(machine: &str) -> Seen {
    let (machine, store) = (machine.to_owned(), "store".to_owned());
    Seen::Swept { uid: "uid".to_owned(), machine, store }
}
