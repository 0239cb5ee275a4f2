//! What can be created, and the sentence that says what to write when it cannot.

use crate::desk::{Desk, Verdicts};

/// Patch of the base, and a part of the refusal; empty: accepted.
type Table<'a> = &'a [(&'a str, &'a str)];

async fn try_all(desk: &Desk, table: Table<'_>) {
    let mut verdicts = Verdicts::default();
    for (patch, expected) in table {
        verdicts.compare(patch, desk.try_create(patch).await, expected);
    }
    verdicts.conclude();
}

const ONE_HOST: &str = "exactly one of spec.hostRef and spec.host is required";
const ONE_PROGRAM: &str =
    "exactly one of spec.command, spec.script and spec.scriptFrom is required";
const INTERPRETER: &str = "spec.interpreter goes with spec.script and spec.scriptFrom only";
const VERIFY: &str = "spec.verify is required with spec.idempotency Verifiable, and refused with";
const MAY_OVERLAP: &str = "spec.retry.mayOverlap goes with spec.execution Direct only, and not";
const REPEAT: &str = "spec.retry.exitCodes would repeat a NonIdempotent command";
const NO_SHELL: &str = "with spec.direct.shell None there is only spec.command";
const FORCED: &str = "with spec.direct.forcedCommand there are only spec.command and spec.stdin";
const FORCED_CHECK: &str = "spec.direct.forcedCommand does not go with spec.idempotency Verifiable";
const DASH: &str = "the program of spec.command, spec.interpreter and spec.verify.command does not";

#[tokio::test]
async fn what_belongs_together_comes_together() {
    let inline = "{spec: {hostRef: null, host: {address: 10.0.0.9, user: root, \
                  hostKeys: {knownHosts: x}, credentials: {secretRef: {name: s}}}}}";
    let both = inline.replace("hostRef: null, ", "");
    let from = "scriptFrom: {secretKeyRef: {name: s, key: k}}";
    let spec = |fields: &str| format!("{{spec: {{{fields}}}}}");
    let table: Table<'_> = &[
        ("{}", ""),
        (inline, ""),
        (&both, ONE_HOST),
        ("{spec: {hostRef: null}}", ONE_HOST),
        ("{spec: {command: null}}", ONE_PROGRAM),
        ("{spec: {script: 'echo'}}", ONE_PROGRAM),
        ("{spec: {command: null, script: 'echo'}}", ""),
        ("{spec: {command: null, script: 'echo', interpreter: [/usr/bin/python3, -u]}}", ""),
        ("{spec: {interpreter: [/bin/sh]}}", INTERPRETER),
        (&spec(from), ONE_PROGRAM),
        (&spec(&format!("command: null, {from}")), ""),
        (&spec(&format!("command: null, script: x, {from}")), ONE_PROGRAM),
        (&spec(&format!("script: x, {from}")), ONE_PROGRAM),
        (&spec(&format!("command: null, interpreter: [python3, -u], {from}")), ""),
        (&spec(&format!("execution: Direct, command: null, {from}")), ""),
        (
            &spec(&format!("execution: Direct, direct: {{shell: None}}, command: null, {from}")),
            NO_SHELL,
        ),
        ("{spec: {idempotency: Verifiable}}", VERIFY),
        ("{spec: {verify: {command: [check]}}}", VERIFY),
        ("{spec: {idempotency: Idempotent, verify: {command: [check]}}}", VERIFY),
        ("{spec: {idempotency: Verifiable, verify: {command: [check]}}}", ""),
        ("{spec: {direct: {shell: Posix}}}", "spec.direct goes with spec.execution Direct only"),
        ("{spec: {direct: {}}}", "spec.direct goes with spec.execution Direct only"),
        ("{spec: {execution: Direct}}", ""),
        ("{spec: {execution: Direct, direct: {forcedCommand: true}}}", ""),
        ("{spec: {execution: Direct, direct: {shell: None}}}", ""),
        (
            "{spec: {execution: Direct, direct: {shell: None}, env: [{name: A, value: b}]}}",
            NO_SHELL,
        ),
        ("{spec: {execution: Direct, direct: {shell: None}, runAs: root}}", NO_SHELL),
        ("{spec: {execution: Direct, direct: {shell: None}, stdin: {value: x}}}", NO_SHELL),
        ("{spec: {execution: Direct, direct: {shell: None}, workingDirectory: /}}", NO_SHELL),
        ("{spec: {execution: Direct, direct: {shell: None}, command: null, script: x}}", NO_SHELL),
        ("{spec: {execution: Direct, env: [{name: A, value: b}], runAs: root}}", ""),
    ];
    try_all(&Desk::commands().await, table).await;
}

