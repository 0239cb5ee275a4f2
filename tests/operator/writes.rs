//! How often the API server is written to.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{WatchEvent, WatchParams};
use serde_json::json;

use crate::world::{LIMIT, World, word};

/// How long nothing must happen to count as rest.
const REST: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_succeeds_first_time_costs_few_writes_and_none_at_rest() {
    let world = World::new().await;
    world.host_shows("local", "True", "Connected").await;
    let created = world.command("hello", json!({"script": "echo hello; sleep 1"})).await;
    let selector = WatchParams::default().fields("metadata.name=hello");
    let version = created.metadata.resource_version.unwrap();
    let commands = world.commands();
    let mut events = commands.watch(&selector, &version).await.unwrap().boxed();
    let mut writes = Vec::new();
    let ended = tokio::time::timeout(LIMIT, async {
        while let Some(event) = events.try_next().await.unwrap() {
            if let WatchEvent::Modified(object) = event {
                let word = word(&object);
                writes.push(word.clone());
                if word == "Succeeded/Completed" {
                    return;
                }
            }
        }
    });
    ended.await.unwrap();
    let finalizer = writes.iter().filter(|word| word.as_str() == "Pending/").count();
    assert_eq!(finalizer, 1, "{writes:?}");
    assert!(writes.len() - finalizer <= 4, "{writes:?}");
    let more = tokio::time::timeout(REST, events.try_next()).await;
    assert!(more.is_err(), "a write at rest: {more:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_command_that_says_nothing_costs_no_writes() {
    let world = World::new().await;
    world.command("quiet", json!({"command": ["sleep", "1000"]})).await;
    let running = world
        .until("quiet", "it was seen running", |object| {
            let evidence = object.status.as_ref().and_then(|status| status.evidence.as_deref());
            evidence == Some("StillRunning")
        })
        .await;
    let version = running.metadata.resource_version.unwrap();
    let selector = WatchParams::default().fields("metadata.name=quiet");
    let commands = world.commands();
    let mut events = commands.watch(&selector, &version).await.unwrap().boxed();
    let more = tokio::time::timeout(REST, events.try_next()).await;
    assert!(more.is_err(), "a write while nothing changes: {more:?}");
}
