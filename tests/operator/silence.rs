//! What the API server says can come late, or never: nothing waits for ever, and nothing is
//! mistaken for something else.

use std::collections::BTreeSet;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::support::link::Link;
use crate::world::{Plane, World};

/// So that a silent watch is noticed within a test.
const IMPATIENT: &[&str] = &["--watch-timeout=3s"];

async fn link_to_api(world: &World) -> Link {
    Link::start(world.plane.recipe().api_port()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_started_before_its_api_server_waits_and_then_works() {
    let world = World::without_operator(Plane::own().await).await;
    world.declare_host("local").await;
    world.command("early", json!({"command": ["true"]})).await;
    world.plane.kill_apiserver();
    let operator = world.start_operator();
    world
        .reaches("it says what it waits for", async || world.said(operator).contains("waiting: "))
        .await;
    world.plane.restart_apiserver().await.unwrap();
    world.shows("early", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_heeded_although_the_watch_has_gone_deaf() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    let link = link_to_api(&world).await;
    world.start_operator_over(&link, IMPATIENT);
    world.command("long", json!({"command": ["sleep", "1000"]})).await;
    world.runs("long").await;
    link.forsake();
    world.patch("long", json!({"cancel": true})).await;
    world.shows("long", "Failed", "Cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_gets_no_answer_is_made_again() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    world.command("early", json!({"command": ["true"]})).await;
    let link = link_to_api(&world).await;
    let operator = world.start_operator_over(&link, IMPATIENT);
    world
        .reaches("it is about to list", async || {
            let said = world.said(operator).contains("leading");
            if said {
                link.forsake();
            }
            said
        })
        .await;
    world.shows("early", "Succeeded", "Completed").await;
}

/// Takes the object away in spite of its finalizer.
async fn force_away(world: &World, name: &str) {
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.commands().delete(name, &DeleteParams::default()).await.unwrap();
    world.commands().patch(name, &PatchParams::default(), &none).await.unwrap();
    world.is_gone(name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_no_watch_tells_of_is_found_out_and_a_namesake_is_another_one() {
    let world = World::without_operator(Plane::own().await).await;
    world.declare_host("local").await;
    let link = link_to_api(&world).await;
    let operator = world.start_operator_over(&link, &[]);
    for name in ["gone", "replaced"] {
        world.command(name, json!({"command": ["sleep", "1000"]})).await;
        // Afterwards there is nothing to write, and no answer from which to learn of its end.
        let stage = world.runs(name).await.status.unwrap().stage.unwrap();
        let saved = format!("stage saved name=\"{name}\" revision={}", stage.revision);
        world.reaches("the answer has come", async || world.said(operator).contains(&saved)).await;
    }
    world.command("ended", json!({"command": ["echo", "done"]})).await;
    let uid = world.shows("ended", "Succeeded", "Completed").await.metadata.uid.unwrap();
    let state = world.log(operator).with_extension("").join("state");
    let mark = state.join(format!("output/{uid}.stdout"));
    assert!(mark.exists(), "its output was logged");
    link.cut().await.unwrap();
    force_away(&world, "ended").await;
    force_away(&world, "gone").await;
    force_away(&world, "replaced").await;
    world.command("replaced", json!({"script": "echo another one"})).await;
    // A restarted API server does not know what was deleted before: it can only be listed.
    world.plane.restart_apiserver().await.unwrap();
    link.heal().await.unwrap();
    world.shows("replaced", "Succeeded", "Completed").await;
    assert_eq!(world.logged("replaced"), ["another one"]);
    world
        .reaches("both are known to be gone", async || {
            let said = world.said(operator);
            let missed = said.lines().filter(|line| line.contains("its deletion was not seen"));
            let names: BTreeSet<_> = missed.filter_map(|line| line.split("name=").nth(1)).collect();
            names.len() == 2
        })
        .await;
    world.reaches("what was kept of the one at rest goes, too", async || !mark.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_that_arrives_late_is_not_put_on_a_namesake() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    let link = link_to_api(&world).await;
    let operator = world.start_operator_over(&link, &[]);
    world.command("first", json!({"command": ["true"]})).await;
    world.shows("first", "Succeeded", "Completed").await;
    link.mute();
    let spec = || json!({"command": ["true"]});
    world.command("late", spec()).await;
    world
        .reaches("its finalizer is on the way", async || {
            world.said(operator).contains("the finalizer is being added")
        })
        .await;
    world.delete("late").await;
    world.is_gone("late").await;
    let mut foreign = spec();
    foreign["managedBy"] = json!("example.com/other");
    world.command("late", foreign).await;
    link.heal().await.unwrap();
    world
        .reaches("the finalizer was refused", async || {
            world.said(operator).contains("finalizer not added")
        })
        .await;
    let namesake = world.commands().get("late").await.unwrap();
    assert_eq!(namesake.metadata.finalizers, None);
}
