//! What is launched, when, how often, and what keeps it waiting.

use jiff::Timestamp;
use remote_command::core::action::{Action, Refusal, Seen, StopReason};
use remote_command::core::fault::{Cause, Fault, Standing, Transient};
use remote_command::core::outcome::{Doubt, Ending, Evidence, Failure, Fate, Loss, Success};
use remote_command::core::phase::{Phase, Truth, summary};
use remote_command::core::plan::{Direct, Execution, Hold, HoldKind, Idempotency};
use remote_command::core::record::{DirectSeen, EntrySeen, HostRecord, Identity, Tree};
use remote_command::core::stage::{Place, Stage};

use crate::desk::{CLASSES, Desk, alive, channel, exited, follows, gone, marked, seconds};

fn direct() -> Execution {
    Execution::Direct(Direct { no_shell: false, forced_command: false, may_overlap: false })
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

/// Guards against a forced command that is run at every look, and against one that is believed
/// after somebody asked.
#[test]
fn a_forced_command_is_looked_at_hourly_and_when_somebody_asks() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.plan.limits.queue = seconds(5 * 3600);
    desk.wake();
    desk.fault(Standing::ForcedCommand);
    for since in [0, 60] {
        assert!(desk.pass(3599 - since).action.is_none());
        assert!(matches!(desk.pass(1).action, Some(Action::Prepare { .. })));
        desk.fault(Standing::ForcedCommand);
        assert!(desk.pass(60).action.is_none(), "the moment lasts for a minute");
        desk.asked.poke.push('x');
        assert!(matches!(desk.wake().action, Some(Action::Prepare { .. })), "it is asked for");
        desk.fault(Standing::ForcedCommand);
        assert!(desk.wake().action.is_none(), "once for a word");
    }
}

/// Guards against a disk that was full for a moment and held commands for five minutes.
#[test]
fn what_only_the_host_can_mend_is_looked_at_again_each_minute_and_other_standing_faults_rarely() {
    for (fault, pace) in [(Standing::HostUnusable, 60), (Standing::HostKeyMismatch, 300)] {
        let mut desk = Desk::of(Idempotency::NonIdempotent);
        desk.wake();
        desk.fault(fault);
        for round in 0..2 {
            assert!(desk.pass(pace - 1).action.is_none(), "{fault:?} in round {round}");
            let decision = desk.pass(1);
            assert!(matches!(decision.action, Some(Action::Prepare { .. })), "{fault:?}");
            desk.fault(fault);
            // The moment lasts for a fifth of the pace.
            desk.at_ms += pace * 200;
            assert!(desk.wake().action.is_none(), "{fault:?} in round {round}");
            desk.at_ms -= pace * 200;
        }
    }
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

/// Guards against the words of what was mended meanwhile, and against a write for every try.
#[test]
fn what_a_launch_waits_on_is_said_in_the_latest_words_that_cost_no_write_for_each_try() {
    let said = |desk: &Desk| summary(&desk.plan, &desk.stage).message;
    let mut passing = Desk::of(Idempotency::NonIdempotent);
    passing.wake();
    passing.fault_saying(Transient::ConnectTimeout, "10.0.0.1 in 9.8s");
    let saves = passing.saves;
    passing.fault_saying(Transient::ConnectTimeout, "10.0.0.1 in 9.9s");
    assert_eq!((said(&passing).as_str(), passing.saves), ("10.0.0.1 in 9.8s", saves));
    passing.asked.poke = "another address".to_owned();
    passing.fault_saying(Transient::ConnectTimeout, "10.0.0.2 in 9.7s");
    assert_eq!((said(&passing).as_str(), passing.saves), ("10.0.0.2 in 9.7s", saves + 1));

    let mut standing = Desk::of(Idempotency::NonIdempotent);
    standing.wake();
    standing.fault_saying(Standing::HostKeyMismatch, "key A");
    let (since, saves) = (standing.stage.waiting.as_ref().map(|w| w.since), standing.saves);
    standing.pass(300);
    standing.fault_saying(Standing::HostKeyMismatch, "key A");
    assert_eq!(standing.saves, saves, "the same is no change");
    standing.fault_saying(Standing::HostKeyMismatch, "key B");
    assert_eq!((said(&standing).as_str(), standing.saves), ("key B", saves + 1));
    assert_eq!(standing.stage.waiting.map(|w| w.since), since, "it has not begun anew");
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
fn a_refused_launch_never_started() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    let launch = desk.launch();
    let Some(Action::Launch { entry, .. }) = launch.action else { panic!("no launch") };
    desk.see(Seen::Refused { entry, why: Refusal::HostChanged("rebooted".to_owned()) });
    let fate = desk.stage.current.as_ref().map(|current| current.place.clone());
    assert_eq!(fate, Some(Place::Ended(Fate::NeverStarted)));
    assert_eq!(summary(&desk.plan, &desk.stage).reason, "HostChanged");
}

/// Guards against an exit code, and a retry, for a command that never ran.
#[test]
fn what_the_host_refused_to_start_stands_still_and_fails_at_the_queue_limit() {
    let table = [
        (Standing::EnvironmentRefused, Failure::EnvironmentRefused),
        (Standing::ArgumentsTooLong, Failure::ArgumentsTooLong),
    ];
    for (standing, failure) in table {
        for class in [Idempotency::NonIdempotent, Idempotency::Idempotent] {
            let mut desk = Desk::of(class);
            desk.plan.retry.exit_codes = vec![1, 2, 126];
            let refuse = |desk: &mut Desk| {
                let Some(Action::Launch { entry, .. }) = desk.launch().action else {
                    panic!("no launch")
                };
                let why = Refusal::Unable(Fault::new(standing, "it cannot be set"));
                desk.see(Seen::Refused { entry, why });
            };
            refuse(&mut desk);
            let said = summary(&desk.plan, &desk.stage);
            assert_eq!(
                (said.phase, said.reason.as_str()),
                (Phase::Pending, standing_reason(standing))
            );
            assert_eq!(said.stalled, Truth::True);
            assert_eq!((desk.stage.starts, said.evidence), (0, Some(Evidence::NeverStarted)));
            assert_eq!(desk.pass(30).action, None, "looked at again each minute");
            desk.pass(3600);
            assert_eq!(desk.ending(), Some(Ending::Failed(failure)));
            let outcome = desk.stage.outcome.clone().unwrap();
            assert_eq!((outcome.evidence, outcome.exit_code), (Some(Evidence::NeverStarted), None));
        }
    }
}

fn standing_reason(standing: Standing) -> &'static str {
    Cause::from(standing).reason()
}

