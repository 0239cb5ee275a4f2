//! What may change in an object that exists.

use crate::desk::{Desk, Verdicts, merged, yaml};

/// Stands for a machine described in place.
const INLINE: &str =
    "{address: a, user: u, hostKeys: {knownHosts: x}, credentials: {secretRef: {name: s}}}";

const FROM: &str = "{secretKeyRef: {name: s, key: k}}";

/// What a first object is made of, a change of it, and the field the refusal names; empty:
/// accepted under Once. Under OnChange every one is accepted.
const FROZEN: &[(&str, &str, &str)] = &[
    ("{}", "{hostRef: {name: db-2}}", "hostRef"),
    ("{}", "{hostRef: null, host: INLINE}", "hostRef"),
    ("{hostRef: null, host: INLINE}", "{host: {port: 2222}}", "host"),
    ("{hostRef: null, host: INLINE}", "{host: {viaRef: {name: b}}}", "host"),
    ("{}", "{command: [reboot]}", "command"),
    ("{}", "{command: null, script: reboot}", "command"),
    ("{command: null, script: a}", "{script: b}", "script"),
    ("{command: null, script: a}", "{interpreter: [bash]}", "interpreter"),
    ("{command: null, script: a}", "{script: null, scriptFrom: FROM}", "script"),
    ("{command: null, scriptFrom: FROM}", "{scriptFrom: {secretKeyRef: {key: l}}}", "scriptFrom"),
    ("{command: null, scriptFrom: FROM}", "{interpreter: [bash]}", "interpreter"),
    ("{command: null, script: a, interpreter: [sh]}", "{interpreter: null}", "interpreter"),
    ("{}", "{env: [{name: A, value: x}]}", "env"),
    ("{}", "{env: []}", "env"),
    ("{env: [{name: A, value: x}]}", "{env: [{name: A, value: y1}]}", "env"),
    ("{env: [{name: A, value: x}]}", "{env: null}", "env"),
    ("{}", "{stdin: {value: x}}", "stdin"),
    ("{stdin: {value: x}}", "{stdin: {value: other}}", "stdin"),
    ("{}", "{workingDirectory: /srv}", "workingDirectory"),
    ("{workingDirectory: /srv}", "{workingDirectory: null}", "workingDirectory"),
    ("{}", "{runAs: root}", "runAs"),
    ("{}", "{execution: Direct}", "execution"),
    ("{execution: Direct}", "{direct: {forcedCommand: true}}", "direct"),
    ("{idempotency: Verifiable, verify: {command: [a]}}", "{verify: {timeout: 1m}}", "verify"),
    ("{}", "{successExitCodes: [0, 3]}", "successExitCodes"),
    // Not frozen.
    ("{}", "{timeouts: {execution: 2h, idle: 5m, connect: 3s}}", ""),
    ("{}", "{retry: {limit: 0, backoff: {initial: 1s}}}", ""),
    ("{}", "{output: {tailBytes: 10, sizeLimit: 1Mi, log: false}}", ""),
    ("{}", "{suspend: true}", ""),
    ("{suspend: true}", "{suspend: null}", ""),
    ("{}", "{cancel: true}", ""),
    ("{}", "{rerunToken: 'again'}", ""),
    ("{rerunToken: 'again'}", "{rerunToken: null}", ""),
    ("{}", "{ttlSecondsAfterFinished: 60}", ""),
];

#[tokio::test]
async fn frozen_fields_cannot_change_under_once_and_can_under_on_change() {
    let desk = Desk::commands().await;
    let mut verdicts = Verdicts::default();
    for (number, (first, change, field)) in FROZEN.iter().enumerate() {
        let filled = |text: &str| text.replace("INLINE", INLINE).replace("FROM", FROM);
        let (first, change) = (filled(first), filled(change));
        let expected = match *field {
            "" => String::new(),
            field => format!(
                "spec.{field} cannot change under runPolicy Once; set spec.rerunToken to run the \
                 same again, or create a new object"
            ),
        };
        for (policy, expected) in [("Once", expected.as_str()), ("OnChange", "")] {
            let name = format!("c{number}-{}", policy.to_lowercase());
            let named = format!("{{metadata: {{name: {name}}}, spec: {{runPolicy: {policy}}}}}");
            let object = merged(desk.object(&format!("{{spec: {first}}}")), &yaml(&named));
            desk.post(&object, false).await.unwrap();
            let answer = desk.try_merge(&name, &format!("{{spec: {change}}}")).await;
            verdicts.compare(&format!("{policy}: {first} -> {change}"), answer, expected);
        }
    }
    verdicts.conclude();
}

