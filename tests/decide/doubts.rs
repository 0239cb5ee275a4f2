//! Runs that wait behind an attempt in doubt, and runs that were shown as over in doubt.

use remote_command::core::action::{Action, StopReason};
use remote_command::core::fault::Transient;
use remote_command::core::outcome::{Doubt, Ending, Evidence, Failure, Success};
use remote_command::core::phase::{Phase, Summary, Truth, summary};
use remote_command::core::plan::{Direct, Execution, Idempotency, Resolution, Verdict};
use remote_command::core::record::{Claimed, DirectSeen, EntrySeen, Life, Tree};

use crate::desk::{
    CLASSES, Desk, alive, channel, claimed, exited, follows, marked, seconds, survivors,
};

const SILENT: Transient = Transient::ConnectionLost;

fn said(desk: &Desk) -> Summary {
    summary(&desk.plan, &desk.stage)
}

fn is_waiting(desk: &Desk) -> bool {
    let said = said(desk);
    let shown = (said.phase, said.reason.as_str(), said.finished);
    shown == (Phase::Pending, "PreviousAttemptUncertain", Truth::False)
}

/// The run under way ends in silence, within a tenth of its queue limit.
fn lose(desk: &mut Desk) {
    desk.plan.limits.resolve = seconds(360);
    desk.fault(SILENT);
    desk.pass(360);
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::Unreachable)));
}

fn lost(class: Idempotency) -> Desk {
    let mut desk = Desk::running(class);
    lose(&mut desk);
    desk
}

fn say(desk: &mut Desk, verdict: Verdict) -> Option<Action> {
    let (run, attempt) = (desk.stage.run, desk.stage.attempt);
    desk.asked.resolution = Some(Resolution { run, attempt, verdict });
    desk.wake().action
}

/// Nothing is prepared, however long it is waited for.
fn stays(desk: &mut Desk, ending: Ending) {
    for _ in 0..5 {
        let next = desk.pass(600).action;
        let launches = matches!(next, Some(Action::Prepare { .. } | Action::Launch { .. }));
        assert!(!launches, "{next:?}");
        assert_eq!(desk.ending(), Some(ending));
    }
}

/// Guards against a run that is Finished at once, and launched when the host comes back.
#[test]
fn a_new_run_waits_for_a_silent_host_until_its_queue_limit_and_then_never_started() {
    for class in CLASSES {
        let mut desk = lost(class);
        desk.asked.rerun_token = "again".to_owned();
        desk.wake();
        for _ in 0..4 {
            assert!(is_waiting(&desk), "{class:?}: {:?}", said(&desk));
            desk.fault(SILENT);
            desk.pass(899);
        }
        assert!(said(&desk).message.starts_with("db-1 does not answer"));
        desk.pass(4);
        assert_eq!(desk.ending(), Some(Ending::Failed(Failure::QueueTimeout)), "{class:?}");
        assert_eq!(said(&desk).evidence, Some(Evidence::NeverStarted));
        assert_eq!((desk.stage.run, desk.stage.attempt), (2, 0));
        desk.entry(exited(0));
        stays(&mut desk, Ending::Failed(Failure::QueueTimeout));
    }
}

#[test]
fn a_new_run_starts_once_the_host_has_answered_for_the_earlier_one() {
    for class in CLASSES {
        let mut desk = lost(class);
        desk.asked.rerun_token = "again".to_owned();
        desk.wake();
        desk.pass(1000);
        let fence = desk.entry(alive()).action;
        let stop = StopReason::Fenced;
        assert!(matches!(fence, Some(Action::Terminate { reason, .. }) if reason == stop));
        let next = desk.with_tree(marked(stop, None), Tree::Empty).action;
        assert!(matches!(next, Some(Action::Prepare { .. })), "{class:?}: {next:?}");
        assert_eq!(desk.stage.run, 2);
    }
}

/// Guards against a Retry that was given up, and carried out when the host came back.
#[test]
fn a_persons_retry_waits_for_a_silent_host_as_long_as_resolve_and_is_used_up_then() {
    for class in CLASSES {
        let mut desk = lost(class);
        say(&mut desk, Verdict::Retry);
        desk.fault(SILENT);
        desk.pass(359);
        assert!(is_waiting(&desk), "{class:?}: {:?}", said(&desk));
        desk.pass(1);
        let doubt = Ending::Unknown(Doubt::PreviousAttemptUncertain);
        assert_eq!(desk.ending(), Some(doubt), "{class:?}");
        assert!(said(&desk).message.contains("was used and counts once"));
        // What it finds then is followed to its end, as if nobody had said anything.
        let next = desk.entry(alive()).action;
        assert!(matches!(next, None | Some(Action::Probe { .. })), "{class:?}: {next:?}");
        assert_eq!(said(&desk).reason, "Running", "{class:?}");
        desk.entry(exited(0));
        assert_eq!(desk.ending(), Some(Ending::Succeeded(Success::Completed)), "{class:?}");
    }
}

#[test]
fn a_fence_that_was_begun_for_a_retry_and_given_up_leaves_it_to_the_class() {
    for class in CLASSES {
        let mut desk = lost(class);
        say(&mut desk, Verdict::Retry);
        let stop = Some(StopReason::Fenced);
        let told = Claimed { stop, ..claimed(Life::Alive, Life::Alive) };
        desk.with_tree(EntrySeen::Claimed(told), survivors());
        desk.fault(SILENT);
        desk.pass(360);
        let doubt = Doubt::PreviousAttemptUncertain;
        assert_eq!(desk.ending(), Some(Ending::Unknown(doubt)), "{class:?}");
        desk.with_tree(marked(StopReason::Fenced, None), Tree::Empty);
        follows(&mut desk, class, doubt);
        if class == Idempotency::NonIdempotent {
            assert!(said(&desk).message.contains("was used and counts once"));
            stays(&mut desk, Ending::Unknown(doubt));
        }
    }
}

