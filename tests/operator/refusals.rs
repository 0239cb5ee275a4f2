//! Statuses that the API server refuses, and stages that cannot be read: nothing is done that
//! is not saved, and yet the object is not stuck.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::world::{World, condition};

/// Lets a policy of the cluster refuse the statuses for which `expression` is false.
async fn refuse_unless(world: &World, expression: &str) {
    let name = &world.namespace;
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
                "resourceRules": [{
                    "apiGroups": ["remotecommand.dev"], "apiVersions": ["*"],
                    "operations": ["UPDATE"], "resources": ["remotecommands/status"],
                }],
            },
            "validations": [{"expression": expression, "message": "not as the policy wants it"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    for (file, object) in [("policy", policy), ("binding", binding)] {
        let path = world.file(file);
        std::fs::write(&path, object.to_string()).unwrap();
        world.plane.kubectl(&["apply", "-f", &path.display().to_string()]).await.unwrap();
    }
    let theirs = json!({"command": ["true"], "managedBy": "example.com/other"});
    world.command("canary", theirs).await;
    let output = json!({"stdout": {"bytes": 1, "tail": "x", "truncated": false},
                        "stderr": {"bytes": 0, "truncated": false}, "open": true});
    let patch = Patch::Merge(json!({"status": {"output": output}}));
    let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
    world
        .reaches("the policy is in force", async || {
            let tried = world.commands().patch_status("canary", &parameters, &patch).await;
            tried.is_err_and(|error| error.to_string().contains("not as the policy wants it"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_status_is_refused_starts_nothing_and_hears_a_cancel() {
    let world = World::new().await;
    refuse_unless(&world, "has(object.spec.cancel) && object.spec.cancel").await;
    let script = format!("echo start >> {}", world.file("starts").display());
    world.command("deaf", json!({"script": script})).await;
    let note = world.tells("deaf", "StatusRefused").await;
    assert!(note.contains("not as the policy wants it"), "{note}");
    world.patch("deaf", json!({"cancel": true})).await;
    let object = world.shows("deaf", "Failed", "Cancelled").await;
    assert_eq!(object.status.unwrap().evidence.as_deref(), Some("NeverStarted"));
    assert_eq!(world.lines("starts"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_command_whose_status_is_refused_stops_it_and_cleans_up() {
    let world = World::new().await;
    let spec = json!({"command": ["sleep", "1000"], "timeouts": {"termination": "1s"}});
    world.command("running", spec).await;
    world.reaches("it runs", async || world.sleepers() == 1).await;
    refuse_unless(&world, "false").await;
    world.command("waiting", json!({"command": ["true"]})).await;
    world.tells("waiting", "StatusRefused").await;
    for name in ["waiting", "running"] {
        world.delete(name).await;
        world.is_gone(name).await;
    }
    assert_eq!(world.sleepers(), 0);
    assert_eq!(world.kept_output(), Vec::<std::path::PathBuf>::new());
    for name in ["waiting", "running"] {
        assert!(world.events(name).await.iter().all(|(reason, _)| reason != "Abandoned"));
    }
}

/// Somebody wrote a later attempt into the status: the fences refuse ours from then on.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_somebody_has_changed_by_hand_does_not_hold_deletion() {
    let world = World::new().await;
    let spec = json!({"command": ["sleep", "1000"], "timeouts": {"termination": "1s"}});
    world.command("forged", spec).await;
    world.runs("forged").await;
    let patch = Patch::Merge(json!({"status": {"attempt": 2}}));
    world.commands().patch_status("forged", &PatchParams::default(), &patch).await.unwrap();
    world.delete("forged").await;
    world.is_gone("forged").await;
    assert_eq!(world.sleepers(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_stored_without_its_tails_where_they_are_what_is_refused() {
    let world = World::new().await;
    let bare = "!has(object.status.output) || !has(object.status.output.stdout.tail)";
    refuse_unless(&world, bare).await;
    world.command("terse", json!({"command": ["echo", "hello"]})).await;
    let object = world.shows("terse", "Succeeded", "Completed").await;
    let output = object.status.unwrap().output.unwrap();
    assert_eq!((output.stdout.bytes, output.stdout.tail), (6, None));
}

/// Takes the policy back.
async fn refuse_nothing(world: &World) {
    let kind = "validatingadmissionpolicybinding";
    world.plane.kubectl(&["delete", kind, &world.namespace]).await.unwrap();
}

/// Guards against a result that is lost for having been refused once: the host keeps it, and it
/// is tried again with pauses.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_refused_for_a_while_is_stored_afterwards_and_only_then_swept() {
    let world = World::new().await;
    world.host_shows("local", "True", "Connected").await;
    let gate = world.file("gate");
    let script = format!("until test -e {}; do sleep 0.1; done; echo done", gate.display());
    world.command("held", json!({"script": script})).await;
    world.runs("held").await;
    let open = "!has(object.status.stage) || !has(object.status.stage.over) \
                || !object.status.stage.over";
    refuse_unless(&world, &format!("object.metadata.name != 'canary' && ({open})")).await;
    std::fs::write(&gate, "").unwrap();
    let note = world.tells("held", "StatusRefused").await;
    assert!(note.contains("not as the policy wants it"), "{note}");
    let tries = || {
        let log = std::fs::read_to_string(world.log(0)).unwrap();
        log.lines().filter(|line| line.contains("stage not saved")).count()
    };
    let begun = Instant::now();
    world.reaches("it was tried again and again", async || tries() >= 4).await;
    // The first may have been a moment before; then come pauses of 1 s, 2 s and 4 s.
    assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_ne!(world.kept_output(), Vec::<std::path::PathBuf>::new(), "the evidence stays");
    refuse_nothing(&world).await;
    let object = world.shows("held", "Succeeded", "Completed").await;
    assert_eq!(object.status.unwrap().stage.unwrap().over, Some(true));
    world.reaches("the host is swept", async || world.kept_output().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_is_stored_bare_where_the_rest_of_the_status_is_refused() {
    let world = World::new().await;
    refuse_unless(&world, "!has(object.status.attempts) && !has(object.status.output)").await;
    world.command("terse", json!({"script": "echo hello; exit 3"})).await;
    let object = world.shows("terse", "Failed", "NonZeroExit").await;
    assert_eq!(condition(&object, "Finished"), "True");
    let status = object.status.unwrap();
    assert_eq!((status.exit_code, status.stage.unwrap().over), (Some(3), Some(true)));
    assert_eq!((status.attempts, status.output), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_cannot_be_read_is_said_left_as_it_is_and_does_not_hold_deletion_for_ever() {
    let world = World::new().await;
    let spec = json!({"command": ["true"], "suspend": true, "timeouts": {"cleanup": "2s"}});
    world.command("odd", spec).await;
    world.shows("odd", "Pending", "Suspended").await;
    let newer = json!({"version": 2, "revision": 7, "odd": {"words": "of a newer version"}});
    let patch = Patch::Merge(json!({"status": {"stage": newer}}));
    world.commands().patch_status("odd", &PatchParams::default(), &patch).await.unwrap();
    let object = world
        .until("odd", "it is said", |object| {
            let conditions = object.status.iter().flat_map(|s| s.conditions.iter().flatten());
            let mut stalled = conditions.filter(|condition| condition.type_ == "Stalled");
            stalled.any(|c| c.status == "True" && c.reason == "StageUnreadable")
        })
        .await;
    assert_eq!(condition(&object, "Finished"), "False");
    let stage = object.status.unwrap().stage.unwrap();
    assert_eq!((stage.version, stage.revision), (2, 7));
    assert_eq!(stage.rest["odd"]["words"], "of a newer version");
    world.delete("odd").await;
    world.is_gone("odd").await;
    let note = world.tells("odd", "Abandoned").await;
    assert!(note.contains("cannot be read"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_leaves_no_room_for_a_status_starts_nothing_says_so_and_can_be_deleted() {
    let world = World::new().await;
    // etcd takes 1.5 MiB; what is left beside this is too little for a stage and conditions.
    let words: Vec<_> = (0..12).map(|n| format!("V{n}")).collect();
    let env: Vec<_> =
        words.iter().map(|name| json!({"name": name, "value": "x".repeat(130_850)})).collect();
    let script = format!("echo start >> {}", world.file("starts").display());
    world.command("stuffed", json!({"script": script, "env": env})).await;
    let note = world.tells("stuffed", "StatusRefused").await;
    assert!(note.contains("too large"), "{note}");
    assert_eq!(world.lines("starts"), Vec::<String>::new());
    world.delete("stuffed").await;
    world.is_gone("stuffed").await;
}