#[tokio::test]
async fn policies_and_the_manager_never_change() {
    let desk = Desk::commands().await;
    let mut verdicts = Verdicts::default();
    for policy in ["Once", "OnChange"] {
        let name = policy.to_lowercase();
        let first = format!("{{metadata: {{name: {name}}}, spec: {{runPolicy: {policy}}}}}");
        desk.create(&first).await.unwrap();
        let run_policy = "spec.runPolicy cannot change; create a new object";
        let other = if policy == "Once" { "OnChange" } else { "Once" };
        let with_command = format!("{{spec: {{runPolicy: {other}, command: [reboot]}}}}");
        // A null becomes the default.
        let null = if policy == "Once" { "" } else { run_policy };
        for (change, expected) in [
            (format!("{{spec: {{runPolicy: {other}}}}}").as_str(), run_policy),
            (&with_command, run_policy),
            ("{spec: {runPolicy: null}}", null),
            ("{spec: {idempotency: Idempotent}}", "spec.idempotency cannot change; create a new"),
            (
                "{spec: {managedBy: example.com/other}}",
                "spec.managedBy cannot change; create a new",
            ),
            ("{spec: {managedBy: remotecommand.dev/operator}}", ""),
            ("{metadata: {labels: {a: b}}}", ""),
        ] {
            verdicts.compare(change, desk.try_merge(&name, change).await, expected);
        }
    }
    verdicts.conclude();
}

#[tokio::test]
async fn a_host_may_change_in_everything() {
    let desk = Desk::hosts().await;
    desk.create("{}").await.unwrap();
    let mut verdicts = Verdicts::default();
    for (change, expected) in [
        ("{spec: {address: db-2, port: 2222, user: root}}", ""),
        ("{spec: {credentials: {secretRef: {name: other}}}}", ""),
        ("{spec: {hostKeys: {fingerprints: null, knownHosts: x}}}", ""),
        ("{spec: {concurrency: 1}}", ""),
        ("{spec: {viaRef: {name: h}}}", "a host is not reached over itself"),
        ("{spec: {hostKeys: {fingerprints: null}}}", "at least one of knownHosts"),
    ] {
        verdicts.compare(change, desk.try_merge("h", change).await, expected);
    }
    verdicts.conclude();
}

/// Rules that compare frozen fields walk over everything in them.
#[tokio::test]
async fn the_largest_objects_are_accepted_and_can_still_be_changed() {
    let desk = Desk::commands().await;
    let words: Vec<_> = (0..8).map(|_| "w".repeat(131_071)).collect();
    let env: Vec<_> = (0..128)
        .map(|n| serde_json::json!({"name": format!("V{n}"), "value": "v".repeat(2000)}))
        .collect();
    let text = "t".repeat(262_144);
    let large = [
        ("words", serde_json::json!({"command": words})),
        ("many", serde_json::json!({"command": vec!["w"; 256], "env": env})),
        ("script", serde_json::json!({"command": null, "script": text, "stdin": {"value": text}})),
    ];
    let mut verdicts = Verdicts::default();
    for (name, spec) in large {
        let object = serde_json::json!({"metadata": {"name": name}, "spec": spec});
        verdicts.compare(name, desk.create(&object.to_string()).await.map_err(first_words), "");
        let change = desk.merge(name, "{spec: {timeouts: {queue: 2h}}}").await;
        verdicts.compare(name, change.map_err(first_words), "");
        let status = desk.status(name, "{phase: Running, run: 1, attempt: 1}").await;
        verdicts.compare(name, status.map_err(first_words), "");
    }
    verdicts.conclude();
}

fn first_words(words: String) -> String {
    words.chars().take(400).collect()
}
