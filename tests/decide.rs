//! The main lines of `decide`, one sentence each: a row of the evidence table per class, the
//! order of a stop, wishes and limits, and how little is written.
#![expect(clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::time::Duration;

use jiff::Timestamp;
use remote_command::core::action::{Action, Seen, StopReason};
use remote_command::core::decide::{Decision, Now, decide};
use remote_command::core::fault::{Fault, Standing, Transient};
use remote_command::core::outcome::{Doubt, Ending, Evidence, Failure, Fate, Loss, Success};
use remote_command::core::phase::{Phase, Truth, summary};
use remote_command::core::plan::{
    Asked, Direct, Execution, Hold, HoldKind, Idempotency, Limits, Plan, Program, Resolution,
    Retry, Verdict, Verify,
};
use remote_command::core::record::{
    Claimed, DirectSeen, EntrySeen, HostRecord, Identity, Life, OutputSeen, ProcessId, ProcessIds,
    StreamSeen, Survivor, Tree, exit_from_channel,
};
use remote_command::core::stage::{Place, Stage};

const CLASSES: [Idempotency; 3] =
    [Idempotency::Idempotent, Idempotency::Verifiable, Idempotency::NonIdempotent];

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn plan(idempotency: Idempotency) -> Plan {
    let verify = Verify { command: vec!["check".to_owned()], timeout: seconds(30) };
    Plan {
        uid: "uid".to_owned(),
        host: "db-1".to_owned(),
        idempotency,
        execution: Execution::Recorded,
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
        success_exit_codes: vec![0],
        program: Program {
            argv: vec!["it".to_owned()],
            script: None,
            env: Vec::new(),
            stdin: None,
            working_directory: None,
            run_as: None,
            output_limit: 1 << 30,
        },
    }
}

/// Drives `decide` by hand: time is a number of milliseconds, saves are counted.
struct Desk {
    plan: Plan,
    asked: Asked,
    stage: Stage,
    at_ms: i64,
    saves: u32,
    uptime_ms: u64,
    machine: String,
}

impl Desk {
    fn new(plan: Plan) -> Self {
        let (asked, stage) = (Asked::default(), Stage::default());
        let machine = "machine".to_owned();
        Self { plan, asked, stage, at_ms: 0, saves: 0, uptime_ms: 1_000_000, machine }
    }

    fn of(class: Idempotency) -> Self {
        Self::new(plan(class))
    }

    fn see(&mut self, seen: Seen) -> Decision {
        let at = Timestamp::from_millisecond(1_000_000_000 + self.at_ms).unwrap_or_default();
        let seed = u64::try_from(self.at_ms).unwrap_or(0);
        let decision = decide(&self.plan, &self.asked, &self.stage, &seen, &Now { at, seed });
        if decision.stage != self.stage {
            assert_eq!(decision.stage.revision, self.stage.revision + 1);
            self.saves += 1;
        }
        self.stage = decision.stage.clone();
        decision
    }

    fn wake(&mut self) -> Decision {
        self.see(Seen::Nothing)
    }

    fn pass(&mut self, seconds: i64) -> Decision {
        self.at_ms += seconds * 1000;
        self.uptime_ms += u64::try_from(seconds * 1000).unwrap_or(0);
        self.wake()
    }

    fn fault(&mut self, cause: impl Into<remote_command::core::fault::Cause>) -> Decision {
        self.see(Seen::Unreachable(Fault::new(cause, "no answer")))
    }

    /// From whatever waits to be launched to its saved launch.
    fn launch(&mut self) -> Decision {
        let decision = self.wake();
        let Some(Action::Prepare { entry }) = decision.action else {
            panic!("{:?} is not a Prepare", decision.action)
        };
        let identity = Identity {
            machine: self.machine.clone(),
            boot: "boot".to_owned(),
            store: "store".to_owned(),
            uptime_ms: self.uptime_ms,
            can_tell: true,
        };
        let connection = self.asked.connection.clone();
        self.see(Seen::Prepared { entry, identity, connection })
    }

