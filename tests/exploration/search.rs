//! Breadth first, so that the first broken state found is one with a shortest way to it.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::invariants;
use crate::mutants::Mutant;
use crate::plans::Bounds;
use crate::world::{Left, Step, World};

/// More than this means that a bound is missing.
const MOST_STATES: usize = 400_000;
/// More steps than this into a quiet world mean that it does not end.
const QUIET_STEPS: usize = 200;

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

type Keys = HashSet<u64, BuildHasherDefault<Mixed>>;

/// What was found out once and holds for every state that is the same in this respect.
#[derive(Default)]
struct Known {
    /// Quiet worlds that end.
    ends: Keys,
    /// Stages and wishes on which deciding twice is deciding once.
    at_rest: Keys,
}

/// Explores a plan, until an invariant is broken or nothing new is found.
pub fn explore(bounds: &Bounds, mutant: Mutant) -> Found {
    let first = World::new(bounds, mutant);
    let mut seen = Keys::default();
    seen.insert(key(&first));
    let mut known = Known::default();
    let mut from: Vec<(usize, Option<Step>)> = vec![(0, None)];
    let mut queue = VecDeque::from([(0usize, first)]);
    while let Some((index, world)) = queue.pop_front() {
        for (step, next) in world.successors(bounds) {
            let stepwise = invariants::broken_step(&world, &next);
            let new = seen.insert(key(&next));
            if !new && stepwise.is_none() {
                continue;
            }
            let at = from.len();
            from.push((index, Some(step)));
            let broken = stepwise
                .or_else(|| invariants::broken(bounds, &next))
                .or_else(|| known.is_restless(bounds, &next))
                .or_else(|| known.does_not_end(bounds, &next).filter(|_| mutant == Mutant::None));
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

impl Known {
    fn is_restless(&mut self, bounds: &Bounds, world: &World) -> Option<&'static str> {
        let new = self.at_rest.insert(key(&(&world.stage, &world.asked)));
        if new { invariants::is_restless(&bounds.plan, world) } else { None }
    }

    /// With nothing more going wrong, everything ends.
    fn does_not_end(&mut self, bounds: &Bounds, world: &World) -> Option<&'static str> {
        let mut quiet = World { left: Left::default(), link: true, ..world.clone() };
        let mut way = Vec::new();
        for _ in 0..QUIET_STEPS {
            let here = key(&quiet);
            if self.ends.contains(&here) || invariants::is_at_its_end(&bounds.plan, &quiet) {
                self.ends.extend(way);
                self.ends.insert(here);
                return None;
            }
            if way.contains(&here) {
                return Some("a quiet world goes round in circles");
            }
            way.push(here);
            let Some(next) = quiet.quiet_successor(bounds) else {
                return Some("a quiet world stands still without an end");
            };
            quiet = next;
        }
        Some("a quiet world does not end")
    }
}

fn key(of: &impl Hash) -> u64 {
    let mut hasher = Mixed::default();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Quick, and good enough to tell a million states apart.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = (self.0.rotate_left(29) ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(word.into());
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn way_to(from: &[(usize, Option<Step>)], mut at: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let (before, Some(step)) = &from[at] {
        steps.push(*step);
        at = *before;
    }
    steps.reverse();
    steps
}
