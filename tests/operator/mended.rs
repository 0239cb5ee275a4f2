//! Hosts that were mended, and the words by which they are looked at again.

use std::fs;
use std::time::Instant;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{World, host_condition};

/// Makes each exec on the host note that it was run, and end.
fn force(world: &World) {
    let text = format!("echo x >>{}\nexit 1\n", world.file("execs").display());
    fs::write(world.sshd.home().join(".bashrc"), text).unwrap();
}

fn mend(world: &World) {
    fs::remove_file(world.sshd.home().join(".bashrc")).unwrap();
}

fn execs(world: &World) -> usize {
    world.lines("execs").len()
}

async fn patch_metadata(world: &World, name: &str, metadata: Value) {
    let patch = Patch::Merge(json!({"metadata": metadata}));
    world.hosts().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

fn check(word: &str) -> Value {
    json!({"annotations": {"remotecommand.dev/check": word}})
}

/// Guards against a start-up file that was mended and is believed broken for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_forced_command_is_looked_at_again_when_its_host_changes_or_somebody_asks() {
    let world = World::new().await;
    world.host_shows("local", "True", "Connected").await;
    force(&world);
    world.command("first", json!({"command": ["true"]})).await;
    let held = world.shows("first", "Pending", "ForcedCommand").await;
    let message = held.status.unwrap().message.unwrap();
    assert!(message.contains("remotecommand.dev/check"), "{message}");
    world.command("second", json!({"command": ["true"]})).await;
    world.shows("second", "Pending", "ForcedCommand").await;
    // Labels lead nowhere.
    patch_metadata(&world, "local", json!({"labels": {"role": "db"}})).await;
    world.command("third", json!({"command": ["true"]})).await;
    world.shows("third", "Pending", "ForcedCommand").await;
    assert_eq!(execs(&world), 1);
    patch_metadata(&world, "local", check("1")).await;
    world.reaches("it is looked at once more", async || execs(&world) == 2).await;
    mend(&world);
    world.patch_host("local", json!({"concurrency": 7})).await;
    for name in ["first", "second", "third"] {
        world.shows(name, "Succeeded", "Completed").await;
    }
    force(&world);
    world.sshd.kill_sessions();
    world.command("fourth", json!({"command": ["true"]})).await;
    world.shows("fourth", "Pending", "ForcedCommand").await;
    mend(&world);
    patch_metadata(&world, "local", check("2")).await;
    world.shows("fourth", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_command_of_an_inline_host_is_looked_at_again_for_its_command() {
    let world = World::new().await;
    let host = world.host_spec();
    force(&world);
    let inline = || json!({"command": ["true"], "host": host});
    world.command("asked", inline()).await;
    world.shows("asked", "Pending", "ForcedCommand").await;
    world.command("changed", inline()).await;
    world.shows("changed", "Pending", "ForcedCommand").await;
    assert_eq!(execs(&world), 1);
    mend(&world);
    let patch = Patch::Merge(json!({"metadata": check("now")}));
    world.commands().patch("asked", &PatchParams::default(), &patch).await.unwrap();
    world.shows("asked", "Succeeded", "Completed").await;
    force(&world);
    world.sshd.kill_sessions();
    world.command("later", inline()).await;
    world.shows("later", "Pending", "ForcedCommand").await;
    mend(&world);
    world.patch("later", json!({"timeouts": {"queue": "2h"}})).await;
    world.shows("later", "Succeeded", "Completed").await;
}

/// Guards against a login that was mended on the host and is not tried for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_offered_again_when_somebody_asks() {
    let world = World::new().await;
    world.host_shows("local", "True", "Connected").await;
    let keys = world.sshd.directory().join("authorized_keys");
    let right = fs::read(&keys).unwrap();
    fs::write(&keys, "").unwrap();
    world.declare_host("closed").await;
    let host = world.host_shows("closed", "False", "AuthenticationRejected").await;
    assert_eq!(host_condition(&host, "Stalled").0, "True");
    world.command("held", json!({"command": ["true"], "hostRef": {"name": "closed"}})).await;
    world.shows("held", "Pending", "AuthenticationRejected").await;
    fs::write(&keys, right).unwrap();
    patch_metadata(&world, "closed", check("mended")).await;
    world.host_shows("closed", "True", "Connected").await;
    world.shows("held", "Succeeded", "Completed").await;
}

/// Guards against a limit that is kept ten seconds late.
#[tokio::test(flavor = "multi_thread")]
async fn the_queue_limit_is_kept_while_a_shell_is_silent() {
    let world = World::new().await;
    world.host_shows("local", "True", "Connected").await;
    fs::write(world.sshd.home().join(".bashrc"), "exec sleep 1000\n").unwrap();
    for execution in ["Recorded", "Direct"] {
        let began = Instant::now();
        let timeouts = json!({"queue": "15s"});
        let spec = json!({"command": ["true"], "execution": execution, "timeouts": timeouts});
        let name = execution.to_lowercase();
        world.command(&name, spec).await;
        world
            .until(&name, "it is over", |object| {
                object.status.as_ref().is_some_and(|s| s.completion_time.is_some())
            })
            .await;
        let took = began.elapsed().as_secs_f32();
        assert!((14.0..19.0).contains(&took), "{execution}: {took}");
    }
}