    fn record(&self, entry: EntrySeen) -> HostRecord {
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

    fn host(&mut self, record: HostRecord) -> Decision {
        let Some(current) = &self.stage.current else { panic!("nothing was launched") };
        let entry = current.entry.clone();
        self.see(Seen::Host { entry, record })
    }

    fn entry(&mut self, entry: EntrySeen) -> Decision {
        self.host(self.record(entry))
    }

    fn with_tree(&mut self, entry: EntrySeen, tree: Tree) -> Decision {
        let record = HostRecord { tree, ..self.record(entry) };
        self.host(record)
    }

    /// Launched, seen started: for Verifiable after a check that found nothing in place.
    fn running(class: Idempotency) -> Self {
        let mut desk = Self::of(class);
        desk.launch();
        if class == Idempotency::Verifiable {
            desk.entry(exited(101));
            desk.launch();
        }
        desk.entry(alive());
        desk
    }

    fn ending(&self) -> Option<Ending> {
        self.stage.outcome.as_ref().map(|outcome| outcome.ending)
    }
}

fn claimed(supervisor: Life, command: Life) -> Claimed {
    Claimed {
        processes: ProcessIds {
            boot: "boot".to_owned(),
            supervisor: ProcessId { pid: 10, start: 1 },
            command: ProcessId { pid: 11, start: 1 },
        },
        supervisor,
        command,
        exit: None,
        stop: None,
        claimed_uptime_ms: 1_000_000,
    }
}

fn alive() -> EntrySeen {
    EntrySeen::Claimed(claimed(Life::Alive, Life::Alive))
}

fn gone() -> EntrySeen {
    EntrySeen::Claimed(claimed(Life::Gone, Life::Gone))
}

fn exited(code: u32) -> EntrySeen {
    let exit = Some(exit_from_channel(Ok(code)));
    EntrySeen::Claimed(Claimed { exit, ..claimed(Life::Gone, Life::Gone) })
}

fn marked(reason: StopReason, exit: Option<u32>) -> EntrySeen {
    let exit = exit.map(|code| exit_from_channel(Ok(code)));
    EntrySeen::Claimed(Claimed { exit, stop: Some(reason), ..claimed(Life::Gone, Life::Gone) })
}

fn survivors() -> Tree {
    Tree::Alive(vec![Survivor { pid: 11, uid: 0, command: "it".to_owned() }])
}

#[test]
fn a_command_that_succeeds_first_time_costs_three_saves_and_a_quick_one_two() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    assert_eq!(desk.saves, 2);
    desk.at_ms += 100;
    let still = desk.entry(alive());
    assert_eq!((desk.saves, still.action), (2, None));
    desk.entry(exited(0));
    assert_eq!((desk.saves, desk.ending()), (3, Some(Ending::Succeeded(Success::Completed))));

    let mut quick = Desk::of(Idempotency::NonIdempotent);
    quick.launch();
    quick.entry(exited(0));
    assert_eq!(quick.saves, 2);
}

#[test]
fn a_launch_is_given_once_with_the_save_that_announces_it() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    let launch = desk.launch();
    assert!(matches!(launch.action, Some(Action::Launch { .. })));
    assert_eq!(desk.saves, 1);
    assert!(matches!(desk.wake().action, Some(Action::Probe { .. })));
    assert!(matches!(desk.pass(5).action, Some(Action::Revoke { .. })));
}

#[test]
fn a_revoked_entry_never_started_and_is_tried_again_in_every_class() {
    for class in CLASSES {
        let mut desk = Desk::of(class);
        desk.launch();
        desk.pass(5);
        desk.entry(EntrySeen::Revoked);
        assert_eq!(desk.stage.starts, 0, "{class:?}");
        assert!(desk.stage.outcome.is_none(), "{class:?}");
        assert!(matches!(desk.pass(5).action, Some(Action::Prepare { .. })), "{class:?}");
    }
}

#[test]
fn a_revoke_in_another_boot_or_store_proves_nothing() {
    for (boot, store) in [("other", "store"), ("boot", "other")] {
        let mut desk = Desk::of(Idempotency::NonIdempotent);
        desk.launch();
        let record = desk.record(EntrySeen::Revoked);
        desk.host(HostRecord { boot: boot.to_owned(), store: store.to_owned(), ..record });
        assert!(matches!(desk.ending(), Some(Ending::Unknown(_))), "{boot} {store}");
    }
}

#[test]
fn an_exit_is_the_result_in_every_class() {
    for class in CLASSES {
        let mut desk = Desk::running(class);
        desk.entry(exited(3));
        assert_eq!(desk.ending(), Some(Ending::Failed(Failure::NonZeroExit)), "{class:?}");
        let said = summary(&desk.plan, &desk.stage);
        assert_eq!((said.message.as_str(), said.exit_code), ("exit code 3 on db-1", Some(3)));
    }
}

#[test]
fn a_named_exit_code_is_retried_and_the_starts_are_counted() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.plan.retry.exit_codes = vec![75];
    desk.entry(exited(75));
    assert_eq!(summary(&desk.plan, &desk.stage).reason, "BackingOff");
    desk.at_ms += 3000;
    desk.launch();
    desk.entry(exited(75));
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!(
        (said.phase, said.message.as_str()),
        (Phase::Failed, "exit code 75 on db-1 after 2 starts")
    );
}

/// What follows a loss once it is certain: the class decides.
fn follows(desk: &mut Desk, class: Idempotency, doubt: Doubt) {
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

#[test]
fn a_reboot_without_an_exit_is_repeated_checked_or_unknown_by_class() {
    for class in CLASSES {
        let mut desk = Desk::running(class);
        let record = desk.record(gone());
        desk.host(HostRecord { boot: "other".to_owned(), ..record });
        follows(&mut desk, class, Doubt::LostByReboot);
    }
}

#[test]
fn a_loss_without_a_record_needs_a_second_read_and_then_a_fence() {
    for class in CLASSES {
        let mut desk = Desk::running(class);
        desk.entry(gone());
        assert!(desk.ending().is_none(), "one read is not enough");
        let second = desk.entry(gone());
        if class != Idempotency::NonIdempotent {
            assert!(matches!(second.action, Some(Action::Terminate { .. })), "{class:?}");
            desk.with_tree(marked(StopReason::Fenced, None), Tree::Empty);
        }
        follows(&mut desk, class, Doubt::LostNoRecord);
    }
}

#[test]
fn an_exit_found_by_the_second_read_is_the_result() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.entry(gone());
    desk.entry(exited(0));
    assert_eq!(desk.ending(), Some(Ending::Succeeded(Success::Completed)));
}

