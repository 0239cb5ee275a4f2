//! Faults in the middle: nothing is lost, nothing is started twice.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::world::{Plane, World};

/// Notes each start, says ten lines within a few seconds, and ends when the file `go` is there.
fn script(world: &World) -> String {
    let (starts, go) = (world.file("starts"), world.file("go"));
    format!(
        "echo start >> {}; for n in 1 2 3 4 5; do echo line $n; sleep 0.2; done; \
         until test -e {}; do sleep 0.1; done; for n in 6 7 8 9 10; do echo line $n; done",
        starts.display(),
        go.display()
    )
}

fn go_on(world: &World) {
    fs::write(world.file("go"), "").unwrap();
}

fn ten_lines() -> Vec<String> {
    (1..=10).map(|n| format!("line {n}")).collect()
}

async fn ends_well(world: &World, name: &str) {
    let object = world.shows(name, "Succeeded", "Completed").await;
    let tail = object.status.unwrap().output.unwrap().stdout.tail.unwrap();
    assert_eq!(tail.lines().collect::<Vec<_>>(), ten_lines());
    assert_eq!(world.lines("starts"), ["start"], "it started once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_operator_finds_its_command_again_and_the_output_goes_on() {
    let world = World::new().await;
    world.command("long", json!({"script": script(&world)})).await;
    world.reaches("some output was logged", async || world.logged("long").len() >= 2).await;
    world.kill_operator(0);
    world.restart_operator(0);
    world.reaches("it is followed again", async || world.logged("long").len() >= 5).await;
    world.kill_operator(0);
    go_on(&world);
    world.restart_operator(0);
    ends_well(&world, "long").await;
    assert_eq!(world.delivered("long"), ten_lines(), "complete and in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_asked_to_end_leaves_the_command_running() {
    let world = World::new().await;
    world.command("long", json!({"script": script(&world)})).await;
    world.runs("long").await;
    world.stop_operator(0);
    assert!(fs::read_to_string(world.log(0)).unwrap().contains("lease released"));
    go_on(&world);
    world.restart_operator(0);
    ends_well(&world, "long").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_killed_loses_nothing() {
    let world = World::without_operator(Plane::own().await).await;
    world.declare_host("local").await;
    world.start_operator();
    world.command("long", json!({"script": script(&world)})).await;
    world.runs("long").await;
    world.plane.kill_apiserver();
    go_on(&world);
    world.reaches("output is followed without it", async || world.logged("long").len() == 10).await;
    world.plane.restart_apiserver().await.unwrap();
    ends_well(&world, "long").await;
    world.command("after", json!({"command": ["true"]})).await;
    world.shows("after", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_does_not_answer_loses_nothing() {
    let world = World::without_operator(Plane::own().await).await;
    world.declare_host("local").await;
    world.start_operator();
    world.command("long", json!({"script": script(&world)})).await;
    world.runs("long").await;
    world.plane.pause_apiserver();
    go_on(&world);
    world.reaches("output is followed without it", async || world.logged("long").len() == 10).await;
    world.plane.resume_apiserver();
    ends_well(&world, "long").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_is_said_and_the_command_goes_on() {
    let world = World::new().await;
    world.command("long", json!({"script": script(&world)})).await;
    world.runs("long").await;
    world.link.cut().await.unwrap();
    world.shows("long", "Running", "Reattaching").await;
    go_on(&world);
    world.link.heal().await.unwrap();
    ends_well(&world, "long").await;
    assert_eq!(world.logged("long"), ten_lines());
}

/// Removes every record on the host while it cannot be reached.
async fn wipe(world: &World, names: &[&str]) {
    let begun = async || world.lines("starts").len() == names.len();
    world.reaches("all have begun", begun).await;
    for name in names {
        world.runs(name).await;
    }
    world.link.cut().await.unwrap();
    for name in names {
        world.shows(name, "Running", "Reattaching").await;
    }
    let records = world.sshd.state();
    for entry in fs::read_dir(&records).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap()
        } else {
            fs::remove_file(path).unwrap()
        }
    }
    assert!(Path::new(&records).exists());
    world.link.heal().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_record_is_doubt_and_never_a_second_start() {
    let world = World::new().await;
    let script = format!("echo start >> {}; sleep 1000", world.file("starts").display());
    world.command("wiped", json!({"script": script})).await;
    wipe(&world, &["wiped"]).await;
    world.shows("wiped", "Unknown", "RecordWiped").await;
    assert_eq!(world.lines("starts").len(), 1);
    let word = json!({"resolution": {"run": 1, "attempt": 1, "as": "Failed"}});
    world.patch("wiped", word).await;
    world.shows("wiped", "Failed", "Resolved").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_record_of_an_idempotent_command_is_fenced_and_retried() {
    let world = World::new().await;
    let starts = world.file("starts");
    let script = format!(
        "echo start >> {0}; test $(wc -l < {0}) -gt 1 || exec sleep 1000",
        starts.display()
    );
    let retry = json!({"limit": 3, "backoff": {"initial": "100ms", "max": "1s"}});
    let spec = json!({"script": script, "idempotency": "Idempotent", "retry": retry,
                      "timeouts": {"termination": "1s"}});
    world.command("wiped", spec).await;
    wipe(&world, &["wiped"]).await;
    let object = world.shows("wiped", "Succeeded", "Completed").await;
    assert_eq!(object.status.unwrap().attempt, Some(2));
    assert_eq!(world.sleepers(), 0, "the first attempt was ended before the second began");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_ends_the_doubt_and_until_then_no_ttl_takes_it_away() {
    let world = World::new().await;
    let file = |name: &str| world.file(name).display().to_string();
    let script = format!(
        "echo start >> {}; test -e {} || {{ sleep 1000; exit 1; }}",
        file("starts"),
        file("repaired")
    );
    let timeouts = json!({"termination": "1s"});
    let spec = json!({"script": script, "timeouts": timeouts, "ttlSecondsAfterFinished": 1});
    let names = ["accepted", "retried"];
    for name in names {
        world.command(name, spec.clone()).await;
    }
    wipe(&world, &names).await;
    for name in names {
        world.shows(name, "Unknown", "RecordWiped").await;
        world.tells(name, "RecordWiped").await;
    }
    let fleeting = json!({"command": ["true"], "ttlSecondsAfterFinished": 2});
    world.command("fleeting", fleeting).await;
    world.is_gone("fleeting").await;
    for name in names {
        world.shows(name, "Unknown", "RecordWiped").await;
        world.patch(name, json!({"ttlSecondsAfterFinished": null})).await;
    }

    let word = |verdict: &str| json!({"resolution": {"run": 1, "attempt": 1, "as": verdict}});
    world.patch("accepted", word("Succeeded")).await;
    world.shows("accepted", "Succeeded", "Resolved").await;
    fs::write(world.file("repaired"), "").unwrap();
    world.patch("retried", word("Retry")).await;
    let object = world.shows("retried", "Succeeded", "Completed").await;
    let status = object.status.unwrap();
    assert_eq!((status.run, status.attempt), (Some(1), Some(2)));
    assert_eq!(world.lines("starts").len(), 3, "one more start, and for one of them only");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_host_processes_leave_doubt_and_not_a_result() {
    let world = World::new().await;
    world.command("shot", json!({"script": "printf 'not a whole line'; sleep 1000"})).await;
    world.runs("shot").await;
    let stored = async || {
        let sizes = world.kept_output().into_iter().map(|path| fs::metadata(path).unwrap().len());
        sizes.sum::<u64>() == 16
    };
    world.reaches("what it says is stored", stored).await;
    let processes = world.sshd.commands();
    assert!(!processes.is_empty());
    for process in processes {
        process.signal(crate::support::processes::Signal::KILL);
    }
    let object = world
        .until("shot", "it has ended", |object| {
            crate::world::condition(object, "Finished") == "True"
        })
        .await;
    let status = object.status.unwrap();
    // Whether the supervisor could still write down that its command was killed is a race.
    let reason = status.reason.unwrap();
    assert!(["LostNoRecord", "Signaled"].contains(&reason.as_str()), "{reason}");
    let logged = async || world.logged("shot") == ["not a whole line"];
    world.reaches("its output is written to the end", logged).await;
}
