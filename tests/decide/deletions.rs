//! Deletion where several hosts have records of the object: each is tried, whatever the others do.

use jiff::Timestamp;
use remote_command::core::action::{Action, Seen, StopReason};
use remote_command::core::decide::Decision;
use remote_command::core::fault::{Fault, Transient};
use remote_command::core::phase::summary;
use remote_command::core::plan::{Direct, Execution, Idempotency};
use remote_command::core::record::{DirectSeen, Tree};

use crate::desk::{Desk, alive, channel, exited, marked, survivors, swept};

/// The last attempt of an object that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Ended,
    Running,
    /// It runs and cannot be ended.
    Unkillable,
    /// Direct, and its channel is lost.
    LostChannel,
}

/// Runs on machine a, b and c, one after the other; each has records but for a Direct one.
fn travelled(last: Last) -> Desk {
    let mut desk = Desk::of(Idempotency::NonIdempotent);
    for name in ["a", "b", "c"] {
        desk.asked.rerun_token = name.to_owned();
        desk.asked.connection = format!("to {name}");
        (desk.machine, desk.plan.host) = (name.to_owned(), name.to_owned());
        if name == "c" && last == Last::LostChannel {
            let (no_shell, forced_command, may_overlap) = (false, false, false);
            desk.plan.execution =
                Execution::Direct(Direct { no_shell, forced_command, may_overlap });
        }
        desk.launch();
        match last {
            Last::LostChannel if name == "c" => channel(&mut desk, DirectSeen::Lost),
            Last::Running | Last::Unkillable if name == "c" => desk.entry(alive()),
            _ => desk.entry(exited(0)),
        };
    }
    desk
}

/// What is said to what is asked for.
fn answer(desk: &mut Desk, decision: &Decision, last: Last, dead: &[&str]) -> Decision {
    let fault = || Fault::new(Transient::ConnectTimeout, "no answer");
    match &decision.action {
        Some(action @ Action::Sweep { machine, store, .. }) => {
            let over = desk.stage.connection_for(action, &desk.asked);
            assert_eq!(over, format!("to {machine}"));
            let (machine, store) = (machine.clone(), store.clone());
            if dead.contains(&machine.as_str()) {
                desk.see(Seen::Unswept { machine, store, fault: fault() })
            } else {
                desk.see(swept(&machine))
            }
        }
        Some(_) if dead.contains(&"c") => desk.see(Seen::Unreachable(fault())),
        Some(_) if last == Last::Unkillable => {
            desk.with_tree(marked(StopReason::Deleted, None), survivors())
        }
        Some(_) => desk.with_tree(marked(StopReason::Deleted, None), Tree::Empty),
        None => {
            let Some(wake) = decision.wake else { panic!("waits for nothing") };
            let now = Timestamp::from_millisecond(1_000_000_000 + desk.at_ms).unwrap_or_default();
            desk.at_ms += i64::try_from(wake.duration_since(now).as_millis()).unwrap_or(0);
            desk.wake()
        }
    }
}

/// Deletes the object where these machines are dead; gives what was swept, in this order.
fn delete(desk: &mut Desk, last: Last, dead: &[&str]) -> Vec<String> {
    desk.asked.delete = true;
    let mut swept = Vec::new();
    let mut decision = desk.wake();
    for _ in 0..1000 {
        if desk.stage.released() {
            return swept;
        }
        if let Some(Action::Sweep { machine, .. }) = &decision.action
            && !dead.contains(&machine.as_str())
        {
            swept.push(machine.clone());
        }
        decision = answer(desk, &decision, last, dead);
    }
    panic!("{last:?} with {dead:?} dead does not end")
}