#[test]
fn after_a_wipe_the_host_is_searched_before_anything_else_may_start() {
    for class in CLASSES {
        let mut desk = Desk::running(class);
        let wiped = desk.entry(EntrySeen::Wiped);
        if class != Idempotency::NonIdempotent {
            let Some(Action::Terminate { processes: Some(ids), .. }) = wiped.action else {
                panic!("{:?} is no search", wiped.action)
            };
            assert_eq!(ids.command.pid, 11);
            desk.with_tree(EntrySeen::Wiped, survivors());
            assert_eq!(summary(&desk.plan, &desk.stage).reason, "PreviousAttemptUncertain");
            assert!(matches!(desk.pass(31).action, Some(Action::Kill { .. })));
            desk.with_tree(EntrySeen::Wiped, Tree::Empty);
        }
        follows(&mut desk, class, Doubt::RecordWiped);
    }
}

#[test]
fn survivors_of_kill_are_named_and_asked_about_until_they_are_gone() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.entry(EntrySeen::Wiped);
    desk.with_tree(EntrySeen::Wiped, survivors());
    desk.pass(31);
    desk.with_tree(EntrySeen::Wiped, survivors());
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::SurvivorsRemain)));
    assert!(summary(&desk.plan, &desk.stage).message.contains("11 (it, user 0)"));
    assert!(matches!(desk.pass(3600).action, Some(Action::Kill { .. })));
    desk.with_tree(EntrySeen::Wiped, Tree::Empty);
    follows(&mut desk, Idempotency::Idempotent, Doubt::RecordWiped);
}

#[test]
fn an_uptime_that_goes_back_is_a_host_that_was_rolled_back() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    let record = desk.record(alive());
    desk.host(HostRecord { uptime_ms: 999, ..record });
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::HostRolledBack)));
}

#[test]
fn where_the_host_cannot_tell_a_loss_is_unknown_in_every_class() {
    for class in CLASSES {
        let mut desk = Desk::running(class);
        if let Some(current) = &mut desk.stage.current {
            current.identity.can_tell = false;
        }
        desk.entry(gone());
        desk.entry(gone());
        assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::LostNoRecord)), "{class:?}");
    }
}

#[test]
fn silence_is_reattaching_then_unknown_and_evidence_found_later_replaces_it() {
    for class in CLASSES {
        let mut desk = Desk::running(class);
        desk.fault(Transient::ConnectionLost);
        assert_eq!(summary(&desk.plan, &desk.stage).reason, "Reattaching", "{class:?}");
        let saves = desk.saves;
        desk.fault(Transient::ConnectionLost);
        assert_eq!(desk.saves, saves, "asking in vain writes nothing");
        desk.pass(3600);
        assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::Unreachable)), "{class:?}");
        assert!(desk.fault(Transient::ConnectionLost).wake.is_some(), "asked ever after");
        desk.entry(exited(0));
        assert_eq!(desk.ending(), Some(Ending::Succeeded(Success::Completed)), "{class:?}");
    }
}

#[test]
fn another_machine_at_the_address_is_no_evidence() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.fault(Transient::WrongHost);
    desk.pass(3600);
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::WrongHost)));
}

#[test]
fn cancel_is_saved_with_its_reason_then_term_then_kill_then_verified() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.asked.cancel = true;
    let stop = desk.wake();
    let Some(Action::Terminate { reason: StopReason::Cancelled, .. }) = stop.action else {
        panic!("{:?}", stop.action)
    };
    let mark = EntrySeen::Claimed(Claimed {
        stop: Some(StopReason::Cancelled),
        ..claimed(Life::Alive, Life::Alive)
    });
    desk.with_tree(mark, survivors());
    assert!(desk.ending().is_none(), "not before it is verified");
    assert!(matches!(desk.pass(31).action, Some(Action::Kill { .. })));
    desk.with_tree(marked(StopReason::Cancelled, None), Tree::Empty);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::Cancelled)));
}

#[test]
fn an_exit_before_the_stop_mark_is_the_result_and_one_after_it_is_ours() {
    let mut early = Desk::running(Idempotency::NonIdempotent);
    early.asked.cancel = true;
    early.wake();
    early.entry(exited(0));
    assert_eq!(early.ending(), Some(Ending::Succeeded(Success::Completed)));

    let mut ours = Desk::running(Idempotency::NonIdempotent);
    ours.asked.cancel = true;
    ours.wake();
    ours.with_tree(marked(StopReason::Cancelled, Some(0)), Tree::Empty);
    assert_eq!(ours.ending(), Some(Ending::Failed(Failure::Cancelled)));
}

#[test]
fn the_hosts_own_deadline_is_an_execution_timeout() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.with_tree(marked(StopReason::ExecutionTimeout, None), Tree::Empty);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::ExecutionTimeout)));
}

#[test]
fn a_dead_watcher_is_stood_in_for() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.pass(3600 + 31);
    let stop = desk.entry(alive());
    let Some(Action::Terminate { reason, .. }) = stop.action else { panic!("{:?}", stop.action) };
    assert_eq!(reason, StopReason::ExecutionTimeout);
}

