//! How commands end: by themselves, by a person's word, by deletion.

use serde_json::json;

use crate::world::{World, condition, word};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_succeeds_and_says_so_in_every_way_there_is() {
    let world = World::new().await;
    world.command("hello", json!({"command": ["echo", "hello from $HOME"]})).await;
    let object = world.shows("hello", "Succeeded", "Completed").await;
    let status = object.status.as_ref().unwrap();
    assert_eq!((status.run, status.attempt, status.exit_code), (Some(1), Some(1), Some(0)));
    assert_eq!(status.observed_generation, object.metadata.generation.unwrap());
    for (name, value) in [
        ("Accepted", "True"),
        ("Finished", "True"),
        ("Succeeded", "True"),
        ("Ready", "True"),
        ("Reconciling", "False"),
        ("Stalled", "False"),
        ("HostReachable", "True"),
    ] {
        assert_eq!(condition(&object, name), value, "{name}");
    }
    let output = status.output.as_ref().unwrap();
    assert_eq!(output.stdout.tail.as_deref(), Some("hello from $HOME\n"));
    assert_eq!((output.stdout.bytes, output.open), (17, false));
    assert_eq!(world.logged("hello"), ["hello from $HOME"]);
    for reason in ["Running", "Completed"] {
        world.tells("hello", reason).await;
    }
    assert!(world.events("hello").await.iter().all(|(_, note)| !note.contains("HOME")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exit_code_is_a_failure_with_its_evidence() {
    let world = World::new().await;
    world.command("three", json!({"script": "echo failing >&2; exit 3"})).await;
    let object = world.shows("three", "Failed", "NonZeroExit").await;
    let status = object.status.as_ref().unwrap();
    assert_eq!(status.exit_code, Some(3));
    assert_eq!(status.evidence.as_deref(), Some("Exited"));
    assert_eq!(status.output.as_ref().unwrap().stderr.tail.as_deref(), Some("failing\n"));
    assert_eq!(condition(&object, "Stalled"), "True");
    let note = world.tells("three", "NonZeroExit").await;
    assert!(note.contains("exit code 3") && !note.contains("failing"), "{note}");
}

/// Guards whoever reads the fields of output without asking whether they are there.
#[tokio::test(flavor = "multi_thread")]
async fn the_fields_of_output_are_there_before_a_command_starts_and_when_it_says_nothing() {
    let world = World::new().await;
    world.command("held", json!({"command": ["true"], "suspend": true})).await;
    world.command("silent", json!({"command": ["true"]})).await;
    let none = json!({
        "stdout": {"bytes": 0, "tail": "", "truncated": false},
        "stderr": {"bytes": 0, "tail": "", "truncated": false},
        "open": false,
    });
    let held = world.shows("held", "Pending", "Suspended").await;
    assert_eq!(json!(held.status.unwrap().output), none);
    let silent = world.shows("silent", "Succeeded", "Completed").await;
    assert_eq!(json!(silent.status.unwrap().output), none);
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_output_beyond_its_limit_is_marked_as_cut_in_status_and_log() {
    let world = World::new().await;
    let spec = json!({
        "script": "printf '%s' 0123456789; head -c 2000 /dev/zero | tr '\\0' x",
        "execution": "Direct",
        "output": {"sizeLimit": "1Ki"},
    });
    world.command("wordy", spec).await;
    let object = world.shows("wordy", "Succeeded", "Completed").await;
    let status = object.status.unwrap();
    let stdout = status.output.unwrap().stdout;
    assert_eq!((stdout.bytes, stdout.truncated), (1024, true));
    let cut = "stdout was cut after 1024 bytes, at output.sizeLimit";
    let message = status.message.unwrap();
    assert!(message.contains(cut), "{message}");
    let note = world.tells("wordy", "OutputTruncated").await;
    assert!(note.contains(cut), "{note}");
    world
        .reaches("the log says where it was cut", async || {
            let log = std::fs::read_to_string(world.log(0)).unwrap();
            let mut cuts = log.lines().filter(|line| line.contains("outputTruncated"));
            cuts.any(|line| line.contains("\"wordy\"") && line.contains("\"offset\":1024"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_background_says_soon_after_the_exit_is_logged_and_nothing_gone_is_named() {
    let world = World::new().await;
    let script = "echo at once; (sleep 0.2; printf later) & exit 0";
    world.command("late", json!({"script": script})).await;
    let object = world.shows("late", "Succeeded", "Completed").await;
    let status = object.status.unwrap();
    assert_eq!(status.output.unwrap().stdout.tail.as_deref(), Some("at once\nlater"));
    assert_eq!(status.left_running, None, "it has ended by now");
    assert_eq!(world.logged("late"), ["at once", "later"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_arrive_as_they_are_and_leave_no_trace() {
    let world = World::new().await;
    world.secret("token", &[("key", "s3cret $(id)")]).await;
    let from = json!({"secretKeyRef": {"name": "token", "key": "key"}});
    let script =
        r#"test "$TOKEN" = 's3cret $(id)' && read -r line && test "$line" = "it's"; echo $?"#;
    let spec = json!({
        "script": script,
        "env": [{"name": "TOKEN", "valueFrom": from}],
        "stdin": {"value": "it's\n"},
    });
    world.command("values", spec).await;
    let object = world.shows("values", "Succeeded", "Completed").await;
    let tail = object.status.unwrap().output.unwrap().stdout.tail;
    assert_eq!(tail.as_deref(), Some("0\n"));
    let log = std::fs::read_to_string(world.log(0)).unwrap();
    assert!(!log.contains("s3cret"));
}

/// Guards against a key of `binaryData` that is said not to exist.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_config_map_keeps_as_binary_data_arrives_byte_for_byte() {
    let world = World::new().await;
    world.binary_config_map("blob", "key", b"\xff\xfe\n\0end").await;
    world.config_map("plain", "key", "text").await;
    let from = |name: &str| json!({"configMapKeyRef": {"name": name, "key": "key"}});
    let spec = json!({
        "script": "echo $TEXT; od -An -tx1",
        "env": [{"name": "TEXT", "valueFrom": from("plain")}],
        "stdin": {"valueFrom": from("blob")},
    });
    world.command("binary", spec).await;
    let object = world.shows("binary", "Succeeded", "Completed").await;
    let tail = object.status.unwrap().output.unwrap().stdout.tail;
    assert_eq!(tail.as_deref(), Some("text\n ff fe 0a 00 65 6e 64\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_the_whole_process_tree() {
    let world = World::new().await;
    let script = "setsid sleep 1000 & trap '' TERM; while :; do sleep 1; done";
    let spec = json!({"script": script, "timeouts": {"termination": "1s"}});
    world.command("cancel", spec).await;
    world.runs("cancel").await;
    world.reaches("its children run", async || world.sleepers() == 1).await;
    world.patch("cancel", json!({"cancel": true})).await;
    world.shows("cancel", "Failed", "Cancelled").await;
    assert_eq!(world.sleepers(), 0, "reported as done only when it was");
}

/// Guards against an end at the moment the tree is gone: the exit and the last lines are on
/// record a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_cancelled_command_says_at_last_is_logged_and_its_exit_is_known() {
    let world = World::new().await;
    let script = r#"trap 'echo "rolling back"; echo "rolled back, data is safe"; exit 3' TERM
        echo working; while :; do sleep 0.2; done"#;
    world.command("polite", json!({"script": script})).await;
    world.reaches("it works", async || world.logged("polite") == ["working"]).await;
    world.patch("polite", json!({"cancel": true})).await;
    let status = world.shows("polite", "Failed", "Cancelled").await.status.unwrap();
    assert_eq!((status.exit_code, status.evidence.as_deref()), (Some(3), Some("StoppedByUs")));
    let output = status.output.unwrap();
    let told = ["working", "rolling back", "rolled back, data is safe"];
    assert_eq!(output.stdout.tail.unwrap(), told.map(|line| format!("{line}\n")).concat());
    assert!(!output.open);
    // What the shell says of its child's end is on the other one.
    let mut stdout = world.records("polite");
    stdout.retain(|record| record["stream"] == "stdout");
    assert_eq!(stdout.iter().map(|record| &record["text"]).collect::<Vec<_>>(), told);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_stops_what_runs_cleans_the_host_and_then_lets_go() {
    let world = World::new().await;
    let spec = json!({"command": ["sleep", "1000"], "timeouts": {"termination": "1s"}});
    world.command("doomed", spec).await;
    world.runs("doomed").await;
    world.reaches("it runs", async || world.sleepers() == 1).await;
    assert!(!world.kept_output().is_empty());
    world.delete("doomed").await;
    world.is_gone("doomed").await;
    assert_eq!(world.sleepers(), 0);
    assert_eq!(world.kept_output(), Vec::<std::path::PathBuf>::new(), "tombstones hold nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_what_has_ended_and_what_never_began_is_quick() {
    let world = World::new().await;
    world.command("ended", json!({"command": ["true"]})).await;
    world.command("held", json!({"command": ["true"], "suspend": true})).await;
    world.shows("ended", "Succeeded", "Completed").await;
    world.shows("held", "Pending", "Suspended").await;
    for name in ["ended", "held"] {
        world.delete(name).await;
        world.is_gone(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rerun_token_asks_for_one_more_run() {
    let world = World::new().await;
    let file = world.file("runs");
    let script = format!("echo run >> {}", file.display());
    world.command("again", json!({"script": script})).await;
    world.shows("again", "Succeeded", "Completed").await;
    world.patch("again", json!({"rerunToken": "once"})).await;
    let object = world
        .until("again", "run 2 has ended", |object| {
            let run = object.status.as_ref().and_then(|status| status.run);
            run == Some(2) && word(object) == "Succeeded/Completed"
        })
        .await;
    let status = object.status.unwrap();
    assert_eq!(status.observed_rerun_token.as_deref(), Some("once"));
    world.patch("again", json!({"rerunToken": null})).await;
    world
        .until("again", "the change was seen", |object| {
            let seen = object.status.as_ref().map(|status| status.observed_generation);
            seen == object.metadata.generation
        })
        .await;
    assert_eq!(world.lines("runs").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_object_of_an_old_name_is_another_command() {
    let world = World::new().await;
    let file = world.file("namesakes");
    let script = format!("echo one >> {}", file.display());
    let first = world.command("same", json!({"script": script})).await;
    world.shows("same", "Succeeded", "Completed").await;
    world.delete("same").await;
    world.is_gone("same").await;
    let second = world.command("same", json!({"script": script})).await;
    assert_ne!(first.metadata.uid, second.metadata.uid);
    world.shows("same", "Succeeded", "Completed").await;
    assert_eq!(world.lines("namesakes").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_wait_returns_on_every_end() {
    let world = World::new().await;
    world.command("good", json!({"command": ["true"]})).await;
    world.command("bad", json!({"command": ["false"]})).await;
    for name in ["good", "bad"] {
        let object = format!("remotecommand/{name}");
        let wait = ["wait", "-n", &world.namespace, "--for=condition=Finished", "--timeout=60s"];
        world.plane.kubectl(&[wait.as_slice(), &[object.as_str()]].concat()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_object_goes_when_its_time_has_come() {
    let world = World::new().await;
    let spec = json!({"command": ["true"], "ttlSecondsAfterFinished": 1});
    world.command("fleeting", spec).await;
    world.is_gone("fleeting").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_manager_is_left_alone() {
    let world = World::new().await;
    let spec = json!({"command": ["true"], "managedBy": "example.com/other"});
    world.command("theirs", spec).await;
    world.command("ours", json!({"command": ["true"]})).await;
    world.shows("ours", "Succeeded", "Completed").await;
    let theirs = world.commands().get("theirs").await.unwrap();
    assert_eq!(theirs.metadata.finalizers, None);
    assert_eq!(theirs.status.unwrap().observed_generation, -1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_host_holds_deletion_up_to_its_limit_and_what_stays_is_named() {
    let world = World::new().await;
    let timeouts = json!({"cleanup": "3s", "termination": "1s"});
    world.command("left", json!({"command": ["sleep", "1000"], "timeouts": timeouts})).await;
    world.reaches("it runs", async || world.sleepers() == 1).await;
    world.link.cut().await.unwrap();
    world.delete("left").await;
    world.is_gone("left").await;
    let events = world.events("left").await;
    let note = events.iter().find(|(reason, _)| reason == "Abandoned").map(|(_, note)| note);
    let note = note.expect("it is told before the object goes");
    assert!(note.contains("local") && note.contains("may stay"), "{note}");
    assert_eq!(world.sleepers(), 1, "nothing is pretended");
}
