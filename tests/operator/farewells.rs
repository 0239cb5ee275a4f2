//! Objects that go together with what they refer to, or without being let go.

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::world::{Plane, World};

/// A finished command whose records are gone from the host.
async fn finished(world: &World) {
    world.command("done", json!({"command": ["echo", "hello"]})).await;
    let done = world.shows("done", "Succeeded", "Completed").await;
    let swept = format!("swept uid=\"{}\"", done.metadata.uid.unwrap());
    world
        .reaches("the host is swept", async || {
            world.said(0).lines().any(|line| line.ends_with(&format!(": {swept}")))
        })
        .await;
    assert_eq!(world.kept_output(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_command_goes_at_once_together_with_its_host_and_its_secret() {
    let world = World::new().await;
    finished(&world).await;
    world.hosts().delete("local", &DeleteParams::default()).await.unwrap();
    world.delete_secret("ssh").await;
    world.link.cut().await.unwrap();
    world.delete("done").await;
    world.is_gone("done").await;
    assert!(world.events("done").await.iter().all(|(reason, _)| reason != "Abandoned"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_operator_finished_goes_soon_after_its_secret_and_what_may_stay_is_named() {
    let world = World::new().await;
    finished(&world).await;
    world.kill_operator(0);
    world.hosts().delete("local", &DeleteParams::default()).await.unwrap();
    world.delete_secret("ssh").await;
    world.delete("done").await;
    world.restart_operator(0);
    world.is_gone("done").await;
    let note = world.tells("done", "Abandoned").await;
    assert!(note.contains("may stay on local") && note.contains("does not exist"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_a_finished_command_goes() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    let lease = format!("--lease-name={}", world.namespace);
    world.allow_leases("default").await;
    world.start_operator_with(&["--lease-namespace=default", &lease]);
    finished(&world).await;
    world.link.cut().await.unwrap();
    let namespace = world.namespace.as_str();
    world.plane.kubectl(&["delete", "namespace", namespace, "--timeout=60s"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_finalizer_somebody_removed_is_logged_and_its_namesake_is_another() {
    let world = World::new().await;
    let first = world.command("torn", json!({"command": ["sleep", "1000"]})).await;
    world.reaches("it runs", async || world.sleepers() == 1).await;
    world.runs("torn").await;
    // Deletion is asked for only where the operator cannot end it before we do.
    world.link.cut().await.unwrap();
    world.shows("torn", "Running", "Reattaching").await;
    world.delete("torn").await;
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.commands().patch("torn", &PatchParams::default(), &patch).await.unwrap();
    world.is_gone("torn").await;
    world.link.heal().await.unwrap();
    world.command("torn", json!({"command": ["echo", "another"]})).await;
    world.shows("torn", "Succeeded", "Completed").await;
    let uid = first.metadata.uid.unwrap();
    world
        .reaches("what stays where is logged", async || {
            let log = std::fs::read_to_string(world.log(0)).unwrap();
            let mut lines = log.lines().filter(|line| line.contains("removed by somebody else"));
            lines.any(|line| line.contains(&uid) && line.contains("local"))
        })
        .await;
    assert_eq!(world.sleepers(), 1, "what runs on the host is not touched");
}

/// What refers to a Secret looks for another way once it is gone, and there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_command_is_ended_over_the_connection_that_stands_when_its_secret_is_gone() {
    let world = World::new().await;
    world.declare_host("other").await;
    world.host_shows("other", "True", "Connected").await;
    world.command("runs", json!({"command": ["sleep", "1000"]})).await;
    world.reaches("it runs", async || world.sleepers() == 1).await;
    world.runs("runs").await;
    world.delete_secret("ssh").await;
    world.hosts().delete("other", &DeleteParams::default()).await.unwrap();
    world.host_shows("local", "False", "SecretNotFound").await;
    world.delete("runs").await;
    world.is_gone("runs").await;
    assert_eq!(world.sleepers(), 0);
    let events = world.events("runs").await;
    assert!(events.iter().all(|(reason, _)| reason != "Abandoned"), "{events:?}");
}