#[test]
fn silence_of_the_command_is_judged_by_two_probes_of_one_boot() {
    let mut desk = Desk::of(Idempotency::Idempotent);
    desk.plan.limits.idle = Some(seconds(60));
    desk.launch();
    desk.entry(alive());
    desk.pass(50);
    desk.entry(alive());
    desk.pass(10);
    let stop = desk.entry(alive());
    let Some(Action::Terminate { reason, .. }) = stop.action else { panic!("{:?}", stop.action) };
    assert_eq!(reason, StopReason::IdleTimeout);
}

#[test]
fn time_without_contact_is_no_silence_of_the_command() {
    let mut desk = Desk::of(Idempotency::Idempotent);
    desk.plan.limits.idle = Some(seconds(60));
    desk.launch();
    desk.entry(alive());
    desk.pass(50);
    desk.fault(Transient::ConnectionLost);
    desk.pass(50);
    assert!(desk.entry(alive()).action.is_none());
    desk.pass(59);
    assert!(desk.entry(alive()).action.is_none());
    desk.pass(1);
    assert!(matches!(desk.entry(alive()).action, Some(Action::Terminate { .. })));
}

#[test]
fn cancel_before_the_launch_starts_nothing() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.asked.cancel = true;
    assert!(desk.wake().action.is_none());
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::Cancelled)));
}

#[test]
fn a_cancelled_launch_is_revoked_first() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.launch();
    desk.asked.cancel = true;
    assert!(matches!(desk.wake().action, Some(Action::Revoke { .. })));
    desk.entry(EntrySeen::Revoked);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::Cancelled)));
}

#[test]
fn a_stop_that_cannot_be_asked_for_is_unknown_and_carried_out_later() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.asked.cancel = true;
    desk.wake();
    desk.fault(Transient::ConnectTimeout);
    assert_eq!(summary(&desk.plan, &desk.stage).reason, "Stopping");
    desk.pass(3600);
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!((said.phase, said.stop_requested), (Phase::Unknown, true));
    assert!(matches!(desk.pass(3600).action, Some(Action::Terminate { .. })));
    desk.with_tree(marked(StopReason::Cancelled, None), Tree::Empty);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::Cancelled)));
}

#[test]
fn suspension_holds_the_next_launch_and_stops_the_queue_clock() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.asked.suspend = true;
    assert!(desk.wake().action.is_none());
    assert_eq!(summary(&desk.plan, &desk.stage).reason, "Suspended");
    desk.pass(7200);
    desk.asked.suspend = false;
    assert!(matches!(desk.pass(3000).action, Some(Action::Prepare { .. })));
    assert!(desk.ending().is_none());
}

#[test]
fn a_standing_fault_stalls_at_once_and_fails_at_the_queue_limit() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.wake();
    desk.fault(Standing::HostKeyMismatch);
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!((said.phase, said.stalled), (Phase::Pending, Truth::True));
    assert!(desk.pass(30).action.is_none(), "not hammered");
    desk.asked.poke = "mended".to_owned();
    assert!(matches!(desk.pass(1).action, Some(Action::Prepare { .. })));
    desk.fault(Standing::HostKeyMismatch);
    assert!(desk.pass(1).action.is_none(), "one look for each change");
    desk.pass(3600);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::HostKeyMismatch)));
}

#[test]
fn a_transient_fault_is_written_once_and_names_the_failure_at_the_limit() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.wake();
    desk.fault(Transient::ConnectionRefused);
    desk.at_ms += 5000;
    assert!(desk.fault(Transient::ConnectionRefused).wake.is_some());
    assert_eq!(desk.saves, 1);
    desk.pass(3600);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::ConnectionRefused)));
}

#[test]
fn something_missing_is_not_accepted_and_stalls_after_two_minutes() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    let (reason, message) = ("SecretNotFound".to_owned(), "secret".to_owned());
    desk.asked.hold = Some(Hold { kind: HoldKind::Missing, reason, message });
    desk.wake();
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!((said.accepted, said.stalled), (Truth::False, Truth::False));
    desk.pass(120);
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!((said.reconciling, said.stalled), (Truth::False, Truth::True));
}

#[test]
fn a_check_answers_before_the_first_start() {
    for (code, ending) in [
        (100, Some(Ending::Succeeded(Success::Verified))),
        (101, None),
        (1, Some(Ending::Failed(Failure::VerifyFailed))),
    ] {
        let mut desk = Desk::of(Idempotency::Verifiable);
        desk.launch();
        assert_eq!(desk.stage.attempt, 0, "a check is no attempt of the command");
        desk.entry(exited(code));
        assert_eq!(desk.ending(), ending, "{code}");
        let shown = summary(&desk.plan, &desk.stage).evidence;
        if ending.is_some() {
            assert_eq!(shown, Some(Evidence::NeverStarted), "the check's end is not the command's");
        }
    }
}

/// Guards against a result that changes with an edit of the spec while the command runs.
#[test]
fn an_exit_is_judged_by_the_codes_the_attempt_was_launched_with() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.plan.success_exit_codes = vec![0, 3];
    desk.entry(exited(3));
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::NonZeroExit)));
}

