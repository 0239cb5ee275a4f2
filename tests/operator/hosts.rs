//! RemoteHosts: checked by a real connection, and healing by themselves.

use serde_json::json;

use crate::world::{Plane, World, host_condition};

/// A host that is reached without the link, as sshd itself answers.
async fn declare_direct(world: &World, name: &str, mut fields: serde_json::Value) {
    fields["port"] = json!(world.sshd.port());
    if fields.get("hostKeys").is_none() {
        fields["hostKeys"] = json!({"knownHosts": world.sshd.known_hosts_line().unwrap()});
    }
    world.declare_host_with(name, fields).await;
}

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
    world.tells("new", "SecretNotFound").await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_host_that_is_down_says_so_once_it_is_used_and_again_when_it_is_back() {
    let world = World::new().await;
    declare_direct(&world, "near", json!({})).await;
    world.host_shows("near", "True", "Connected").await;
    world.sshd.stop();
    let spec = json!({"command": ["true"], "hostRef": {"name": "near"}});
    world.command("used", spec).await;
    world.shows("used", "Pending", "ConnectionRefused").await;
    let host = world.host_shows("near", "False", "ConnectionRefused").await;
    assert_eq!(host_condition(&host, "Reconciling").0, "True");
    world.sshd.go_on().unwrap();
    world.shows("used", "Succeeded", "Completed").await;
    world.host_shows("near", "True", "Connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_host_is_used_is_told() {
    let world = World::new().await;
    let first = world.host_shows("local", "True", "Connected").await.status.unwrap();
    assert_eq!(first.active_sessions, Some(0));
    world.command("long", json!({"command": ["sleep", "1000"]})).await;
    world.runs("long").await;
    let connected = first.last_connected_time.as_ref().unwrap().0.as_second();
    let later = async || jiff::Timestamp::now().as_second() > connected;
    world.reaches("another second, as times are told in seconds", later).await;
    world.sshd.kill_sessions();
    world
        .reaches("sessions and a later connection are told", async || {
            let host = world.hosts().get("local").await.unwrap();
            let status = host.status.unwrap();
            status.active_sessions > Some(0)
                && status.last_connected_time > first.last_connected_time
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_for_no_reason_of_the_connection_leaves_it_alone() {
    let world = World::new().await;
    world.host_shows("local", "True", "Connected").await;
    let connected = world.sshd.sessions();
    assert!(!connected.is_empty());
    world.patch_host("local", json!({"concurrency": 3})).await;
    world
        .reaches("the new spec was checked", async || {
            let host = world.hosts().get("local").await.unwrap();
            host.status.unwrap().observed_generation == host.metadata.generation.unwrap()
        })
        .await;
    assert_eq!(world.sshd.sessions(), connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_config_map_of_a_host_heals() {
    let world = World::new().await;
    let keys = json!({"configMapKeyRef": {"name": "fleet", "key": "known_hosts"}});
    declare_direct(&world, "near", json!({"hostKeys": keys})).await;
    world.host_shows("near", "False", "ConfigMapNotFound").await;
    let spec = json!({"command": ["true"], "hostRef": {"name": "near"}});
    world.command("early", spec).await;
    world.shows("early", "Pending", "ConfigMapNotFound").await;
    world.binary_config_map("blob", "known_hosts", b"\xff").await;
    let keys = json!({"configMapKeyRef": {"name": "blob", "key": "known_hosts"}});
    declare_direct(&world, "odd", json!({"hostKeys": keys})).await;
    let odd = world.host_shows("odd", "False", "HostKeyUnknown").await;
    let conditions = odd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let message: String = conditions.map(|condition| condition.message.as_str()).collect();
    assert!(message.contains("key \"known_hosts\" of config map \"blob\" is no text"), "{message}");
    world.config_map("fleet", "known_hosts", &world.sshd.known_hosts_line().unwrap()).await;
    world.host_shows("near", "True", "Connected").await;
    world.shows("early", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_jump_hosts_leads_to_the_machine_once_all_of_it_is_there() {
    let world = World::new().await;
    declare_direct(&world, "middle", json!({"viaRef": {"name": "first"}})).await;
    declare_direct(&world, "inner", json!({"viaRef": {"name": "middle"}})).await;
    let host = world.host_shows("inner", "False", "HostNotFound").await;
    assert_eq!(host_condition(&host, "Reconciling").0, "True");
    world.command("far", json!({"script": "echo there", "hostRef": {"name": "inner"}})).await;
    world.shows("far", "Pending", "HostNotFound").await;
    world.declare_host("first").await;
    world.host_shows("inner", "True", "Connected").await;
    world.shows("far", "Succeeded", "Completed").await;
    assert_eq!(world.logged("far"), ["there"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_host_that_is_down_says_so_once_somebody_jumps_over_it() {
    let world = World::new().await;
    declare_direct(&world, "inner", json!({"viaRef": {"name": "local"}})).await;
    world.host_shows("local", "True", "Connected").await;
    world.host_shows("inner", "True", "Connected").await;
    world.link.cut().await.unwrap();
    world.command("far", json!({"command": ["true"], "hostRef": {"name": "inner"}})).await;
    world.host_shows("inner", "False", "ConnectionRefused").await;
    world.host_shows("local", "False", "ConnectionRefused").await;
    world.link.heal().await.unwrap();
    world.shows("far", "Succeeded", "Completed").await;
    world.host_shows("local", "True", "Connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_jump_hosts_that_is_opened_heals() {
    let world = World::new().await;
    declare_direct(&world, "a", json!({"viaRef": {"name": "b"}})).await;
    declare_direct(&world, "b", json!({"viaRef": {"name": "a"}})).await;
    world.host_shows("a", "False", "ViaCycle").await;
    world.command("round", json!({"command": ["true"], "hostRef": {"name": "a"}})).await;
    world.shows("round", "Pending", "ViaCycle").await;
    world.patch_host("b", json!({"viaRef": null})).await;
    world.host_shows("a", "True", "Connected").await;
    world.shows("round", "Succeeded", "Completed").await;
}

/// Gives the operator these rights and no others.
async fn allow(plane: &Plane, rules: &serde_json::Value) {
    let patch = json!({"rules": rules}).to_string();
    let patch = ["patch", "clusterrole/remote-command-operator", "--type=merge", "-p", &patch];
    plane.kubectl(&patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_operator_may_not_read_is_said_and_heals() {
    let plane = Plane::own().await;
    let role = ["get", "clusterrole/remote-command-operator", "-o", "json"];
    let mut role: serde_json::Value =
        serde_json::from_str(&plane.kubectl(&role).await.unwrap()).unwrap();
    let rules = role["rules"].clone();
    role["rules"].as_array_mut().unwrap().retain(|rule| rule["resources"][0] != "secrets");
    allow(&plane, &role["rules"]).await;
    let world = World::without_operator(plane).await;
    world.declare_host("local").await;
    world.start_operator();
    let host = world.host_shows("local", "False", "PolicyDenied").await;
    assert_eq!(host_condition(&host, "Stalled").0, "True");
    allow(&world.plane, &rules).await;
    world.host_shows("local", "True", "Connected").await;
}
