//! What must hold in every state, and on every step.

use std::collections::BTreeMap;
use std::time::Duration;

use remote_command::core::action::{Action, Kind};
use remote_command::core::decide::decide;
use remote_command::core::outcome::{Ending, Evidence, Failure, Fate, Loss, Success};
use remote_command::core::plan::{Execution, Idempotency, Plan};
use remote_command::core::stage::{Next, Place as At, Stage};

use crate::mutants::Mutant;
use crate::place::Claim;
use crate::plans::{Bounds, Elsewhere};
use crate::world::{Operator, World, now};

pub const STARTED_TWICE: &str = "an attempt started twice";
pub const NEVER_STARTED: &str = "an attempt that was said never to have started has started";
pub const RUN_STARTED_TWICE: &str = "a NonIdempotent run started more often than was allowed";
pub const TWO_ALIVE: &str = "two attempts are alive at once";
pub const TWO_SPECS: &str = "a run has started what two specs say";
pub const FOREIGN_END: &str = "an attempt has an end that is not its own";
pub const WORD_TWICE: &str = "a person's Retry was used twice";
pub const LAUNCHED_OVER: &str = "a run that was shown as over has launched by itself";
pub const UNLOST: &str = "LostNoRecord although the supervisor was not killed";
pub const UNSWEPT: &str = "released as clean, and a store elsewhere was not swept";
pub const UNTRIED: &str = "given up on a store that would have answered";
pub const UNREAD: &str = "a stop has ended before the exit that its supervisor puts on record";
pub const UNWIPED: &str = "RecordWiped, and nobody wiped it";

/// How long the exit record of what was stopped and is gone has to be waited for.
const RECORD_PATIENCE: Duration = Duration::from_secs(5);

/// The first invariant that this state breaks.
pub fn broken(bounds: &Bounds, world: &World) -> Option<&'static str> {
    starts(&bounds.plan, world)
        .or_else(|| ends(world))
        .or_else(|| result(bounds, world))
        .or_else(|| rests(world))
        .or_else(|| abandons(bounds, world))
}

/// What may start, how often, and beside what.
fn starts(plan: &Plan, world: &World) -> Option<&'static str> {
    let places = &world.host.places;
    let mut by_number: BTreeMap<_, u8> = BTreeMap::new();
    let mut by_run: BTreeMap<i32, u8> = BTreeMap::new();
    let mut specs: BTreeMap<i32, &String> = BTreeMap::new();
    for place in places {
        if place.starts > 1 {
            return Some(STARTED_TWICE);
        }
        if place.starts > 0 && world.ghost.never.contains(&place.entry.token) {
            return Some(NEVER_STARTED);
        }
        if place.entry.kind == Kind::Verify {
            continue;
        }
        *by_number.entry((place.entry.run, place.entry.attempt)).or_default() += place.starts;
        *by_run.entry(place.entry.run).or_default() += place.starts;
        let spec = world.ghost.specs.get(&place.entry.token).filter(|_| place.starts > 0);
        if let Some(spec) = spec
            && specs.insert(place.entry.run, spec).is_some_and(|other| other != spec)
        {
            return Some(TWO_SPECS);
        }
    }
    if by_number.values().any(|starts| *starts > 1) {
        return Some(STARTED_TWICE);
    }
    let allowed = |run: &i32| world.ghost.retries.get(run).copied().unwrap_or(0) + 1;
    if plan.idempotency == Idempotency::NonIdempotent
        && by_run.iter().any(|(run, starts)| *starts > allowed(run))
    {
        return Some(RUN_STARTED_TWICE);
    }
    if world.ghost.unused_retries < 0 {
        return Some(WORD_TWICE);
    }
    if world.ghost.launched_over {
        return Some(LAUNCHED_OVER);
    }
    let alive = places.iter().filter(|p| p.is_alive()).count();
    (alive > 1 && !may_overlap(plan)).then_some(TWO_ALIVE)
}

fn may_overlap(plan: &Plan) -> bool {
    match &plan.execution {
        Execution::Recorded => false,
        Execution::Direct(direct) => direct.may_overlap,
    }
}

/// An end that was read is the end that the process of this very entry had.
fn ends(world: &World) -> Option<&'static str> {
    let current = world.stage.current.as_ref()?;
    let exit = current.fate()?.exit()?;
    let own = world.host.places.iter().find(|p| p.entry.token == current.entry.token);
    (own.and_then(|p| p.ended_with) != Some(exit.code())).then_some(FOREIGN_END)
}