#[test]
fn a_check_answers_after_a_loss() {
    for (code, ending) in [
        (100, Some(Ending::Succeeded(Success::Verified))),
        (101, None),
        (1, Some(Ending::Unknown(Doubt::VerifyInconclusive))),
    ] {
        let mut desk = Desk::running(Idempotency::Verifiable);
        let record = desk.record(gone());
        desk.host(HostRecord { boot: "other".to_owned(), ..record });
        desk.at_ms += 5000;
        desk.launch();
        desk.entry(exited(code));
        assert_eq!(desk.ending(), ending, "{code}");
    }
}

#[test]
fn a_persons_retry_is_used_once_and_only_for_the_attempt_it_names() {
    let lost = |desk: &mut Desk| {
        let record = desk.record(gone());
        desk.host(HostRecord { boot: "other".to_owned(), ..record });
    };
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    lost(&mut desk);
    desk.asked.resolution = Some(Resolution { run: 1, attempt: 2, verdict: Verdict::Retry });
    assert!(desk.wake().action.is_none(), "another attempt");
    desk.asked.resolution = Some(Resolution { run: 1, attempt: 1, verdict: Verdict::Retry });
    desk.launch();
    assert_eq!(desk.stage.attempt, 2);
    lost(&mut desk);
    assert!(desk.wake().action.is_none(), "used");
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::LostByReboot)));
}

#[test]
fn a_new_run_fences_what_may_be_left_of_the_earlier_one() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.entry(EntrySeen::Wiped);
    desk.asked.rerun_token = "again".to_owned();
    let fence = desk.wake();
    assert!(matches!(fence.action, Some(Action::Terminate { reason: StopReason::Fenced, .. })));
    assert_eq!(summary(&desk.plan, &desk.stage).reason, "PreviousAttemptUncertain");
    let clean = desk.with_tree(EntrySeen::Wiped, Tree::Empty);
    assert!(matches!(clean.action, Some(Action::Prepare { .. })));
    assert_eq!((desk.stage.run, desk.stage.attempt), (2, 0));
}

#[test]
fn deletion_revokes_stops_verifies_and_sweeps_in_this_order() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.launch();
    desk.asked.delete = true;
    assert!(matches!(desk.wake().action, Some(Action::Revoke { .. })));
    let started = desk.entry(alive());
    assert!(matches!(started.action, Some(Action::Terminate { reason: StopReason::Deleted, .. })));
    let ended = desk.with_tree(marked(StopReason::Deleted, None), Tree::Empty);
    assert!(matches!(ended.action, Some(Action::Sweep { .. })));
    assert!(!desk.stage.released());
    desk.see(Seen::Swept { uid: "uid".to_owned() });
    assert!(desk.stage.released());
}

/// Guards against looking for the record in another user's store, where there is none.
#[test]
fn an_attempt_is_followed_as_the_user_it_was_launched_as() {
    let mut desk = Desk::of(Idempotency::Idempotent);
    desk.plan.program.run_as = Some("postgres".to_owned());
    desk.launch();
    desk.entry(alive());
    desk.plan.program.run_as = Some("root".to_owned());
    let Some(Action::Probe { entry }) = desk.wake().action else { panic!("not probed") };
    assert_eq!(entry.run_as.as_deref(), Some("postgres"));
    desk.asked.delete = true;
    desk.wake();
    let ended = desk.with_tree(marked(StopReason::Deleted, None), Tree::Empty);
    let Some(Action::Sweep { run_as, .. }) = ended.action else { panic!("not swept") };
    assert_eq!(run_as.as_deref(), Some("postgres"));
}

#[test]
fn deletion_gives_up_after_its_limit_and_says_what_stays() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.asked.delete = true;
    desk.wake();
    desk.fault(Transient::ConnectTimeout);
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!(said.deleting.map(|c| c.reason), Some("CleanupBlocked"));
    desk.pass(600);
    assert!(desk.stage.released());
    let said = summary(&desk.plan, &desk.stage);
    let cleanup = said.deleting.unwrap_or_else(|| panic!("not deleting"));
    assert_eq!((cleanup.reason, said.phase), ("Abandoned", Phase::Running));
    assert!(cleanup.message.contains("process 11"), "{}", cleanup.message);
}

#[test]
fn a_refused_launch_never_started() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    let launch = desk.launch();
    let Some(Action::Launch { entry, .. }) = launch.action else { panic!("no launch") };
    desk.see(Seen::Refused { entry, message: "rebooted".to_owned() });
    let fate = desk.stage.current.as_ref().map(|current| current.place.clone());
    assert_eq!(fate, Some(Place::Ended(Fate::NeverStarted)));
    assert_eq!(summary(&desk.plan, &desk.stage).reason, "HostChanged");
}

#[test]
fn a_stage_survives_its_text_and_holds_no_null() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.entry(EntrySeen::Wiped);
    desk.fault(Transient::ConnectTimeout);
    let text = serde_json::to_string(&desk.stage).unwrap_or_default();
    assert!(!text.contains("null"), "{text}");
    assert_eq!(serde_json::from_str::<Stage>(&text).ok(), Some(desk.stage.clone()));
    assert_eq!(
        serde_json::from_str::<Stage>(&text.replace("\"version\":1", "\"version\":2")).ok(),
        None
    );
    let place = desk.stage.current.map(|current| current.place);
    assert!(matches!(place, Some(Place::Fencing { loss: Loss::RecordWiped, .. })));
}

