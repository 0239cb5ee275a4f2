//! Rules that compare with the former object also run when nothing changes, and on the write
//! that takes a finalizer off: then they must hold, or an object could never be deleted.

use serde_json::{Value, json};

use crate::desk::{Desk, Verdicts};

const FINALIZER: &str = "{metadata: {finalizers: ['remotecommand.dev/cleanup']}}";

/// Specs that use every frozen field, and everything optional.
const SPECS: &[&str] = &[
    "{}",
    "{command: null, script: 'echo', interpreter: [sh], env: [], stdin: {value: x}, \
      workingDirectory: /srv, runAs: root, suspend: false, cancel: true, rerunToken: t, \
      timeouts: {queue: 90s, idle: 60s}, ttlSecondsAfterFinished: 1}",
    "{hostRef: null, host: {address: a, user: u, hostKeys: {knownHosts: x}, \
      credentials: {secretRef: {name: s}}, viaRef: {name: b}}}",
    "{execution: Direct, direct: {shell: None}, idempotency: Verifiable, \
      verify: {command: [a], timeout: 60s}, successExitCodes: [0, 3], \
      retry: {exitCodes: [75], mayOverlap: true}}",
    "{command: null, scriptFrom: {configMapKeyRef: {name: m, key: k}}}",
    "{runPolicy: OnChange, env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: k}}}]}",
];

const STATUSES: &[&[&str]] = &[
    &[],
    &["{phase: Pending, reason: Queued, observedGeneration: 1}"],
    &["{phase: Running, run: 1, attempt: 1, stage: {version: 1, revision: 1, x: {y: 1}}}"],
    &["{phase: Succeeded, run: 1, attempt: 1, exitCode: 0, reason: Completed, evidence: Exited}"],
    &["{phase: Failed, run: 1, attempt: 1, signal: KILL, exitCode: 137, reason: Signaled}"],
    &[
        "{phase: Running, run: 1, attempt: 1, \
          stage: {version: 1, revision: 1, over: false, run: 1, attempt: 1, record: r}}",
        "{phase: Succeeded, run: 2, attempt: null}",
    ],
    &[
        "{phase: Failed, run: 1, reason: R, \
          stage: {version: 1, revision: 1, over: true, run: 1, attempt: 1, record: r}}",
        "{phase: Succeeded, run: 2, attempt: null}",
    ],
    &["{phase: Unknown, run: 1, attempt: 1, reason: RecordWiped, evidence: RecordWiped}"],
    &[
        "{phase: Failed, run: 1, reason: QueueTimeout}",
        "{phase: Succeeded, run: 2, attempt: 1, reason: Verified, stage: {version: 1, revision: 9}}",
    ],
];

#[tokio::test]
async fn the_same_object_is_accepted_again_and_its_finalizer_goes_in_every_phase() {
    let desk = Desk::commands().await;
    let mut verdicts = Verdicts::default();
    for (i, spec) in SPECS.iter().enumerate() {
        for (j, statuses) in STATUSES.iter().enumerate() {
            let name = format!("c-{i}-{j}");
            let what = format!("{spec} {statuses:?}");
            let first = crate::desk::merged(
                desk.object(&format!("{{metadata: {{name: {name}}}, spec: {spec}}}")),
                &crate::desk::yaml(FINALIZER),
            );
            desk.post(&first, false).await.unwrap();
            for status in *statuses {
                desk.status(&name, status).await.unwrap();
            }
            leaves_in_peace(&desk, &name, &what, &mut verdicts).await;
        }
    }
    verdicts.conclude();
}

#[tokio::test]
async fn a_host_lets_go_of_its_finalizer_too() {
    let desk = Desk::hosts().await;
    let mut verdicts = Verdicts::default();
    desk.create(FINALIZER).await.unwrap();
    desk.status("h", "{observedGeneration: 1, activeSessions: 1}").await.unwrap();
    leaves_in_peace(&desk, "h", "host", &mut verdicts).await;
    verdicts.conclude();
}

/// Writes the object back as it was read and as our types hold it, deletes it, and takes the
/// finalizer off by replacing the whole object.
async fn leaves_in_peace(desk: &Desk, name: &str, what: &str, verdicts: &mut Verdicts) {
    let read = desk.get(name).await;
    verdicts.compare(&format!("{what}: the same again"), desk.put(&read).await, "");
    let status = desk.status(name, &read["status"].to_string()).await;
    verdicts.compare(&format!("{what}: the same status again"), status, "");

    let typed = through_our_types(&read);
    verdicts.check(typed["spec"] == read["spec"], format!("{what}: our types hold another spec"));
    verdicts.check(typed["status"] == read["status"], format!("{what}: … another status"));

    desk.api.delete(name, &Default::default()).await.unwrap();
    let mut released = through_our_types(&desk.get(name).await);
    released["metadata"]["finalizers"] = json!([]);
    verdicts.compare(&format!("{what}: the finalizer goes"), desk.put(&released).await, "");
    let gone = desk.api.get_opt(name).await.unwrap().is_none();
    verdicts.check(gone, format!("{what}: still there"));
}

fn through_our_types(object: &Value) -> Value {
    if object["kind"] == "RemoteHost" {
        let typed: remote_command::api::RemoteHost =
            serde_json::from_value(object.clone()).unwrap();
        serde_json::to_value(typed).unwrap()
    } else {
        let typed: remote_command::api::RemoteCommand =
            serde_json::from_value(object.clone()).unwrap();
        serde_json::to_value(typed).unwrap()
    }
}
