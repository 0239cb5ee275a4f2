//! What commands wait for, and that they go on by themselves when it is there.

use serde_json::json;

use crate::world::{World, condition};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_and_heals() {
    let world = World::new().await;
    let from = json!({"secretKeyRef": {"name": "late", "key": "key"}});
    let env = json!([{"name": "TOKEN", "valueFrom": from}]);
    world.command("waiting", json!({"command": ["true"], "env": env})).await;
    let object = world.shows("waiting", "Pending", "SecretNotFound").await;
    assert_eq!(condition(&object, "Accepted"), "False");
    assert!(object.status.unwrap().message.unwrap().contains("late"));
    world.secret("late", &[("other", "value")]).await;
    let object = world.shows("waiting", "Pending", "SecretKeyNotFound").await;
    assert_eq!(condition(&object, "Accepted"), "False");
    world.delete_secret("late").await;
    world.secret("late", &[("key", "value")]).await;
    world.shows("waiting", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_named_and_heals() {
    let world = World::new().await;
    let spec = json!({"command": ["true"], "hostRef": {"name": "later"}});
    world.command("early", spec).await;
    let object = world.shows("early", "Pending", "HostNotFound").await;
    assert_eq!(condition(&object, "Accepted"), "False");
    world.declare_host("later").await;
    world.shows("early", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_names_who_is_in_the_way() {
    let world = World::new().await;
    world.declare_host_with("narrow", json!({"concurrency": 1})).await;
    let gate = world.file("gate");
    let script = format!("until test -e {}; do sleep 0.1; done", gate.display());
    let narrow = json!({"name": "narrow"});
    world.command("first", json!({"script": script, "hostRef": narrow})).await;
    world.shows("first", "Running", "Running").await;
    world.command("second", json!({"command": ["true"], "hostRef": narrow})).await;
    let object = world.shows("second", "Pending", "HostBusy").await;
    let blocker = format!("{}/first", world.namespace);
    assert!(object.status.unwrap().message.unwrap().contains(&blocker));
    std::fs::write(&gate, "").unwrap();
    world.shows("first", "Succeeded", "Completed").await;
    world.shows("second", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspension_holds_the_launch_until_it_is_taken_back() {
    let world = World::new().await;
    world.command("held", json!({"command": ["true"], "suspend": true})).await;
    world.shows("held", "Pending", "Suspended").await;
    world.patch("held", json!({"suspend": null})).await;
    world.shows("held", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_refuses_connections_fails_at_the_queue_limit() {
    let world = World::new().await;
    world.link.cut().await.unwrap();
    let spec = json!({"command": ["true"], "timeouts": {"queue": "3s"}});
    world.command("refused", spec).await;
    world.shows("refused", "Pending", "ConnectionRefused").await;
    let object = world.shows("refused", "Failed", "ConnectionRefused").await;
    assert_eq!(object.status.unwrap().evidence.as_deref(), Some("NeverStarted"));
}
