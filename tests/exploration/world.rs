//! The whole world in one value: what is stored, what the operator is doing, what is under
//! way in the network, the host, and what may still go wrong.
//!
//! Every moment is "now": when time passes, what was saved ages instead. So a state does not
//! depend on when it is reached, and there are finitely many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use remote_command::core::action::{Action, Entry, Kind, Seen};
use remote_command::core::decide::{Now, decide};
use remote_command::core::fault::{Fault, Transient};
use remote_command::core::outcome::Fate;
use remote_command::core::plan::{Asked, Idempotency, Plan, Verdict};
use remote_command::core::stage::{Next, Place as At, Queue, Stage, Trace};

use crate::ageing::{age_claim, age_exit, age_stage};
use crate::host::{Host, UPTIME_MS, Unsynced};
use crate::mutants::Mutant;
use crate::place::{Claim, Place};
use crate::plans::Bounds;

/// The least time that passes at once, longer than every short pause of `decide`.
const TICK: Duration = Duration::from_secs(10);

/// The machine of an earlier attempt, of which nothing is here but its answers.
pub const ELSEWHERE: &str = "elsewhere";

/// What the operator is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The stage is saved; this action is about to be performed.
    Acting(Action),
    Waiting(Option<Timestamp>),
}

/// What may still happen to this world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Left {
    /// Messages lost, delayed or repeated, crashes, reboots, wipes, killed supervisors, cuts.
    pub faults: u8,
    pub cancels: u8,
    pub deletes: u8,
    pub reruns: u8,
    /// A person's words.
    pub words: u8,
    /// Changes of the spec under OnChange.
    pub edits: u8,
}

/// What the invariants need to remember and nobody in the world knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Tokens of entries that were said never to have started.
    pub never: BTreeSet<String>,
    /// Retry said by a person, by run.
    pub retries: BTreeMap<i32, u8>,
    /// Retries said less retries acted on.
    pub unused_retries: i8,
    /// The run under way was shown as over, and no word came since that would start it again.
    pub over: bool,
    /// It launched all the same, and not as a retry that its class allows.
    pub launched_over: bool,
    /// The spec an entry was launched from, under OnChange.
    pub specs: BTreeMap<String, String>,
    pub wiped: bool,
    pub rebooted: bool,
    pub rolled_back: bool,
    pub supervisor_killed: bool,
    pub swept_elsewhere: bool,
}

