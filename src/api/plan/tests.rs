//! A spec becomes a plan, or a sentence.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::*;

/// The smallest command, with these fields of its spec.
fn command(fields: Json) -> RemoteCommand {
    let mut spec = json!({"hostRef": {"name": "db-1"}, "command": ["true"]});
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "remotecommand.dev/v1alpha1",
        "kind": "RemoteCommand",
        "metadata": {"name": "c", "uid": "uid-1"},
        "spec": spec,
    }))
    .unwrap()
}

fn refusal(fields: Json) -> String {
    plan(&command(fields.clone())).map_or_else(|e| e.to_string(), |_| format!("accepted: {fields}"))
}

#[test]
fn a_plan_is_complete_with_all_defaults() {
    let plan = plan(&command(json!({}))).unwrap();
    assert_eq!((plan.uid.as_str(), plan.host.as_str()), ("uid-1", "db-1"));
    assert_eq!(plan.idempotency, plan::Idempotency::NonIdempotent);
    assert_eq!(plan.execution, plan::Execution::Recorded);
    assert_eq!(plan.limits.queue, Duration::from_secs(3600));
    assert_eq!(plan.limits.termination, Duration::from_secs(30));
    assert_eq!(plan.limits.cleanup, Duration::from_secs(600));
    assert_eq!(plan.limits.idle, None);
    assert_eq!((plan.retry.limit, plan.retry.initial), (3, Duration::from_secs(2)));
    assert_eq!(plan.success_exit_codes, [0]);
    assert_eq!(plan.program.argv, ["true"]);
    assert_eq!(plan.program.output_limit, 1 << 30);
    assert_eq!((plan.program.env, plan.program.stdin), (vec![], None));
}

#[test]
fn a_script_is_run_by_its_interpreter() {
    let script = json!({"command": null, "script": "echo"});
    let program = plan(&command(script)).unwrap().program;
    let text = Some(plan::Value::Literal("echo".to_owned()));
    // Who runs it is asked of its text, at launch.
    assert_eq!((program.argv, program.script), (vec![], text));
    let python = json!({"command": null, "script": "x", "interpreter": ["python3", "-u"]});
    assert_eq!(plan(&command(python)).unwrap().program.argv, ["python3", "-u"]);
    let at = json!({"name": "t", "key": "token"});
    for (from, interpreter) in [("secretKeyRef", json!(null)), ("configMapKeyRef", json!(["sh"]))] {
        let named = json!({"command": null, "scriptFrom": {from: at}, "interpreter": interpreter});
        let program = plan(&command(named)).unwrap().program;
        assert_eq!(program.argv.is_empty(), interpreter.is_null());
        assert!(!matches!(program.script, None | Some(plan::Value::Literal(_))), "{program:?}");
    }
}

/// Guards against a stored script that is refused by a rule that came later: its class would be
/// forgotten while it runs.
#[test]
fn what_a_scripts_first_line_says_never_makes_a_plan_impossible() {
    for script in ["#!/bin/sh\r\n", "\u{feff}#!/bin/sh\n", "#!nowhere"] {
        let script = json!({"command": null, "script": script, "idempotency": "Idempotent"});
        let plan = plan(&command(script)).unwrap();
        assert_eq!(plan.idempotency, plan::Idempotency::Idempotent);
    }
}

#[test]
fn values_are_named_and_not_held() {
    let at = json!({"name": "t", "key": "token"});
    let fields = json!({
        "env": [
            {"name": "A", "value": "$(x)"},
            {"name": "B", "valueFrom": {"secretKeyRef": at}},
        ],
        "stdin": {"valueFrom": {"configMapKeyRef": at}},
    });
    let program = plan(&command(fields)).unwrap().program;
    let (name, key) = ("t".to_owned(), "token".to_owned());
    let expected = vec![
        ("A".to_owned(), plan::Value::Literal("$(x)".to_owned())),
        ("B".to_owned(), plan::Value::SecretKey { name: name.clone(), key: key.clone() }),
    ];
    assert_eq!(program.env, expected);
    assert_eq!(program.stdin, Some(plan::Value::ConfigMapKey { name, key }));
}

