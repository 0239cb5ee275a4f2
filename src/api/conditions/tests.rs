//! How conditions are made, dated and bounded.

use serde_json::json;

use super::*;
use crate::core::bounds::{MESSAGE_CHARS, PROCESSES};
use crate::core::outcome::Evidence;
use crate::core::phase::{Cleanup, HostReachable};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 900_000_000);
const TYPES: [&str; 7] =
    ["Accepted", "HostReachable", "Finished", "Succeeded", "Ready", "Reconciling", "Stalled"];

pub(super) fn command(patch: serde_json::Value) -> RemoteCommand {
    let mut object = json!({
        "apiVersion": "remotecommand.dev/v1alpha1",
        "kind": "RemoteCommand",
        "metadata": {"name": "c", "uid": "u", "generation": 3},
        "spec": {"hostRef": {"name": "db-1"}, "command": ["true"]},
    });
    for (section, fields) in patch.as_object().unwrap() {
        for (name, value) in fields.as_object().unwrap() {
            object[section][name] = value.clone();
        }
    }
    serde_json::from_value(object).unwrap()
}

pub(super) fn truth(letter: char) -> Truth {
    match letter {
        'T' => Truth::True,
        'F' => Truth::False,
        _ => Truth::Unknown,
    }
}

/// The columns Accepted, Finished, Succeeded, Ready, Reconciling and Stalled as T, F and U.
fn summary(phase: phase::Phase, reason: &str, columns: &str) -> Summary {
    let column = |number: usize| truth(columns.chars().nth(number).unwrap());
    Summary {
        phase,
        reason: reason.to_owned(),
        message: format!("in words: {reason}"),
        evidence: None,
        exit_code: None,
        signal: None,
        start_time: None,
        completion_time: None,
        stop_requested: false,
        left_running: Vec::new(),
        accepted: column(0),
        finished: column(1),
        succeeded: column(2),
        ready: column(3),
        reconciling: column(4),
        stalled: column(5),
        host_reachable: HostReachable {
            status: Truth::True,
            reason: "Connected".to_owned(),
            message: "answered".to_owned(),
        },
        deleting: None,
    }
}

fn record(stage: &Stage) -> StageRecord {
    serde_json::from_value(serde_json::to_value(stage).unwrap()).unwrap()
}

pub(super) fn shown(
    command: &RemoteCommand,
    stage: &Stage,
    summary: &Summary,
) -> RemoteCommandStatus {
    let known = Known {
        stage,
        to_be_followed: false,
        record: record(stage),
        summary,
        output: OutputStatus::unseen(false),
        previous: command.status.as_ref(),
        now: NOW,
    };
    status(command, known)
}

pub(super) fn condition<'a>(status: &'a RemoteCommandStatus, name: &str) -> &'a Condition {
    status.conditions.iter().flatten().find(|condition| condition.type_ == name).unwrap()
}

#[test]
fn every_row_of_the_phase_table_becomes_seven_conditions() {
    use phase::Phase::{Failed, Pending, Running, Succeeded, Unknown};
    // Accepted, Finished, Succeeded, Ready, Reconciling, Stalled.
    let rows = [
        (Pending, "Queued", "TFUUTF"),
        (Pending, "HostNotFound", "FFUUTF"),
        (Pending, "HostNotFound", "FFUUFT"),
        (Pending, "InvalidSpec", "FFUFFT"),
        (Pending, "HostKeyMismatch", "TFUFFT"),
        (Running, "Reattaching", "TFUUTF"),
        (Succeeded, "Completed", "TTTTFF"),
        (Failed, "NonZeroExit", "TTFFFT"),
        (Unknown, "LostByReboot", "TTUFFT"),
    ];
    for (phase, reason, columns) in rows {
        let summary = summary(phase, reason, columns);
        let status = shown(&command(json!({})), &Stage::default(), &summary);
        let types: Vec<_> = status.conditions.iter().flatten().map(|c| &c.type_).collect();
        assert_eq!(types, TYPES, "{reason}");
        assert_eq!(status.phase.as_str(), phase.word());
        let names = ["Accepted", "Finished", "Succeeded", "Ready", "Reconciling", "Stalled"];
        for (name, column) in names.iter().zip(columns.chars()) {
            let found = condition(&status, name);
            assert_eq!(found.status, word(truth(column)), "{reason}: {name}");
            assert_eq!(found.reason, reason);
            assert_eq!(found.observed_generation, Some(3));
        }
        assert_eq!(condition(&status, "HostReachable").reason, "Connected");
        assert_eq!(status.observed_generation, 3);
    }
}

