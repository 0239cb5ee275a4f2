//! What each evidence means for each class.

use remote_command::core::action::{Action, StopReason};
use remote_command::core::fault::{Cause, Standing, Transient};
use remote_command::core::outcome::{Doubt, Ending, Evidence, Failure, Success};
use remote_command::core::phase::{Phase, summary};
use remote_command::core::plan::Idempotency;
use remote_command::core::record::{EntrySeen, HostRecord, Tree};

use crate::desk::{CLASSES, Desk, alive, exited, follows, gone, marked};

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
fn a_silence_is_told_in_the_latest_words_where_somebody_has_to_mend_something() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    for (cause, words, told) in [
        (Cause::from(Transient::ConnectTimeout), "in 9.8s", "in 9.8s"),
        (Transient::ConnectTimeout.into(), "in 9.9s", "in 9.8s"),
        (Standing::HostKeyMismatch.into(), "key A", "key A"),
        (Standing::HostKeyMismatch.into(), "key B", "key B"),
    ] {
        desk.at_ms += 1000;
        desk.fault_saying(cause, words);
        let said = summary(&desk.plan, &desk.stage).message;
        assert_eq!(said, format!("db-1 cannot be asked: {told}"));
    }
    let uncertain = desk.stage.current.and_then(|current| current.uncertain);
    let began = uncertain.map(|uncertain| uncertain.since.as_millisecond());
    assert_eq!(began, Some(1_000_001_000), "the silence began with its first fault");
}

#[test]
fn another_machine_at_the_address_is_no_evidence() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    desk.fault(Transient::WrongHost);
    desk.pass(3600);
    assert_eq!(desk.ending(), Some(Ending::Unknown(Doubt::WrongHost)));
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
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!(said.evidence, Some(Evidence::NeverStarted));
    assert!(said.message.ends_with("the command was not started"), "{}", said.message);
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

/// Guards against a launch that wins an entry which a late Prepare has made anew.
#[test]
fn an_entry_that_was_claimed_and_is_free_was_wiped_and_is_revoked_before_it_counts_as_gone() {
    let mut desk = Desk::running(Idempotency::Idempotent);
    let fence = desk.entry(EntrySeen::Unclaimed);
    assert!(matches!(fence.action, Some(Action::Terminate { .. })), "{:?}", fence.action);
    let free = desk.with_tree(EntrySeen::Unclaimed, Tree::Empty);
    assert!(matches!(free.action, Some(Action::Revoke { .. })), "{:?}", free.action);
    desk.entry(EntrySeen::Revoked);
    desk.with_tree(EntrySeen::Revoked, Tree::Empty);
    follows(&mut desk, Idempotency::Idempotent, Doubt::RecordWiped);
}