#[tokio::test]
async fn a_direct_command_asks_for_nothing_that_cannot_be_carried_out() {
    let forced = |more: &str| {
        format!("{{spec: {{execution: Direct, direct: {{forcedCommand: true}}, {more}}}}}")
    };
    let direct = |more: &str| format!("{{spec: {{execution: Direct, {more}}}}}");
    let check = |words: &str| format!("idempotency: Verifiable, verify: {{command: {words}}}");
    let table = [
        (forced("stdin: {value: x}, idempotency: Idempotent"), ""),
        (forced("command: null, script: x"), FORCED),
        (forced("command: null, scriptFrom: {configMapKeyRef: {name: s, key: k}}"), FORCED),
        (forced("env: [{name: A, value: b}]"), FORCED),
        (forced("workingDirectory: /"), FORCED),
        (forced("runAs: root"), FORCED),
        (forced(&check("[check]")), FORCED_CHECK),
        (direct("direct: {forcedCommand: false}, runAs: root"), ""),
        (direct(&check("[check]")), ""),
        (direct(&check("['-x']")), DASH),
        (direct("command: ['-x']"), DASH),
        (direct("command: null, script: x, interpreter: ['-x']"), DASH),
        (direct("command: [ls, '-x']"), ""),
        ("{spec: {command: ['-x']}}".to_owned(), ""),
    ];
    let table: Vec<_> = table.iter().map(|(patch, expected)| (patch.as_str(), *expected)).collect();
    try_all(&Desk::commands().await, &table).await;
}

#[tokio::test]
async fn a_non_idempotent_command_cannot_be_repeated_by_its_fields() {
    let table: Table<'_> = &[
        ("{spec: {retry: {limit: 5}}}", ""),
        ("{spec: {retry: {limit: -1}}}", "should be greater than or equal to 0"),
        ("{spec: {retry: {exitCodes: [75]}}}", REPEAT),
        ("{spec: {retry: {exitCodes: []}}}", ""),
        ("{spec: {idempotency: Idempotent, retry: {exitCodes: [75]}}}", ""),
        (
            "{spec: {idempotency: Idempotent, retry: {exitCodes: [75, 0]}}}",
            "a code is either in spec.retry.exitCodes or in spec.successExitCodes, not in both",
        ),
        ("{spec: {retry: {mayOverlap: true}}}", MAY_OVERLAP),
        ("{spec: {execution: Direct, retry: {mayOverlap: true}}}", MAY_OVERLAP),
        ("{spec: {idempotency: Idempotent, retry: {mayOverlap: true}}}", MAY_OVERLAP),
        ("{spec: {execution: Direct, idempotency: Idempotent, retry: {mayOverlap: true}}}", ""),
        (
            "{spec: {retry: {backoff: {initial: 3m}}}}",
            "spec.retry.backoff.initial is at most spec.retry.backoff.max",
        ),
        ("{spec: {retry: {backoff: {initial: 1m, max: 60s}}}}", ""),
        ("{spec: {successExitCodes: []}}", "should have at least 1 items"),
        ("{spec: {successExitCodes: [0, 3]}}", ""),
        ("{spec: {successExitCodes: [3, 3]}}", "Duplicate value: 3"),
    ];
    try_all(&Desk::commands().await, table).await;
}