#[test]
fn deleting_gives_its_reason_to_ready_and_reconciling_only() {
    let mut summary = summary(phase::Phase::Succeeded, "Completed", "TTTFTF");
    summary.deleting =
        Some(Cleanup { reason: "CleaningUp", message: "removing the record".to_owned() });
    let status = shown(&command(json!({})), &Stage::default(), &summary);
    assert_eq!(status.reason.as_deref(), Some("Completed"));
    for name in TYPES {
        let cleanup = ["Ready", "Reconciling"].contains(&name);
        assert_eq!(condition(&status, name).reason == "CleaningUp", cleanup, "{name}");
    }
}

#[test]
fn a_transition_is_dated_only_when_the_status_of_a_condition_changes() {
    let mut object = command(json!({}));
    let earlier: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let old = |type_: &str, status: &str, time| Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: "Queued".to_owned(),
        message: String::new(),
        observed_generation: Some(1),
        last_transition_time: Time(time),
    };
    let before = vec![
        old("Finished", "False", earlier),
        old("Accepted", "False", earlier),
        old("Reconciling", "True", Timestamp::UNIX_EPOCH),
    ];
    object.status =
        Some(RemoteCommandStatus { conditions: Some(before), ..RemoteCommandStatus::default() });
    let summary = summary(phase::Phase::Running, "Running", "TFUUTF");
    let status = shown(&object, &Stage::default(), &summary);
    let dated = |name| condition(&status, name).last_transition_time.0;
    let now: Timestamp = "2027-01-15T08:00:00Z".parse().unwrap();
    assert_eq!(dated("Finished"), earlier, "False as before");
    assert_eq!(dated("Accepted"), now, "False before");
    assert_eq!(dated("Ready"), now, "not said before");
    assert_eq!(dated("Reconciling"), now, "only the definition's default said so");
}

#[test]
fn there_is_no_null_and_a_status_comes_back_as_it_was_written() {
    let rich = Stage { run: 1, attempt: 2, revision: 7, ..Stage::default() };
    for stage in [Stage::default(), rich] {
        let summary = summary(phase::Phase::Pending, "Queued", "TFUUTF");
        let status = shown(&command(json!({})), &stage, &summary);
        let text = serde_json::to_string(&status).unwrap();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<RemoteCommandStatus>(&text).unwrap(), status);
    }
    assert!(!serde_json::to_string(&RemoteCommandStatus::default()).unwrap().contains("null"));
}

#[test]
fn texts_and_lists_are_bounded() {
    let mut summary = summary(phase::Phase::Pending, "Queued", "TFUUTF");
    summary.message = "ä".repeat(5000);
    let past = |attempt| PastAttempt {
        run: 1,
        attempt,
        start_time: None,
        completion_time: None,
        evidence: Evidence::NeverStarted,
        reason: "ConnectionRefused".to_owned(),
        exit_code: None,
        signal: None,
    };
    let stage = Stage { attempts: (1..=12).map(past).collect(), ..Stage::default() };
    let status = shown(&command(json!({})), &stage, &summary);
    let message = status.message.unwrap();
    assert_eq!((message.chars().count(), message.chars().last()), (MESSAGE_CHARS, Some('…')));
    let listed: Vec<_> = status.attempts.unwrap().iter().map(|a| a.attempt).collect();
    assert_eq!(listed, (3..=12).collect::<Vec<_>>());
}

fn cut(tail: &str, limit: i32) -> Option<String> {
    let mut output = OutputStatus::default();
    output.stdout.tail = Some(tail.to_owned());
    let status = RemoteCommandStatus { output: Some(output), ..RemoteCommandStatus::default() };
    bounded(status, limit).output.unwrap().stdout.tail
}