#[test]
fn every_store_that_answers_is_swept_once_whichever_others_do_not() {
    for last in [Last::Ended, Last::Running, Last::Unkillable, Last::LostChannel] {
        for pattern in 0..8 {
            let is_dead = |name: &&str| pattern & (1 << (name.as_bytes()[0] - b'a')) != 0;
            let dead: Vec<_> = ["a", "b", "c"].into_iter().filter(is_dead).collect();
            let mut desk = travelled(last);
            let saves = desk.saves;
            let mut cleaned = delete(&mut desk, last, &dead);
            cleaned.sort();
            let own = match last {
                Last::Ended | Last::Running => &["c"][..],
                Last::Unkillable | Last::LostChannel => &[],
            };
            let stores = ["a", "b"].iter().chain(own);
            let wanted: Vec<_> = stores.filter(|name| !dead.contains(name)).collect();
            assert!(cleaned.iter().eq(wanted), "{last:?}, dead {dead:?}: {cleaned:?}");
            let Some(deleting) = &desk.stage.deleting else { panic!("not deleting") };
            for name in ["a", "b"] {
                let named =
                    deleting.abandoned.iter().any(|left| left.ends_with(&format!("on {name}")));
                assert_eq!(named, dead.contains(&name), "{last:?}: {:?}", deleting.abandoned);
            }
            let own = own.is_empty() || dead.contains(&"c");
            let whole = deleting.abandoned.is_empty() && deleting.swept;
            assert_eq!(whole, dead.is_empty() && !own, "{last:?}: {:?}", deleting.abandoned);
            // The wish, stop and signals, each sweep, and the end; not each try.
            assert!(desk.saves - saves <= 9, "{last:?}, {dead:?}: {} saves", desk.saves - saves);
        }
    }
}

#[test]
fn a_store_that_may_be_the_running_attempts_own_is_swept_after_its_end_only() {
    let mut desk = travelled(Last::Running);
    if let Some(trace) = desk.stage.traces.first_mut() {
        trace.machine = "c".to_owned();
    }
    desk.asked.delete = true;
    desk.wake();
    let fault = Fault::new(Transient::ConnectTimeout, "no answer");
    let Some(Action::Sweep { machine, .. }) = desk.see(Seen::Unreachable(fault)).action else {
        panic!("nobody is swept")
    };
    assert_eq!(machine, "b");
    assert_eq!(desk.see(swept("b")).action, None);
}

#[test]
fn what_is_said_of_a_blocked_deletion_is_about_the_store_that_comes_first() {
    let said = |desk: &Desk| match summary(&desk.plan, &desk.stage).deleting {
        Some(cleanup) => (cleanup.reason, cleanup.message),
        None => panic!("not deleting"),
    };
    let unswept = |machine: &str, words: &str| {
        let (machine, store) = (machine.to_owned(), "store".to_owned());
        Seen::Unswept { machine, store, fault: Fault::new(Transient::ConnectTimeout, words) }
    };
    let mut desk = travelled(Last::Ended);
    desk.asked.delete = true;
    desk.wake();
    desk.see(unswept("c", "first"));
    let saves = desk.saves;
    desk.see(unswept("a", "second"));
    assert_eq!((said(&desk).1.as_str(), desk.saves), ("c cannot be cleaned: first", saves));
    desk.see(swept("b"));
    assert_eq!(said(&desk).0, "CleanupBlocked", "c is as silent as before");
    desk.pass(1);
    desk.see(swept("c"));
    assert_eq!(said(&desk), ("CleaningUp", "cleaning up on a".to_owned()));
    desk.see(unswept("a", "third"));
    assert_eq!(said(&desk).1, "a cannot be cleaned: third");
}

/// Guards against records left on a host that a RemoteHost had pointed to before.
#[test]
fn stores_that_are_not_kept_in_mind_are_counted() {
    let mut desk = travelled(Last::Ended);
    desk.stage.untraced = 2;
    delete(&mut desk, Last::Ended, &[]);
    let left = desk.stage.deleting.map(|deleting| deleting.abandoned).unwrap_or_default();
    assert_eq!(left, ["earlier records of uid may stay in 2 stores"]);
}