#[test]
fn what_the_api_server_cannot_see_is_refused_in_a_sentence() {
    // 65,536 characters of two bytes each: few enough characters, too many bytes.
    let wide = "ä".repeat(65_536);
    let direct = |command: Json| json!({"execution": "Direct", "direct": {"shell": "None"}, "command": command});
    let forced = |command: Json| json!({"execution": "Direct", "direct": {"forcedCommand": true}, "command": command});
    for (fields, expected) in [
        (json!({"command": ["echo", wide]}), "spec.command[1] has 131072 bytes; an argument"),
        (json!({"env": [{"name": "A", "value": wide}]}), "spec.env[0] has 131074 bytes"),
        (
            json!({"command": null, "script": "ä".repeat(131_073)}),
            "spec.script has 262146 bytes; it has at most 262144: put more into a \
             ConfigMap or a Secret, and name that in spec.scriptFrom",
        ),
        (direct(json!(["show", "version;reload"])), "spec.command[1] needs a shell to quote it"),
        (direct(json!(["show", "a b"])), "spec.command[1] needs a shell to quote it"),
        (direct(json!(["show", ""])), "spec.command[1] needs a shell to quote it"),
        (forced(json!(["show", "a b"])), "spec.command[1] needs a shell to quote it"),
    ] {
        let refusal = refusal(fields);
        assert!(refusal.starts_with(expected), "{refusal}");
    }
    let fits = json!({"command": ["x".repeat(131_071)]});
    plan(&command(fits)).unwrap();
    let bare = json!(["show", "interfaces", "ge-0/0/0.1", "a=b,c:d@e%f+_"]);
    plan(&command(direct(bare.clone()))).unwrap();
    plan(&command(forced(bare))).unwrap();
}

