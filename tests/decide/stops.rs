//! Stops, fences and deletion: how they go on, and when they are over.

use remote_command::core::action::{Action, StopReason};
use remote_command::core::decide::Decision;
use remote_command::core::fault::Transient;
use remote_command::core::outcome::{Doubt, Ending, Evidence, Failure, Success};
use remote_command::core::phase::{Phase, summary};
use remote_command::core::plan::{Direct, Execution, Idempotency};
use remote_command::core::record::{
    Claimed, DirectSeen, EntrySeen, HostRecord, Life, Tree, exit_from_channel, parse_exit,
};
use remote_command::core::stage::Place;

use crate::desk::{
    CLASSES, Desk, alive, channel, claimed, exited, follows, marked, seconds, survivors, swept,
};

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

/// What the host says of a tree that was cancelled and is gone, by its supervisor's life, its
/// exit and whether its output has ended.
fn cancelled(desk: &mut Desk, supervisor: Life, exit: Option<u32>, drained: bool) -> Decision {
    let exit = exit.map(|code| exit_from_channel(Ok(code)));
    let stop = Some(StopReason::Cancelled);
    let entry = EntrySeen::Claimed(Claimed { exit, stop, ..claimed(supervisor, Life::Gone) });
    let mut record = HostRecord { tree: Tree::Empty, ..desk.record(entry) };
    record.output.stdout.ended = drained;
    desk.host(record)
}

/// Cancelled, and the signal is about to be sent.
fn cancelling() -> Desk {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.asked.cancel = true;
    assert!(matches!(desk.wake().action, Some(Action::Terminate { .. })));
    desk
}

fn exit_code(desk: &Desk) -> Option<i32> {
    desk.stage.outcome.as_ref().and_then(|outcome| outcome.exit_code)
}

const STOPPED: Option<Ending> = Some(Ending::Failed(Failure::Cancelled));

/// Guards against an exit code and last lines that are lost: whoever writes them outlives the
/// tree by a moment.
#[test]
fn a_stop_is_over_with_the_exit_record_and_the_end_of_the_output() {
    let mut desk = cancelling();
    let first = cancelled(&mut desk, Life::Alive, None, false);
    assert_eq!((desk.ending(), first.action), (None, None));
    let soon = first.wake.unwrap().as_millisecond() - 1_000_000_000 - desk.at_ms;
    assert_eq!(soon, 100, "it is a moment");
    assert_eq!(desk.stage.current.as_ref().unwrap().evidence(), Some(Evidence::Finishing));
    assert!(matches!(desk.wake().action, Some(Action::Probe { .. })));
    cancelled(&mut desk, Life::Alive, Some(3), false);
    assert_eq!(desk.ending(), None, "its drains are at work");
    cancelled(&mut desk, Life::Gone, Some(3), true);
    assert_eq!((desk.ending(), exit_code(&desk)), (STOPPED, Some(3)));
}

#[test]
fn the_end_of_a_stopped_commands_output_is_waited_for_two_seconds_after_the_tree_was_gone() {
    let mut desk = cancelling();
    desk.pass(20);
    cancelled(&mut desk, Life::Gone, Some(3), false);
    assert_eq!(desk.ending(), None, "what was left in the tree wrote until now");
    desk.pass(1);
    cancelled(&mut desk, Life::Gone, Some(3), false);
    assert_eq!(desk.ending(), None);
    desk.pass(1);
    cancelled(&mut desk, Life::Gone, Some(3), false);
    assert_eq!((desk.ending(), exit_code(&desk)), (STOPPED, Some(3)));
}

#[test]
fn an_exit_record_that_a_living_supervisor_cannot_write_is_waited_for_five_seconds() {
    let mut desk = cancelling();
    cancelled(&mut desk, Life::Alive, None, true);
    desk.pass(4);
    cancelled(&mut desk, Life::Alive, None, true);
    assert_eq!(desk.ending(), None);
    desk.pass(1);
    cancelled(&mut desk, Life::Alive, None, true);
    assert_eq!((desk.ending(), exit_code(&desk)), (STOPPED, None));
}

#[test]
fn a_stop_without_a_supervisor_waits_for_no_exit_record() {
    let mut desk = cancelling();
    cancelled(&mut desk, Life::Gone, None, true);
    assert_eq!((desk.ending(), exit_code(&desk)), (STOPPED, None));
}

#[test]
fn what_is_found_alive_after_all_is_ended_before_a_stop_is_over() {
    let mut desk = cancelling();
    cancelled(&mut desk, Life::Alive, None, false);
    let mark = EntrySeen::Claimed(Claimed {
        stop: Some(StopReason::Cancelled),
        ..claimed(Life::Alive, Life::Gone)
    });
    desk.with_tree(mark, survivors());
    assert!(matches!(desk.pass(31).action, Some(Action::Kill { .. })));
    cancelled(&mut desk, Life::Alive, None, true);
    assert_eq!(desk.ending(), None, "the wait begins anew");
    assert!(matches!(desk.wake().action, Some(Action::Probe { .. })), "there is nobody to kill");
    cancelled(&mut desk, Life::Gone, Some(3), true);
    assert_eq!((desk.ending(), exit_code(&desk)), (STOPPED, Some(3)));
}