/// Guards against a launch whose answer was lost for want of processes and that says so nowhere.
#[test]
fn a_launch_without_an_answer_for_want_of_processes_is_pending_with_that_reason() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.launch();
    desk.fault(Transient::ProcessLimit);
    desk.pass(5);
    desk.entry(EntrySeen::Revoked);
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!((said.phase, said.reason.as_str()), (Phase::Pending, "ProcessLimit"));
    assert!(desk.stage.outcome.is_none());
    desk.pass(2);
    desk.fault(Transient::ProcessLimit);
    desk.pass(3600);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::ProcessLimit)));
}

/// Guards against an hour of Reattaching, and then Unknown, for what certainly did not start.
#[test]
fn a_launch_that_was_not_sent_never_started_and_waits_for_what_kept_it() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    let Some(Action::Launch { entry, .. }) = desk.launch().action else { panic!("no launch") };
    let fault = Fault::new(Transient::ConnectionRefused, "nobody is there");
    let next = desk.see(Seen::Refused { entry: entry.clone(), why: Refusal::Unsent(fault) });
    assert_eq!(next.action, None, "not at once");
    let fate = desk.stage.current.as_ref().map(|current| current.place.clone());
    assert_eq!(fate, Some(Place::Ended(Fate::NeverStarted)));
    let said = summary(&desk.plan, &desk.stage);
    assert_eq!((said.phase, said.reason.as_str()), (Phase::Pending, "ConnectionRefused"));
    assert_eq!(desk.stage.starts, 0);
    // The next one is prepared anew, under a name of its own.
    let Some(Action::Prepare { entry: next }) = desk.pass(5).action else { panic!("no prepare") };
    assert_ne!(next.token, entry.token);
    desk.fault(Transient::ConnectionRefused);
    desk.pass(3600);
    assert_eq!(desk.ending(), Some(Ending::Failed(Failure::ConnectionRefused)));
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

/// Guards against an entry of one kind of execution read by the other's rules.
#[test]
fn an_answer_of_the_other_kind_of_execution_says_nothing() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.plan.execution = direct();
    desk.launch();
    channel(&mut desk, DirectSeen::Running);
    desk.entry(EntrySeen::Wiped);
    assert_eq!(desk.stage.current.as_ref().map(|c| c.place.clone()), Some(Place::Running));

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

/// Guards against an attempt of the one kind whose entry is of the other: nothing that is said of
/// it would ever count.
#[test]
fn what_was_prepared_for_the_other_kind_of_execution_is_prepared_anew() {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    desk.plan.execution = direct();
    let Some(Action::Prepare { entry }) = desk.wake().action else { panic!("no Prepare") };
    let (identity, connection) = (desk.identity(), String::new());
    desk.plan.execution = Execution::Recorded;
    let next = desk.see(Seen::Prepared { entry, identity, connection });
    assert!(!matches!(next.action, Some(Action::Launch { .. })), "{:?}", next.action);
    assert!(matches!(desk.launch().action, Some(Action::Launch { .. })));
}

/// Guards against an hour of BackingOff without a word.
#[test]
fn why_a_direct_launch_started_nothing_is_shown_and_kept() {
    let refused = |desk: &mut Desk, cause: Cause, words: &str| {
        desk.launch();
        channel(desk, DirectSeen::NeverStarted(Fault::new(cause, words)));
        let said = summary(&desk.plan, &desk.stage);
        assert_eq!((said.phase, said.reason.as_str()), (Phase::Pending, cause.reason()));
        assert_eq!((said.message.as_str(), desk.stage.starts), (words, 0));
        said.stalled
    };
    let fresh = || {
        let mut desk = Desk::of(Idempotency::NonIdempotent);
        desk.plan.execution = direct();
        desk
    };
    let mut full = fresh();
    let stalled = refused(&mut full, Transient::ChannelRefused.into(), "no session is free");
    assert_eq!(stalled, Truth::False);
    full.at_ms += 3000;
    refused(&mut full, Transient::ChannelRefused.into(), "still none is free");
    full.pass(3600);
    assert_eq!(full.ending(), Some(Ending::Failed(Failure::QueueTimeout)));
    let said = summary(&full.plan, &full.stage).message;
    assert_eq!(said, "never started on db-1: still none is free");

    let mut unusable = fresh();
    let stalled = refused(&mut unusable, Standing::HostUnusable.into(), "no exec here");
    assert_eq!(stalled, Truth::True);
    assert!(unusable.pass(30).action.is_none(), "not hammered");
    unusable.pass(3600);
    assert_eq!(unusable.ending(), Some(Ending::Failed(Failure::HostUnusable)));
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
