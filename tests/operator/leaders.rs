//! One operator of several acts, and another takes over when its Lease has run out.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::Api;
use serde_json::json;

use crate::world::{Plane, World};

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), &world.namespace)
}

async fn lease(world: &World) -> LeaseSpec {
    leases(world).get("remote-command-operator").await.unwrap().spec.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_start_each_command_once_and_one_takes_over() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    // Long enough for renewals on a busy machine.
    world.start_operator_with(&["--lease-duration=8s"]);
    world.start_operator_with(&["--lease-duration=8s"]);
    let file = world.file("starts");
    for n in 0..5 {
        let script = format!("echo {n} >> {}", file.display());
        world.command(&format!("c{n}"), json!({"script": script})).await;
    }
    let gate = world.file("gate");
    let script = format!(
        "echo long >> {}; until test -e {}; do sleep 0.1; done",
        file.display(),
        gate.display()
    );
    world.command("long", json!({"script": script})).await;
    for n in 0..5 {
        world.shows(&format!("c{n}"), "Succeeded", "Completed").await;
    }
    world.runs("long").await;
    let leads = |n: usize| std::fs::read_to_string(world.log(n)).unwrap().contains("leading");
    let leader = if leads(0) { 0 } else { 1 };
    assert!(!leads(1 - leader), "only one leads");
    world.kill_operator(leader);
    let former = lease(&world).await;
    std::fs::write(gate, "").unwrap();
    world.shows("long", "Succeeded", "Completed").await;
    assert!(leads(1 - leader));
    let ran_out = former.renew_time.unwrap().0 + Duration::from_secs(8);
    let taken = lease(&world).await.acquire_time.unwrap().0;
    assert!(taken >= ran_out, "taken over at {taken}, before {ran_out}");
    assert_eq!(world.lines("starts").len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_that_both_believe_to_lead_start_each_command_once() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    world.start_operator_with(&["--lease-name=one"]);
    world.start_operator_with(&["--lease-name=two"]);
    for number in 0..2 {
        world.reaches("both lead", async || world.said(number).contains("leading")).await;
    }
    let file = world.file("starts");
    for n in 0..8 {
        let script = format!("echo {n} >> {}", file.display());
        world.command(&format!("c{n}"), json!({"script": script})).await;
    }
    for n in 0..8 {
        world.shows(&format!("c{n}"), "Succeeded", "Completed").await;
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

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_started_again_leads_at_once() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    // Nobody could wait for its end here.
    let operator = world.start_operator_with(&["--lease-duration=600s"]);
    world.command("before", json!({"command": ["true"]})).await;
    world.shows("before", "Succeeded", "Completed").await;
    let former = lease(&world).await;
    world.kill_operator(operator);
    world.restart_operator(operator);
    world.command("after", json!({"command": ["true"]})).await;
    world.shows("after", "Succeeded", "Completed").await;
    let lease = lease(&world).await;
    assert_eq!(lease.holder_identity, former.holder_identity);
    assert!(lease.lease_transitions > former.lease_transitions);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_with_the_same_identity_do_not_take_the_lease_from_each_other() {
    let world = World::without_operator(Plane::shared().await).await;
    for _ in 0..2 {
        world.start_operator_with(&["--identity=same", "--lease-duration=10s"]);
    }
    let api = leases(&world);
    let led = async || api.get_opt("remote-command-operator").await.unwrap().is_some();
    world.reaches("one leads", led).await;
    let first = lease(&world).await;
    world
        .reaches("it has renewed its lease for longer than that lasts", async || {
            let now = lease(&world).await;
            assert_eq!(now.lease_transitions, first.lease_transitions, "the same term");
            let renewed = first.renew_time.as_ref().unwrap().0 + Duration::from_secs(12);
            now.renew_time.unwrap().0 > renewed
        })
        .await;
    assert!(!(world.said(0).contains("leading") && world.said(1).contains("leading")));
}
