//! Whatever a host, a tenant or a person makes long, the status that comes of it can be stored.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::api::bounds::{WHOLE, size};
use crate::api::conditions::{Known, status};
use crate::api::{OutputStatus, RemoteCommandStatus, crd};
use crate::core::action::{Entry, Kind, StopReason};
use crate::core::attempt::{Bounds, Stop, Uncertain};
use crate::core::bounds::{WAYS_BYTES, bound, stored_bytes};
use crate::core::fault::{Cause, Transient};
use crate::core::outcome::{Doubt, Ending, Evidence, Failure, PastAttempt};
use crate::core::phase::{AsItWas, Phase, summary};
use crate::core::plan::Plan;
use crate::core::record::{Identity, ProcessId, ProcessIds, Survivor, exit_from_channel};
use crate::core::stage::{Deleting, HISTORY, Next, Trace, Waiting};

const THEN: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// Text of any length, of characters that JSON, Go or YAML make something of.
fn text() -> impl Strategy<Value = String> {
    let odd = "x\"\\\n\r\t\u{1}\0<&>\u{2028}\u{202e}\u{1b}ä€🙂 ".chars().collect::<Vec<_>>();
    let piece = (proptest::sample::select(odd), 0..100_000_usize);
    let long = piece.prop_map(|(character, times)| character.to_string().repeat(times));
    prop_oneof![2 => long, 1 => "\\PC{0,40}", 1 => Just(String::new())]
}

fn survivors() -> impl Strategy<Value = Vec<Survivor>> {
    let survivor = text().prop_map(|mut command| {
        command.truncate(command.floor_char_boundary(300));
        Survivor { pid: u32::MAX, uid: u32::MAX, command }
    });
    vec(survivor, 0..100)
}

/// A way as it is taken on: a longer one is refused before anything starts.
fn way() -> impl Strategy<Value = String> {
    text().prop_map(|mut way| {
        while stored_bytes(&way) > WAYS_BYTES {
            way.truncate(way.floor_char_boundary(way.len() / 2));
        }
        way
    })
}

fn attempt(way: String, texts: &[String], found: &[Survivor], kind: usize) -> Attempt {
    let name = "m".repeat(128);
    let process = ProcessId { pid: u32::MAX, start: u64::MAX };
    let stop = Stop { survivors: found.to_vec(), ..Stop::new(StopReason::ExecutionTimeout, THEN) };
    let place = match kind {
        0 => Place::Stopping(stop),
        1 => Place::Fencing { loss: crate::core::outcome::Loss::LostNoRecord, stop },
        2 => Place::Ended(crate::core::outcome::Fate::Received(exit_from_channel(Err(
            texts[0].clone()
        )))),
        _ => Place::Running,
    };
    Attempt {
        entry: Entry {
            uid: "u".repeat(36),
            run: i32::MAX,
            attempt: i32::MAX,
            kind: Kind::Command,
            token: "f".repeat(32),
            machine: name.clone(),
            run_as: Some("r".repeat(256)),
        },
        direct: false,
        identity: Identity {
            machine: name.clone(),
            boot: name.clone(),
            store: name.clone(),
            uptime_ms: u64::MAX,
            can_tell: true,
        },
        connection: way,
        host: "h".repeat(253),
        purpose: Next::PersonsRetry,
        bounds: Bounds {
            execution_ms: u64::MAX,
            idle_ms: Some(u64::MAX),
            termination_ms: u64::MAX,
            success: vec![i32::MAX; 64],
        },
        processes: Some(ProcessIds { boot: name, supervisor: process.clone(), command: process }),
        launched: THEN,
        started: Some(THEN),
        quiet: None,
        uncertain: (kind == 3).then(|| uncertain(&texts[1])),
        place,
        left_running: found.to_vec(),
    }
}

fn uncertain(message: &str) -> Uncertain {
    let cause = Cause::Transient(Transient::ConnectionLost);
    Uncertain { since: THEN, cause, message: message.to_owned() }
}

fn past(texts: &[String]) -> PastAttempt {
    PastAttempt {
        run: i32::MAX,
        attempt: i32::MAX,
        start_time: Some(THEN),
        completion_time: Some(THEN),
        evidence: Evidence::ExitStatusReceived,
        reason: texts[2].clone(),
        exit_code: Some(i32::MAX),
        signal: Some(texts[3].clone()),
    }
}

fn trace(way: &str) -> Trace {
    let name = "m".repeat(128);
    Trace {
        connection: way.to_owned(),
        machine: name.clone(),
        store: name,
        run_as: Some("r".repeat(256)),
        host: "h".repeat(253),
    }
}