/// Results rest on what happened on the host.
fn result(bounds: &Bounds, world: &World) -> Option<&'static str> {
    let stage = &world.stage;
    let outcome = stage.outcome.as_ref()?;
    let own = || world.host.places.iter().filter(|p| p.entry.run == stage.run);
    let commands = || own().filter(|p| p.entry.kind == Kind::Command);
    let judged = || commands().filter(|p| p.entry.attempt == stage.attempt);
    if outcome.evidence == Some(Evidence::NeverStarted) && commands().any(|p| p.starts > 0) {
        return Some("said never to have started, and it had");
    }
    match outcome.ending {
        Ending::Succeeded(Success::Completed) => {
            let success = &bounds.plan.success_exit_codes;
            let ended = judged().any(|p| p.ended_with.is_some_and(|code| success.contains(&code)));
            (!ended).then_some("Succeeded without that exit on the host")
        }
        Ending::Succeeded(Success::Verified) => {
            let found = own().any(|p| p.ended_with == Some(100) && p.entry.kind == Kind::Verify);
            (!found).then_some("Verified without that answer on the host")
        }
        Ending::Failed(Failure::NonZeroExit | Failure::Signaled) => {
            let code = outcome.exit_code;
            let ended = code.is_some() && commands().any(|p| p.ended_with == code);
            (!ended).then_some("Failed without that exit on the host")
        }
        Ending::Failed(Failure::ExecutionTimeout | Failure::IdleTimeout | Failure::Cancelled) => {
            let alive = own().any(|p| p.is_alive());
            alive.then_some("said to be stopped, and something of the run is alive")
        }
        Ending::Failed(
            Failure::VerifyFailed
            | Failure::QueueTimeout
            | Failure::ConnectionRefused
            | Failure::EnvironmentRefused
            | Failure::HostChanged,
        ) => {
            let started = commands().any(|p| p.starts > 0);
            started.then_some("failed as if it had not started, and it had")
        }
        Ending::Succeeded(_) | Ending::Failed(_) | Ending::Unknown(_) => None,
    }
}

/// A loss that is concluded needs its cause.
fn losses(before: &World, world: &World) -> Option<&'static str> {
    let current = world.stage.current.as_ref()?;
    let place = |w: &World| w.stage.current.as_ref().map(|c| c.place.clone());
    if place(before) == place(world) {
        return None;
    }
    let loss = match &current.place {
        At::Lost(loss) | At::Fencing { loss, .. } => *loss,
        At::Ended(fate) => fate.loss()?,
        _ => return None,
    };
    let ghost = &before.ghost;
    let cannot_tell = world.host.nature.cannot_tell || world.mutant() == Mutant::BootIgnored;
    match loss {
        // An unclean reboot may take entries along, which a host without a boot identity
        // cannot tell from a wipe.
        Loss::RecordWiped if !(ghost.wiped || cannot_tell && ghost.rebooted) => Some(UNWIPED),
        Loss::LostByReboot if !ghost.rebooted => Some("LostByReboot without a reboot"),
        // Without a boot identity even a revoked entry proves nothing.
        Loss::LostNoRecord if !(ghost.supervisor_killed || cannot_tell) => Some(UNLOST),
        Loss::HostRolledBack if !(ghost.rolled_back || cannot_tell && ghost.rebooted) => {
            Some("HostRolledBack, and nobody restored a snapshot")
        }
        _ => None,
    }
}

/// Nobody waits for nothing, and what was released is clean.
fn rests(world: &World) -> Option<&'static str> {
    let stage = &world.stage;
    let swept = stage.deleting.as_ref().is_some_and(|d| d.swept);
    let places = &world.host.places;
    if swept && places.iter().any(|p| p.is_alive()) {
        return Some("released as clean, and something is alive");
    }
    if swept
        && !world.host.nature.direct
        && places.iter().any(|p| p.present && p.claim == Claim::Taken)
    {
        return Some("released as clean, and the record of a start is there");
    }
    match world.operator {
        Operator::Waiting(None) if world.asked.delete && !stage.released() => {
            Some("deletion waits for nothing")
        }
        Operator::Waiting(None) if stage.outcome.is_none() && !stage.released() => {
            Some("no outcome, no action and no wake-up")
        }
        Operator::Waiting(None) if !stage.released() && is_asked_about(stage) => {
            Some("a doubt that the host could end, and nobody asks")
        }
        Operator::Waiting(_) | Operator::Acting(_) => None,
    }
}

/// What is given up on was tried: one store that does not answer holds up no other.
fn abandons(bounds: &Bounds, world: &World) -> Option<&'static str> {
    let deleting = world.stage.deleting.as_ref()?;
    let reachable = bounds.elsewhere == Some(Elsewhere::Alive);
    if deleting.swept && bounds.elsewhere.is_some() && !world.ghost.swept_elsewhere {
        return Some(UNSWEPT);
    }
    if reachable && !deleting.abandoned.is_empty() && !world.stage.traces.is_empty() {
        return Some(UNTRIED);
    }
    // What cannot be ended is in the way of its own record's sweep only.
    let ends = !world.host.nature.direct && !world.host.nature.unkillable;
    let undisturbed = world.left.faults == bounds.left.faults && world.link;
    let present = world.host.places.iter().any(|p| p.present && p.claim == Claim::Taken);
    let own = present && undisturbed && ends;
    (own && !deleting.abandoned.is_empty()).then_some(UNTRIED)
}

