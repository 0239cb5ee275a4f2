//! The broken worlds, drivers and witnesses that the invariants must catch.

use remote_command::core::action::{Entry, Kind, Seen};
use remote_command::core::plan::Asked;
use remote_command::core::record::{Claimed, EntrySeen, HostRecord, Life, Tree, exit_from_channel};
use remote_command::core::stage::Stage;

/// One broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    None,
    /// An entry that is not claimed is taken for one that never will be.
    NoFenceOnGivingUp,
    /// A transport error counts as a failed command.
    BlindRetry,
    /// The host forgets everything of a swept entry.
    SweepWithoutTombstone,
    /// The host looks at the claim first and takes it later.
    ClaimNotAtomic,
    /// The driver sweeps as soon as it sees the end, before the save is acknowledged.
    EvidenceRemovedEarly,
    /// The host answers and checks as if it had never rebooted.
    BootIgnored,
    /// The host knows entries by their number alone.
    TokenIgnored,
    /// A wiped entry counts as a process that is gone.
    RetryBesideLiveProcess,
    /// A person's word is not tied to the attempt it was given for.
    ResolutionUsedTwice,
}

impl Mutant {
    /// What `decide` is told instead of what was seen.
    pub fn bear_witness(self, stage: &Stage, seen: Seen) -> Seen {
        match (self, seen) {
            (Self::NoFenceOnGivingUp, Seen::Host { entry, mut record })
                if record.entry == EntrySeen::Unclaimed =>
            {
                record.entry = EntrySeen::Revoked;
                Seen::Host { entry, record }
            }
            (Self::BlindRetry, Seen::Unreachable(fault)) => match &stage.current {
                Some(current) if current.entry.kind == Kind::Command && !current.is_fenced() => {
                    failed(&current.entry, stage)
                }
                Some(_) | None => Seen::Unreachable(fault),
            },
            (Self::RetryBesideLiveProcess, Seen::Host { entry, mut record })
                if record.entry == EntrySeen::Wiped =>
            {
                record.tree = Tree::Empty;
                Seen::Host { entry, record }
            }
            (_, seen) => seen,
        }
    }

    /// What `decide` is told instead of what is wanted and known.
    pub fn misremember(self, stage: &mut Stage, asked: &mut Asked) {
        if self == Self::ResolutionUsedTwice
            && let Some(resolution) = &mut asked.resolution
        {
            resolution.run = stage.run;
            resolution.attempt = stage.attempt;
            stage.resolution = None;
        }
    }
}

/// A record of a failure that never was.
fn failed(entry: &Entry, stage: &Stage) -> Seen {
    let identity = stage.current.as_ref().map(|c| c.identity.clone()).unwrap();
    let gone = remote_command::core::record::ProcessId { pid: 1, start: 1 };
    let record = HostRecord {
        boot: identity.boot.clone(),
        store: identity.store,
        uptime_ms: identity.uptime_ms,
        entry: EntrySeen::Claimed(Claimed {
            processes: remote_command::core::record::ProcessIds {
                boot: identity.boot,
                supervisor: gone.clone(),
                command: gone,
            },
            supervisor: Life::Gone,
            command: Life::Gone,
            watch: Life::Gone,
            exit: Some(exit_from_channel(Ok(1))),
            stop: None,
            claimed_uptime_ms: identity.uptime_ms,
        }),
        tree: Tree::Unsearched,
        output: Default::default(),
    };
    Seen::Host { entry: entry.clone(), record }
}
