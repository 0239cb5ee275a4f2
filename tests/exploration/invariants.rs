//! What must hold in every state, and on every step.

use remote_command::core::action::{Action, Kind};
use remote_command::core::decide::decide;
use remote_command::core::outcome::{Ending, Failure, Loss, Success};
use remote_command::core::plan::{Execution, Idempotency, Plan};
use remote_command::core::stage::Place as At;

use crate::plans::Bounds;
use crate::world::{Operator, World};

/// The first invariant that this state breaks.
pub fn broken(bounds: &Bounds, world: &World) -> Option<&'static str> {
    let plan = &bounds.plan;
    let places = &world.host.places;
    if places.iter().any(|p| p.starts > 1) {
        return Some("an attempt started twice");
    }
    if places.iter().any(|p| p.starts > 0 && world.ghost.never.contains(&p.entry.token)) {
        return Some("an attempt that was said never to have started has started");
    }
    let of_run = |run: i32| places.iter().filter(move |p| p.entry.run == run);
    if plan.idempotency == Idempotency::NonIdempotent {
        let allowed = u32::from(world.ghost.retries) + 1;
        let commands = of_run(world.stage.run).filter(|p| p.entry.kind == Kind::Command);
        if commands.map(|p| u32::from(p.starts)).sum::<u32>() > allowed {
            return Some("a NonIdempotent run started twice");
        }
    }
    let alive = places.iter().filter(|p| p.is_alive()).count();
    if alive > 1 && !may_overlap(plan) {
        return Some("two attempts are alive at once");
    }
    result(bounds, world).or_else(|| losses(world)).or_else(|| rests(world))
}

fn may_overlap(plan: &Plan) -> bool {
    match &plan.execution {
        Execution::Recorded => false,
        Execution::Direct(direct) => direct.may_overlap,
    }
}

/// Results rest on what happened on the host.
fn result(bounds: &Bounds, world: &World) -> Option<&'static str> {
    let stage = &world.stage;
    let outcome = stage.outcome.as_ref()?;
    let mut own = world.host.places.iter().filter(|p| p.entry.run == stage.run);
    match outcome.ending {
        Ending::Succeeded(Success::Completed) => {
            let success = &bounds.plan.success_exit_codes;
            let ended = own.any(|p| p.ended_with.is_some_and(|code| success.contains(&code)));
            (!ended).then_some("Succeeded without that exit on the host")
        }
        Ending::Succeeded(Success::Verified) => {
            let found = own.any(|p| p.ended_with == Some(100) && p.entry.kind == Kind::Verify);
            (!found).then_some("Verified without that answer on the host")
        }
        Ending::Failed(Failure::NonZeroExit | Failure::Signaled) => {
            let ended = own.any(|p| {
                p.ended_with.is_some() && p.ended_with == outcome.exit_code
                    || p.ended_with == Some(143)
            });
            (!ended).then_some("Failed without that exit on the host")
        }
        Ending::Failed(Failure::ExecutionTimeout | Failure::IdleTimeout | Failure::Cancelled) => {
            let alive = own.any(|p| p.is_alive());
            (alive && !world.host.direct)
                .then_some("said to be stopped, and something of the run is alive")
        }
        Ending::Failed(Failure::QueueTimeout) => {
            let started = own.any(|p| p.starts > 0 && p.entry.kind == Kind::Command);
            started.then_some("said never to have started in time, and it had")
        }
        Ending::Succeeded(_) | Ending::Failed(_) | Ending::Unknown(_) => None,
    }
}

/// A loss needs its cause.
fn losses(world: &World) -> Option<&'static str> {
    let current = world.stage.current.as_ref()?;
    let loss = match &current.place {
        At::Lost(loss) | At::Fencing { loss, .. } => *loss,
        At::Ended(fate) => fate.loss()?,
        _ => return None,
    };
    match loss {
        Loss::RecordWiped if !world.ghost.wiped => Some("RecordWiped, and nobody wiped it"),
        Loss::LostByReboot if !world.ghost.rebooted => Some("LostByReboot without a reboot"),
        Loss::LostNoRecord if !world.ghost.supervisor_killed && !world.ghost.rebooted => {
            Some("LostNoRecord although the supervisor was not killed")
        }
        Loss::HostRolledBack => Some("HostRolledBack, and nobody restored a snapshot"),
        _ => None,
    }
}

/// Nobody waits for nothing, and what was released is clean.
fn rests(world: &World) -> Option<&'static str> {
    let stage = &world.stage;
    let swept = stage.deleting.as_ref().is_some_and(|d| d.swept);
    if swept && world.host.places.iter().any(|p| p.is_alive()) && !world.host.direct {
        return Some("released as clean, and something is alive");
    }
    match world.operator {
        Operator::Waiting(None) if stage.outcome.is_none() && !stage.released() => {
            Some("no outcome, no action and no wake-up")
        }
        Operator::Waiting(_) | Operator::Acting(_) => None,
    }
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
    None
}

/// With nothing more going wrong, everything ends.
pub fn does_not_end(bounds: &Bounds, world: &World) -> Option<&'static str> {
    let mut quiet = world.clone();
    quiet.left.faults = 0;
    for _ in 0..200 {
        if ended(&quiet) {
            return None;
        }
        let moves = quiet_moves(bounds, &quiet);
        let Some(next) = moves else { return Some("a quiet world stands still without an end") };
        quiet = next;
    }
    Some("a quiet world does not end")
}

fn ended(world: &World) -> bool {
    let stage = &world.stage;
    match &world.operator {
        Operator::Acting(_) => false,
        Operator::Waiting(_) if world.asked.delete => stage.released(),
        Operator::Waiting(wake) => {
            // Doubt may be asked about for ever; an end without it is an end.
            let doubt = stage.outcome.as_ref().is_some_and(|o| o.is_unknown());
            stage.outcome.is_some() && (wake.is_none() || doubt)
        }
    }
}

/// The operator goes on, time passes, commands end after a while, late requests arrive.
fn quiet_moves(bounds: &Bounds, world: &World) -> Option<World> {
    let next = world.clone();
    let mut moves = Vec::new();
    next.host_moves(bounds, &mut moves);
    let late = !world.network.is_empty();
    if late {
        return moves.into_iter().next().map(|(_, world)| world);
    }
    let mut alone = world.clone();
    alone.left = crate::world::Left { faults: 0, cancels: 0, deletes: 0, reruns: 0, words: 0 };
    let mut steps = alone.successors(bounds);
    (!steps.is_empty()).then(|| steps.swap_remove(0).1)
}

/// Deciding twice on the same thing is deciding once: used on saved stages with nothing seen.
pub fn is_restless(plan: &Plan, world: &World) -> Option<&'static str> {
    let now = remote_command::core::decide::Now { at: crate::world::now(), seed: 0 };
    let seen = remote_command::core::action::Seen::Nothing;
    let once = decide(plan, &world.asked, &world.stage, &seen, &now);
    let twice = decide(plan, &world.asked, &once.stage, &seen, &now);
    let still = once.stage == twice.stage || twice.stage.run > once.stage.run;
    (!still && once.action.is_none()).then_some("deciding again changes the stage again")
}
