//! What people see: columns, explanations, selectors, and when `kubectl wait` returns.

use crate::desk::{Desk, Verdicts};

fn header(table: &str) -> Vec<&str> {
    table.lines().next().unwrap_or_default().split_whitespace().collect()
}

fn row<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let row = table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    row.split_whitespace().collect()
}

#[tokio::test]
async fn the_columns_tell_phase_reason_host_and_exit() {
    let desk = Desk::commands().await;
    desk.create("{}").await.unwrap();
    let inline = "{metadata: {name: inline}, spec: {hostRef: null, host: {address: 10.0.0.9, \
                  user: u, hostKeys: {knownHosts: x}, credentials: {secretRef: {name: s}}}}}";
    desk.create(inline).await.unwrap();
    let end = "{phase: Failed, run: 1, attempt: 1, reason: NonZeroExit, exitCode: 3, \
                evidence: Exited, message: failed}";
    desk.status("c", end).await.unwrap();
    let table = desk.kubectl(&["get", "rcmd"]).await.unwrap();
    assert_eq!(header(&table), ["NAME", "PHASE", "REASON", "HOST", "EXIT", "AGE"]);
    assert_eq!(row(&table, "c ")[..5], ["c", "Failed", "NonZeroExit", "db-1", "3"]);
    assert_eq!(row(&table, "inline")[..3], ["inline", "Pending", "10.0.0.9"]);
    let wide = desk.kubectl(&["get", "rcmd", "c", "-o", "wide"]).await.unwrap();
    let added = ["RUN", "ATTEMPT", "EVIDENCE", "MESSAGE"];
    assert_eq!(header(&wide)[6..], added);
    assert_eq!(row(&wide, "c ")[6..], ["1", "1", "Exited", "failed"]);
}

#[tokio::test]
async fn the_columns_of_a_host_tell_whether_it_is_ready() {
    let desk = Desk::hosts().await;
    desk.create("{}").await.unwrap();
    let ready = "{conditions: [{type: Ready, status: 'True', reason: Connected, message: fine, \
                  lastTransitionTime: '2026-01-01T00:00:00Z'}]}";
    desk.status("h", ready).await.unwrap();
    let table = desk.kubectl(&["get", "rhost"]).await.unwrap();
    assert_eq!(header(&table), ["NAME", "ADDRESS", "USER", "READY", "REASON", "AGE"]);
    let expected = ["h", "db-1.example.internal", "deploy", "True", "Connected"];
    assert_eq!(row(&table, "h ")[..5], expected);
}

/// A category of the same name would make `kubectl wait remotecommand --all` wait for hosts.
#[tokio::test]
async fn the_names_of_the_kinds_mean_one_kind_each() {
    let (commands, hosts) = (Desk::commands().await, Desk::hosts().await);
    commands.create("{}").await.unwrap();
    hosts.post(&hosts.object("{}"), false).await.unwrap();
    for (name, kind) in [
        ("rcmd", "RemoteCommand"),
        ("remotecommand", "RemoteCommand"),
        ("remotecommands", "RemoteCommand"),
        ("rhost", "RemoteHost"),
        ("remotehost", "RemoteHost"),
    ] {
        let args = ["get", name, "-o", "jsonpath={.items[*].kind}"];
        let found = [commands.kubectl(&args).await.unwrap(), hosts.kubectl(&args).await.unwrap()];
        assert_eq!(found.concat(), kind, "{name}");
    }
}

#[tokio::test]
async fn objects_are_selected_by_host_manager_phase_and_reason() {
    let desk = Desk::commands().await;
    desk.create("{metadata: {name: one}}").await.unwrap();
    desk.create("{metadata: {name: two}, spec: {hostRef: {name: db-2}}}").await.unwrap();
    desk.create("{metadata: {name: three}, spec: {managedBy: example.com/x}}").await.unwrap();
    desk.status("two", "{phase: Running, reason: Reattaching, run: 1}").await.unwrap();
    let mut verdicts = Verdicts::default();
    for (selector, expected) in [
        ("spec.hostRef.name=db-2", "two"),
        ("spec.managedBy=example.com/x", "three"),
        ("status.phase=Running", "two"),
        ("status.phase=Pending", "one three"),
        ("status.reason=Reattaching", "two"),
    ] {
        let selector = format!("--field-selector={selector}");
        let args = ["get", "rcmd", &selector, "-o", "jsonpath={.items[*].metadata.name}"];
        let found = desk.kubectl(&args).await.unwrap();
        verdicts.check(found == expected, format!("{selector}: {found}"));
    }
    verdicts.conclude();
}

