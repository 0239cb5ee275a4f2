//! What the log of one command may take, beside others.

use std::time::Instant;

use serde_json::{Value, json};

use crate::world::{Plane, World};

const RATE: usize = 256 << 10;
const LIMIT: usize = 1 << 20;

/// Guards against 230 bytes of log for every byte of output.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_talks_without_end_fills_no_log_and_the_rest_is_told() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    let begun = Instant::now();
    let limits = ["--log-rate=256Ki", "--log-limit=1Mi"];
    let number = world.start_operator_with(&limits);
    let endless = json!({"script": "yes | head -c 400000; echo end >&2"});
    let live = json!({"script": "yes & sleep 6; kill $!", "output": {"sizeLimit": "10Mi"}});
    world.command("endless", endless).await;
    world.command("live", live).await;
    world.runs("live").await;
    world.command("other", json!({"script": "for n in 1 2 3; do echo $n; done"})).await;
    world.shows("other", "Succeeded", "Completed").await;
    world
        .reaches("the other command is logged", async || world.logged("other") == ["1", "2", "3"])
        .await;
    for (name, phase) in [("endless", "Succeeded"), ("live", "Succeeded")] {
        let ended = world.shows(name, phase, "Completed").await;
        let output = ended.status.unwrap().output.unwrap();
        let there = u64::try_from(output.stdout.bytes).unwrap();
        assert!(output.stdout.tail.unwrap().ends_with("y\n"), "the tail is the end of it");
        let mut log = Vec::new();
        world
            .reaches("the end of the log is told", async || {
                log = records(&world, number, name);
                accounted(&log, "stdout").is_some_and(|(logged, omitted)| logged + omitted == there)
            })
            .await;
        let (logged, omitted) = accounted(&log, "stdout").unwrap();
        assert!(logged > 1000 && omitted > 0, "{logged} of {there} bytes");
        let told = log.iter().filter(|(_, record)| {
            record["kind"] == "outputOmitted" && record["stream"] == "stdout"
        });
        assert_eq!(told.count(), 1, "all of it is one stretch");
        let length: usize = log.iter().map(|(length, _)| length).sum();
        let most = RATE + RATE * usize::try_from(begun.elapsed().as_secs() + 1).unwrap();
        assert!(length <= most.min(LIMIT + 2000), "{length} bytes of log of {name}");
    }
}

/// The records of a command's output, each with its length as written.
fn records(world: &World, number: usize, name: &str) -> Vec<(usize, Value)> {
    let log = world.said(number);
    let records = log.lines().filter_map(|line| {
        let record = serde_json::from_str::<Value>(line).ok()?;
        (record["name"] == name && record["offset"].is_u64()).then_some((line.len() + 1, record))
    });
    records.collect()
}

/// How many bytes of a stream were logged and left out; `None` where one follows another that
/// is not there.
fn accounted(records: &[(usize, Value)], stream: &str) -> Option<(u64, u64)> {
    let (mut logged, mut omitted) = (0, 0);
    for (_, record) in records.iter().filter(|(_, record)| record["stream"] == stream) {
        let next = logged + omitted;
        if record["kind"] != "outputTruncated" && record["offset"] != next {
            return None;
        }
        match record["kind"].as_str()? {
            "output" => logged += record["text"].as_str()?.len() as u64 + 1,
            "outputOmitted" => omitted += record["bytes"].as_u64()?,
            _ => {}
        }
    }
    Some((logged, omitted))
}
