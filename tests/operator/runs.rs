//! Runs after the first: when they begin, and what is shown meanwhile.

use std::time::Instant;

use remote_command::api::RemoteCommand;
use serde_json::{Value, json};

use crate::world::{World, condition, word};

/// Waits for a file, then says what it is told.
fn gated(world: &World, words: &str) -> String {
    format!("until test -e {}; do sleep 0.1; done; echo {words}", world.file("gate").display())
}

/// The operator has seen all that was written before, because it sees changes in their order.
async fn operator_has_seen(world: &World) {
    world.command("later", json!({"command": ["true"], "suspend": true})).await;
    world.shows("later", "Pending", "Suspended").await;
}

fn run(object: &RemoteCommand) -> i32 {
    object.status.as_ref().and_then(|status| status.run).unwrap_or_default()
}

/// Asks for a second run by a change of spec while the first one runs, and looks at all that
/// is shown until the second has ended.
async fn second_run(world: &World, fields: Value, change: Value) -> RemoteCommand {
    let mut spec = fields;
    spec["script"] = json!(gated(world, "first"));
    world.command("again", spec).await;
    let running = world
        .until("again", "it was seen running", |object| {
            let evidence = object.status.as_ref().and_then(|status| status.evidence.as_deref());
            evidence == Some("StillRunning")
        })
        .await;
    world.patch("again", change).await;
    operator_has_seen(world).await;
    std::fs::write(world.file("gate"), "").unwrap();
    let ended =
        |object: &RemoteCommand| run(object) == 2 && condition(object, "Finished") == "True";
    let versions = world.versions(&running, ended).await;
    assert!(versions.iter().any(|o| run(o) == 1 && word(o) == "Succeeded/Completed"), "run 1 ends");
    let begun = running.metadata.generation.unwrap();
    for object in &versions {
        let status = object.status.as_ref().unwrap();
        let observed = status.conditions.iter().flatten().map(|c| c.observed_generation.unwrap());
        for observed in observed.chain([status.observed_generation]) {
            assert_eq!(observed > begun, run(object) == 2, "{status:#?}");
        }
    }
    let first = versions.iter().find(|object| run(object) == 2).unwrap();
    assert_eq!(condition(first, "Finished"), "False", "the next run is shown as not finished");
    versions.into_iter().next_back().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_is_never_taken_for_the_end_of_the_one_that_was_asked_for_meanwhile() {
    let world = World::new().await;
    // The TTL must not take the object away before the run that is asked for.
    let spec = json!({"ttlSecondsAfterFinished": 0});
    let object = second_run(&world, spec, json!({"rerunToken": "once"})).await;
    assert_eq!(word(&object), "Succeeded/Completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn under_on_change_a_changed_command_is_a_new_run_after_the_current_one() {
    let world = World::new().await;
    let change = json!({"script": "echo second"});
    let object = second_run(&world, json!({"runPolicy": "OnChange"}), change).await;
    assert_eq!(word(&object), "Succeeded/Completed");
    assert_eq!(world.logged("again"), ["first", "second"]);
    let attempts = object.status.unwrap().attempts.unwrap();
    let each: Vec<_> = attempts.iter().map(|past| (past.run, past.exit_code)).collect();
    assert_eq!(each, [(1, Some(0)), (2, Some(0))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_on_change_a_command_that_nothing_started_of_is_changed_in_place() {
    let world = World::new().await;
    let spec = json!({"script": "echo old", "runPolicy": "OnChange", "suspend": true});
    world.command("held", spec).await;
    world.shows("held", "Pending", "Suspended").await;
    world.patch("held", json!({"script": "echo new"})).await;
    world
        .until("held", "the change was seen", |object| {
            let seen = object.status.as_ref().map(|status| status.observed_generation);
            seen == object.metadata.generation
        })
        .await;
    world.patch("held", json!({"suspend": null})).await;
    let object = world.shows("held", "Succeeded", "Completed").await;
    assert_eq!(run(&object), 1);
    assert_eq!(world.logged("held"), ["new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_final_for_the_run_in_which_it_was_seen_and_holds_for_all_while_it_stands() {
    let world = World::new().await;
    let timeouts = json!({"termination": "1s"});
    let script = "trap '' TERM; echo run; sleep 1000 & wait; sleep 1000";
    world.command("stopped", json!({"script": script, "timeouts": timeouts})).await;
    world.reaches("it runs", async || world.sleepers() == 1).await;
    let running = world.runs("stopped").await;
    world.patch("stopped", json!({"cancel": true})).await;
    world.versions(&running, |object| word(object) == "Running/Stopping").await;
    world.patch("stopped", json!({"cancel": null})).await;
    world.shows("stopped", "Failed", "Cancelled").await;
    world.reaches("nothing of it lives", async || world.sleepers() == 0).await;

    world.patch("stopped", json!({"cancel": true, "rerunToken": "again"})).await;
    let object =
        world.until("stopped", "run 2 ends", |o| run(o) == 2 && word(o) == "Failed/Cancelled");
    let status = object.await.status.unwrap();
    assert_eq!(status.evidence.as_deref(), Some("NeverStarted"));
    assert_eq!(world.logged("stopped"), ["run"], "only the first run started");
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_what_runs_touches_nothing_and_neither_does_the_end_of_its_host_object() {
    let world = World::new().await;
    world.command("long", json!({"script": gated(&world, "done")})).await;
    let running = world.runs("long").await;
    world.patch("long", json!({"suspend": true})).await;
    world.hosts().delete("local", &Default::default()).await.unwrap();
    operator_has_seen(&world).await;
    std::fs::write(world.file("gate"), "").unwrap();
    let versions = world.versions(&running, |object| condition(object, "Finished") == "True").await;
    let words: Vec<_> = versions.iter().map(word).collect();
    let quiet = words.iter().all(|w| w == "Running/Running" || w == "Succeeded/Completed");
    assert!(quiet, "{words:?}");
    assert_eq!(words.last().unwrap(), "Succeeded/Completed");
}

/// Notes each start; the first one sleeps until it is ended, and any other ends well at once.
fn once_asleep(world: &World) -> String {
    let starts = world.file("starts").display().to_string();
    format!("echo start >> {starts}; test $(wc -l < {starts}) -gt 1 || exec sleep 1000")
}

/// Its run is lost behind a cut link, and another one is asked for.
async fn lost_and_asked_for_again(world: &World, queue: &str) {
    let timeouts = json!({"resolve": "2s", "termination": "1s"});
    world.command("lost", json!({"script": once_asleep(world), "timeouts": timeouts})).await;
    world.runs("lost").await;
    world.reaches("it has begun", async || world.lines("starts").len() == 1).await;
    world.link.cut().await.unwrap();
    world.shows("lost", "Unknown", "Unreachable").await;
    let again = json!({"rerunToken": "again", "timeouts": {"queue": queue}});
    world.patch("lost", again).await;
}

/// Guards against a second run that is Finished at once, and launched when the host comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_behind_a_lost_one_waits_for_the_host_and_starts_once_when_it_is_back() {
    let world = World::new().await;
    lost_and_asked_for_again(&world, "1h").await;
    let waiting = world.until("lost", "run 2 has begun", |object| run(object) == 2).await;
    operator_has_seen(&world).await;
    // Longer than `resolve`, and time enough to be asked in vain.
    let since = Instant::now();
    world.reaches("some time has passed", async || since.elapsed().as_secs() >= 4).await;
    world.link.heal().await.unwrap();
    let ended = |object: &RemoteCommand| word(object) == "Succeeded/Completed";
    let versions = world.versions(&waiting, ended).await;
    let before = |object: &&RemoteCommand| word(object).starts_with("Pending/");
    assert_eq!(word(&waiting), "Pending/PreviousAttemptUncertain");
    for object in [&waiting].into_iter().chain(versions.iter().take_while(before)) {
        let shown = ["Finished", "Reconciling", "Stalled"].map(|name| condition(object, name));
        assert_eq!(shown, ["False", "True", "False"], "{object:#?}");
    }
    let early = versions.iter().rev().skip(1).any(|o| condition(o, "Finished") == "True");
    assert!(!early, "Finished is said once: {:?}", versions.iter().map(word).collect::<Vec<_>>());
    assert_eq!(world.lines("starts").len(), 2, "run 2 started once");
    assert_eq!(world.sleepers(), 0, "the lost one was ended before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_behind_a_lost_one_that_fails_at_its_queue_limit_is_not_started_later() {
    let world = World::new().await;
    lost_and_asked_for_again(&world, "4s").await;
    let object = world.until("lost", "run 2 ends", |o| word(o) == "Failed/QueueTimeout").await;
    let status = object.status.clone().unwrap();
    assert_eq!((status.run, status.evidence.as_deref()), (Some(2), Some("NeverStarted")));
    world.link.heal().await.unwrap();
    // The host is there again for whoever asks it, and run 2 is not among them.
    world.command("other", json!({"command": ["true"]})).await;
    world.shows("other", "Succeeded", "Completed").await;
    let since = Instant::now();
    world.reaches("some time has passed", async || since.elapsed().as_secs() >= 10).await;
    assert_eq!(word(&world.commands().get("lost").await.unwrap()), "Failed/QueueTimeout");
    assert_eq!((world.lines("starts").len(), world.sleepers()), (1, 1), "all is as it was");
    let once_more = json!({"rerunToken": "once more", "timeouts": {"queue": "1h"}});
    world.patch("lost", once_more).await;
    world.until("lost", "run 3 ends", |o| word(o) == "Succeeded/Completed").await;
    assert_eq!((world.lines("starts").len(), world.sleepers()), (2, 0), "the lost one was ended");
}
