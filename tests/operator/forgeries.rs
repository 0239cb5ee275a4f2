//! Statuses that somebody else has written over the operator's: they are not believed, and put
//! right from the record.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use remote_command::api::RemoteCommand;
use serde_json::{Value, json};

use crate::world::{World, word};

/// How soon a status is put right that the operator hears of.
const SOON: Duration = Duration::from_secs(10);

/// Writes into the status by hand, leaving the rest of it as it is.
async fn forge(world: &World, name: &str, status: Value) -> RemoteCommand {
    let patch = Patch::Merge(json!({"status": status}));
    world.commands().patch_status(name, &PatchParams::default(), &patch).await.unwrap()
}

fn succeeded() -> Value {
    json!({"phase": "Succeeded", "reason": "Completed", "evidence": "Exited", "exitCode": 0,
           "completionTime": "2026-01-02T03:04:05Z"})
}

/// A command that runs until the file `gate` is there, and ends with 3.
async fn waits_for_gate(world: &World, name: &str, more: Value) {
    let gate = world.file("gate");
    let script = format!("until test -e {}; do sleep 0.1; done; exit 3", gate.display());
    let mut spec = json!({"script": script});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    world.command(name, spec).await;
    world.runs(name).await;
}

/// Guards against a result without evidence: it was taken, and then the truth refused.
#[tokio::test(flavor = "multi_thread")]
async fn success_written_by_hand_while_it_runs_is_put_right_and_the_truth_stored() {
    let world = World::new().await;
    waits_for_gate(&world, "forged", json!({"ttlSecondsAfterFinished": 0})).await;
    forge(&world, "forged", succeeded()).await;
    let begun = Instant::now();
    let object = world.shows("forged", "Running", "Running").await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let status = object.status.unwrap();
    assert_eq!((status.exit_code, status.evidence.as_deref()), (None, Some("StillRunning")));
    let note = world.tells("forged", "StatusOverwritten").await;
    assert!(note.contains("phase") && note.contains("exitCode"), "{note}");
    world.patch("forged", json!({"ttlSecondsAfterFinished": null})).await;
    std::fs::write(world.file("gate"), "").unwrap();
    let object = world.shows("forged", "Failed", "NonZeroExit").await;
    let status = object.status.unwrap();
    assert_eq!((status.exit_code, status.stage.unwrap().over), (Some(3), Some(true)));
    // From here on it is final, for everybody.
    let patch = Patch::Merge(json!({"status": succeeded()}));
    let refused = world.commands().patch_status("forged", &PatchParams::default(), &patch).await;
    assert!(refused.unwrap_err().to_string().contains("is final"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_else_is_written_by_hand_is_put_right_too() {
    let world = World::new().await;
    waits_for_gate(&world, "forged", json!({})).await;
    let condition = json!({"type": "Finished", "status": "True", "reason": "R", "message": "m",
                           "lastTransitionTime": "2026-01-02T03:04:05Z"});
    for status in [
        json!({"conditions": [condition]}),
        json!({"run": 2, "attempt": null}),
        json!({"attempt": 2}),
        json!({"attempts": [{"run": 1, "attempt": 1, "reason": "Forged"}], "message": "forged"}),
        json!({"observedGeneration": 77, "observedRerunToken": "forged"}),
        json!({"leftRunning": [{"pid": 1, "uid": 0, "command": "forged"}], "stopRequested": true,
               "output": {"stdout": {"bytes": 9, "tail": "forged", "truncated": true}}}),
    ] {
        let before = world.commands().get("forged").await.unwrap().status.unwrap();
        forge(&world, "forged", status.clone()).await;
        let what = format!("{status} is put right");
        world.until("forged", &what, |object| object.status.as_ref() == Some(&before)).await;
    }
    std::fs::write(world.file("gate"), "").unwrap();
    world.shows("forged", "Failed", "NonZeroExit").await;
}

/// Two writers that correct each other would do so for ever, as fast as they can.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_keeps_writing_is_answered_ever_more_rarely_and_the_end_still_comes() {
    let world = World::new().await;
    waits_for_gate(&world, "forged", json!({})).await;
    let first = world.commands().get("forged").await.unwrap();
    let fight = async {
        loop {
            let object = world.commands().get("forged").await.unwrap();
            if word(&object) == "Running/Running" {
                forge(&world, "forged", json!({"reason": "Forged"})).await;
            }
            tokio::task::yield_now().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(20), fight).await;
    std::fs::write(world.file("gate"), "").unwrap();
    let versions = world.versions(&first, |object| word(object) == "Failed/NonZeroExit").await;
    let ours = versions.iter().filter(|object| word(object) == "Running/Running").count();
    assert!(ours <= 14, "it was put right {ours} times in 20 s");
}

/// Nobody was there to hear of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_while_no_operator_was_there_is_put_right_by_the_next() {
    let world = World::new().await;
    waits_for_gate(&world, "forged", json!({})).await;
    world.kill_operator(0);
    forge(&world, "forged", succeeded()).await;
    world.restart_operator(0);
    world.shows("forged", "Running", "Running").await;
    let note = world.tells("forged", "StatusOverwritten").await;
    assert!(note.contains("phase"), "{note}");
    std::fs::write(world.file("gate"), "").unwrap();
    world.shows("forged", "Failed", "NonZeroExit").await;
}