/// The run is Unknown, and the host may have more to say of its last attempt.
fn is_asked_about(stage: &Stage) -> bool {
    let unknown = stage.outcome.as_ref().is_some_and(|o| o.is_unknown());
    let open = |place: &At| !matches!(place, At::Lost(_) | At::Ended(_));
    unknown && stage.current.as_ref().is_some_and(|c| open(&c.place))
}

/// What a step may not do to what was there before it.
pub fn broken_step(before: &World, after: &World) -> Option<&'static str> {
    let (was, is) = (&before.stage, &after.stage);
    let number = |w: &World| (w.stage.run, w.stage.attempt);
    let one_on = is.run == was.run && is.attempt - was.attempt <= 1 || is.run == was.run + 1;
    if number(after) < number(before) || !one_on {
        return Some("run and attempt go on by one");
    }
    if let (Some(old), true) = (&was.outcome, is.run == was.run)
        && !old.is_unknown()
        && is.outcome.as_ref().map(|o| (o.ending, o.exit_code)) != Some((old.ending, old.exit_code))
    {
        return Some("a final outcome changed");
    }
    let launched = |w: &World| match &w.operator {
        Operator::Acting(Action::Launch { entry, .. }) => Some(entry.token.clone()),
        Operator::Acting(_) | Operator::Waiting(_) => None,
    };
    if let (Some(token), true) = (launched(after), launched(before) != launched(after))
        && before.stage.current.as_ref().is_some_and(|c| c.entry.token == token)
    {
        return Some("a launch was given twice");
    }
    losses(before, after).or_else(|| unread(before, after))
}

/// A stop is over when what is put on record about it was read, or did not come for a while.
fn unread(before: &World, world: &World) -> Option<&'static str> {
    let current = world.stage.current.as_ref()?;
    let former = before.stage.current.as_ref()?;
    let no_exit = |fate: &Fate| matches!(fate, Fate::Stopped { exit: None, .. });
    if current.direct || former.is_fenced() || !current.fate().is_some_and(no_exit) {
        return None;
    }
    let own = before.host.places.iter().find(|p| p.entry.token == current.entry.token)?;
    let to_be_read = own.present && (own.supervisor || own.exit.is_some());
    let gone = former.stop_seen_through().and_then(|stop| stop.gone);
    let waited = gone.is_some_and(|gone| gone <= now() - RECORD_PATIENCE);
    (to_be_read && !waited).then_some(UNREAD)
}

/// True when nothing more is to come in a world where nothing more goes wrong. Unknown is an
/// end only where the host has no more to say: its attempt is fenced, its class leaves a loss
/// at that, or what outlived KILL is named.
pub fn is_at_its_end(plan: &Plan, world: &World) -> bool {
    let stage = &world.stage;
    let Operator::Waiting(wake) = world.operator else { return false };
    if world.asked.delete {
        return stage.released();
    }
    let Some(outcome) = &stage.outcome else { return false };
    if !outcome.is_unknown() {
        return wake.is_none();
    }
    stage.current.as_ref().is_none_or(|current| match &current.place {
        At::Ended(_) => true,
        At::Lost(_) => !goes_on_after_loss(plan, world),
        At::Stopping(stop) | At::Fencing { stop, .. } => stop.failed(),
        At::Launching | At::Running | At::Finishing { .. } | At::Vanished => false,
    })
}

/// What the class of the command says of a lost attempt of the current run.
fn goes_on_after_loss(plan: &Plan, world: &World) -> bool {
    let (stage, asked) = (&world.stage, &world.asked);
    let own = stage.current.as_ref().is_some_and(|c| c.entry.run == stage.run && !c.direct);
    let repeatable = plan.idempotency != Idempotency::NonIdempotent;
    let unchanged = !asked.on_change || asked.frozen_digest == stage.frozen_digest;
    let wanted = stage.cancelled.is_none() && unchanged && stage.next != Next::PersonsRetry;
    let left = stage.starts <= plan.retry.limit;
    own && repeatable && wanted && left && !world.host.nature.cannot_tell
}

/// Deciding twice on the same thing is deciding once: used on saved stages with nothing seen.
pub fn is_restless(plan: &Plan, world: &World) -> Option<&'static str> {
    let now = remote_command::core::decide::Now { at: crate::world::now(), seed: 0, secret: 0 };
    let seen = remote_command::core::action::Seen::Nothing;
    let once = decide(plan, &world.asked, &world.stage, &seen, &now);
    let twice = decide(plan, &world.asked, &once.stage, &seen, &now);
    let still = once.stage == twice.stage || twice.stage.run > once.stage.run;
    (!still && once.action.is_none()).then_some("deciding again changes the stage again")
}
