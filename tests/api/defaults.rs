//! What the API server fills in, and that no null is ever stored.

use serde_json::{Value, json};

use crate::desk::{Desk, Verdicts};

#[tokio::test]
async fn defaults_are_filled_in_and_what_is_unset_stays_unset() {
    let desk = Desk::commands().await;
    let created = desk.create("{}").await.unwrap();
    let expected = json!({
        "hostRef": {"name": "db-1"},
        "command": ["systemctl", "restart", "postgresql"],
        "execution": "Recorded",
        "idempotency": "NonIdempotent",
        "timeouts": {"queue": "1h", "execution": "1h", "termination": "30s", "resolve": "1h",
                     "cleanup": "10m"},
        "retry": {"limit": 3, "backoff": {"initial": "2s", "max": "2m"}, "mayOverlap": false},
        "successExitCodes": [0],
        "output": {"tailBytes": 4096, "sizeLimit": "1Gi", "log": true},
        "runPolicy": "Once",
        "managedBy": "remotecommand.dev/operator",
    });
    assert_eq!(created["spec"], expected);
}

#[tokio::test]
async fn a_part_that_is_given_gets_the_rest_of_its_defaults() {
    let desk = Desk::commands().await;
    let patch = "{spec: {timeouts: {queue: 5m}, retry: {backoff: {max: 1h}}, output: {log: false}, \
                  execution: Direct, direct: {}}}";
    let spec = desk.try_create(patch).await.unwrap()["spec"].clone();
    assert_eq!(spec["timeouts"]["queue"], "5m");
    assert_eq!(spec["timeouts"]["execution"], "1h");
    assert_eq!(spec["retry"]["backoff"], json!({"initial": "2s", "max": "1h"}));
    assert_eq!(spec["retry"]["limit"], 3);
    assert_eq!(spec["output"], json!({"tailBytes": 4096, "sizeLimit": "1Gi", "log": false}));
    assert_eq!(spec["direct"], json!({"shell": "Posix", "forcedCommand": false}));
}

#[tokio::test]
async fn a_host_gets_its_defaults_as_an_object_and_in_place() {
    let hosts = Desk::hosts().await;
    let expected = json!({
        "port": 22,
        "timeouts": {"connect": "10s", "handshake": "10s", "authenticate": "10s"},
        "keepAlive": {"interval": "15s", "missed": 3},
        "sessionsPerConnection": 8,
        "concurrency": 8,
    });
    let host = hosts.try_create("{}").await.unwrap()["spec"].clone();
    let written = hosts.object("{}")["spec"].clone();
    assert_eq!(host, crate::desk::merged(written.clone(), &expected));

    let commands = Desk::commands().await;
    let inline = json!({"spec": {"hostRef": null, "host": written}}).to_string();
    let command = commands.try_create(&inline).await.unwrap();
    assert_eq!(command["spec"]["host"], host);
}

#[tokio::test]
async fn an_object_nobody_has_seen_is_pending_and_reconciling() {
    let reconciling = json!([{
        "type": "Reconciling", "status": "True", "reason": "Pending",
        "message": "not yet seen by the operator", "lastTransitionTime": "1970-01-01T00:00:00Z",
    }]);
    let commands = Desk::commands().await;
    commands.create("{}").await.unwrap();
    let status = commands.get("c").await["status"].clone();
    let expected = json!({"observedGeneration": -1, "phase": "Pending", "conditions": reconciling});
    assert_eq!(status, expected);
    let hosts = Desk::hosts().await;
    hosts.create("{}").await.unwrap();
    let status = hosts.get("h").await["status"].clone();
    assert_eq!(status, json!({"observedGeneration": -1, "conditions": reconciling}));
}

#[tokio::test]
async fn nulls_are_dropped_and_defaults_survive_them() {
    let desk = Desk::commands().await;
    let mut object = desk.object("{}");
    object["spec"]["stdin"] = Value::Null;
    object["spec"]["resolution"] = Value::Null;
    object["spec"]["suspend"] = Value::Null;
    object["spec"]["execution"] = Value::Null;
    object["spec"]["timeouts"] = json!({"connect": null, "queue": null, "idle": null});
    object["spec"]["retry"] = json!({"exitCodes": null, "limit": null});
    let stored = desk.post(&object, false).await.unwrap();
    assert!(!stored.to_string().contains("null"), "{stored}");
    assert_eq!(stored["spec"]["execution"], "Recorded");
    assert_eq!(stored["spec"]["timeouts"]["queue"], "1h");
    assert_eq!(stored["spec"]["retry"]["limit"], 3);
}

/// The operator's types and the definition agree on every default: a spec that never saw an
/// API server is carried out in the same way.
#[tokio::test]
async fn our_types_have_the_defaults_of_the_definition() {
    let mut verdicts = Verdicts::default();
    let desk = Desk::commands().await;
    let patches = [
        "{}",
        "{spec: {idempotency: Verifiable, verify: {command: [a]}}}",
        "{spec: {execution: Direct, direct: {}}}",
        "{spec: {hostRef: null, host: {address: a, user: u, hostKeys: {knownHosts: x}, \
          credentials: {secretRef: {name: s}}}}}",
    ];
    for patch in patches {
        let served = desk.try_create(patch).await.unwrap();
        let ours: remote_command::api::RemoteCommand =
            serde_json::from_value(desk.object(patch)).unwrap();
        let ours = serde_json::to_value(ours).unwrap();
        let same = ours["spec"] == served["spec"];
        verdicts.check(same, format!("{patch}\n  {}\n  {}", ours["spec"], served["spec"]));
    }
    verdicts.conclude();
}
