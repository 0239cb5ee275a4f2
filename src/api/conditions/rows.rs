//! The phase table, row by row: from a stage as it is stored, through the summary, to the
//! conditions as they are shown.

use serde_json::{Value as Json, json};

use super::tests::{command, condition, shown, truth};
use super::*;
use crate::api::plan;

const SINCE: &str = "2027-01-15T08:00:00Z";

fn stage(fields: Json) -> Stage {
    let mut stored = json!({"version": 1, "revision": 1, "run": 1, "attempt": 1});
    for (name, value) in fields.as_object().unwrap() {
        stored[name] = value.clone();
    }
    serde_json::from_value(stored.clone()).unwrap_or_else(|e| panic!("{e}: {stored}"))
}

fn attempt(kind: &str, place: Json, more: Json) -> Json {
    let mut attempt = json!({
        "entry": {"uid": "u", "run": 1, "attempt": 1, "kind": kind, "token": "t"},
        "identity": {"machine": "m", "boot": "b", "store": "s", "uptimeMs": 1, "canTell": true},
        "connection": "",
        "host": "db-1",
        "bounds": {"executionMs": 1, "terminationMs": 1},
        "launched": SINCE,
        "place": place,
    });
    for (name, value) in more.as_object().unwrap() {
        attempt[name] = value.clone();
    }
    json!({"current": attempt})
}

fn waiting(on: Json, overdue: bool) -> Json {
    json!({"waiting": {"on": on, "message": "m", "since": SINCE, "overdue": overdue}})
}

fn outcome(ending: &str, reason: &str) -> Json {
    json!({"outcome": {"ending": {ending: reason}, "message": "m", "time": SINCE}})
}

/// `columns` are Accepted, Finished, Succeeded, Ready, Reconciling and Stalled.
fn expect(fields: Json, phase: Phase, reason: &str, columns: &str) {
    let (object, stage) = (command(json!({})), stage(fields.clone()));
    let summary = phase::summary(&plan(&object).unwrap(), &stage);
    let status = shown(&object, &stage, &summary);
    assert_eq!((status.phase, status.reason.as_deref()), (phase, Some(reason)), "{fields}");
    let names = ["Accepted", "Finished", "Succeeded", "Ready", "Reconciling", "Stalled"];
    for (name, column) in names.iter().zip(columns.chars()) {
        assert_eq!(condition(&status, name).status, word(truth(column)), "{name} of {fields}");
    }
}

#[test]
fn pending_waits_its_turn_or_for_something_to_pass() {
    let stop = json!({"reason": "Fenced", "asked": SINCE});
    let lost = json!({"Lost": "RecordWiped"});
    let fencing = json!({"Fencing": {"loss": "RecordWiped", "stop": stop}});
    for (fields, reason) in [
        (json!({"run": 0, "attempt": 0}), "Queued"),
        (json!({}), "Connecting"),
        (json!({"queue": {"since": SINCE, "suspendedSince": SINCE}}), "Suspended"),
        (waiting(json!({"Hold": ["Busy", "HostBusy"]}), false), "HostBusy"),
        (json!({"notBefore": SINCE}), "BackingOff"),
        (waiting(json!({"Fault": {"Transient": "ConnectionRefused"}}), false), "ConnectionRefused"),
        (attempt("Command", lost, json!({})), "PreviousAttemptUncertain"),
        (attempt("Command", fencing, json!({})), "PreviousAttemptUncertain"),
    ] {
        expect(fields, Phase::Pending, reason, "TFUUTF");
    }
}

#[test]
fn pending_on_something_missing_stalls_after_a_while() {
    for reason in ["HostNotFound", "SecretNotFound", "SecretKeyNotFound", "ConfigMapNotFound"] {
        let hold = json!({"Hold": ["Missing", reason]});
        expect(waiting(hold.clone(), false), Phase::Pending, reason, "FFUUTF");
        expect(waiting(hold, true), Phase::Pending, reason, "FFUUFT");
    }
}

#[test]
fn pending_on_a_person_is_stalled_at_once() {
    for reason in ["InvalidSpec", "ViaCycle", "PolicyDenied"] {
        let hold = json!({"Hold": ["Invalid", reason]});
        expect(waiting(hold, false), Phase::Pending, reason, "FFUFFT");
    }
    let denied = json!({"Fault": {"Standing": "PolicyDenied"}});
    expect(waiting(denied, false), Phase::Pending, "PolicyDenied", "FFUFFT");
    for reason in [
        "HostKeyMismatch",
        "AuthenticationRejected",
        "HostUnusable",
        "EnvironmentRefused",
        "ArgumentsTooLong",
    ] {
        let fault = json!({"Fault": {"Standing": reason}});
        expect(waiting(fault, false), Phase::Pending, reason, "TFUFFT");
    }
}

