//! Breadth first, so that the first broken state found is one with a shortest way to it.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::invariants;
use crate::mutants::Mutant;
use crate::plans::Bounds;
use crate::world::{Step, World};

/// More than this means that a bound is missing.
const MOST_STATES: usize = 400_000;
/// One state in so many is followed into a quiet world.
const QUIET_SAMPLE: u64 = 32;

pub struct Found {
    pub states: usize,
    pub broken: Option<Broken>,
}

pub struct Broken {
    pub what: &'static str,
    pub steps: Vec<Step>,
    pub last: World,
}

impl Broken {
    pub fn trace(&self) -> String {
        let steps: Vec<String> =
            self.steps.iter().enumerate().map(|(i, s)| format!("  {:>2}. {s:?}", i + 1)).collect();
        let (stage, host) = (&self.last.stage, &self.last.host.places);
        let place = stage.current.as_ref().map(|current| &current.place);
        let outcome = stage.outcome.as_ref().map(|outcome| outcome.ending);
        let claims: Vec<_> = host.iter().map(|p| (p.claim, p.command, p.exit)).collect();
        let end = format!("{place:?} {outcome:?} {:?} {claims:?}", self.last.operator);
        format!("{}\n{}\n  ends as {end}\n", self.what, steps.join("\n"))
    }
}

/// Explores a plan, until an invariant is broken or nothing new is found.
pub fn explore(bounds: &Bounds, mutant: Mutant) -> Found {
    let first = World::new(bounds, mutant);
    let mut seen: HashSet<u64> = HashSet::from([key(&first)]);
    let mut from: Vec<(usize, Option<Step>)> = vec![(0, None)];
    let mut queue = VecDeque::from([(0usize, first)]);
    while let Some((index, world)) = queue.pop_front() {
        for (step, next) in world.successors(bounds) {
            let stepwise = invariants::broken_step(&world, &next);
            let key = key(&next);
            let new = seen.insert(key);
            if !new && stepwise.is_none() {
                continue;
            }
            let at = from.len();
            from.push((index, Some(step)));
            let here = stepwise.or_else(|| invariants::broken(bounds, &next));
            let here = here.or_else(|| {
                invariants::is_restless(&bounds.plan, &next).filter(|_| key.is_multiple_of(8))
            });
            let sampled = key.is_multiple_of(QUIET_SAMPLE);
            let broken =
                here.or_else(|| sampled.then(|| invariants::does_not_end(bounds, &next)).flatten());
            if let Some(what) = broken {
                let steps = way_to(&from, at);
                let last = next;
                return Found { states: seen.len(), broken: Some(Broken { what, steps, last }) };
            }
            queue.push_back((at, next));
        }
        assert!(seen.len() < MOST_STATES, "{}: the bounds are too wide", bounds.name);
    }
    Found { states: seen.len(), broken: None }
}

fn key(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn way_to(from: &[(usize, Option<Step>)], mut at: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let (before, Some(step)) = &from[at] {
        steps.push(step.clone());
        at = *before;
    }
    steps.reverse();
    steps
}