#[tokio::test]
async fn values_come_from_one_place_each() {
    let name = "a variable's name has letters, digits and underscores";
    let item = "exactly one of value and valueFrom is required in an item of spec.env";
    let source = "exactly one of secretKeyRef and configMapKeyRef is required in valueFrom and";
    let key = "{name: source, key: token}";
    let both = format!("valueFrom: {{secretKeyRef: {key}, configMapKeyRef: {key}}}");
    let table: Table<'_> = &[
        ("{spec: {env: []}}", ""),
        ("{spec: {env: [{name: PGDATA, value: /srv/pg}, {name: _a1, value: ''}]}}", ""),
        ("{spec: {env: [{name: A}]}}", item),
        (
            "{spec: {env: [{name: A, value: x, valueFrom: {secretKeyRef: {name: source, key: token}}}]}}",
            item,
        ),
        ("{spec: {env: [{name: A, valueFrom: {secretKeyRef: {name: source, key: token}}}]}}", ""),
        (
            "{spec: {env: [{name: A, valueFrom: {configMapKeyRef: {name: source, key: token}}}]}}",
            "",
        ),
        ("{spec: {env: [{name: A, valueFrom: {}}]}}", source),
        (&format!("{{spec: {{env: [{{name: A, {both}}}]}}}}"), source),
        ("{spec: {env: [{name: 1A, value: x}]}}", name),
        ("{spec: {env: [{name: 'A=B', value: x}]}}", name),
        ("{spec: {env: [{name: 'A B', value: x}]}}", name),
        ("{spec: {env: [{name: '', value: x}]}}", "spec.env[0].name"),
        ("{spec: {env: [{name: A, value: x}, {name: A, value: y}]}}", "Duplicate value"),
        ("{spec: {stdin: {value: ''}}}", ""),
        ("{spec: {stdin: {valueFrom: {configMapKeyRef: {name: source, key: token}}}}}", ""),
        ("{spec: {stdin: {}}}", "exactly one of value and valueFrom is required in spec.stdin"),
        (&format!("{{spec: {{stdin: {{{both}}}}}}}"), source),
        ("{spec: {command: null, scriptFrom: {}}}", source),
        (
            "{spec: {command: null, scriptFrom: {secretKeyRef: {name: s, key: k}, configMapKeyRef: {name: s, key: k}}}}",
            source,
        ),
        (
            "{spec: {command: null, scriptFrom: {secretKeyRef: {name: UPPER, key: k}}}}",
            "should match",
        ),
        ("{spec: {stdin: {valueFrom: {secretKeyRef: {name: UPPER, key: k}}}}}", "should match"),
    ];
    try_all(&Desk::commands().await, table).await;
}