/// Guards against a retry that is given up because the attempt itself took longer than the
/// queue limit.
#[test]
fn an_attempt_lost_after_the_queue_limit_is_fenced_and_followed_by_another() {
    for class in CLASSES {
        let mut desk = Desk::running(class);
        desk.pass(2 * 3600);
        desk.entry(EntrySeen::Wiped);
        desk.with_tree(EntrySeen::Wiped, Tree::Empty);
        follows(&mut desk, class, Doubt::RecordWiped);
    }
}

/// Guards against a run that stays Unknown although the host has answered again.
#[test]
fn a_loss_found_after_a_long_silence_replaces_unknown_by_what_the_class_says() {
    for class in CLASSES {
        let mut desk = Desk::running(class);
        desk.fault(Transient::ConnectionLost);
        desk.pass(2 * 3600);
        assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::Unreachable)));
        desk.entry(EntrySeen::Wiped);
        desk.with_tree(EntrySeen::Wiped, Tree::Empty);
        follows(&mut desk, class, Doubt::RecordWiped);
    }
}

#[test]
fn a_check_lost_in_a_long_silence_is_fenced_and_made_again() {
    let mut desk = Desk::running(Idempotency::Verifiable);
    let record = desk.record(gone());
    desk.host(HostRecord { boot: "other".to_owned(), ..record });
    desk.at_ms += 5000;
    desk.launch();
    desk.fault(Transient::ConnectionLost);
    desk.pass(3600);
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::Unreachable)));
    let wiped = desk.entry(EntrySeen::Wiped);
    assert!(matches!(wiped.action, Some(Action::Terminate { .. })), "{:?}", wiped.action);
}

#[test]
fn a_first_check_in_doubt_is_a_failure_because_nothing_started() {
    let mut desk = Desk::of(Idempotency::Verifiable);
    desk.launch();
    desk.fault(Transient::ConnectionLost);
    desk.pass(3600);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::VerifyFailed)));
}

/// Guards against a changed spec that is run twice: by a retry and by the run it asks for.
#[test]
fn a_changed_spec_is_run_by_its_own_run_only() {
    let lost = |desk: &mut Desk| {
        let record = desk.record(gone());
        desk.host(HostRecord { boot: "other".to_owned(), ..record });
    };
    let changed = |desk: &mut Desk| {
        desk.asked.on_change = true;
        desk.asked.frozen_digest = "new".to_owned();
    };
    let mut backing_off = Desk::running(Idempotency::Idempotent);
    lost(&mut backing_off);
    changed(&mut backing_off);
    backing_off.wake();
    assert_eq!(backing_off.ending(), Some(Ending::Unknown(Doubt::LostByReboot)));
    backing_off.launch();
    assert_eq!((backing_off.stage.run, backing_off.stage.attempt), (2, 1));

    let mut retried = Desk::running(Idempotency::NonIdempotent);
    retried.entry(EntrySeen::Wiped);
    retried.asked.resolution = Some(Resolution { run: 1, attempt: 1, verdict: Verdict::Retry });
    retried.wake();
    changed(&mut retried);
    retried.with_tree(EntrySeen::Wiped, Tree::Empty);
    assert_eq!(retried.ending(), Some(Ending::Unknown(Doubt::RecordWiped)));
    retried.launch();
    assert_eq!((retried.stage.run, retried.stage.attempt), (2, 1));
}

fn channel(desk: &mut Desk, seen: DirectSeen) -> Decision {
    let Some(current) = &desk.stage.current else { panic!("nothing was launched") };
    let entry = current.entry.clone();
    desk.see(Seen::Direct { entry, seen })
}

/// Guards against "stopped" where only the second of two attempts was.
#[test]
fn a_stop_beside_an_attempt_that_may_be_alive_is_no_stop_of_the_run() {
    let overlapping = Direct { no_shell: false, forced_command: false, may_overlap: true };
    let stops: [fn(&mut Desk); 2] = [|desk| desk.asked.cancel = true, |desk| drop(desk.pass(3600))];
    for stop in stops {
        let mut desk = Desk::of(Idempotency::Idempotent);
        desk.plan.execution = Execution::Direct(overlapping.clone());
        desk.launch();
        channel(&mut desk, DirectSeen::Running);
        channel(&mut desk, DirectSeen::Lost);
        desk.at_ms += 5000;
        desk.launch();
        channel(&mut desk, DirectSeen::Running);
        stop(&mut desk);
        desk.wake();
        channel(&mut desk, DirectSeen::Exited(exit_from_channel(Err("TERM".to_owned()))));
        let said = summary(&desk.plan, &desk.stage);
        assert_eq!((said.reason.as_str(), said.stop_requested), ("ConnectionLost", true));
        assert_eq!(said.evidence, Some(Evidence::ConnectionLost));
    }
}

