//! What is explored: plans, and how much may go wrong in each.

use std::time::Duration;

use remote_command::core::plan::{Direct, Execution, Idempotency, Limits, Plan, Retry, Verify};

use crate::host::Nature;
use crate::world::Left;

/// A plan and the bounds of its exploration.
#[derive(Clone)]
pub struct Bounds {
    pub name: &'static str,
    pub plan: Plan,
    /// How much may go wrong and be wished for.
    pub left: Left,
    /// The link may go down until it comes up again; each time is one fault.
    pub cuts: bool,
    /// The host may be set back to an earlier state of the same boot, once.
    pub snapshots: bool,
    /// How the command may end.
    pub codes: &'static [i32],
    /// How the check may end.
    pub checks: &'static [i32],
    pub nature: Nature,
    /// An earlier attempt has left records on another machine.
    pub elsewhere: Option<Elsewhere>,
}

/// What that machine is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    Alive,
    /// It never answers.
    Dead,
}

fn plan(idempotency: Idempotency, execution: Execution) -> Plan {
    let seconds = Duration::from_secs;
    let verify = Verify { command: vec!["check".to_owned()], timeout: seconds(20) };
    Plan {
        idempotency,
        execution,
        verify: (idempotency == Idempotency::Verifiable).then_some(verify),
        limits: Limits {
            queue: seconds(40),
            execution: seconds(30),
            idle: None,
            termination: seconds(10),
            resolve: seconds(30),
            cleanup: seconds(40),
        },
        retry: Retry { limit: 1, initial: seconds(1), max: seconds(1), exit_codes: Vec::new() },
        ..Plan::plain("uid", "host", &["it"])
    }
}

fn bounds(name: &'static str, plan: Plan, faults: u8) -> Bounds {
    let direct = plan.execution != Execution::Recorded;
    Bounds {
        name,
        plan,
        left: Left { faults, ..Left::default() },
        cuts: false,
        snapshots: false,
        codes: &[0, 1],
        checks: &[100, 101, 1],
        nature: Nature { direct, ..Nature::default() },
        elsewhere: None,
    }
}

impl Bounds {
    fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    fn cancelled(mut self) -> Self {
        self.left.cancels = 1;
        self
    }

    fn deleted(mut self) -> Self {
        self.left.deletes = 1;
        self
    }

    fn rerun(mut self) -> Self {
        self.left.reruns = 1;
        self
    }

    fn resolved(mut self) -> Self {
        self.left.words = 1;
        self
    }

    fn edited(mut self) -> Self {
        self.left.edits = 1;
        self
    }

    fn cut(self) -> Self {
        Self { cuts: true, ..self }
    }

    fn snapped(self) -> Self {
        Self { snapshots: true, ..self }
    }

    fn elsewhere(self, is: Elsewhere) -> Self {
        Self { elsewhere: Some(is), ..self }
    }

    /// Commands end with 0 only.
    fn fine(self) -> Self {
        Self { codes: &[0], ..self }
    }

    fn of_nature(mut self, change: impl Fn(&mut Nature)) -> Self {
        change(&mut self.nature);
        self
    }

    fn stubborn(self) -> Self {
        self.of_nature(|nature| nature.ignores_term = true)
    }

    fn with_child(self) -> Self {
        self.of_nature(|nature| nature.leaves_child = true)
    }
}

fn direct(may_overlap: bool) -> Execution {
    Execution::Direct(Direct { no_shell: false, forced_command: false, may_overlap })
}

pub fn once(faults: u8) -> Bounds {
    bounds("NonIdempotent", plan(Idempotency::NonIdempotent, Execution::Recorded), faults)
}

pub fn repeated(faults: u8) -> Bounds {
    bounds("Idempotent", plan(Idempotency::Idempotent, Execution::Recorded), faults)
}

pub fn verified(faults: u8) -> Bounds {
    bounds("Verifiable", plan(Idempotency::Verifiable, Execution::Recorded), faults)
}

