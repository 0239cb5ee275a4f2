//! One operator of several acts, and another takes over when its Lease has run out.

use serde_json::json;

use crate::world::{Plane, World};

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_start_each_command_once_and_one_takes_over() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    world.start_operator();
    world.start_operator();
    let file = world.file("starts");
    for n in 0..5 {
        let script = format!("echo {n} >> {}", file.display());
        world.command(&format!("c{n}"), json!({"script": script})).await;
    }
    let script = format!("echo long >> {}; sleep 6", file.display());
    world.command("long", json!({"script": script})).await;
    for n in 0..5 {
        world.shows(&format!("c{n}"), "Succeeded", "Completed").await;
    }
    world.shows("long", "Running", "Running").await;
    let leads = |n: usize| std::fs::read_to_string(world.log(n)).unwrap().contains("leading");
    let leader = if leads(0) { 0 } else { 1 };
    assert!(!leads(1 - leader), "only one leads");
    world.kill_operator(leader);
    world.shows("long", "Succeeded", "Completed").await;
    assert!(leads(1 - leader));
    assert_eq!(world.lines("starts").len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_that_both_believe_to_lead_start_each_command_once() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    world.start_operator_with_lease("one");
    world.start_operator_with_lease("two");
    let file = world.file("starts");
    for n in 0..8 {
        let script = format!("echo {n} >> {}", file.display());
        world.command(&format!("c{n}"), json!({"script": script})).await;
    }
    for n in 0..8 {
        world.shows(&format!("c{n}"), "Succeeded", "Completed").await;
    }
    for number in 0..2 {
        let log = std::fs::read_to_string(world.log(number)).unwrap();
        assert!(log.contains("leading"), "operator {number} did not take part");
    }
    let mut starts = world.lines("starts");
    starts.sort();
    assert_eq!(starts, ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_old_definitions_does_not_begin() {
    let plane = Plane::own().await;
    let old = [
        "annotate",
        "crd/remotecommands.remotecommand.dev",
        "--overwrite",
        "remotecommand.dev/schema-version=0",
    ];
    plane.kubectl(&old).await.unwrap();
    let world = World::without_operator(plane).await;
    world.declare_host("local").await;
    let operator = world.start_operator();
    world.command("early", json!({"command": ["true"]})).await;
    world
        .reaches("the operator says what is wrong", async || {
            let log = std::fs::read_to_string(world.log(operator)).unwrap_or_default();
            log.contains("older than this program")
        })
        .await;
    assert_eq!(world.commands().get("early").await.unwrap().metadata.finalizers, None);
    world.plane.apply_crds().await.unwrap();
    world.shows("early", "Succeeded", "Completed").await;
}