/// Guards against an entry of one kind of execution read by the other's rules.
#[test]
fn an_answer_of_the_other_kind_of_execution_says_nothing() {
    let mut direct = Desk::of(Idempotency::NonIdempotent);
    direct.plan.execution =
        Execution::Direct(Direct { no_shell: false, forced_command: false, may_overlap: false });
    direct.launch();
    channel(&mut direct, DirectSeen::Running);
    direct.entry(EntrySeen::Wiped);
    assert_eq!(direct.stage.current.as_ref().map(|c| c.place.clone()), Some(Place::Running));

    let mut recorded = Desk::running(Idempotency::NonIdempotent);
    channel(&mut recorded, DirectSeen::Lost);
    assert_eq!(recorded.stage.current.as_ref().map(|c| c.place.clone()), Some(Place::Running));
}

/// Guards against a launch of an entry on another host than the one it was prepared on.
#[test]
fn what_was_prepared_over_another_connection_is_prepared_anew() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.asked.connection = "a".to_owned();
    let Some(Action::Prepare { entry }) = desk.wake().action else { panic!("no Prepare") };
    desk.asked.connection = "b".to_owned();
    let identity = Identity {
        machine: "machine".to_owned(),
        boot: "boot".to_owned(),
        store: "store".to_owned(),
        uptime_ms: desk.uptime_ms,
        can_tell: true,
    };
    let connection = "a".to_owned();
    let next = desk.see(Seen::Prepared { entry, identity, connection });
    assert!(!matches!(next.action, Some(Action::Launch { .. })), "{:?}", next.action);
    assert!(matches!(desk.launch().action, Some(Action::Launch { .. })));
}

#[test]
fn the_grace_is_the_one_the_attempt_was_launched_with() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.plan.limits.termination = seconds(1);
    desk.asked.cancel = true;
    let Some(Action::Terminate { grace_ms, .. }) = desk.wake().action else { panic!("no stop") };
    assert_eq!(grace_ms, 30_000);
}

#[test]
fn while_deleting_phase_and_reason_stay_as_they_were() {
    let shown = |desk: &Desk| {
        let said = summary(&desk.plan, &desk.stage);
        (said.phase, said.reason, said.message, said.accepted, said.stalled)
    };
    let mut launching = Desk::of(Idempotency::NonIdempotent);
    launching.launch();
    let mut fenced = Desk::running(Idempotency::Idempotent);
    fenced.entry(EntrySeen::Wiped);
    for mut desk in [launching, fenced, Desk::running(Idempotency::NonIdempotent)] {
        let before = shown(&desk);
        desk.asked.delete = true;
        desk.wake();
        assert_eq!(shown(&desk), before);
        if desk.stage.current.as_ref().is_some_and(|c| c.place == Place::Launching) {
            desk.entry(EntrySeen::Revoked);
        } else {
            desk.with_tree(marked(StopReason::Deleted, None), Tree::Empty);
        }
        assert!(desk.stage.current.as_ref().is_some_and(|c| c.is_fenced()));
        assert_eq!(shown(&desk), before);
    }
}

#[test]
fn suspended_time_does_not_count_after_a_retry_either() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.asked.suspend = true;
    let record = desk.record(gone());
    desk.host(HostRecord { boot: "other".to_owned(), ..record });
    assert_eq!(summary(&desk.plan, &desk.stage).reason, "Suspended");
    desk.at_ms += 2 * 3600 * 1000;
    desk.asked.suspend = false;
    assert!(matches!(desk.wake().action, Some(Action::Prepare { .. })));
    desk.pass(3599);
    assert!(desk.ending().is_none());
    desk.pass(3);
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::LostByReboot)));
}

#[test]
fn cancel_during_a_fence_is_shown_as_stopping() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.entry(EntrySeen::Wiped);
    desk.asked.cancel = true;
    desk.wake();
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!((said.phase, said.reason.as_str()), (Phase::Running, "Stopping"));
}

#[test]
fn a_fence_before_a_retry_is_no_stop_that_was_asked_for() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.fault(Transient::ConnectionLost);
    desk.pass(3600);
    desk.asked.resolution = Some(Resolution { run: 1, attempt: 1, verdict: Verdict::Retry });
    desk.wake();
    desk.entry(alive());
    desk.fault(Transient::ConnectionLost);
    desk.pass(3601);
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!((said.reason.as_str(), said.stop_requested), ("PreviousAttemptUncertain", false));
    assert!(said.message.contains("was used and counts once"), "{}", said.message);
}

#[test]
fn a_retry_of_a_cancelled_run_is_answered_in_words() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.asked.cancel = true;
    desk.wake();
    desk.fault(Transient::ConnectionLost);
    desk.pass(3600);
    desk.asked.resolution = Some(Resolution { run: 1, attempt: 1, verdict: Verdict::Retry });
    desk.wake();
    desk.wake();
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!(said.phase, Phase::Unknown);
    assert_eq!(said.message.matches("not retried, because this run was cancelled").count(), 1);
}

#[test]
fn a_run_that_could_not_begin_is_resolved_as_attempt_0() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.plan.execution =
        Execution::Direct(Direct { no_shell: false, forced_command: false, may_overlap: false });
    if let Some(current) = &mut desk.stage.current {
        current.direct = true;
    }
    channel(&mut desk, DirectSeen::Lost);
    desk.asked.rerun_token = "again".to_owned();
    desk.wake();
    desk.pass(3600);
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::PreviousAttemptUncertain)));
    desk.asked.resolution = Some(Resolution { run: 2, attempt: 0, verdict: Verdict::Failed });
    desk.wake();
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::Resolved)));
    desk.asked.rerun_token = "once more".to_owned();
    desk.wake();
    assert!(matches!(desk.launch().action, Some(Action::Launch { .. })));
}

