//! What commands wait for, and that they go on by themselves when it is there.

use std::time::Instant;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::programs;
use crate::support::sshd::Kind;
use crate::world::{Plane, World, condition};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_and_heals() {
    let world = World::new().await;
    let from = json!({"secretKeyRef": {"name": "late", "key": "key"}});
    let env = json!([{"name": "TOKEN", "valueFrom": from}]);
    world.command("waiting", json!({"command": ["true"], "env": env})).await;
    let object = world.shows("waiting", "Pending", "SecretNotFound").await;
    assert_eq!(condition(&object, "Accepted"), "False");
    assert!(object.status.unwrap().message.unwrap().contains("late"));
    world.secret("late", &[("other", "value")]).await;
    let object = world.shows("waiting", "Pending", "SecretKeyNotFound").await;
    assert_eq!(condition(&object, "Accepted"), "False");
    world.delete_secret("late").await;
    world.secret("late", &[("key", "value")]).await;
    world.shows("waiting", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_named_and_heals() {
    let world = World::new().await;
    let spec = json!({"command": ["true"], "hostRef": {"name": "later"}});
    world.command("early", spec).await;
    let object = world.shows("early", "Pending", "HostNotFound").await;
    let note = world.tells("early", "HostNotFound").await;
    assert_eq!(Some(note), object.status.as_ref().unwrap().message);
    assert_eq!(condition(&object, "Accepted"), "False");
    world.declare_host("later").await;
    world.shows("early", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_names_who_is_in_the_way() {
    let world = World::new().await;
    world.declare_host_with("narrow", json!({"concurrency": 1})).await;
    let gate = world.file("gate");
    let script = format!("until test -e {}; do sleep 0.1; done", gate.display());
    let narrow = json!({"name": "narrow"});
    world.command("first", json!({"script": script, "hostRef": narrow})).await;
    world.runs("first").await;
    world.command("second", json!({"command": ["true"], "hostRef": narrow})).await;
    let object = world.shows("second", "Pending", "HostBusy").await;
    let blocker = format!("{}/first", world.namespace);
    assert!(object.status.unwrap().message.unwrap().contains(&blocker));
    std::fs::write(&gate, "").unwrap();
    world.shows("first", "Succeeded", "Completed").await;
    world.shows("second", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspension_holds_the_launch_until_it_is_taken_back() {
    let world = World::new().await;
    world.command("held", json!({"command": ["true"], "suspend": true})).await;
    world.shows("held", "Pending", "Suspended").await;
    world.patch("held", json!({"suspend": null})).await;
    world.shows("held", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_refuses_connections_fails_at_the_queue_limit() {
    let world = World::new().await;
    world.link.cut().await.unwrap();
    let spec = json!({"command": ["true"], "timeouts": {"queue": "3s"}});
    world.command("refused", spec).await;
    world.shows("refused", "Pending", "ConnectionRefused").await;
    let object = world.shows("refused", "Failed", "ConnectionRefused").await;
    assert_eq!(object.status.unwrap().evidence.as_deref(), Some("NeverStarted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_operator_may_not_read_is_named_and_heals_when_it_may() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    let user = format!("restricted-{}", world.namespace);
    let rights = std::fs::read_to_string(programs::root().join("deploy/rbac.yaml")).unwrap();
    let all = "resources: [secrets, configmaps]\n";
    assert!(rights.contains(all));
    let few = "resources: [secrets, configmaps]\n  resourceNames: [ssh]\n";
    let rights = rights.replace("remote-command-operator", &user).replace(all, few);
    let path = world.file("rights.yaml");
    std::fs::write(&path, rights).unwrap();
    world.plane.kubectl(&["apply", "-f", &path.display().to_string()]).await.unwrap();
    let account = format!("remote-command:{user}");
    let (namespace, subject) = (world.namespace.as_str(), format!("--serviceaccount={account}"));
    let binding = ["create", "rolebinding", "leases", "-n", namespace, &subject];
    let binding = [&binding[..], &["--role=remote-command-operator"]].concat();
    world.plane.kubectl(&binding).await.unwrap();
    world.start_operator_as(&format!("system:serviceaccount:{account}"));

    world.secret("hidden", &[("key", "value")]).await;
    let from = json!({"secretKeyRef": {"name": "hidden", "key": "key"}});
    let env = json!([{"name": "TOKEN", "valueFrom": from}]);
    world.command("barred", json!({"command": ["true"], "env": env})).await;
    let object = world.shows("barred", "Pending", "PolicyDenied").await;
    assert_eq!(condition(&object, "Accepted"), "False");
    assert_eq!(condition(&object, "Stalled"), "True");
    let message = object.status.unwrap().message.unwrap();
    assert!(message.contains("hidden") && message.contains("may not be read"), "{message}");

    let role = ["create", "role", "reader", "-n", namespace, "--verb=get", "--resource=secrets"];
    world.plane.kubectl(&role).await.unwrap();
    let binding = ["create", "rolebinding", "reader", "-n", namespace, "--role=reader", &subject];
    world.plane.kubectl(&binding).await.unwrap();
    world.shows("barred", "Succeeded", "Completed").await;
}

/// As docs/security.md has it.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_for_one_namespace_needs_no_rights_on_others() {
    let world = World::without_operator(Plane::shared().await).await;
    world.declare_host("local").await;
    let namespace = world.namespace.as_str();
    let account = format!("{namespace}:one");
    let subject = format!("--serviceaccount={account}");
    let bind = async |words: &[&str]| {
        let all = [&["create"], words, &[&subject]].concat();
        world.plane.kubectl(&all).await.unwrap();
    };
    let (role, lease) = ("--clusterrole=remote-command-operator", "--role=remote-command-operator");
    bind(&["rolebinding", "one", "-n", namespace, role]).await;
    bind(&["rolebinding", "one-lease", "-n", namespace, lease]).await;
    let definitions = "--clusterrole=remote-command-operator-definitions";
    bind(&["clusterrolebinding", namespace, definitions]).await;
    world.start_operator_as(&format!("system:serviceaccount:{account}"));
    world.command("own", json!({"command": ["true"]})).await;
    world.shows("own", "Succeeded", "Completed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_config_map_is_named_and_heals() {
    let world = World::new().await;
    let from = json!({"configMapKeyRef": {"name": "late", "key": "key"}});
    world.command("waiting", json!({"command": ["cat"], "stdin": {"valueFrom": from}})).await;
    let object = world.shows("waiting", "Pending", "ConfigMapNotFound").await;
    assert_eq!(condition(&object, "Accepted"), "False");
    let mut map = ConfigMap::default();
    map.metadata.name = Some("late".to_owned());
    map.data = Some([("key".to_owned(), "said\n".to_owned())].into());
    let maps = Api::<ConfigMap>::namespaced(world.client.clone(), &world.namespace);
    maps.create(&PostParams::default(), &map).await.unwrap();
    let object = world.shows("waiting", "Succeeded", "Completed").await;
    let output = object.status.unwrap().output.unwrap();
    assert_eq!(output.stdout.tail.as_deref(), Some("said\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inline_host_with_a_wrong_key_goes_on_soon_after_its_secret_is_mended() {
    let world = World::new().await;
    let stranger = crate::support::sshd::Sshd::start(Default::default()).unwrap();
    let wrong = stranger.private_key(Kind::Ed25519).unwrap();
    world.secret("login", &[("ssh-privatekey", &wrong)]).await;
    let mut host = world.host_spec();
    host["credentials"] = json!({"secretRef": {"name": "login"}});
    world.command("inline", json!({"command": ["true"], "host": host})).await;
    let object = world.shows("inline", "Pending", "AuthenticationRejected").await;
    assert_eq!(condition(&object, "Stalled"), "True");
    let right = world.sshd.private_key(Kind::Ed25519).unwrap();
    let secrets = Api::<Secret>::namespaced(world.client.clone(), &world.namespace);
    let patch = Patch::Merge(json!({"stringData": {"ssh-privatekey": right}}));
    secrets.patch("login", &PatchParams::default(), &patch).await.unwrap();
    let mended = Instant::now();
    world.shows("inline", "Succeeded", "Completed").await;
    assert!(mended.elapsed().as_secs() < 30, "after {:?}", mended.elapsed());
}
