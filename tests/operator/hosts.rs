//! RemoteHosts: checked by a real connection, and healing by themselves.

use serde_json::json;

use crate::world::{World, host_condition};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_ready_once_it_was_connected_to() {
    let world = World::new().await;
    let host = world.host_shows("local", "True", "Connected").await;
    let status = host.status.as_ref().unwrap();
    assert!(status.server_version.as_ref().unwrap().starts_with("SSH-2.0-OpenSSH"));
    assert!(status.host_key_fingerprint.as_ref().unwrap().starts_with("SHA256:"));
    assert!(status.last_connected_time.is_some());
    assert_eq!(host_condition(&host, "Stalled"), ("False".to_owned(), "Connected".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_of_a_host_heals_and_its_commands_go_on() {
    let world = World::new().await;
    world.declare_host_with("new", json!({"credentials": {"secretRef": {"name": "late"}}})).await;
    world.host_shows("new", "False", "SecretNotFound").await;
    world.command("early", json!({"command": ["true"], "hostRef": {"name": "new"}})).await;
    world.shows("early", "Pending", "SecretNotFound").await;
    let key = world.sshd.private_key(crate::support::sshd::Kind::Ed25519).unwrap();
    world.secret("late", &[("ssh-privatekey", &key)]).await;
    world.host_shows("new", "True", "Connected").await;
    world.shows("early", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_host_key_stalls_at_once_and_goes_on_when_it_is_mended() {
    let world = World::new().await;
    let wrong = json!({"fingerprints": ["SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]});
    world.declare_host_with("odd", json!({"hostKeys": wrong})).await;
    world.command("careful", json!({"command": ["true"], "hostRef": {"name": "odd"}})).await;
    let held = world
        .until("careful", "it is stalled", |object| {
            crate::world::condition(object, "Stalled") == "True"
        })
        .await;
    assert!(crate::world::word(&held).starts_with("Pending/HostKey"));
    world.mend_host_keys("odd").await;
    world.shows("careful", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_jump_hosts_is_refused() {
    let world = World::new().await;
    world.declare_host_with("a", json!({"viaRef": {"name": "b"}})).await;
    world.declare_host_with("b", json!({"viaRef": {"name": "a"}})).await;
    world.host_shows("a", "False", "ViaCycle").await;
    world.command("round", json!({"command": ["true"], "hostRef": {"name": "a"}})).await;
    world.shows("round", "Pending", "ViaCycle").await;
}