pub fn retried_by_code(faults: u8) -> Bounds {
    let mut retried = repeated(faults).named("Idempotent, exit code retried");
    retried.plan.retry.exit_codes = vec![1];
    retried
}

pub fn stubborn(faults: u8) -> Bounds {
    repeated(faults).stubborn().named("Idempotent, ignores TERM")
}

pub fn with_child(faults: u8) -> Bounds {
    repeated(faults).fine().with_child().named("Idempotent, leaves a child")
}

pub fn with_stubborn_child(faults: u8) -> Bounds {
    with_child(faults).stubborn().named("Idempotent, leaves a child that ignores TERM")
}

pub fn deleted(faults: u8) -> Bounds {
    once(faults).deleted().named("NonIdempotent, delete")
}

pub fn cancelled(faults: u8) -> Bounds {
    once(faults).cancelled().stubborn().named("NonIdempotent, cancel, ignores TERM")
}

pub fn with_dead_store(faults: u8) -> Bounds {
    let dead = deleted(faults).fine().elsewhere(Elsewhere::Dead);
    dead.named("NonIdempotent, delete, a dead store elsewhere")
}

pub fn with_store_elsewhere(faults: u8) -> Bounds {
    let alive = deleted(faults).cut().fine().elsewhere(Elsewhere::Alive);
    alive.named("NonIdempotent, cuts, delete, a store elsewhere")
}

pub fn resolved(faults: u8) -> Bounds {
    once(faults).fine().resolved().named("NonIdempotent, word")
}

pub fn resolved_over_a_cut_link(faults: u8) -> Bounds {
    once(faults).fine().resolved().cut().named("NonIdempotent, word, cuts")
}

pub fn rerun_over_a_cut_link(faults: u8) -> Bounds {
    once(faults).cut().rerun().fine().named("NonIdempotent, cuts, rerun")
}

pub fn repeated_and_rerun_over_a_cut_link(faults: u8) -> Bounds {
    repeated(faults).cut().rerun().fine().named("Idempotent, cuts, rerun")
}

/// Given up on long before its queue limit.
pub fn given_up_soon(faults: u8) -> Bounds {
    let mut soon = once(faults).cut().fine().named("NonIdempotent, cuts, given up soon");
    soon.plan.limits.resolve = Duration::from_secs(5);
    soon
}

pub fn all() -> Vec<Bounds> {
    let mut all = once_only();
    all.extend(repeatable());
    all.extend(checked());
    all.extend(out_of_touch());
    all.extend(odd_hosts());
    all.extend(over_the_channel());
    all
}

fn once_only() -> Vec<Bounds> {
    vec![
        once(2).fine(),
        cancelled(1),
        once(1).deleted().stubborn().fine().named("NonIdempotent, delete, ignores TERM"),
        with_dead_store(1),
        once(1).rerun().fine().named("NonIdempotent, rerun"),
        once(1).cancelled().rerun().fine().named("NonIdempotent, cancel, rerun"),
        once(1).resolved().rerun().fine().named("NonIdempotent, word, rerun"),
        once(1).resolved().cancelled().fine().named("NonIdempotent, word, cancel"),
        once(1).resolved().edited().fine().named("NonIdempotent, word, edit"),
        resolved(1),
    ]
}

fn repeatable() -> Vec<Bounds> {
    vec![
        retried_by_code(1),
        Bounds { codes: &[1], ..retried_by_code(1) }
            .edited()
            .named("Idempotent, exit code retried, edit"),
        repeated(2).fine(),
        stubborn(1).cancelled().named("Idempotent, cancel, ignores TERM"),
        stubborn(2).fine(),
        with_child(1),
        with_stubborn_child(1),
        repeated(1).fine().deleted().named("Idempotent, delete"),
        repeated(1).fine().rerun().named("Idempotent, rerun"),
        repeated(1).fine().edited().named("Idempotent, edit"),
        repeated(1).fine().resolved().named("Idempotent, word"),
    ]
}

