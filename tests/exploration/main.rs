//! Every interleaving of `decide` with a hostile world, within stated bounds: requests lost,
//! delayed, repeated and reordered, replies lost, operators that crash before and after every
//! effect, reboots that lose unsynced claims, wiped entries, killed supervisors, commands that
//! ignore TERM, cancel, delete, rerun, a person's word, and time passing its limits.
//!
//! A state that breaks an invariant is reported with the shortest way to it. Each mutant is
//! a world or a driver that breaks one rule, or a false witness around `decide`; a mutant
//! that is not caught fails the test.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod host;
mod invariants;
mod mutants;
mod plans;
mod search;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use mutants::Mutant;
use plans::Bounds;
use search::explore;

#[test]
fn no_interleaving_breaks_an_invariant() {
    let begun = Instant::now();
    let all = plans::all();
    let next = AtomicUsize::new(0);
    let total = AtomicUsize::new(0);
    let one_after_the_other = || {
        while let Some(bounds) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = explore(bounds, Mutant::None);
            println!("{:<42} {} faults {:>8} states", bounds.name, bounds.faults, found.states);
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
    println!("{total:?} states in {:.1} s", begun.elapsed().as_secs_f32());
}

fn must_be_caught(mutant: Mutant, bounds: &Bounds) {
    let found = explore(bounds, mutant);
    let Some(broken) = found.broken else {
        panic!("{mutant:?} was not caught in {} states of {}", found.states, bounds.name);
    };
    println!("{mutant:?}, caught in {} steps:\n{}", broken.steps.len(), broken.trace());
}

#[test]
fn a_verdict_of_never_started_without_taking_the_claim_is_caught() {
    must_be_caught(Mutant::NoFenceOnGivingUp, &plans::once(2));
}

#[test]
fn a_blind_retry_after_a_transport_error_is_caught() {
    must_be_caught(Mutant::BlindRetry, &plans::repeated(2));
}

#[test]
fn a_sweep_without_a_tombstone_is_caught() {
    must_be_caught(Mutant::SweepWithoutTombstone, &plans::deleted(2));
}

#[test]
fn a_claim_that_is_not_atomic_is_caught() {
    must_be_caught(Mutant::ClaimNotAtomic, &plans::once(2));
}

#[test]
fn evidence_removed_before_it_was_saved_is_caught() {
    must_be_caught(Mutant::EvidenceRemovedEarly, &plans::once(2));
}

#[test]
fn a_boot_identity_that_is_ignored_is_caught() {
    must_be_caught(Mutant::BootIgnored, &plans::once(2));
}

#[test]
fn a_token_that_is_ignored_is_caught() {
    must_be_caught(Mutant::TokenIgnored, &plans::verified(2));
}

#[test]
fn a_retry_beside_a_live_process_after_a_wipe_is_caught() {
    must_be_caught(Mutant::RetryBesideLiveProcess, &plans::stubborn(2));
}

#[test]
fn a_resolution_used_twice_is_caught() {
    must_be_caught(Mutant::ResolutionUsedTwice, &plans::resolved(3));
}