impl Ghost {
    fn forget_faults(&mut self) {
        self.wiped = false;
        self.rebooted = false;
        self.supervisor_killed = false;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub stage: Stage,
    pub asked: Asked,
    pub operator: Operator,
    /// No message arrives while it is down.
    pub link: bool,
    /// Requests under way whose answers nobody waits for.
    pub network: Vec<Action>,
    pub host: Host,
    pub left: Left,
    pub ghost: Ghost,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the traces are written by the derived Debug")]
pub enum Step {
    /// The operator's action is performed and answered.
    Answered(&'static str),
    /// The exit record was read, the command ended, its processes were looked for.
    AnsweredTorn(&'static str),
    /// The host has no channel to spare, and says so (Direct).
    ChannelRefused,
    /// The launch is not sent, and that is known.
    Unsent,
    /// The host could not begin the launch, and says why.
    Unable,
    /// The link is down.
    Silence(&'static str),
    LinkDown,
    LinkUp,
    RequestLost(&'static str),
    ReplyLost(&'static str),
    Delayed(&'static str),
    Repeated(&'static str),
    /// Sent again after a lost reply (a broken driver only); the second answer is seen.
    SentAgain(&'static str),
    /// The same with a reboot in between.
    SentAgainAfterReboot(&'static str),
    CrashBefore(&'static str),
    CrashAfter(&'static str),
    CrashAndDelayed(&'static str),
    /// An operator that waited crashed, or was woken for nothing.
    Restart,
    Arrives(&'static str),
    StalledLaunchGoesOn,
    Ends(i32),
    ExitPutOnRecord,
    ChildEnds,
    HostDeadline,
    SupervisorKilled,
    Reboot(Unsynced),
    RolledBack,
    Wipe {
        store: bool,
    },
    Time(Duration),
    Cancel,
    Delete,
    Rerun,
    Edit,
    Word(Verdict),
}

pub fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

/// What is seen of an action that is not answered.
pub fn unreachable(action: &Action) -> Seen {
    let fault = Fault::new(Transient::ConnectionLost, "lost");
    match action {
        Action::Sweep { machine, store, .. } => {
            Seen::Unswept { machine: machine.clone(), store: store.clone(), fault }
        }
        _ => Seen::Unreachable(fault),
    }
}

impl World {
    pub fn new(bounds: &Bounds, mutant: Mutant) -> Self {
        let there = bounds.elsewhere.map(|_| Trace {
            connection: ELSEWHERE.to_owned(),
            machine: ELSEWHERE.to_owned(),
            store: ELSEWHERE.to_owned(),
            run_as: None,
            host: ELSEWHERE.to_owned(),
        });
        let mut world = Self {
            stage: Stage { traces: there.into_iter().collect(), ..Stage::default() },
            asked: Asked { on_change: bounds.left.edits > 0, ..Asked::default() },
            operator: Operator::Waiting(None),
            link: true,
            network: Vec::new(),
            host: Host::new(bounds.nature, mutant),
            left: bounds.left,
            ghost: Ghost::default(),
        };
        world.turn(&bounds.plan, Seen::Nothing);
        world
    }

    pub fn mutant(&self) -> Mutant {
        self.host.mutant
    }

    /// One turn of decide and save; the action that came of it is left to be performed.
    pub fn turn(&mut self, plan: &Plan, seen: Seen) {
        let seen = self.mutant().bear_witness(seen);
        let (mut stage, mut asked) = (self.stage.clone(), self.asked.clone());
        self.mutant().misremember(&mut stage, &mut asked, &seen);
        let now = Now { at: now(), seed: self.fresh_seed(), secret: 0 };
        let decision = decide(plan, &asked, &stage, &seen, &now);
        if decision.stage != stage {
            assert_eq!(decision.stage.revision, stage.revision + 1, "a change is one revision");
        }
        let word = stage.resolution != decision.stage.resolution;
        self.remember(&decision.stage, decision.action.as_ref(), word);
        self.remember_end(plan, &decision.stage, decision.action.as_ref(), word);
        self.stage = decision.stage;
        self.operator = match decision.action {
            Some(action) => Operator::Acting(action),
            None => Operator::Waiting(decision.wake),
        };
        self.normalise();
    }

    /// One that no entry anywhere was named with.
    fn fresh_seed(&self) -> u64 {
        let there = self.host.places.iter().map(|p| p.entry.token.as_str());
        let named = there.chain(self.network.iter().filter_map(token_of));
        let taken: BTreeSet<&str> = named.collect();
        let base = u64::from(self.stage.entries) * 8;
        let free = (0..8).find(|n| !taken.iter().any(|t| t.starts_with(&token_of_seed(base + n))));
        base + free.unwrap()
    }

    fn remember(&mut self, stage: &Stage, action: Option<&Action>, word: bool) {
        if matches!(action, Some(Action::Prepare { .. })) {
            // What happened to the host before is nothing to the next entry.
            self.ghost.forget_faults();
        }
        let doubted = self.stage.outcome.as_ref().is_some_and(|o| o.is_unknown());
        let same_run = stage.run == self.stage.run;
        let reopened = doubted && same_run && stage.outcome.is_none();
        if reopened && word && stage.next == Next::PersonsRetry {
            self.ghost.unused_retries -= 1;
        }
        if let Some(current) = &stage.current
            && current.place == At::Ended(Fate::NeverStarted)
        {
            self.ghost.never.insert(current.entry.token.clone());
        }
        if let Some(Action::Launch { entry, .. }) = action
            && entry.kind == Kind::Command
            && self.asked.on_change
        {
            self.ghost.specs.insert(entry.token.clone(), self.asked.frozen_digest.clone());
        }
    }

    /// What is saved as over is shown as over, and somebody may act on it.
    fn remember_end(&mut self, plan: &Plan, stage: &Stage, action: Option<&Action>, word: bool) {
        let (was, ghost) = (&self.stage, &mut self.ghost);
        let repeatable = plan.idempotency != Idempotency::NonIdempotent;
        let retry = repeatable && was.attempt > 0;
        let silent = stage.run == was.run && !word && !retry;
        let over = silent && (ghost.over || was.outcome.is_some());
        ghost.launched_over |= over && matches!(action, Some(Action::Launch { .. }));
        ghost.over = over && stage.outcome.is_none();
    }

    /// Drops what `decide` never reads, and entries that nothing can refer to any more.
    pub fn normalise(&mut self) {
        forget_what_is_never_read(&mut self.stage);
        self.forget_past_words();
        self.drop_requests_without_effect();
        let under_way = |token: &str| {
            let by = |action: &Action| token_of(action) == Some(token);
            let acting = match &self.operator {
                Operator::Acting(action) => by(action),
                Operator::Waiting(_) => false,
            };
            acting || self.network.iter().any(by)
        };
        let current = self.stage.current.as_ref();
        let is_current = |token: &str| current.is_some_and(|c| c.entry.token == token);
        let followed = |token: &str| is_current(token) && current.is_some_and(|c| !c.is_fenced());
        let named = |token: &str| under_way(token) || is_current(token);
        // A dead check, an entry that never started: once nothing names them they are past.
        let spent = |p: &Place| match p.entry.kind {
            Kind::Command => p.starts == 0 && p.claim != Claim::Taken && !p.stalled,
            Kind::Verify => p.is_still() && p.ended_with != Some(100),
        };
        for place in self.host.places.iter_mut().filter(|p| p.is_still()) {
            if !under_way(&place.entry.token) && !followed(&place.entry.token) {
                place.be_past();
            }
        }
        let run = self.stage.run;
        let of_past_run = |p: &Place| p.entry.run < run && p.is_still();
        let by_number = self.mutant() == Mutant::TokenIgnored;
        self.host
            .places
            .retain(|p| by_number || named(&p.entry.token) || !spent(p) && !of_past_run(p));
        self.ghost.retries.retain(|of, _| *of == run);
        if matches!(self.operator, Operator::Waiting(_)) && current.is_none_or(|c| c.is_fenced()) {
            self.ghost.forget_faults();
        }
        self.ghost.never.retain(|token| named(token));
        let there = |token: &str| self.host.places.iter().any(|p| p.entry.token == token);
        self.ghost.specs.retain(|token, _| named(token) || there(token));
        if self.network.len() > 1 {
            self.network.sort_by_key(|a| format!("{a:?}"));
        }
    }

    /// A word for an attempt that is past is never used again; the mutants doubt that.
    fn forget_past_words(&mut self) {
        let number = (self.stage.run, self.stage.attempt);
        let mutants = [Mutant::ResolutionOfAnyAttempt, Mutant::ResolutionUsedTwice];
        if !mutants.contains(&self.mutant()) {
            self.asked.resolution.take_if(|word| (word.run, word.attempt) < number);
            self.stage.resolution.take_if(|word| (word.run, word.attempt) < number);
        }
    }

    /// Late requests that can do nothing any more, on a host that keeps the rules: reads, and
    /// what needs a free claim where there will never be one again. Without them there are
    /// far fewer states that differ.
    fn drop_requests_without_effect(&mut self) {
        if self.mutant() != Mutant::None || self.host.nature.direct {
            return;
        }
        let places = &self.host.places;
        let stage = &self.stage;
        let wiped_yet = self.left.faults > 0;
        self.network.retain(|action| {
            let place = token_of(action).and_then(|t| places.iter().find(|p| p.entry.token == t));
            let claimed = place.is_some_and(|p| p.present && p.claim != Claim::Free);
            let over = place.is_some_and(|p| claimed && p.is_still());
            let current = stage.current.as_ref().filter(|c| !c.is_fenced());
            let followed =
                current.is_some_and(|c| Some(c.entry.token.as_str()) == token_of(action));
            match action {
                Action::Probe { .. } => false,
                Action::Launch { .. } | Action::Revoke { .. } => !claimed,
                Action::Terminate { .. } | Action::Kill { .. } => !over || followed,
                // Until something removes the entry, which would be another fault.
                Action::Prepare { .. } => !claimed || wiped_yet,
                Action::Sweep { .. } => true,
            }
        });
    }

    /// Time passes: at least a tick, and until the operator wakes.
    pub fn pass_time(&mut self, plan: &Plan) -> Option<Duration> {
        let Operator::Waiting(Some(wake)) = self.operator else { return None };
        let until = Duration::try_from(wake.duration_since(now())).unwrap_or_default();
        let ticks = until.as_secs().div_ceil(TICK.as_secs()).max(1);
        let by = TICK * u32::try_from(ticks).unwrap();
        age_stage(&mut self.stage, by);
        for place in &mut self.host.places {
            age_claim(&mut place.claimed_uptime_ms, by);
            if let Some((_, uptime)) = &mut place.exit {
                age_exit(uptime, by);
            }
        }
        self.turn(plan, Seen::Nothing);
        Some(by)
    }

    pub fn cut_channels(&mut self) {
        for place in &mut self.host.places {
            place.channel = false;
        }
    }

    /// A late request's channel belongs to nobody.
    pub fn cut_channels_of(&mut self, action: &Action) {
        for place in &mut self.host.places {
            if token_of(action) == Some(&place.entry.token) {
                place.channel = false;
            }
        }
    }
}

/// How a token begins that is made from this seed.
fn token_of_seed(seed: u64) -> String {
    format!("{:016x}", remote_command::core::backoff::mix(seed))
}

/// Fields that are only shown, and those that mean nothing any more.
fn forget_what_is_never_read(stage: &mut Stage) {
    stage.revision = 0;
    stage.attempts.clear();
    stage.run_request_time = None;
    stage.unstarted = 0;
    stage.cancelled = stage.cancelled.map(|_| now());
    if let Some(outcome) = &mut stage.outcome {
        outcome.message.clear();
        if !outcome.is_unknown() {
            outcome.time = now();
            stage.queue = Queue::default();
            stage.waiting = None;
        }
    }
    if let Some(current) = &mut stage.current {
        if !current.direct {
            current.started = None;
        }
        if current.is_fenced() {
            current.left_running.clear();
            current.launched = now();
            current.started = None;
            current.uncertain = None;
            current.processes = None;
            current.identity.uptime_ms = UPTIME_MS;
        }
    }
    if let Some(deleting) = &mut stage.deleting {
        deleting.shown = None;
    }
}

/// A verb's name, for the traces.
pub fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Prepare { .. } => "Prepare",
        Action::Launch { .. } => "Launch",
        Action::Probe { .. } => "Probe",
        Action::Terminate { .. } => "Terminate",
        Action::Kill { .. } => "Kill",
        Action::Revoke { .. } => "Revoke",
        Action::Sweep { machine, .. } if machine == ELSEWHERE => "Sweep elsewhere",
        Action::Sweep { .. } => "Sweep",
    }
}

/// Whether a verb is about a machine that is not in this world.
pub fn is_elsewhere(action: &Action) -> bool {
    matches!(action, Action::Sweep { machine, .. } if machine == ELSEWHERE)
}

/// The entry a verb is about.
pub fn entry_of(action: &Action) -> Option<&Entry> {
    match action {
        Action::Prepare { entry }
        | Action::Launch { entry, .. }
        | Action::Probe { entry }
        | Action::Terminate { entry, .. }
        | Action::Kill { entry, .. }
        | Action::Revoke { entry, .. } => Some(entry),
        Action::Sweep { .. } => None,
    }
}

pub fn token_of(action: &Action) -> Option<&str> {
    entry_of(action).map(|entry| entry.token.as_str())
}
