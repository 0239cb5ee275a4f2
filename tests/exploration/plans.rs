//! What is explored: plans, and how much may go wrong in each.

use std::time::Duration;

use remote_command::core::plan::{
    Direct, Execution, Idempotency, Limits, Plan, Program, Retry, Verify,
};

/// A plan and the bounds of its exploration.
#[derive(Clone)]
pub struct Bounds {
    pub name: &'static str,
    pub plan: Plan,
    /// Messages lost, delayed or repeated, crashes, reboots, wipes, killed supervisors.
    pub faults: u8,
    pub cancels: u8,
    pub deletes: u8,
    pub reruns: u8,
    /// A person's words.
    pub words: u8,
    /// How the command may end.
    pub codes: &'static [i32],
    /// How the check may end.
    pub checks: &'static [i32],
    pub ignores_term: bool,
}

fn plan(idempotency: Idempotency, execution: Execution) -> Plan {
    let seconds = Duration::from_secs;
    let verify = Verify { command: vec!["check".to_owned()], timeout: seconds(20) };
    Plan {
        uid: "uid".to_owned(),
        host: "host".to_owned(),
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
        success_exit_codes: vec![0],
        program: Program {
            argv: vec!["it".to_owned()],
            script: None,
            env: Vec::new(),
            stdin: None,
            working_directory: None,
            run_as: None,
            output_limit: 1 << 20,
        },
    }
}

fn bounds(name: &'static str, plan: Plan, faults: u8) -> Bounds {
    Bounds {
        name,
        plan,
        faults,
        cancels: 0,
        deletes: 0,
        reruns: 0,
        words: 0,
        codes: &[0, 1],
        checks: &[100, 101, 1],
        ignores_term: false,
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

pub fn stubborn(faults: u8) -> Bounds {
    Bounds { name: "Idempotent, ignores TERM", ignores_term: true, ..repeated(faults) }
}

pub fn verified(faults: u8) -> Bounds {
    bounds("Verifiable", plan(Idempotency::Verifiable, Execution::Recorded), faults)
}

pub fn deleted(faults: u8) -> Bounds {
    Bounds { name: "NonIdempotent, delete", deletes: 1, ..once(faults) }
}

pub fn resolved(faults: u8) -> Bounds {
    Bounds { name: "NonIdempotent, word", words: 1, codes: &[0], ..once(faults) }
}

pub fn all() -> Vec<Bounds> {
    let mut all = once_only();
    all.extend(repeatable());
    all.extend(checked());
    all.extend(over_the_channel());
    all
}

fn once_only() -> Vec<Bounds> {
    let one = || Bounds { codes: &[0], ..once(1) };
    let stubborn = || Bounds { ignores_term: true, ..once(2) };
    vec![
        Bounds { codes: &[0], ..once(3) },
        Bounds { name: "NonIdempotent, cancel, ignores TERM", cancels: 1, ..stubborn() },
        Bounds { ignores_term: true, codes: &[0], ..deleted(2) },
        Bounds { name: "NonIdempotent, rerun", reruns: 1, ..once(1) },
        Bounds { name: "NonIdempotent, cancel, rerun", cancels: 1, reruns: 1, ..one() },
        Bounds { name: "NonIdempotent, word, rerun", words: 1, reruns: 1, ..one() },
        Bounds { name: "NonIdempotent, word, cancel", words: 1, cancels: 1, ..one() },
        resolved(2),
    ]
}

fn repeatable() -> Vec<Bounds> {
    let one = || Bounds { codes: &[0], ..repeated(1) };
    let mut retried = repeated(1);
    retried.plan.retry.exit_codes = vec![1];
    vec![
        Bounds { name: "Idempotent, exit code retried", ..retried },
        Bounds { codes: &[0], ..repeated(2) },
        Bounds { name: "Idempotent, cancel, ignores TERM", cancels: 1, ..stubborn(1) },
        Bounds { codes: &[0], ..stubborn(2) },
        Bounds { name: "Idempotent, delete", deletes: 1, ..one() },
        Bounds { name: "Idempotent, rerun", reruns: 1, ..one() },
        Bounds { name: "Idempotent, word", words: 1, ..one() },
    ]
}

fn checked() -> Vec<Bounds> {
    vec![
        verified(1),
        Bounds { codes: &[0], checks: &[101], ..verified(2) },
        Bounds { name: "Verifiable, cancel", cancels: 1, ..verified(1) },
        Bounds { name: "Verifiable, delete", deletes: 1, ..verified(1) },
        Bounds { name: "Verifiable, word", words: 1, ..verified(1) },
    ]
}

fn over_the_channel() -> Vec<Bounds> {
    let of = |idempotency, overlap, name| bounds(name, plan(idempotency, direct(overlap)), 1);
    let once = of(Idempotency::NonIdempotent, false, "NonIdempotent, Direct");
    let overlapping = of(Idempotency::Idempotent, true, "Idempotent, Direct, mayOverlap");
    let verified = of(Idempotency::Verifiable, false, "Verifiable, Direct");
    let named = |name, b: &Bounds| Bounds { name, ..b.clone() };
    let ended = named("NonIdempotent, Direct, cancel, delete", &once);
    let said = named("NonIdempotent, Direct, rerun, word", &once);
    let cancelled = named("Idempotent, Direct, mayOverlap, cancel", &overlapping);
    vec![
        Bounds { cancels: 1, deletes: 1, ..ended },
        Bounds { reruns: 1, words: 1, ..said },
        Bounds { faults: 2, ..once },
        Bounds { faults: 2, ..overlapping },
        Bounds { cancels: 1, ..cancelled },
        Bounds { faults: 2, ..verified },
    ]
}