#[test]
fn tails_end_within_their_bytes_and_begin_with_a_whole_character() {
    let tail = cut;
    assert_eq!(tail("hello", 4096).as_deref(), Some("hello"));
    assert_eq!(tail("hello", 2).as_deref(), Some("lo"));
    assert_eq!(tail("xäy", 2).as_deref(), Some("y"), "not half an ä");
    assert_eq!(tail("hello", 0).as_deref(), Some(""));
    assert_eq!(tail("", 10).as_deref(), Some(""));
}

#[test]
fn tails_are_bounded_as_they_are_stored_and_not_only_as_they_are() {
    let tail = |text: &str| cut(text, 600).unwrap();
    for text in ["\u{1}".repeat(1000), "<>&".repeat(1000), "\u{1b}[0m".repeat(1000)] {
        let kept = tail(&text);
        assert!(!kept.is_empty() && text.ends_with(&kept));
        // Go's encoder, which the API server uses, escapes these as well.
        let stored = serde_json::to_string(&kept).unwrap();
        let escaped = stored.matches(['<', '>', '&']).count();
        assert!(stored.len() + 5 * escaped <= 1202, "{} bytes", stored.len());
    }
    let ordinary = "a line with \"quotes\"\n".repeat(100);
    assert_eq!(tail(&ordinary).len(), 600, "ordinary text is cut by its bytes alone");
}

#[test]
fn the_observed_generation_waits_for_the_run_it_asks_for() {
    let object = command(json!({"status": {"observedGeneration": 2}}));
    let summary = summary(phase::Phase::Succeeded, "Completed", "TTTTFF");
    let stage = Stage { run: 1, ..Stage::default() };
    for (to_be_followed, generation) in [(true, 2), (false, 3)] {
        let known = Known {
            stage: &stage,
            to_be_followed,
            record: record(&stage),
            summary: &summary,
            output: OutputStatus::unseen(false),
            previous: object.status.as_ref(),
            now: NOW,
        };
        let status = status(&object, known);
        assert_eq!(status.observed_generation, generation);
        let conditions = status.conditions.unwrap();
        assert!(conditions.iter().all(|c| c.observed_generation == Some(generation)));
    }
}

#[test]
fn an_outcome_is_shown_whole() {
    let stage = Stage { run: 2, attempt: 1, ..Stage::default() };
    let mut summary = summary(phase::Phase::Failed, "Signaled", "TTFFFT");
    summary.evidence = Some(Evidence::Signaled);
    summary.exit_code = Some(137);
    summary.signal = Some("KILL".to_owned());
    summary.completion_time = Some(NOW);
    summary.stop_requested = true;
    summary.left_running = vec![Survivor { pid: 7, uid: 0, command: "sshd".to_owned() }; 40];
    let status = shown(&command(json!({})), &stage, &summary);
    assert_eq!((status.run, status.attempt, status.exit_code), (Some(2), Some(1), Some(137)));
    assert_eq!(status.evidence.as_deref(), Some("Signaled"));
    assert_eq!(status.signal.as_deref(), Some("KILL"));
    assert_eq!(status.completion_time.unwrap().0.to_string(), "2027-01-15T08:00:00Z");
    assert_eq!(status.stop_requested, Some(true));
    assert_eq!(status.left_running.unwrap().len(), PROCESSES);
}

#[test]
fn a_ttl_on_an_object_of_a_gitops_tool_is_warned_of() {
    let summary = summary(phase::Phase::Pending, "Queued", "TFUUTF");
    let tracked = json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "apps"}});
    let ttl = json!({"ttlSecondsAfterFinished": 60});
    for (patch, warned) in [
        (json!({"metadata": tracked, "spec": ttl}), true),
        (json!({"metadata": tracked}), false),
        (json!({"spec": ttl}), false),
    ] {
        let status = shown(&command(patch), &Stage::default(), &summary);
        let conditions = status.conditions.unwrap();
        assert_eq!(conditions.iter().any(|c| c.type_ == "TTLUnderGitOps"), warned);
    }
}