#[test]
fn running_is_under_way_whatever_it_does() {
    let fault = json!({"Transient": "ConnectionLost"});
    let silent = json!({"uncertain": {"since": SINCE, "cause": fault, "message": "m"}});
    let stop = json!({"Stopping": {"reason": "ExecutionTimeout", "asked": SINCE}});
    for (fields, reason) in [
        (attempt("Command", json!("Launching"), json!({})), "Running"),
        (attempt("Command", json!("Running"), json!({})), "Running"),
        (attempt("Command", json!("Running"), silent), "Reattaching"),
        (attempt("Command", json!({"Finishing": {"since": SINCE}}), json!({})), "Finishing"),
        (attempt("Verify", json!("Running"), json!({})), "Verifying"),
        (attempt("Command", stop, json!({})), "Stopping"),
    ] {
        expect(fields, Phase::Running, reason, "TFUUTF");
    }
}

const SUCCESS: [&str; 3] = ["Completed", "Verified", "Resolved"];
const FAILURE: [&str; 29] = [
    "NonZeroExit",
    "Signaled",
    "ExecutionTimeout",
    "IdleTimeout",
    "Cancelled",
    "CommandNotFound",
    "PermissionDenied",
    "VerifyFailed",
    "Resolved",
    "QueueTimeout",
    "ConnectTimeout",
    "HandshakeTimeout",
    "AuthenticationTimeout",
    "ConnectionRefused",
    "NameResolutionFailed",
    "HostKeyUnknown",
    "HostKeyMismatch",
    "HostKeyRevoked",
    "PolicyDenied",
    "AuthenticationRejected",
    "CredentialsInvalid",
    "NoCommonAlgorithm",
    "HostUnusable",
    "ForcedCommand",
    "RunAsRestricted",
    "ProcessLimit",
    "EnvironmentRefused",
    "ArgumentsTooLong",
    "HostChanged",
];
const DOUBT: [&str; 10] = [
    "LostByReboot",
    "LostNoRecord",
    "RecordWiped",
    "HostRolledBack",
    "Unreachable",
    "WrongHost",
    "ConnectionLost",
    "SurvivorsRemain",
    "VerifyInconclusive",
    "PreviousAttemptUncertain",
];

#[test]
fn each_end_has_its_row() {
    for reason in SUCCESS {
        expect(outcome("Succeeded", reason), Phase::Succeeded, reason, "TTTTFF");
    }
    for reason in FAILURE {
        expect(outcome("Failed", reason), Phase::Failed, reason, "TTFFFT");
    }
    for reason in DOUBT {
        expect(outcome("Unknown", reason), Phase::Unknown, reason, "TTUFFT");
    }
}

#[test]
fn deleting_leaves_phase_reason_and_outcome_as_they_were() {
    let fault = json!({"Transient": "HostUnreachable"});
    let blocked = json!({"since": SINCE, "cause": fault, "message": "m"});
    for (deleting, cleanup) in [
        (json!({"since": SINCE}), "CleaningUp"),
        (json!({"since": SINCE, "blocked": blocked}), "CleanupBlocked"),
        (json!({"since": SINCE, "abandoned": ["a record on db-1"]}), "Abandoned"),
    ] {
        for (ending, reason, phase, finished) in [
            ("Succeeded", "Completed", Phase::Succeeded, "TTT"),
            ("Failed", "NonZeroExit", Phase::Failed, "TTF"),
            ("Unknown", "Unreachable", Phase::Unknown, "TTU"),
        ] {
            let mut fields = outcome(ending, reason);
            fields["deleting"] = deleting.clone();
            expect(fields.clone(), phase, reason, &format!("{finished}FTF"));
            let (object, stage) = (command(json!({})), stage(fields));
            let summary = phase::summary(&plan(&object).unwrap(), &stage);
            let status = shown(&object, &stage, &summary);
            assert_eq!(condition(&status, "Ready").reason, cleanup);
            assert_eq!(condition(&status, "Reconciling").reason, cleanup);
            assert_eq!(condition(&status, "Finished").reason, reason);
        }
    }
}
