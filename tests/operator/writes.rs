//! How often the API server is written to.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::WatchParams;
use remote_command::api::RemoteCommand;
use serde_json::json;

use crate::world::{World, word};

/// How long nothing must happen to count as rest.
const REST: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_succeeds_first_time_costs_few_writes_and_none_at_rest() {
    let world = World::new().await;
    world.host_shows("local", "True", "Connected").await;
    let created = world.command("hello", json!({"script": "echo hello; sleep 1"})).await;
    let (writes, last) = writes_until_success(&world, &created).await;
    assert!(writes.len() <= 4, "{writes:?}");
    let selector = WatchParams::default().fields("metadata.name=hello");
    let version = last.metadata.resource_version.unwrap();
    let commands = world.commands();
    let mut events = commands.watch(&selector, &version).await.unwrap().boxed();
    let more = tokio::time::timeout(REST, events.try_next()).await;
    assert!(more.is_err(), "a write at rest: {more:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_talks_for_long_costs_no_more_writes_and_shows_some_of_it_meanwhile() {
    let world = World::new().await;
    world.host_shows("local", "True", "Connected").await;
    let script = "n=0; while test $n -lt 24; do echo $n; n=$((n + 1)); sleep 1; done";
    let created = world.command("talks", json!({"script": script})).await;
    let (writes, last) = writes_until_success(&world, &created).await;
    assert!(writes.len() <= 4, "{writes:?}");
    let shown: BTreeSet<i64> = writes.iter().map(|(_, bytes)| *bytes).collect();
    assert!(shown.len() >= 3, "nothing, some and all of it: {writes:?}");
    let tail = last.status.unwrap().output.unwrap().stdout.tail.unwrap();
    assert_eq!(tail.lines().count(), 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_in_a_queue_is_written_once_however_often_the_one_in_the_way_changes() {
    let world = World::new().await;
    world.host_shows("local", "True", "Connected").await;
    world.declare_host_with("narrow", json!({"concurrency": 1})).await;
    let narrow = json!({"name": "narrow"});
    let gate = world.file("gate");
    let script = format!("until test -e {}; do sleep 0.1; done", gate.display());
    world.command("c0", json!({"script": script, "hostRef": narrow})).await;
    world.runs("c0").await;
    for n in 1..4 {
        let spec = json!({"command": ["true"], "hostRef": narrow});
        world.command(&format!("c{n}"), spec).await;
        world.shows(&format!("c{n}"), "Pending", "HostBusy").await;
    }
    let waiting = world.commands().get("c3").await.unwrap();
    std::fs::write(&gate, "").unwrap();
    let (writes, _) = writes_until_success(&world, &waiting).await;
    let busy = writes.iter().filter(|(word, _)| word == "Pending/HostBusy").count();
    assert_eq!(busy, 0, "it said so once before: {writes:?}");
}

/// Phase and reason, and the bytes of output, of each status written from `first` on until the
/// command has succeeded; and the last version. The patch of the finalizer is not among them.
async fn writes_until_success(
    world: &World,
    first: &RemoteCommand,
) -> (Vec<(String, i64)>, RemoteCommand) {
    let success = |object: &RemoteCommand| word(object) == "Succeeded/Completed";
    let mut versions = world.versions(first, success).await;
    let said = |object: &RemoteCommand| {
        let output = object.status.as_ref().and_then(|status| status.output.as_ref());
        (word(object), output.map_or(0, |output| output.stdout.bytes))
    };
    let finalizer = versions.iter().filter(|object| word(object) == "Pending/").count();
    assert!(finalizer <= 1, "one patch of the finalizer");
    let writes = versions.iter().filter(|object| word(object) != "Pending/").map(said).collect();
    (writes, versions.pop().unwrap())
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

/// Thousands of them are kept, listed and watched.
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_command_takes_little_room() {
    let world = World::new().await;
    world.command("small", json!({"command": ["true"]})).await;
    let object = world.shows("small", "Succeeded", "Completed").await;
    assert!(object.metadata.managed_fields.is_some());
    let bytes = serde_json::to_string(&object).unwrap().len();
    let status = serde_json::to_string(&object.status).unwrap().len();
    assert!(bytes <= 8000, "{bytes} bytes, of which {status} are the status");
}
