//! New runs, a changed spec, and a person's word.

use remote_command::core::action::{Action, StopReason};
use remote_command::core::fault::Transient;
use remote_command::core::outcome::{Doubt, Ending, Failure};
use remote_command::core::phase::{Phase, summary};
use remote_command::core::plan::{Direct, Execution, Idempotency, Resolution, Verdict};
use remote_command::core::record::{DirectSeen, EntrySeen, HostRecord, Tree};

use crate::desk::{Desk, alive, channel, gone};

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

/// Guards against a rerunToken that seems to do nothing: the cancel of an earlier run still stands.
#[test]
fn a_run_that_is_asked_for_while_cancel_is_true_says_what_to_do() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.asked.suspend = true;
    desk.wake();
    let mut cancelled = |token: &str, cancel: bool| {
        desk.asked.rerun_token = token.to_owned();
        desk.asked.cancel = cancel;
        desk.pass(1);
        desk.asked.cancel = true;
        desk.pass(1);
        assert_eq!(desk.ending(), Some(Ending::Failed(Failure::Cancelled)));
        (desk.stage.run, summary(&desk.plan, &desk.stage).message)
    };
    assert_eq!(cancelled("", false), (1, "cancelled before it started".to_owned()));
    let (run, message) = cancelled("again", true);
    assert_eq!(run, 2);
    assert!(message.contains("spec.cancel was true when this run was asked for"), "{message}");
    assert!(message.contains("give a new rerunToken"), "{message}");
    assert_eq!(cancelled("once more", false), (3, "cancelled before it started".to_owned()));
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