#[tokio::test]
async fn explain_tells_meaning_unit_and_default() {
    let desk = Desk::commands().await;
    let mut verdicts = Verdicts::default();
    for (path, part) in [
        ("remotecommand", "One command on one host"),
        ("remotecommand.spec", "What to run, where, and within which bounds"),
        ("remotecommand.spec.command", "No shell reads them"),
        ("remotecommand.spec.timeouts.termination", "TERM signal to the KILL signal"),
        ("remotecommand.spec.timeouts.termination", "Default 30s"),
        ("remotecommand.spec.resolution.as", "Retry"),
        ("remotecommand.spec.host.keepAlive.missed", "Default 3"),
        ("remotecommand.status.conditions", "Finished becomes True on every end"),
        ("rcmd.status.stage", "Leave it alone"),
        ("remotehost.spec.viaRef", "jump host"),
        ("rhost.status.hostKeyFingerprint", "SHA256"),
    ] {
        // Lines are broken to the width of a terminal.
        let text = desk.kubectl(&["explain", path]).await.unwrap();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        verdicts.check(text.contains(part), format!("{path}: {text}"));
    }
    verdicts.conclude();
}

/// A status as the operator writes it at the end of a run.
fn finished(generation: i64, condition_generation: i64) -> String {
    format!(
        "{{observedGeneration: {generation}, phase: Failed, reason: NonZeroExit, run: 1, \
           attempt: 1, conditions: [{{type: Finished, status: 'True', reason: NonZeroExit, \
           message: m, lastTransitionTime: '2026-01-01T00:00:00Z', \
           observedGeneration: {condition_generation}}}]}}"
    )
}

#[tokio::test]
async fn kubectl_wait_returns_on_the_end_and_never_with_the_result_of_the_run_before() {
    let desk = Desk::commands().await;
    desk.create("{}").await.unwrap();
    let wait = ["wait", "--for=condition=Finished", "--timeout=1s", "rcmd/c"];
    assert!(desk.kubectl(&wait).await.is_err(), "nobody has seen it yet");
    desk.status("c", &finished(1, 1)).await.unwrap();
    let patient = ["wait", "--for=condition=Finished", "--timeout=60s", "rcmd/c"];
    desk.kubectl(&patient).await.unwrap();
    // Another run is asked for; until the operator has seen that, the old end does not count.
    desk.merge("c", "{spec: {rerunToken: again}}").await.unwrap();
    assert!(desk.kubectl(&wait).await.is_err(), "the new generation was not observed");
    let begun = "{observedGeneration: 2, phase: Pending, reason: Queued, run: 2, attempt: null, \
                  conditions: [{type: Finished, status: 'False', reason: Queued, message: m, \
                  lastTransitionTime: '2026-01-01T00:00:00Z', observedGeneration: 2}]}";
    desk.status("c", begun).await.unwrap();
    assert!(desk.kubectl(&wait).await.is_err(), "the second run goes on");
}

#[tokio::test]
async fn applying_twice_changes_nothing() {
    let desk = Desk::commands().await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("c.yaml");
    std::fs::write(&file, crate::desk::COMMAND).unwrap();
    let file = file.to_str().unwrap();
    for apply in
        [&["apply", "-f", file][..], &["apply", "--server-side", "--force-conflicts", "-f", file]]
    {
        desk.kubectl(apply).await.unwrap();
        let version = ["get", "rcmd", "c", "-o", "jsonpath={.metadata.generation}"];
        let before = desk.kubectl(&version).await.unwrap();
        desk.kubectl(apply).await.unwrap();
        assert_eq!(desk.kubectl(&version).await.unwrap(), before);
        desk.kubectl(&["diff", "-f", file]).await.unwrap();
    }
    let set = ["apply", "--server-side", "-f", file, "--dry-run=server"];
    desk.kubectl(&set).await.unwrap();
}