#[tokio::test]
async fn texts_that_reach_a_host_hold_no_nul_and_are_bounded() {
    let long = "x".repeat(64);
    let longest = "x".repeat(63);
    let word = format!("{{spec: {{command: ['{}']}}}}", "x".repeat(131_072));
    let path = "spec.workingDirectory is an absolute path, like /srv";
    let user = "spec.runAs is the name of a user of the host, like postgres";
    let table: Table<'_> = &[
        (&format!("{{metadata: {{name: {longest}}}}}"), ""),
        (&format!("{{metadata: {{name: {long}}}}}"), "metadata.name has at most 63 characters"),
        ("{spec: {command: []}}", "should have at least 1 items"),
        ("{spec: {command: ['']}}", "is a program: it is not empty"),
        ("{spec: {command: ['echo', '']}}", ""),
        (r#"{spec: {command: ["a\0b"]}}"#, "should match"),
        (&word, "may not be more than 131071"),
        (r#"{spec: {command: null, script: "a\0b"}}"#, "should match"),
        (r#"{spec: {env: [{name: A, value: "a\0b"}]}}"#, "should match"),
        (r#"{spec: {workingDirectory: "/a\0b"}}"#, "should match"),
        ("{spec: {workingDirectory: /srv}}", ""),
        ("{spec: {workingDirectory: srv}}", path),
        ("{spec: {workingDirectory: ~/x}}", path),
        ("{spec: {runAs: postgres}}", ""),
        ("{spec: {runAs: 'DOM\\user.name'}}", ""),
        ("{spec: {runAs: -i}}", user),
        ("{spec: {runAs: '#0'}}", user),
        ("{spec: {runAs: 'a b'}}", user),
        // What YAML makes of unquoted words and numbers.
        ("{spec: {command: [sleep, 5]}}", "must be of type string"),
        ("{spec: {env: [{name: A, value: true}]}}", "must be of type string"),
        ("{spec: {rerunToken: 1}}", "must be of type string"),
        ("{spec: {execution: recorded}}", r#"supported values: "Recorded", "Direct""#),
        ("{spec: {idempotency: idempotent}}", r#""NonIdempotent", "Idempotent", "Verifiable""#),
        ("{spec: {runPolicy: Always}}", r#"supported values: "Once", "OnChange""#),
        ("{spec: {execution: Direct, direct: {shell: none}}}", r#"values: "Posix", "None""#),
        ("{spec: {managedBy: ''}}", "at least 1 chars"),
        ("{spec: {managedBy: example.com/other}}", ""),
        ("{spec: {ttlSecondsAfterFinished: -1}}", "greater than or equal to 0"),
        ("{spec: {ttlSecondsAfterFinished: 0}}", ""),
    ];
    try_all(&Desk::commands().await, table).await;
}

#[tokio::test]
async fn durations_and_sizes_say_how_they_are_written() {
    let duration = "a duration is written with the units h, m, s and ms, like 30s or 1h30m";
    let size = "a size is a text with a whole number of bytes and one of the suffixes";
    let mut table = Vec::new();
    for (text, expected) in [
        ("1h30m", ""),
        ("250ms", ""),
        ("8760h", ""),
        ("1d", duration),
        ("1.5h", duration),
        ("'30'", duration),
        ("0s", duration),
        ("-5s", duration),
        ("8761h", duration),
        ("30", "must be of type string"),
        ("0", "must be of type string"),
    ] {
        for field in ["queue", "connect", "execution", "idle", "termination", "cleanup"] {
            let short = field == "connect" && ["1h30m", "8760h"].contains(&text);
            let expected = if short { "are at most 5m each" } else { expected };
            table.push((format!("{{spec: {{timeouts: {{{field}: {text}}}}}}}"), expected));
        }
        let verify = format!("{{command: [check], timeout: {text}}}");
        table.push((format!("{{spec: {{idempotency: Verifiable, verify: {verify}}}}}"), expected));
    }
    for (text, expected) in [
        ("512Mi", ""),
        ("'1000'", ""),
        ("1Ti", ""),
        ("0", "must be of type string"),
        ("'0'", size),
        ("2Ti", size),
        ("1.5Gi", size),
        ("1GB", size),
    ] {
        table.push((format!("{{spec: {{output: {{sizeLimit: {text}}}}}}}"), expected));
    }
    table.push(("{spec: {output: {tailBytes: 0, log: false}}}".to_owned(), ""));
    let too_many = "should be less than or equal to 65536";
    table.push(("{spec: {output: {tailBytes: 65537}}}".to_owned(), too_many));
    let table: Vec<_> = table.iter().map(|(patch, expected)| (patch.as_str(), *expected)).collect();
    try_all(&Desk::commands().await, &table).await;
}

#[tokio::test]
async fn a_host_is_described_completely_and_by_itself() {
    let source = "at least one of knownHosts, configMapKeyRef and fingerprints is required";
    let address = "address is a DNS name or an IP address, without user, port and brackets";
    let long = format!("{{metadata: {{name: {}}}}}", "h".repeat(64));
    let table: Table<'_> = &[
        ("{}", ""),
        (&long, "metadata.name has at most 63 characters"),
        ("{spec: {address: null}}", "spec.address: Required value"),
        ("{spec: {user: null}}", "spec.user: Required value"),
        ("{spec: {hostKeys: null}}", "spec.hostKeys: Required value"),
        ("{spec: {credentials: null}}", "spec.credentials: Required value"),
        ("{spec: {credentials: {secretRef: null}}}", "spec.credentials.secretRef: Required value"),
        ("{spec: {hostKeys: {fingerprints: null}}}", source),
        ("{spec: {hostKeys: {fingerprints: []}}}", source),
        ("{spec: {hostKeys: {fingerprints: null, knownHosts: 'h ssh-ed25519 AAAA'}}}", ""),
        ("{spec: {hostKeys: {fingerprints: null, configMapKeyRef: {name: c, key: k}}}}", ""),
        (
            "{spec: {hostKeys: {fingerprints: ['MD5:aa']}}}",
            "a fingerprint is SHA256: and 43 characters, as ssh-keygen -l prints it",
        ),
        ("{spec: {address: '::1'}}", ""),
        ("{spec: {address: 'fe80::1%eth0'}}", ""),
        ("{spec: {address: '2001:db8::1'}}", ""),
        ("{spec: {address: '::ffff:10.0.0.1'}}", ""),
        ("{spec: {address: '[::1]'}}", address),
        ("{spec: {address: 'db-1:22'}}", address),
        ("{spec: {address: root@db-1}}", address),
        ("{spec: {address: -oProxyCommand=x}}", address),
        ("{spec: {address: 'a b'}}", address),
        ("{spec: {user: -l}}", "user is a login on the machine"),
        ("{spec: {port: 0}}", "should be greater than or equal to 1"),
        ("{spec: {port: 65536}}", "should be less than or equal to 65535"),
        ("{spec: {port: 2222}}", ""),
        ("{spec: {viaRef: {name: bastion}}}", ""),
        ("{spec: {viaRef: {name: h}}}", "a host is not reached over itself"),
        ("{spec: {concurrency: 1, sessionsPerConnection: 1}}", ""),
        ("{spec: {concurrency: 0}}", "should be greater than or equal to 1"),
        ("{spec: {sessionsPerConnection: 0}}", "should be greater than or equal to 1"),
        ("{spec: {timeouts: {connect: 0s}}}", "a duration is written with the units"),
        ("{spec: {keepAlive: {missed: 0}}}", "should be greater than or equal to 1"),
        ("{spec: {stateDirectory: /var/lib/remote-command}}", ""),
        ("{spec: {stateDirectory: state}}", "stateDirectory is an absolute path"),
    ];
    try_all(&Desk::hosts().await, table).await;
}
