//! The whole world in one value: what is stored, what the operator is doing, what is under
//! way in the network, the host, and what may still go wrong.
//!
//! Every moment is "now": when time passes, what was saved ages instead. So a state does not
//! depend on when it is reached, and there are finitely many.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use remote_command::core::action::{Action, Kind, Seen, StopReason};
use remote_command::core::decide::{Now, decide};
use remote_command::core::fault::{Fault, Transient};
use remote_command::core::outcome::Fate;
use remote_command::core::plan::{Asked, Plan, Resolution, Verdict};
use remote_command::core::stage::{Place as At, Stage};

use crate::host::{Claim, Host, Place, UPTIME_MS};
use crate::mutants::Mutant;
use crate::plans::Bounds;

/// The least time that passes at once, longer than every short pause of `decide`.
const TICK: Duration = Duration::from_secs(10);
/// What is older than this is as old as this: longer than every limit.
const OLDEST: Duration = Duration::from_secs(700);

/// What the operator is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The stage is saved; this action is about to be performed.
    Acting(Action),
    Waiting(Option<Timestamp>),
}

/// What may still happen to this world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Left {
    pub faults: u8,
    pub cancels: u8,
    pub deletes: u8,
    pub reruns: u8,
    pub words: u8,
}

/// What the invariants need to remember and nobody in the world knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Tokens of entries that were said never to have started.
    pub never: BTreeSet<String>,
    /// Retry said by a person in this run.
    pub retries: u8,
    pub wiped: bool,
    pub rebooted: bool,
    pub supervisor_killed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub stage: Stage,
    pub asked: Asked,
    pub operator: Operator,
    /// Requests under way whose answers nobody waits for.
    pub network: Vec<Action>,
    pub host: Host,
    pub left: Left,
    pub ghost: Ghost,
}

