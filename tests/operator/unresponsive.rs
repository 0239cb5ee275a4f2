//! A host that accepts connections and never says a word: whatever is asked for meanwhile is
//! heeded at once, and status says what is waited for.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::world::{World, word};

/// How soon a change of wish counts: 2 s, and what a busy machine and two writes add.
const SOON: Duration = Duration::from_secs(5);

/// Accepts connections and keeps them, for as long as it lives.
struct Silent {
    port: u16,
    _task: JoinSet<()>,
}

impl Silent {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut kept = Vec::new();
            while let Ok(connection) = listener.accept().await {
                kept.push(connection);
            }
        });
        Self { port, _task: task }
    }
}

/// A world with a host `silent`, whose limits are as long as may be.
async fn world() -> (World, Silent) {
    let (world, silent) = (World::new().await, Silent::start().await);
    let timeouts = json!({"connect": "5m", "handshake": "5m", "authenticate": "5m"});
    world.declare_host_with("silent", json!({"port": silent.port, "timeouts": timeouts})).await;
    (world, silent)
}

/// Creates a command on that host, and waits until its status says what is waited for.
async fn connecting(world: &World, name: &str, fields: Value) {
    let mut spec = json!({"command": ["true"], "hostRef": {"name": "silent"}});
    for (field, value) in fields.as_object().unwrap() {
        spec[field] = value.clone();
    }
    world.command(name, spec).await;
    let began = Instant::now();
    let object = world.shows(name, "Pending", "Connecting").await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let message = object.status.unwrap().message.unwrap();
    assert!(message.contains("waiting for the handshake with silent for up to 300s"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_does_not_wait_for_a_host_that_says_nothing() {
    let (world, _silent) = world().await;
    for execution in ["Recorded", "Direct"] {
        let name = execution.to_lowercase();
        connecting(&world, &name, json!({"execution": execution})).await;
        let began = Instant::now();
        world.delete(&name).await;
        world.is_gone(&name).await;
        assert!(began.elapsed() < SOON, "{execution}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_does_not_wait_for_a_host_that_says_nothing() {
    let (world, _silent) = world().await;
    connecting(&world, "cancelled", json!({})).await;
    let began = Instant::now();
    world.patch("cancelled", json!({"cancel": true})).await;
    let object = world.shows("cancelled", "Failed", "Cancelled").await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(object.status.unwrap().evidence.as_deref(), Some("NeverStarted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_and_a_mended_host_are_heeded_while_a_host_says_nothing() {
    let (world, _silent) = world().await;
    connecting(&world, "held", json!({})).await;
    let began = Instant::now();
    world.patch("held", json!({"suspend": true})).await;
    world.shows("held", "Pending", "Suspended").await;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    world.patch("held", json!({"suspend": null})).await;
    world.shows("held", "Pending", "Connecting").await;
    let began = Instant::now();
    world.patch_host("silent", json!({"port": world.link.port()})).await;
    world.shows("held", "Succeeded", "Completed").await;
    assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_limit_does_not_wait_for_a_host_that_says_nothing() {
    let (world, _silent) = world().await;
    let began = Instant::now();
    connecting(&world, "queued", json!({"timeouts": {"queue": "5s"}})).await;
    let failed = |object: &_| word(object).starts_with("Failed/");
    let object = world.until("queued", "it has failed", failed).await;
    assert_eq!(word(&object), "Failed/QueueTimeout");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(5) + SOON, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_with_something_launched_ends_at_its_limit_although_the_host_went_silent() {
    let world = World::new().await;
    let timeouts = json!({"connect": "5m", "handshake": "5m", "authenticate": "5m"});
    let alive = json!({"interval": "1s", "missed": 1});
    world.declare_host_with("far", json!({"timeouts": timeouts, "keepAlive": alive})).await;
    let spec = json!({"command": ["sleep", "1000"], "hostRef": {"name": "far"},
                      "timeouts": {"cleanup": "8s"}});
    world.command("left", spec).await;
    world.runs("left").await;
    world.link.stall();
    world.shows("left", "Running", "Reattaching").await;
    let began = Instant::now();
    world.delete("left").await;
    world.is_gone("left").await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(7) && took < Duration::from_secs(8) + SOON, "{took:?}");
    let note = world.tells("left", "Abandoned").await;
    assert!(note.contains("may be alive"), "{note}");
}

/// Guards against a tenant who keeps another namespace's host `Throttled` with hosts of his own.
#[tokio::test(flavor = "multi_thread")]
async fn commands_over_a_silent_host_hold_up_nobody_else_and_go_without_a_trace() {
    let (world, silent) = world().await;
    for n in 0..6 {
        let host = json!({"viaRef": {"name": "silent"}, "sessionsPerConnection": n + 1});
        world.declare_host_with(&format!("over-{n}"), host).await;
        let host = json!({"name": format!("over-{n}")});
        let spec = json!({"command": ["true"], "hostRef": host});
        world.command(&format!("theirs-{n}"), spec).await;
    }
    world.shows("theirs-0", "Pending", "Connecting").await;
    let began = Instant::now();
    world.command("ours", json!({"command": ["true"]})).await;
    world.shows("ours", "Succeeded", "Completed").await;
    assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
    drop(silent);
}