/// The longest of everything at once.
fn stage(ways: &[String], texts: &[String], found: &[Survivor], kind: usize) -> Stage {
    let outcome = Outcome {
        ending: if kind == 0 {
            Ending::Unknown(Doubt::SurvivorsRemain)
        } else {
            Ending::Failed(Failure::NonZeroExit)
        },
        message: texts[4].clone(),
        time: THEN,
        evidence: Some(Evidence::ExitStatusReceived),
        exit_code: Some(i32::MAX),
        signal: Some(texts[5].clone()),
    };
    let waiting = Waiting {
        on: WaitingOn::Hold(HoldKind::Missing, texts[6].clone()),
        message: texts[7].clone(),
        since: THEN,
        overdue: true,
        poke: "p".repeat(256),
    };
    let shown = AsItWas {
        phase: Phase::Running,
        reason: texts[0].clone(),
        message: texts[1].clone(),
        accepted: true,
    };
    let deleting = Deleting {
        shown: Some(shown),
        blocked: Some(uncertain(&texts[2])),
        abandoned: texts.iter().cycle().take(60).cloned().collect(),
        ..Deleting::new(THEN)
    };
    let mut stage = Stage {
        revision: i64::MAX - 1,
        run: i32::MAX,
        attempt: i32::MAX,
        observed_rerun_token: "<".repeat(253),
        frozen_digest: "f".repeat(64),
        run_request_time: Some(THEN),
        waiting: Some(waiting),
        current: Some(attempt(ways[0].clone(), texts, found, kind)),
        traces: ways.iter().skip(1).map(|way| trace(way)).collect(),
        outcome: (kind < 3).then_some(outcome),
        attempts: vec![past(texts); HISTORY],
        deleting: kind.is_multiple_of(2).then_some(deleting),
        ..Stage::default()
    };
    // As `decide` leaves them: together they are within the bound.
    let mut room = WAYS_BYTES - stored_bytes(&ways[0]);
    stage.traces.retain(|trace| {
        let bytes = stored_bytes(&trace.connection);
        room = room.saturating_sub(bytes);
        room > 0 || bytes == 0
    });
    bound(&mut stage);
    stage
}

fn shown(stage: &Stage, tail: &str) -> RemoteCommandStatus {
    let object: RemoteCommand = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "c", "uid": "u", "generation": i64::MAX},
        "spec": {"hostRef": {"name": "db-1"}, "command": ["true"],
                 "output": {"tailBytes": 65_536}, "ttlSecondsAfterFinished": 1},
    }))
    .unwrap();
    let mut output = OutputStatus { location: Some(tail.to_owned()), ..OutputStatus::default() };
    output.stdout.tail = Some(tail.to_owned());
    output.stderr.tail = Some(tail.to_owned());
    output.stdout.bytes = i64::MAX;
    output.stderr.bytes = i64::MAX;
    let plan = Plan::plain("u", "db-1", &[]);
    let known = Known {
        stage,
        to_be_followed: false,
        record: record(stage).unwrap(),
        summary: &summary(&plan, stage),
        output,
        previous: None,
        now: THEN,
    };
    status(&object, known)
}

/// What of the schema's bounds a value goes beyond.
fn offences(path: &str, schema: &JSONSchemaProps, value: &Value, found: &mut Vec<String>) {
    let beyond = |longest: Option<i64>, length: usize| {
        longest.is_some_and(|longest| usize::try_from(longest).unwrap() < length)
    };
    match value {
        Value::String(text) if beyond(schema.max_length, text.chars().count()) => {
            found.push(format!("{path} is too long"));
        }
        Value::Array(items) => {
            if beyond(schema.max_items, items.len()) {
                found.push(format!("{path} has too many items"));
            }
            let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items else { return };
            items.iter().for_each(|value| offences(path, item, value, found));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let field = schema.properties.iter().flatten().find(|(key, _)| *key == name);
                match field {
                    Some((_, field)) => offences(&format!("{path}.{name}"), field, value, found),
                    None => found.push(format!("{path}.{name} is not in the schema")),
                }
            }
        }
        Value::Null => found.push(format!("{path} is null")),
        Value::String(_) | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn schema() -> JSONSchemaProps {
    let definition = crd::all().remove(0);
    let version = definition.spec.versions.into_iter().next().unwrap();
    let mut root = version.schema.unwrap().open_api_v3_schema.unwrap();
    root.properties.as_mut().unwrap().remove("status").unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_status_of_any_stage_fits_and_is_as_the_schema_wants_it(
        ways in vec(way(), 1..9),
        texts in vec(text(), 8),
        found in survivors(),
        kind in 0..4_usize,
        tail in text(),
    ) {
        let stage = stage(&ways, &texts, &found, kind);
        let mut again = stage.clone();
        bound(&mut again);
        prop_assert_eq!(&again, &stage, "what is bounded is not cut again");
        let status = shown(&stage, &tail);
        prop_assert!(size(&status) <= WHOLE, "{} bytes", size(&status));
        let mut found = Vec::new();
        let value = serde_json::to_value(&status).unwrap();
        offences("status", &schema(), &value, &mut found);
        prop_assert!(found.is_empty(), "{:?}", found);
        let parsed = parse(status.stage.as_ref().unwrap()).unwrap();
        prop_assert_eq!(parsed, stage, "nothing of the record was cut on the way");
    }
}

#[test]
fn the_largest_of_everything_fits_with_room_for_tails() {
    let texts = vec!["\u{1}".repeat(100_000); 8];
    let found = vec![Survivor { pid: 1, uid: 1, command: "<".repeat(300) }; 100];
    let mut way = "\"".repeat(WAYS_BYTES / 4);
    way.truncate(WAYS_BYTES / 4);
    for kind in 0..4 {
        let stage = stage(&[way.clone(), "x".to_owned()], &texts, &found, kind);
        let status = shown(&stage, &"\u{1}".repeat(200_000));
        let all = size(&status);
        assert!(all <= WHOLE, "kind {kind}: {all} bytes");
        let output = status.output.unwrap();
        let tail = output.stdout.tail.unwrap().len();
        assert!(tail >= 1024, "kind {kind}: {tail} bytes of tail are left");
    }
}
