//! The broken worlds, drivers and witnesses that the invariants must catch.

use remote_command::core::action::{Kind, Seen};
use remote_command::core::outcome::{Doubt, Ending, Outcome};
use remote_command::core::plan::{Asked, Verdict};
use remote_command::core::record::{EntrySeen, Life, Tree};
use remote_command::core::stage::{Attempt, Next, Place as At, Stage};

use crate::world::{ELSEWHERE, now};

/// One broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    None,
    /// An entry that is not claimed is taken for one that never will be.
    NoFenceOnGivingUp,
    /// After a transport error the next attempt follows as if there had been none.
    BlindRetry,
    /// The host forgets everything of a swept entry.
    SweepWithoutTombstone,
    /// The host looks at the claim first and takes it later.
    ClaimNotAtomic,
    /// The driver sweeps as soon as it sees the end, before the save is acknowledged.
    EvidenceRemovedEarly,
    /// The driver sends a launch again when its reply is lost, and believes the second answer.
    LaunchSentAgain,
    /// The driver takes a launch whose reply is lost for one that was not sent.
    WrittenButSaidUnsent,
    /// The driver takes what the host could not begin with for the command's end.
    RefusalTakenForEnd,
    /// The host answers and checks as if it had never rebooted.
    BootIgnored,
    /// The host knows entries by their number alone.
    TokenIgnored,
    /// A wiped entry counts as a process that is gone.
    RetryBesideLiveProcess,
    /// Both processes gone without an exit on record count as a tree that is gone.
    NoFenceAfterLostNoRecord,
    /// Both processes gone count as a loss without a second look at the exit record.
    NoSecondRead,
    /// A stopped tree that is gone counts as the end of all that is to be put on record.
    StopEndsWithTree,
    /// A person's word is not tied to the attempt it was given for.
    ResolutionOfAnyAttempt,
    /// It is forgotten that a person's word was used.
    ResolutionUsedTwice,
    /// A Retry that was given up is held on to until the host answers.
    RetryOutlivesItsEnd,
    /// Whatever a host says takes Unknown back.
    AnyAnswerEndsDoubt,
    /// The silence about an earlier run's attempt ends the next run, and its answer opens it.
    SilenceEndsNextRun,
    /// One store that is swept counts for all of them.
    OneSweepForAll,
    /// A store that does not answer counts for those that come after it.
    SilenceEndsRound,
}

impl Mutant {
    /// What `decide` is told instead of what was seen.
    pub fn bear_witness(self, seen: Seen) -> Seen {
        match (self, seen) {
            (Self::NoFenceOnGivingUp, Seen::Host { entry, mut record })
                if record.entry == EntrySeen::Unclaimed =>
            {
                record.entry = EntrySeen::Revoked;
                Seen::Host { entry, record }
            }
            (Self::RetryBesideLiveProcess, Seen::Host { entry, mut record })
                if record.entry == EntrySeen::Wiped =>
            {
                record.tree = Tree::Empty;
                Seen::Host { entry, record }
            }
            (Self::NoFenceAfterLostNoRecord, Seen::Host { entry, mut record })
                if is_gone(&record.entry) =>
            {
                record.tree = Tree::Empty;
                Seen::Host { entry, record }
            }
            (Self::StopEndsWithTree, Seen::Host { entry, mut record }) => {
                if let (EntrySeen::Claimed(claimed), Tree::Empty) =
                    (&mut record.entry, &record.tree)
                {
                    claimed.supervisor = Life::Gone;
                }
                Seen::Host { entry, record }
            }
            (Self::SilenceEndsRound, Seen::Unswept { fault, .. }) => {
                let (machine, store) = (ELSEWHERE.to_owned(), ELSEWHERE.to_owned());
                Seen::Unswept { machine, store, fault }
            }
            (_, seen) => seen,
        }
    }

    /// What `decide` is told instead of what is wanted and known.
    pub fn misremember(self, stage: &mut Stage, asked: &mut Asked, seen: &Seen) {
        match (self, &mut asked.resolution) {
            (Self::ResolutionOfAnyAttempt, Some(resolution)) => {
                resolution.run = stage.run;
                resolution.attempt = stage.attempt;
            }
            (Self::ResolutionUsedTwice, Some(_)) => stage.resolution = None,
            (_, _) => {}
        }
        if let (Self::OneSweepForAll, Seen::Swept { .. }) = (self, seen) {
            stage.traces.clear();
        }
        self.misremember_end(stage, seen);
        let commands = |c: &mut Attempt| c.entry.kind == Kind::Command && !c.is_fenced();
        if let (Self::BlindRetry, Seen::Unreachable(_)) = (self, seen) {
            stage.current.take_if(commands);
        }
        if let (Self::NoSecondRead, Seen::Host { entry, record }) = (self, seen)
            && let Some(current) = stage.current.as_mut().filter(|c| c.entry == *entry)
            && matches!(current.place, At::Running | At::Launching)
            && is_gone(&record.entry)
        {
            current.place = At::Vanished;
        }
    }
}

impl Mutant {
    fn misremember_end(self, stage: &mut Stage, seen: &Seen) {
        let answer = matches!(seen, Seen::Host { .. });
        let doubted = stage.outcome.as_ref().is_some_and(Outcome::is_unknown);
        let number = (stage.run, stage.attempt);
        let spent = stage.resolution.as_ref().is_some_and(|word| {
            word.verdict == Verdict::Retry && (word.run, word.attempt) == number
        });
        let earlier = stage.current.as_ref().is_some_and(|c| c.entry.run < stage.run);
        match self {
            Self::RetryOutlivesItsEnd if answer && doubted && spent => {
                stage.outcome = None;
                stage.next = Next::PersonsRetry;
            }
            Self::AnyAnswerEndsDoubt if answer && doubted => stage.outcome = None,
            Self::SilenceEndsNextRun if answer && doubted && earlier => stage.outcome = None,
            Self::SilenceEndsNextRun
                if matches!(seen, Seen::Unreachable(_)) && earlier && stage.outcome.is_none() =>
            {
                stage.outcome = Some(Outcome {
                    ending: Ending::Unknown(Doubt::PreviousAttemptUncertain),
                    message: String::new(),
                    time: now(),
                    evidence: None,
                    exit_code: None,
                    signal: None,
                });
            }
            _ => {}
        }
    }
}

/// Both processes are gone, and there is no exit on record.
fn is_gone(entry: &EntrySeen) -> bool {
    match entry {
        EntrySeen::Claimed(claimed) => {
            let gone = (claimed.supervisor, claimed.command) == (Life::Gone, Life::Gone);
            gone && claimed.exit.is_none()
        }
        EntrySeen::Wiped | EntrySeen::Unclaimed | EntrySeen::Revoked => false,
    }
}