#[test]
fn a_host_that_does_not_look_for_what_is_left_is_believed_to_be_unable_to() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.entry(EntrySeen::Revoked);
    for _ in 0..2 {
        desk.pass(1);
        desk.entry(EntrySeen::Revoked);
    }
    assert!(matches!(desk.pass(31).action, Some(Action::Kill { .. })));
    desk.entry(EntrySeen::Revoked);
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::SurvivorsRemain)));
}

#[test]
fn checks_that_are_lost_again_and_again_are_made_less_and_less_often() {
    let mut desk = Desk::of(Idempotency::Verifiable);
    let mut waits = Vec::new();
    for boot in ["b", "c", "d", "e"] {
        desk.launch();
        let record = desk.record(gone());
        desk.host(HostRecord { boot: boot.to_owned(), ..record });
        let Some(until) = desk.stage.not_before else { panic!("no back-off") };
        let at = Timestamp::from_millisecond(1_000_000_000 + desk.at_ms).unwrap_or_default();
        waits.push(until.duration_since(at).as_secs());
        desk.at_ms += 60_000;
    }
    assert!(waits[3] > 2 * waits[0], "{waits:?}");
}

#[test]
fn an_attempt_is_said_to_be_on_the_host_it_was_launched_on() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.plan.host = "db-2".to_owned();
    assert_eq!(summary(&desk.plan, &desk.stage).message, "running on db-1");
    desk.entry(exited(3));
    assert_eq!(summary(&desk.plan, &desk.stage).message, "exit code 3 on db-1");
}

#[test]
fn deletion_names_an_attempt_that_another_was_allowed_beside() {
    let mut desk = Desk::of(Idempotency::Idempotent);
    desk.plan.execution =
        Execution::Direct(Direct { no_shell: false, forced_command: false, may_overlap: true });
    desk.launch();
    channel(&mut desk, DirectSeen::Running);
    channel(&mut desk, DirectSeen::Lost);
    desk.at_ms += 5000;
    desk.launch();
    channel(&mut desk, DirectSeen::Exited(exit_from_channel(Ok(0))));
    desk.asked.delete = true;
    desk.wake();
    let left = desk.stage.deleting.map(|deleting| deleting.abandoned).unwrap_or_default();
    assert_eq!(left, ["an attempt of run 1 may be alive on db-1"]);
}

#[test]
fn what_outlives_a_stop_is_not_said_to_be_left_running_on_purpose() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.asked.cancel = true;
    desk.wake();
    desk.with_tree(marked(StopReason::Cancelled, Some(0)), survivors());
    assert!(summary(&desk.plan, &desk.stage).left_running.is_empty());
}

#[test]
fn an_attempt_that_never_started_is_no_evidence_about_one_that_did() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    let record = desk.record(gone());
    desk.host(HostRecord { boot: "other".to_owned(), ..record });
    desk.at_ms += 5000;
    desk.launch();
    desk.asked.cancel = true;
    desk.wake();
    desk.entry(EntrySeen::Revoked);
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!((said.phase, said.evidence), (Phase::Unknown, Some(Evidence::LostByReboot)));
}

/// Guards against records left on a host that a RemoteHost had pointed to before.
#[test]
fn deletion_sweeps_the_stores_of_earlier_attempts_too_and_names_what_it_cannot() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.asked.connection = "old".to_owned();
    desk.launch();
    desk.entry(exited(0));
    desk.asked.connection = "new".to_owned();
    desk.asked.rerun_token = "again".to_owned();
    desk.plan.host = "db-2".to_owned();
    desk.wake();
    desk.machine = "machine-2".to_owned();
    desk.launch();
    desk.entry(exited(0));
    desk.asked.delete = true;
    let swept = |uid: &str| Seen::Swept { uid: uid.to_owned() };
    let mut over = Vec::new();
    for seen in [Seen::Nothing, swept("uid")] {
        let Some(sweep @ Action::Sweep { .. }) = desk.see(seen).action else { panic!("no sweep") };
        over.push(desk.stage.connection_for(&sweep, &desk.asked).to_owned());
        assert!(!desk.stage.released());
    }
    assert_eq!(over, ["new", "old"]);
    desk.see(swept("uid"));
    assert!(desk.stage.released());

    let mut gone = desk;
    gone.stage.deleting = None;
    gone.machine = "machine-3".to_owned();
    gone.asked.delete = false;
    gone.asked.rerun_token = "a third time".to_owned();
    gone.wake();
    gone.launch();
    gone.entry(exited(0));
    gone.asked.delete = true;
    gone.wake();
    gone.see(swept("uid"));
    gone.fault(Transient::ConnectTimeout);
    gone.pass(600);
    let left = gone.stage.deleting.map(|deleting| deleting.abandoned).unwrap_or_default();
    assert_eq!(left, ["earlier records of uid stay on db-2"]);
}
