//! Every interleaving of `decide` with a hostile world, within stated bounds: requests lost,
//! delayed, repeated and reordered, replies lost, a link that stays down, operators that crash
//! before and after every effect, reboots that lose what was not synced, snapshots, wiped
//! entries and stores, killed supervisors, commands that ignore TERM, children that outlive
//! them and KILL, hosts that cannot tell, cancel, delete, rerun, a changed spec, a person's
//! word, and time passing its limits.
//!
//! A state that breaks an invariant is reported with the shortest way to it, and every state
//! is followed to its end in a world where nothing more goes wrong. Each mutant is a world or a
//! driver that breaks one rule, or a false witness around `decide`; one that is not caught, or
//! is caught for another reason than its own, fails the test.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod ageing;
mod host;
mod invariants;
mod moves;
mod mutants;
mod place;
mod plans;
mod search;
mod world;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use invariants as must;
use mutants::Mutant;
use plans::Bounds;
use search::explore;

/// Written past the test harness, which keeps back what passing tests print.
fn say(text: &str) {
    let mut line = text.to_owned();
    line.push('\n');
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

#[test]
fn no_interleaving_breaks_an_invariant() {
    let begun = Instant::now();
    let all = plans::all();
    let next = AtomicUsize::new(0);
    let total = AtomicUsize::new(0);
    let one_after_the_other = || {
        while let Some(bounds) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = explore(bounds, Mutant::None);
            let faults = bounds.left.faults;
            say(&format!("{:<42} {faults} faults {:>8} states", bounds.name, found.states));
            total.fetch_add(found.states, Ordering::Relaxed);
            if let Some(broken) = found.broken {
                panic!("{}: {}", bounds.name, broken.trace());
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(one_after_the_other);
        scope.spawn(one_after_the_other);
    });
    say(&format!("{total:?} states in {:.1} s", begun.elapsed().as_secs_f32()));
}

/// Explores a broken world until it shows, and that it shows by the invariant it should.
fn must_be_caught(mutant: Mutant, bounds: &Bounds, by: &str) {
    let found = explore(bounds, mutant);
    let Some(broken) = found.broken else {
        panic!("{mutant:?} was not caught in {} states of {}", found.states, bounds.name);
    };
    let trace = broken.trace();
    assert_eq!(broken.what, by, "{mutant:?}: {trace}");
    say(&format!("{mutant:?}, caught in {} steps:\n{trace}", broken.steps.len()));
}

#[test]
fn a_verdict_of_never_started_without_taking_the_claim_is_caught() {
    must_be_caught(Mutant::NoFenceOnGivingUp, &plans::once(2), must::NEVER_STARTED);
}

#[test]
fn a_blind_retry_after_a_transport_error_is_caught() {
    must_be_caught(Mutant::BlindRetry, &plans::repeated(2), must::TWO_ALIVE);
}

#[test]
fn a_sweep_without_a_tombstone_is_caught() {
    must_be_caught(Mutant::SweepWithoutTombstone, &plans::deleted(2), must::NEVER_STARTED);
}

#[test]
fn a_sweep_of_one_store_that_counts_for_all_is_caught() {
    must_be_caught(Mutant::OneSweepForAll, &plans::with_dead_store(1), must::UNSWEPT);
}

#[test]
fn a_store_that_does_not_answer_and_holds_up_the_others_is_caught() {
    must_be_caught(Mutant::SilenceEndsRound, &plans::with_store_elsewhere(1), must::UNTRIED);
}

#[test]
fn a_claim_that_is_not_atomic_is_caught() {
    must_be_caught(Mutant::ClaimNotAtomic, &plans::once(2), must::STARTED_TWICE);
}

#[test]
fn evidence_removed_before_it_was_saved_is_caught() {
    must_be_caught(Mutant::EvidenceRemovedEarly, &plans::once(2), must::UNWIPED);
}

#[test]
fn a_launch_that_is_sent_again_is_caught() {
    must_be_caught(Mutant::LaunchSentAgain, &plans::once(1), must::NEVER_STARTED);
}

#[test]
fn a_launch_that_was_sent_and_said_not_to_be_is_caught() {
    must_be_caught(Mutant::WrittenButSaidUnsent, &plans::once(1), must::NEVER_STARTED);
}

#[test]
fn a_refusal_that_is_taken_for_an_end_is_caught() {
    must_be_caught(Mutant::RefusalTakenForEnd, &plans::once(1), must::FOREIGN_END);
}

#[test]
fn a_boot_identity_that_is_ignored_is_caught() {
    must_be_caught(Mutant::BootIgnored, &plans::once(2), must::STARTED_TWICE);
}

#[test]
fn a_token_that_is_ignored_is_caught() {
    must_be_caught(Mutant::TokenIgnored, &plans::verified(2), must::STARTED_TWICE);
}

#[test]
fn a_retry_beside_a_live_process_after_a_wipe_is_caught() {
    must_be_caught(Mutant::RetryBesideLiveProcess, &plans::stubborn(2), must::TWO_ALIVE);
}

#[test]
fn a_retry_beside_what_a_lost_command_left_is_caught() {
    must_be_caught(
        Mutant::NoFenceAfterLostNoRecord,
        &plans::with_stubborn_child(2),
        must::TWO_ALIVE,
    );
}

#[test]
fn a_loss_without_a_second_look_at_the_exit_record_is_caught() {
    must_be_caught(Mutant::NoSecondRead, &plans::once(1), must::UNLOST);
}

#[test]
fn a_stop_that_ends_before_its_exit_is_on_record_is_caught() {
    must_be_caught(Mutant::StopEndsWithTree, &plans::cancelled(0), must::UNREAD);
}

#[test]
fn a_resolution_of_any_attempt_is_caught() {
    must_be_caught(Mutant::ResolutionOfAnyAttempt, &plans::resolved(2), must::WORD_TWICE);
}

#[test]
fn a_resolution_used_twice_is_caught() {
    let bounds = plans::resolved_over_a_cut_link(2);
    must_be_caught(Mutant::ResolutionUsedTwice, &bounds, must::WORD_TWICE);
}

#[test]
fn a_retry_that_outlives_the_end_it_came_to_is_caught() {
    let bounds = plans::resolved_over_a_cut_link(2);
    must_be_caught(Mutant::RetryOutlivesItsEnd, &bounds, must::LAUNCHED_OVER);
}

#[test]
fn a_run_that_any_answer_opens_again_is_caught() {
    must_be_caught(Mutant::AnyAnswerEndsDoubt, &plans::given_up_soon(1), must::LAUNCHED_OVER);
}

#[test]
fn a_next_run_that_silence_ends_and_an_answer_opens_again_is_caught() {
    let all = [plans::rerun_over_a_cut_link(1), plans::repeated_and_rerun_over_a_cut_link(1)];
    for bounds in all {
        must_be_caught(Mutant::SilenceEndsNextRun, &bounds, must::LAUNCHED_OVER);
    }
}