/// One thing that happens.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "the traces are written by the derived Debug")]
pub enum Step {
    /// The operator's action is performed and answered.
    Answered(&'static str),
    RequestLost(&'static str),
    ReplyLost(&'static str),
    Delayed(&'static str),
    Repeated(&'static str),
    CrashBefore(&'static str),
    CrashAfter(&'static str),
    CrashAndDelayed(&'static str),
    /// An operator that waited crashed, or was woken for nothing.
    Restart,
    Arrives(&'static str),
    StalledLaunchGoesOn,
    Ends(i32),
    HostDeadline,
    SupervisorKilled,
    Reboot {
        claims_lost: bool,
    },
    Wipe,
    Time(Duration),
    Cancel,
    Delete,
    Rerun,
    Word(Verdict),
}

pub fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn unreachable() -> Seen {
    Seen::Unreachable(Fault::new(Transient::ConnectionLost, "lost"))
}

impl World {
    pub fn new(bounds: &Bounds, mutant: Mutant) -> Self {
        let direct = bounds.plan.execution != remote_command::core::plan::Execution::Recorded;
        let mut world = Self {
            stage: Stage::default(),
            asked: Asked::default(),
            operator: Operator::Waiting(None),
            network: Vec::new(),
            host: Host::new(bounds.ignores_term, direct, mutant),
            left: Left {
                faults: bounds.faults,
                cancels: bounds.cancels,
                deletes: bounds.deletes,
                reruns: bounds.reruns,
                words: bounds.words,
            },
            ghost: Ghost::default(),
        };
        world.turn(&bounds.plan, Seen::Nothing);
        world
    }

    fn mutant(&self) -> Mutant {
        self.host.mutant
    }

    /// One turn of decide and save; the action that came of it is left to be performed.
    pub fn turn(&mut self, plan: &Plan, seen: Seen) {
        let seen = self.mutant().bear_witness(&self.stage, seen);
        let (mut stage, mut asked) = (self.stage.clone(), self.asked.clone());
        self.mutant().misremember(&mut stage, &mut asked);
        let base = u64::from(self.stage.entries) * 2;
        let serial = format!("{:08x}", self.stage.entries);
        let taken = self.host.places.iter().any(|p| p.entry.token.ends_with(&serial));
        let now = Now { at: now(), seed: base + u64::from(taken) };
        let decision = decide(plan, &asked, &stage, &seen, &now);
        if decision.stage != stage {
            assert_eq!(decision.stage.revision, stage.revision + 1, "a change is one revision");
        }
        self.remember(&decision.stage);
        self.stage = decision.stage;
        self.operator = match decision.action {
            Some(action) => Operator::Acting(action),
            None => Operator::Waiting(decision.wake),
        };
        self.normalise();
    }

    fn remember(&mut self, stage: &Stage) {
        if stage.run != self.stage.run {
            self.ghost.retries = 0;
        }
        if let Some(current) = &stage.current
            && current.place == At::Ended(Fate::NeverStarted)
        {
            self.ghost.never.insert(current.entry.token.clone());
        }
    }

    /// Drops what `decide` never reads, and entries that nothing can refer to any more.
    fn normalise(&mut self) {
        let stage = &mut self.stage;
        stage.revision = 0;
        stage.attempts.clear();
        stage.run_request_time = None;
        if let Some(outcome) = &mut stage.outcome {
            outcome.message.clear();
        }
        if let Some(current) = &mut stage.current {
            current.left_running.clear();
        }
        let named = |token: &str| {
            let by = |action: &Action| token_of(action) == Some(token);
            let acting = match &self.operator {
                Operator::Acting(action) => by(action),
                Operator::Waiting(_) => false,
            };
            acting
                || self.network.iter().any(by)
                || self.stage.current.as_ref().is_some_and(|c| c.entry.token == token)
        };
        // A dead check, an entry that never started: once nothing names them they are past.
        let spent = |p: &Place| match p.claim {
            Claim::Free => !p.stalled,
            Claim::Revoked => true,
            Claim::Taken => {
                p.entry.kind == Kind::Verify && !p.is_alive() && p.ended_with != Some(100)
            }
        };
        let by_number = self.mutant() == Mutant::TokenIgnored;
        self.host.places.retain(|p| by_number || !spent(p) || named(&p.entry.token));
        self.ghost.never.retain(|token| named(token));
        self.network.sort_by_key(|a| format!("{a:?}"));
    }

    /// Time passes: at least a tick, and until the operator wakes.
    fn pass_time(&mut self, plan: &Plan) -> Option<Duration> {
        let Operator::Waiting(Some(wake)) = self.operator else { return None };
        let until = Duration::try_from(wake.duration_since(now())).unwrap_or_default();
        let ticks = until.as_secs().div_ceil(TICK.as_secs()).max(1);
        let by = TICK * u32::try_from(ticks).unwrap();
        age_stage(&mut self.stage, by);
        for place in &mut self.host.places {
            age_uptime(&mut place.claimed_uptime_ms, by);
        }
        for action in &mut self.network {
            if let Action::Launch { expect, .. } = action {
                age_uptime(&mut expect.latest_uptime_ms, by);
            }
        }
        self.turn(plan, Seen::Nothing);
        Some(by)
    }

    /// The answer of a performed action, as it reaches the operator.
    fn lost_answer(&self, action: &Action) -> Seen {
        let probe = !matches!(action, Action::Prepare { .. } | Action::Sweep { .. });
        match token_of(action) {
            Some(_) if self.host.direct && probe => Seen::Direct {
                entry: self.stage.current.as_ref().unwrap().entry.clone(),
                seen: remote_command::core::record::DirectSeen::Lost,
            },
            Some(_) | None => unreachable(),
        }
    }

    /// Everything that can happen next.
    pub fn successors(&self, bounds: &Bounds) -> Vec<(Step, World)> {
        let mut out = Vec::new();
        match &self.operator {
            Operator::Acting(action) => self.act(bounds, action, &mut out),
            Operator::Waiting(_) => {
                let mut next = self.clone();
                if let Some(by) = next.pass_time(&bounds.plan) {
                    out.push((Step::Time(by), next));
                }
            }
        }
        self.host_moves(bounds, &mut out);
        self.wishes(bounds, &mut out);
        if self.left.faults > 0 {
            self.faults(bounds, &mut out);
        }
        out
    }

    fn act(&self, bounds: &Bounds, action: &Action, out: &mut Vec<(Step, World)>) {
        let (plan, verb) = (&bounds.plan, action.verb());
        let mut answered = self.clone();
        let seen = answered.host.perform(action);
        if self.mutant() == Mutant::EvidenceRemovedEarly {
            answered.sweep_early(plan, &seen, out);
        }
        answered.turn(plan, seen);
        out.push((Step::Answered(verb), answered));
    }

    /// The broken driver: it sees the end, sweeps, and crashes before the save.
    fn sweep_early(&self, plan: &Plan, seen: &Seen, out: &mut Vec<(Step, World)>) {
        let mut next = self.clone();
        next.turn(plan, seen.clone());
        let ended = next.stage.current.as_ref().is_some_and(|c| c.is_fenced());
        if ended && self.left.faults > 0 {
            let mut crashed = self.clone();
            crashed.left.faults -= 1;
            crashed.host.perform(&Action::Sweep {
                uid: plan.uid.clone(),
                machine: String::new(),
                run_as: None,
            });
            crashed.turn(plan, Seen::Nothing);
            out.push((Step::CrashAfter("Sweep"), crashed));
        }
    }

    fn with_fault(&self) -> World {
        let mut next = self.clone();
        next.left.faults -= 1;
        next
    }

    fn faults(&self, bounds: &Bounds, out: &mut Vec<(Step, World)>) {
        let plan = &bounds.plan;
        if let Operator::Acting(action) = &self.operator {
            self.faults_of_acting(plan, action, out);
        } else {
            let mut next = self.with_fault();
            if self.host.direct {
                next.cut_channels();
            }
            next.turn(plan, Seen::Nothing);
            out.push((Step::Restart, next));
        }
        for (i, place) in self.host.places.iter().enumerate() {
            if place.supervisor && !self.host.direct {
                let mut next = self.with_fault();
                next.host.places[i].supervisor = false;
                next.ghost.supervisor_killed = true;
                out.push((Step::SupervisorKilled, next));
            }
        }
        if !self.host.places.is_empty() {
            for claims_lost in [false, true] {
                let mut next = self.with_fault();
                next.host.reboot(claims_lost);
                next.ghost.rebooted = true;
                out.push((Step::Reboot { claims_lost }, next));
            }
            if self.host.places.iter().any(|p| p.present) && !self.host.direct {
                let mut next = self.with_fault();
                next.host.wipe();
                next.ghost.wiped = true;
                // Left out: a repeated Prepare that arrives after the wipe and makes the entry
                // anew for a repeated Launch. A host that forgot everything cannot tell.
                next.network.retain(|a| !matches!(a, Action::Prepare { .. }));
                out.push((Step::Wipe, next));
            }
        }
    }

    fn faults_of_acting(&self, plan: &Plan, action: &Action, out: &mut Vec<(Step, World)>) {
        let verb = action.verb();
        let lost = self.lost_answer(action);
        let mut next = self.with_fault();
        next.cut_channels();
        next.turn(plan, lost.clone());
        out.push((Step::RequestLost(verb), next));

        let mut next = self.with_fault();
        next.host.perform(action);
        next.cut_channels();
        next.turn(plan, lost.clone());
        out.push((Step::ReplyLost(verb), next));

        let mut next = self.with_fault();
        next.cut_channels();
        next.network.push(action.clone());
        next.turn(plan, lost);
        out.push((Step::Delayed(verb), next));

        if !self.host.direct {
            let mut next = self.with_fault();
            let seen = next.host.perform(action);
            next.network.push(action.clone());
            next.turn(plan, seen);
            out.push((Step::Repeated(verb), next));
        }

        let mut next = self.with_fault();
        next.cut_channels();
        next.turn(plan, Seen::Nothing);
        out.push((Step::CrashBefore(verb), next));

        let mut next = self.with_fault();
        next.host.perform(action);
        next.cut_channels();
        next.turn(plan, Seen::Nothing);
        out.push((Step::CrashAfter(verb), next));

        let mut next = self.with_fault();
        next.cut_channels();
        next.network.push(action.clone());
        next.turn(plan, Seen::Nothing);
        out.push((Step::CrashAndDelayed(verb), next));
    }

    fn cut_channels(&mut self) {
        for place in &mut self.host.places {
            place.channel = false;
        }
    }

    /// What the host, its processes and the network do by themselves.
    pub fn host_moves(&self, bounds: &Bounds, out: &mut Vec<(Step, World)>) {
        for (i, action) in self.network.iter().enumerate() {
            let mut next = self.clone();
            next.network.remove(i);
            next.host.perform(action);
            next.cut_channels_of(action);
            next.normalise();
            out.push((Step::Arrives(action.verb()), next));
        }
        if self.host.places.iter().any(|p| p.stalled) {
            let mut next = self.clone();
            next.host.resume_stalled();
            out.push((Step::StalledLaunchGoesOn, next));
        }
        for (i, place) in self.host.places.iter().enumerate() {
            if !place.command {
                continue;
            }
            let check = place.entry.kind == Kind::Verify;
            for code in if check { bounds.checks } else { bounds.codes } {
                let mut next = self.clone();
                next.host.places[i].end(*code);
                out.push((Step::Ends(*code), next));
            }
            let limit = bounds.plan.limits.execution.as_millis();
            let ran = u128::from(UPTIME_MS - place.claimed_uptime_ms);
            if place.supervisor && place.present && ran >= limit && !self.host.direct {
                let mut next = self.clone();
                let place = &mut next.host.places[i];
                place.stop.get_or_insert(StopReason::ExecutionTimeout);
                place.command = false;
                place.supervisor = false;
                out.push((Step::HostDeadline, next));
            }
        }
    }

    /// A late request's channel belongs to nobody.
    fn cut_channels_of(&mut self, action: &Action) {
        for place in &mut self.host.places {
            if token_of(action) == Some(&place.entry.token) {
                place.channel = false;
            }
        }
    }

    fn wishes(&self, bounds: &Bounds, out: &mut Vec<(Step, World)>) {
        let plan = &bounds.plan;
        let mut wish = |step: Step, change: &dyn Fn(&mut World)| {
            let mut next = self.clone();
            change(&mut next);
            if matches!(next.operator, Operator::Waiting(_)) {
                next.turn(plan, Seen::Nothing);
            }
            out.push((step, next));
        };
        if self.left.cancels > 0 {
            wish(Step::Cancel, &|w| {
                w.left.cancels -= 1;
                w.asked.cancel = true;
            });
        }
        if self.left.deletes > 0 {
            wish(Step::Delete, &|w| {
                w.left.deletes -= 1;
                w.asked.delete = true;
            });
        }
        if self.left.reruns > 0 && self.stage.run > 0 {
            wish(Step::Rerun, &|w| {
                w.left.reruns -= 1;
                w.asked.rerun_token = format!("token-{}", w.left.reruns);
            });
        }
        let unknown = self.stage.outcome.as_ref().is_some_and(|o| o.is_unknown());
        if self.left.words == 0 || !unknown {
            return;
        }
        for verdict in [Verdict::Succeeded, Verdict::Failed, Verdict::Retry] {
            // A person who calls a Direct attempt over knows that it is.
            let over = !self.host.places.iter().any(|p| p.is_alive());
            let honest = verdict == Verdict::Retry || !self.host.direct || over;
            let quiet = !self.host.direct || self.network.is_empty();
            if honest && quiet {
                wish(Step::Word(verdict), &|w| {
                    w.left.words -= 1;
                    let (run, attempt) = (w.stage.run, w.stage.attempt);
                    let word = Some(Resolution { run, attempt, verdict });
                    let new = w.asked.resolution != word;
                    w.ghost.retries += u8::from(new && verdict == Verdict::Retry);
                    w.asked.resolution = word;
                });
            }
        }
    }
}

pub fn token_of(action: &Action) -> Option<&str> {
    match action {
        Action::Prepare { entry }
        | Action::Launch { entry, .. }
        | Action::Probe { entry }
        | Action::Terminate { entry, .. }
        | Action::Kill { entry, .. }
        | Action::Revoke { entry, .. } => Some(&entry.token),
        Action::Sweep { .. } => None,
    }
}

fn age_uptime(uptime_ms: &mut u64, by: Duration) {
    let oldest = UPTIME_MS - u64::try_from(OLDEST.as_millis()).unwrap();
    let by = u64::try_from(by.as_millis()).unwrap();
    *uptime_ms = uptime_ms.saturating_sub(by).max(oldest);
}

fn age(time: &mut Timestamp, by: Duration) {
    let oldest = now() - OLDEST;
    *time = (*time - by).max(oldest);
}

/// Everything in the stage gets older.
fn age_stage(stage: &mut Stage, by: Duration) {
    let times = [
        &mut stage.queue.since,
        &mut stage.queue.suspended_since,
        &mut stage.cancelled,
        &mut stage.not_before,
    ];
    for time in times.into_iter().flatten() {
        age(time, by);
    }
    if let Some(waiting) = &mut stage.waiting {
        age(&mut waiting.since, by);
    }
    if let Some(outcome) = &mut stage.outcome {
        age(&mut outcome.time, by);
    }
    if let Some(deleting) = &mut stage.deleting {
        age(&mut deleting.since, by);
        if let Some(blocked) = &mut deleting.blocked {
            age(&mut blocked.since, by);
        }
    }
    let Some(current) = &mut stage.current else { return };
    age(&mut current.launched, by);
    age_uptime(&mut current.identity.uptime_ms, by);
    if let Some(started) = &mut current.started {
        age(started, by);
    }
    if let Some(uncertain) = &mut current.uncertain {
        age(&mut uncertain.since, by);
    }
    if let At::Finishing { since } = &mut current.place {
        age(since, by);
    }
    if let Some(stop) = current.stop_mut() {
        age(&mut stop.asked, by);
        for time in [&mut stop.signalled, &mut stop.killed].into_iter().flatten() {
            age(time, by);
        }
    }
}
