//! What an operator was told not to touch: networks, and Secrets without a label.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::sshd::Kind;
use crate::world::{Plane, World, condition, host_condition};

const LABEL: &str = "remotecommand.dev/readable";

async fn world() -> World {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    world
}

async fn label(world: &World, secret: &str, value: Value) {
    let api = Api::<Secret>::namespaced(world.client.clone(), &world.namespace);
    let patch = Patch::Merge(json!({"metadata": {"labels": {LABEL: value}}}));
    api.patch(secret, &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until the command is Pending/PolicyDenied, as something that somebody has to mend, and
/// gives the message.
async fn is_denied(world: &World, name: &str, word: &str) -> String {
    let what = format!("{name} is denied because of {word}");
    let object = world
        .until(name, &what, |object| {
            let status = object.status.as_ref();
            let says = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
            status.and_then(|status| status.reason.as_deref()) == Some("PolicyDenied")
                && says.contains(word)
        })
        .await;
    for (name, status) in [("Accepted", "False"), ("Stalled", "True"), ("Finished", "False")] {
        assert_eq!(condition(&object, name), status, "{name}");
    }
    object.status.unwrap().message.unwrap()
}

async fn host_is_denied(world: &World, name: &str) {
    let host = world.host_shows(name, "False", "PolicyDenied").await;
    assert_eq!(host_condition(&host, "Stalled").0, "True");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_was_told_nothing_connects_to_nothing_on_its_own_machine() {
    let world = world().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut spec = world.host_spec();
    spec["address"] = json!("localhost");
    spec["port"] = json!(listener.local_addr().unwrap().port());
    world.command("inline", json!({"command": ["true"], "host": spec})).await;
    world.command("named", json!({"command": ["true"]})).await;
    let brief = json!({"command": ["true"], "timeouts": {"queue": "3s"}});
    world.command("brief", brief).await;
    world.start_operator_with_usual_denials();
    host_is_denied(&world, "local").await;
    let message = is_denied(&world, "named", "127.0.0.0/8").await;
    assert!(message.contains("nothing was sent") && message.contains("127.0.0.1"), "{message}");
    assert!(!message.contains("  "), "words of one sentence: {message}");
    is_denied(&world, "inline", "localhost").await;
    let object = world.shows("brief", "Failed", "PolicyDenied").await;
    assert_eq!(object.status.unwrap().evidence.as_deref(), Some("NeverStarted"));
    let knocked = listener.accept().map(drop).unwrap_err();
    assert_eq!(knocked.kind(), std::io::ErrorKind::WouldBlock, "nobody came");

    world.stop_operator(0);
    world.start_operator_with(&["--deny-network=10.0.0.0/8", "--deny-network=::1"]);
    world.host_shows("local", "True", "Connected").await;
    world.shows("named", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_label_no_secret_is_used_and_with_it_everything_goes_on() {
    let world = world().await;
    world.secret("value", &[("key", "said"), ("script", "echo said")]).await;
    let option = format!("--secret-label={LABEL}=yes");
    world.start_operator_with(&[&option]);
    host_is_denied(&world, "local").await;
    world.command("named", json!({"command": ["true"]})).await;
    let inline = json!({"command": ["true"], "host": world.host_spec()});
    world.command("inline", inline).await;
    for name in ["named", "inline"] {
        let message = is_denied(&world, name, "\"ssh\"").await;
        assert!(message.contains(&format!("{LABEL}=yes")), "{message}");
    }
    label(&world, "ssh", json!("no")).await;
    is_denied(&world, "named", "\"ssh\"").await;
    label(&world, "ssh", json!("yes")).await;
    world.host_shows("local", "True", "Connected").await;
    world.shows("named", "Succeeded", "Completed").await;
    world.shows("inline", "Succeeded", "Completed").await;

    let from = json!({"secretKeyRef": {"name": "value", "key": "key"}});
    let env = json!([{"name": "SAID", "valueFrom": from}]);
    world.command("env", json!({"script": "echo $SAID", "env": env})).await;
    world.command("stdin", json!({"command": ["cat"], "stdin": {"valueFrom": from}})).await;
    let script = json!({"secretKeyRef": {"name": "value", "key": "script"}});
    world.command("script", json!({"scriptFrom": script})).await;
    is_denied(&world, "script", "\"value\"").await;
    is_denied(&world, "env", "\"value\"").await;
    is_denied(&world, "stdin", "\"value\"").await;
    label(&world, "value", json!("yes")).await;
    for name in ["env", "stdin", "script"] {
        let object = world.shows(name, "Succeeded", "Completed").await;
        let tail = object.status.unwrap().output.unwrap().stdout.tail.unwrap();
        assert_eq!(tail.trim_end(), "said");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_that_is_taken_away_counts_from_the_next_use_on() {
    let world = world().await;
    let key = world.sshd.private_key(Kind::Ed25519).unwrap();
    world.secret("other", &[("ssh-privatekey", &key)]).await;
    label(&world, "ssh", json!("yes")).await;
    world.start_operator_with(&[&format!("--secret-label={LABEL}=yes")]);
    world.command("before", json!({"command": ["true"]})).await;
    world.shows("before", "Succeeded", "Completed").await;
    label(&world, "ssh", Value::Null).await;
    world.command("after", json!({"command": ["true"]})).await;
    is_denied(&world, "after", "\"ssh\"").await;
}