#[test]
fn a_retry_after_a_loss_waits_for_a_silent_host_as_long_as_resolve() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.entry(EntrySeen::Wiped);
    desk.pass(600);
    desk.fault(SILENT);
    desk.pass(2999);
    assert!(is_waiting(&desk), "{:?}", said(&desk));
    desk.pass(1);
    let doubt = Doubt::PreviousAttemptUncertain;
    assert_eq!(desk.ending(), Some(Ending::Unknown(doubt)), "an hour after the loss");
    // The class may be repeated, and goes on with what the host says in the end.
    desk.with_tree(EntrySeen::Wiped, Tree::Empty);
    follows(&mut desk, Idempotency::Idempotent, doubt);
}

#[test]
fn what_is_found_never_to_have_started_after_the_end_was_shown_is_launched_by_class() {
    for class in [Idempotency::Idempotent, Idempotency::NonIdempotent] {
        let mut desk = Desk::of(class);
        desk.launch();
        lose(&mut desk);
        let free = desk.entry(EntrySeen::Unclaimed);
        assert!(matches!(free.action, Some(Action::Revoke { .. })), "{:?}", free.action);
        if class == Idempotency::NonIdempotent {
            let unknown = Some(Ending::Unknown(Doubt::Unreachable));
            assert_eq!(desk.ending(), unknown, "a free claim proves nothing");
        }
        desk.entry(EntrySeen::Revoked);
        if class == Idempotency::NonIdempotent {
            assert_eq!(said(&desk).evidence, Some(Evidence::NeverStarted));
            stays(&mut desk, Ending::Failed(Failure::QueueTimeout));
        } else {
            follows(&mut desk, class, Doubt::Unreachable);
        }
    }
}

#[test]
fn a_cancel_of_a_launch_in_doubt_is_a_cancel_when_the_host_answers() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.launch();
    lose(&mut desk);
    desk.asked.cancel = true;
    desk.wake();
    desk.entry(EntrySeen::Revoked);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::Cancelled)));
}

/// Guards against a run that is over, under way for a moment, and over again.
#[test]
fn a_kill_that_is_due_while_the_host_is_silent_takes_no_doubt_back() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    desk.plan.limits.resolve = seconds(10);
    desk.asked.cancel = true;
    desk.wake();
    let stop = Some(StopReason::Cancelled);
    let told = Claimed { stop, ..claimed(Life::Alive, Life::Alive) };
    desk.with_tree(EntrySeen::Claimed(told), survivors());
    desk.fault(SILENT);
    desk.pass(10);
    for _ in 0..3 {
        assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::Unreachable)));
        desk.pass(15);
    }
}

#[test]
fn survivors_of_the_earlier_run_end_the_next_one_and_their_end_does_not_launch_it() {
    for class in CLASSES {
        let mut desk = lost(class);
        desk.asked.rerun_token = "again".to_owned();
        desk.wake();
        desk.entry(alive());
        desk.with_tree(marked(StopReason::Fenced, None), survivors());
        desk.pass(31);
        desk.with_tree(marked(StopReason::Fenced, None), survivors());
        let doubt = Ending::Unknown(Doubt::SurvivorsRemain);
        assert_eq!(desk.ending(), Some(doubt), "{class:?}");
        desk.with_tree(marked(StopReason::Fenced, None), Tree::Empty);
        stays(&mut desk, doubt);
        assert!(said(&desk).message.contains("this run has started nothing"));
        let next = say(&mut desk, Verdict::Retry);
        assert!(matches!(next, Some(Action::Prepare { .. })), "{class:?}: {next:?}");
        assert_eq!((desk.stage.run, desk.stage.attempt), (2, 0));
    }
}

/// Guards against a word, or a new run, that ends as soon as it begins: for a limit that ran out
/// before it.
#[test]
fn an_exit_that_never_comes_is_ended_for_a_retry_and_for_a_new_run() {
    let wishes: [fn(&mut Desk); 2] = [
        |desk| drop(say(desk, Verdict::Retry)),
        |desk| {
            desk.asked.rerun_token = "again".to_owned();
            desk.wake();
        },
    ];
    for wish in wishes {
        let mut desk = Desk::running(Idempotency::NonIdempotent);
        let finishing = || EntrySeen::Claimed(claimed(Life::Alive, Life::Gone));
        desk.entry(finishing());
        desk.pass(3600);
        assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::LostNoRecord)));
        wish(&mut desk);
        assert!(is_waiting(&desk), "{:?}", said(&desk));
        let next = desk.with_tree(marked(StopReason::Fenced, None), Tree::Empty).action;
        assert!(matches!(next, Some(Action::Prepare { .. })), "{next:?}");
    }
}

#[test]
fn a_retry_beside_a_lost_channel_waits_as_long_as_resolve_for_what_nobody_can_tell() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.plan.limits.resolve = seconds(360);
    desk.plan.execution =
        Execution::Direct(Direct { no_shell: false, forced_command: false, may_overlap: false });
    desk.launch();
    channel(&mut desk, DirectSeen::Running);
    channel(&mut desk, DirectSeen::Lost);
    say(&mut desk, Verdict::Retry);
    assert!(is_waiting(&desk), "{:?}", said(&desk));
    desk.pass(360);
    let doubt = Ending::Unknown(Doubt::PreviousAttemptUncertain);
    stays(&mut desk, doubt);
    assert!(said(&desk).message.contains("only a person can say"), "{}", said(&desk).message);
}