fn checked() -> Vec<Bounds> {
    vec![
        verified(1),
        Bounds { checks: &[101], ..verified(2).fine() },
        verified(1).cancelled().named("Verifiable, cancel"),
        verified(1).deleted().named("Verifiable, delete"),
        Bounds { checks: &[101], ..verified(1).fine().resolved().named("Verifiable, word") },
        Bounds { checks: &[101], ..verified(1).fine().edited().named("Verifiable, edit") },
    ]
}

/// The link is down for as long as it likes.
fn out_of_touch() -> Vec<Bounds> {
    vec![
        once(2).cut().fine().named("NonIdempotent, cuts"),
        given_up_soon(1),
        once(1).cut().cancelled().fine().named("NonIdempotent, cuts, cancel"),
        once(1).cut().deleted().fine().named("NonIdempotent, cuts, delete"),
        with_store_elsewhere(1),
        rerun_over_a_cut_link(1),
        once(1).cut().resolved().rerun().fine().named("NonIdempotent, cuts, word, rerun"),
        resolved_over_a_cut_link(1),
        repeated(2).cut().fine().named("Idempotent, cuts"),
        repeated(1).cut().cancelled().fine().named("Idempotent, cuts, cancel"),
        repeated(1).cut().deleted().fine().named("Idempotent, cuts, delete"),
        repeated_and_rerun_over_a_cut_link(1),
        repeated(1).cut().resolved().fine().named("Idempotent, cuts, word"),
        verified(1).cut().named("Verifiable, cuts"),
        verified(1).cut().cancelled().fine().named("Verifiable, cuts, cancel"),
        verified(1).cut().deleted().fine().named("Verifiable, cuts, delete"),
        verified(1).cut().resolved().fine().named("Verifiable, cuts, word"),
    ]
}

/// Hosts that go back in time, cannot tell, or cannot end what they should.
fn odd_hosts() -> Vec<Bounds> {
    let blind = |bounds: Bounds| bounds.fine().of_nature(|nature| nature.cannot_tell = true);
    let unkillable = |bounds: Bounds| {
        bounds.fine().stubborn().with_child().of_nature(|nature| nature.unkillable = true)
    };
    vec![
        once(2).snapped().fine().named("NonIdempotent, snapshot"),
        repeated(1).snapped().fine().named("Idempotent, snapshot"),
        blind(once(1)).named("NonIdempotent, cannot tell"),
        blind(repeated(1)).named("Idempotent, cannot tell"),
        blind(verified(1)).named("Verifiable, cannot tell"),
        unkillable(once(1)).cancelled().named("NonIdempotent, cancel, unkillable"),
        unkillable(repeated(1)).named("Idempotent, unkillable"),
        unkillable(once(1)).deleted().named("NonIdempotent, delete, unkillable"),
    ]
}

fn over_the_channel() -> Vec<Bounds> {
    let of = |idempotency, overlap, name| bounds(name, plan(idempotency, direct(overlap)), 1);
    let two = |mut bounds: Bounds| {
        bounds.left.faults = 2;
        bounds
    };
    let once = || of(Idempotency::NonIdempotent, false, "NonIdempotent, Direct");
    let overlapping = || of(Idempotency::Idempotent, true, "Idempotent, Direct, mayOverlap");
    let verified = || of(Idempotency::Verifiable, false, "Verifiable, Direct");
    vec![
        once().cancelled().deleted().named("NonIdempotent, Direct, cancel, delete"),
        once()
            .deleted()
            .elsewhere(Elsewhere::Alive)
            .named("NonIdempotent, Direct, delete, a store elsewhere"),
        once().stubborn().cancelled().named("NonIdempotent, Direct, cancel, ignores TERM"),
        once().rerun().resolved().named("NonIdempotent, Direct, rerun, word"),
        once().cut().resolved().named("NonIdempotent, Direct, cuts, word"),
        two(once()),
        two(overlapping()),
        overlapping().cancelled().named("Idempotent, Direct, mayOverlap, cancel"),
        overlapping().deleted().named("Idempotent, Direct, mayOverlap, delete"),
        two(verified()),
    ]
}