#[test]
fn the_rules_of_the_contract_hold_without_an_api_server() {
    let verify = json!({"command": ["check"]});
    for (fields, sentence) in [
        (json!({"hostRef": null}), sentences::ONE_HOST),
        (json!({"command": null}), sentences::ONE_PROGRAM),
        (json!({"script": "x"}), sentences::ONE_PROGRAM),
        (json!({"command": []}), sentences::PROGRAM_NAMED),
        (json!({"command": [""]}), sentences::PROGRAM_NAMED),
        (
            json!({"scriptFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
            sentences::ONE_PROGRAM,
        ),
        (json!({"command": null, "scriptFrom": {}}), sentences::ONE_SOURCE),
        (json!({"interpreter": ["sh"]}), sentences::INTERPRETER_NEEDS_SCRIPT),
        (json!({"verify": verify}), sentences::VERIFY_WITH_VERIFIABLE),
        (json!({"idempotency": "Verifiable"}), sentences::VERIFY_WITH_VERIFIABLE),
        (json!({"direct": {}}), sentences::DIRECT_WITH_DIRECT),
        (
            json!({"execution": "Direct", "direct": {"shell": "None"}, "runAs": "root"}),
            sentences::NO_SHELL,
        ),
        (json!({"retry": {"mayOverlap": true}}), sentences::OVERLAP),
        (json!({"execution": "Direct", "retry": {"mayOverlap": true}}), sentences::OVERLAP),
        (json!({"retry": {"exitCodes": [75]}}), sentences::NO_REPEAT),
        (
            json!({"idempotency": "Idempotent", "retry": {"exitCodes": [0]}}),
            sentences::EXIT_CODES_DISJOINT,
        ),
        (json!({"retry": {"backoff": {"initial": "3m"}}}), sentences::BACKOFF_ORDER),
        (json!({"workingDirectory": "srv"}), sentences::WORKING_DIRECTORY),
        (
            json!({"execution": "Direct", "env": [{"name": "rcmd_k", "value": "v"}]}),
            sentences::RESERVED_NAME,
        ),
        (json!({"runAs": "-i"}), sentences::RUN_AS),
        (json!({"runAs": "a b"}), sentences::RUN_AS),
        (json!({"stdin": {}}), sentences::ONE_VALUE),
        (json!({"stdin": {"valueFrom": {}}}), sentences::ONE_SOURCE),
    ] {
        assert_eq!(refusal(fields.clone()), sentence, "{fields}");
    }
    for (fields, part) in [
        (json!({"timeouts": {"queue": "1d"}}), "spec.timeouts.queue is \"1d\": a duration is"),
        (json!({"output": {"sizeLimit": "1GB"}}), "spec.output.sizeLimit is \"1GB\": a size is"),
        (json!({"retry": {"limit": -1}}), "spec.retry.limit is -1; it is at least 0"),
        (json!({"command": ["a\0b"]}), "spec.command[0] holds a NUL byte"),
        (json!({"env": [{"name": "A;B", "value": ""}]}), "spec.env[0] is no name of a variable"),
    ] {
        let refusal = refusal(fields);
        assert!(refusal.starts_with(part), "{refusal}");
    }
}

#[test]
fn a_direct_command_that_could_not_be_carried_out_is_refused() {
    let verify = json!({"command": ["check"]});
    let forced = |mut fields: Json| {
        fields["execution"] = "Direct".into();
        fields["direct"] = json!({"forcedCommand": true});
        fields
    };
    plan(&command(forced(json!({"stdin": {"value": "x"}})))).unwrap();
    for (fields, sentence) in [
        (forced(json!({"command": null, "script": "x"})), sentences::FORCED_COMMAND),
        (
            forced(
                json!({"command": null, "scriptFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
            ),
            sentences::FORCED_COMMAND,
        ),
        (forced(json!({"env": [{"name": "A", "value": "b"}]})), sentences::FORCED_COMMAND),
        (forced(json!({"workingDirectory": "/"})), sentences::FORCED_COMMAND),
        (forced(json!({"runAs": "root"})), sentences::FORCED_COMMAND),
        (forced(json!({"idempotency": "Verifiable", "verify": verify})), sentences::FORCED_CHECK),
        (json!({"execution": "Direct", "command": ["-x"]}), sentences::DIRECT_PROGRAM),
        (
            json!({"execution": "Direct", "command": null, "script": "x", "interpreter": ["-x"]}),
            sentences::DIRECT_PROGRAM,
        ),
        (
            json!({"execution": "Direct", "idempotency": "Verifiable",
                   "verify": {"command": ["-x"]}}),
            sentences::DIRECT_PROGRAM,
        ),
    ] {
        assert_eq!(refusal(fields.clone()), sentence, "{fields}");
    }
}

#[test]
fn every_frozen_field_and_no_other_changes_the_digest() {
    let digest = |fields: Json| asked(&command(fields)).frozen_digest;
    let same = digest(json!({}));
    for fields in [
        json!({"suspend": true, "cancel": true, "rerunToken": "t"}),
        json!({"timeouts": {"queue": "2h"}, "retry": {"limit": 0}}),
        json!({"output": {"log": false}, "ttlSecondsAfterFinished": 1}),
        json!({"successExitCodes": [0], "execution": "Recorded"}),
    ] {
        assert_eq!(digest(fields.clone()), same, "{fields}");
    }
    let at = json!({"address": "a", "user": "u", "hostKeys": {"knownHosts": "x"},
                    "credentials": {"secretRef": {"name": "s"}}});
    for fields in [
        json!({"hostRef": {"name": "db-2"}}),
        json!({"hostRef": null, "host": at}),
        json!({"command": ["false"]}),
        json!({"command": null, "script": "true"}),
        json!({"command": null, "scriptFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
        json!({"interpreter": ["bash"]}),
        json!({"env": []}),
        json!({"stdin": {"value": ""}}),
        json!({"workingDirectory": "/"}),
        json!({"runAs": "root"}),
        json!({"execution": "Direct"}),
        json!({"direct": {}}),
        json!({"verify": {"command": ["a"]}}),
        json!({"successExitCodes": [0, 3]}),
    ] {
        assert_ne!(digest(fields.clone()), same, "{fields}");
    }
}

/// A stored digest is compared with this one after an upgrade: if this test fails, every
/// OnChange command in every cluster would start again.
#[test]
fn the_digest_of_a_spec_is_the_same_in_every_version() {
    let digest = asked(&command(json!({"env": [{"name": "A", "value": "x"}]}))).frozen_digest;
    assert_eq!(digest, "02389e91772be19be0874e97aa102a632199963882f1efffebd60807ac1cc429");
}

#[test]
fn wishes_are_read_from_the_object_as_it_is() {
    let fields = json!({"runPolicy": "OnChange", "suspend": true, "cancel": true,
                        "rerunToken": "again",
                        "resolution": {"run": 1, "attempt": 2, "as": "Retry"}});
    let mut object = command(fields);
    let wished = asked(&object);
    assert!(wished.on_change && wished.suspend && wished.cancel && !wished.delete);
    assert_eq!(wished.rerun_token, "again");
    let word = wished.resolution.unwrap();
    assert_eq!((word.run, word.attempt, word.verdict), (1, 2, plan::Verdict::Retry));
    let now = jiff::Timestamp::UNIX_EPOCH;
    object.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    assert!(asked(&object).delete);
}

#[test]
fn limits_that_are_valid_hold_although_others_are_not() {
    let timeouts = json!({"queue": "soon", "cleanup": "5s", "idle": "7s"});
    let object = command(json!({"timeouts": timeouts}));
    assert!(plan(&object).is_err());
    let limits = limits_where_valid(&object.spec);
    assert_eq!(limits.queue, Duration::from_secs(3600), "its default");
    assert_eq!(limits.cleanup, Duration::from_secs(5));
    assert_eq!(limits.idle, Some(Duration::from_secs(7)));
}
