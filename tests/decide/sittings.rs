//! What a new sitting means for a run that has no end: a word to try again at once.

use jiff::Timestamp;
use remote_command::core::action::Action;
use remote_command::core::fault::{Cause, Standing, Transient};
use remote_command::core::outcome::{Ending, Failure};
use remote_command::core::phase::summary;
use remote_command::core::plan::{Hold, HoldKind, Idempotency};
use remote_command::core::record::EntrySeen;
use remote_command::core::sitting::Sitting;

use crate::desk::{Desk, alive, exited, seconds};

fn at(desk: &Desk) -> Timestamp {
    Timestamp::from_millisecond(1_000_000_000 + desk.at_ms).unwrap()
}

/// Begins a sitting now, of which the one before was at work until `left` seconds ago.
fn sit_down(desk: &mut Desk, left: i64) {
    let began = at(desk);
    let left = began.checked_sub(jiff::SignedDuration::from_secs(left)).unwrap();
    desk.asked.sitting = Some(Sitting { began, left: Some(left) });
}

fn tries(desk: &mut Desk) -> bool {
    matches!(desk.wake().action, Some(Action::Prepare { .. }))
}

/// A first sitting, whose launch waits on a fault.
fn faulty(cause: impl Into<Cause>) -> Desk {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    sit_down(&mut desk, 0);
    assert!(tries(&mut desk));
    desk.fault(cause);
    desk
}

/// Guards against the reason of an earlier day, told without asking anybody.
#[test]
fn a_standing_fault_is_looked_at_anew_in_each_sitting_and_left_alone_within_one() {
    for standing in [
        Standing::AuthenticationRejected,
        Standing::HostKeyMismatch,
        Standing::HostKeyUnknown,
        Standing::CredentialsInvalid,
        Standing::HostUnusable,
        Standing::ForcedCommand,
    ] {
        let mut desk = faulty(standing);
        desk.at_ms += 100;
        assert!(!tries(&mut desk), "{standing:?}");
        sit_down(&mut desk, 0);
        assert!(tries(&mut desk), "{standing:?}");
        assert_eq!(summary(&desk.plan, &desk.stage).reason, "Connecting", "{standing:?}");
    }
}

#[test]
fn a_hold_of_an_earlier_sitting_is_not_told_again() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    sit_down(&mut desk, 0);
    let (reason, message) = ("SecretNotFound".to_owned(), "m".to_owned());
    desk.asked.hold = Some(Hold { kind: HoldKind::Missing, reason, message });
    desk.wake();
    desk.pass(300);
    assert!(desk.stage.waiting.as_ref().unwrap().overdue);
    desk.asked.hold = None;
    sit_down(&mut desk, 0);
    assert!(tries(&mut desk));
    assert!(desk.stage.waiting.is_none());
}

#[test]
fn the_queue_clock_leaves_out_the_time_in_which_nobody_was_at_work() {
    let mut desk = faulty(Transient::ConnectionRefused);
    desk.plan.limits.queue = seconds(100);
    // Sixty seconds at work, a day away.
    desk.at_ms += 60_000 + 86_400_000;
    sit_down(&mut desk, 86_400);
    assert!(tries(&mut desk));
    desk.fault(Transient::ConnectionRefused);
    desk.pass(39);
    assert_eq!(desk.ending(), None);
    desk.pass(1);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::ConnectionRefused)));
}

/// Guards against an end at a limit by a sitting that was begun with the right key at last.
#[test]
fn a_sitting_tries_once_however_little_is_left_of_the_queue_limit() {
    let used_up = || {
        let mut desk = faulty(Standing::AuthenticationRejected);
        desk.plan.limits.queue = seconds(1);
        desk.at_ms += 5_000;
        sit_down(&mut desk, 0);
        desk
    };
    let mut mended = used_up();
    assert!(matches!(mended.launch().action, Some(Action::Launch { .. })));
    mended.entry(alive());
    mended.entry(exited(0));
    assert!(matches!(mended.ending(), Some(Ending::Succeeded(_))));

    let mut worse = used_up();
    assert!(tries(&mut worse));
    worse.fault(Standing::HostKeyMismatch);
    assert_eq!(worse.ending(), Some(Ending::Failed(Failure::HostKeyMismatch)));
}

#[test]
fn a_back_off_ends_with_the_next_sitting_and_not_within_one() {
    let mut desk = Desk::of(Idempotency::Idempotent);
    desk.plan.retry.exit_codes = vec![75];
    desk.plan.retry.initial = seconds(600);
    desk.plan.retry.max = seconds(600);
    sit_down(&mut desk, 0);
    desk.launch();
    desk.entry(exited(75));
    assert!(!tries(&mut desk));
    desk.at_ms += 1_000;
    assert!(!tries(&mut desk));
    sit_down(&mut desk, 1);
    assert!(tries(&mut desk));
    assert_eq!(desk.stage.starts, 1);
}

#[test]
fn a_run_of_which_nothing_was_launched_is_made_from_what_is_wanted_now() {
    let mut desk = faulty(Standing::AuthenticationRejected);
    desk.asked.frozen_digest = "mended".to_owned();
    desk.wake();
    assert_eq!(desk.stage.frozen_digest, "");
    desk.at_ms += 10;
    sit_down(&mut desk, 0);
    desk.wake();
    assert_eq!(desk.stage.frozen_digest, "mended");

    let mut launched = Desk::of(Idempotency::NonIdempotent);
    sit_down(&mut launched, 0);
    launched.launch();
    launched.at_ms += 10;
    launched.asked.frozen_digest = "another".to_owned();
    sit_down(&mut launched, 0);
    launched.wake();
    assert_eq!(launched.stage.frozen_digest, "", "it may have started");
}

#[test]
fn a_sitting_costs_a_run_under_way_one_save_and_an_ended_one_none() {
    let mut desk = Desk::running(Idempotency::NonIdempotent);
    let saves = desk.saves;
    sit_down(&mut desk, 60);
    assert!(matches!(desk.wake().action, Some(Action::Probe { .. })));
    desk.entry(alive());
    assert_eq!(desk.saves, saves + 1);
    desk.entry(exited(0));
    let saves = desk.saves;
    desk.at_ms += 10;
    sit_down(&mut desk, 0);
    desk.wake();
    assert_eq!(desk.saves, saves);
    assert_ne!(desk.ending(), None);
    // A revoked entry is tried again in the sitting that saw it revoked.
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    sit_down(&mut desk, 0);
    desk.launch();
    desk.pass(5);
    desk.entry(EntrySeen::Revoked);
    assert!(!tries(&mut desk), "its back-off is not ended by its own sitting");
}