/// Guards against doubt about a tree that was seen gone, and against killing what is not there.
#[test]
fn what_becomes_of_the_host_after_the_tree_was_gone_leaves_a_stop_a_stop() {
    let wiped: fn(&mut Desk) = |desk| drop(desk.entry(EntrySeen::Wiped));
    let rebooted: fn(&mut Desk) = |desk| {
        let record = desk.record(EntrySeen::Unclaimed);
        desk.host(HostRecord { boot: "another".to_owned(), ..record });
    };
    let silent: fn(&mut Desk) = |desk| {
        desk.fault(Transient::ConnectTimeout);
        desk.pass(3599);
        assert_eq!(desk.ending(), None, "the exit record may still be read");
        assert!(desk.stage.current.as_ref().unwrap().stop().unwrap().killed.is_none());
        desk.pass(1);
    };
    for happens in [wiped, rebooted, silent] {
        let mut desk = cancelling();
        cancelled(&mut desk, Life::Alive, None, false);
        happens(&mut desk);
        assert_eq!((desk.ending(), exit_code(&desk)), (STOPPED, None));
    }
}

#[test]
fn a_snapshot_may_bring_back_what_was_seen_gone() {
    let mut desk = cancelling();
    cancelled(&mut desk, Life::Alive, None, false);
    desk.uptime_ms -= 500_000;
    desk.entry(EntrySeen::Unclaimed);
    assert_eq!(desk.ending(), None);
    assert!(matches!(desk.stage.current.as_ref().unwrap().place, Place::Fencing { .. }));
}

#[test]
fn a_stop_of_a_wiped_entry_waits_for_nothing() {
    let mut desk = cancelling();
    desk.with_tree(EntrySeen::Wiped, Tree::Empty);
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::RecordWiped)));
}

/// Guards against last lines that are lost because a cancel came a moment after the end.
#[test]
fn an_exit_before_the_stop_mark_waits_for_its_output_too() {
    let mut desk = cancelling();
    let exit = parse_exit(&format!("t 0 - ran {} - t 0 .", desk.uptime_ms), "t");
    let entry = EntrySeen::Claimed(Claimed { exit, ..claimed(Life::Gone, Life::Gone) });
    let mut record = desk.record(entry.clone());
    record.output.stdout.ended = false;
    desk.host(record);
    assert_eq!(desk.ending(), None);
    desk.entry(entry);
    assert_eq!(desk.ending(), Some(Ending::Succeeded(Success::Completed)));
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
    let unwatched = Claimed { watch: Life::Gone, ..claimed(Life::Alive, Life::Alive) };
    let stop = desk.entry(EntrySeen::Claimed(unwatched));
    let Some(Action::Terminate { reason, .. }) = stop.action else { panic!("{:?}", stop.action) };
    assert_eq!(reason, StopReason::ExecutionTimeout);
}

#[test]
fn time_that_a_host_was_suspended_is_left_to_its_own_deadline() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.pass(3600 + 31);
    assert!(desk.entry(alive()).action.is_none());
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
    desk.see(swept("machine"));
    assert!(desk.stage.released());
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

/// Guards against a second end told of a channel that we closed ourselves.
#[test]
fn a_direct_command_that_could_not_be_stopped_stays_what_it_was_said_to_be() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.plan.execution =
        Execution::Direct(Direct { no_shell: false, forced_command: false, may_overlap: false });
    desk.launch();
    channel(&mut desk, DirectSeen::Running);
    desk.asked.cancel = true;
    desk.wake();
    channel(&mut desk, DirectSeen::Running);
    desk.pass(31);
    desk.wake();
    channel(&mut desk, DirectSeen::Running);
    let told = summary(&desk.plan, &desk.stage);
    assert_eq!((told.reason.as_str(), told.stop_requested), ("SurvivorsRemain", true));
    desk.pass(10);
    channel(&mut desk, DirectSeen::Lost);
    let now = summary(&desk.plan, &desk.stage);
    assert_eq!((now.reason, now.message, now.stop_requested), (told.reason, told.message, true));
    // The word of a person is all there ever is; and deletion does not wait for more.
    desk.asked.delete = true;
    desk.wake();
    channel(&mut desk, DirectSeen::Lost);
    assert!(desk.stage.released());
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
fn cancel_during_a_fence_is_shown_as_stopping() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.entry(EntrySeen::Wiped);
    desk.asked.cancel = true;
    desk.wake();
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!((said.phase, said.reason.as_str()), (Phase::Running, "Stopping"));
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
