//! The fences around the status: what no operator can write, however confused.

use crate::desk::{Desk, Verdicts};

const RUN_STAYS: &str = "status.run never goes back, and stays once it is set";
const RUN_BY_ONE: &str = "status.run grows by one";
const ATTEMPT_STAYS: &str = "status.attempt never goes back within a run";
const ATTEMPT_BY_ONE: &str = "status.attempt belongs to a run, begins with 1 and grows by one";
const NEEDS_RUN: &str = "status.run is required in every phase but Pending";
const GENERATION: &str = "status.observedGeneration never goes back";
const STAGE: &str = "status.stage changes only with a higher revision, and stays once it is set";
const FINAL: &str = "the outcome of a run";

/// Brings an object to a status by these writes, then tries each of the others on it.
async fn fenced(desk: &Desk, name: &str, there: &[&str], table: &[(&str, &str)]) {
    desk.create(&format!("{{metadata: {{name: {name}}}}}")).await.unwrap();
    for status in there {
        desk.status(name, status).await.unwrap_or_else(|words| panic!("{status}: {words}"));
    }
    let mut verdicts = Verdicts::default();
    for (status, expected) in table {
        let what = format!("{there:?} -> {status}");
        verdicts.compare(&what, desk.try_status(name, status).await, expected);
    }
    verdicts.conclude();
}

#[tokio::test]
async fn runs_and_attempts_grow_by_one_and_never_go_back() {
    let desk = Desk::commands().await;
    let fresh = [
        ("{run: 1}", ""),
        ("{run: 1, attempt: 1, phase: Running}", ""),
        ("{run: 2}", RUN_BY_ONE),
        ("{run: 2147483647}", RUN_BY_ONE),
        ("{run: 0}", "should be greater than or equal to 1"),
        ("{run: 1, attempt: 2}", ATTEMPT_BY_ONE),
        ("{attempt: 1}", ATTEMPT_BY_ONE),
        ("{phase: Running}", NEEDS_RUN),
        ("{phase: Succeeded}", NEEDS_RUN),
        ("{phase: Unknown}", NEEDS_RUN),
        ("{phase: Pending, reason: Queued}", ""),
        ("{phase: Lost}", "Unsupported value"),
    ];
    fenced(&desk, "fresh", &[], &fresh).await;
    let there = [
        "{phase: Running, run: 1, attempt: 1}",
        "{phase: Running, run: 2, attempt: 1}",
        "{phase: Running, run: 2, attempt: 2}",
    ];
    let table = [
        ("{phase: Running}", ""),
        ("{attempt: 3}", ""),
        ("{attempt: 4}", ATTEMPT_BY_ONE),
        ("{attempt: 1}", ATTEMPT_STAYS),
        ("{attempt: null}", ATTEMPT_STAYS),
        ("{run: 3, attempt: 1}", ""),
        ("{run: 3, attempt: null}", ""),
        ("{run: 3, attempt: 2}", ATTEMPT_BY_ONE),
        ("{run: 3}", ATTEMPT_BY_ONE),
        ("{run: 4, attempt: 1}", RUN_BY_ONE),
        ("{run: 1, attempt: 1}", RUN_STAYS),
        ("{run: null}", RUN_STAYS),
        ("{run: null, attempt: null, phase: Pending}", RUN_STAYS),
        ("{phase: Pending, reason: BackingOff}", ""),
    ];
    fenced(&desk, "second-run", &there, &table).await;
}

#[tokio::test]
async fn an_outcome_is_final_within_its_run() {
    let desk = Desk::commands().await;
    let table = [
        ("{message: 'in other words', observedGeneration: 2}", ""),
        ("{output: {stdout: {bytes: 7, tail: hello}}}", ""),
        ("{phase: Running}", FINAL),
        ("{phase: Unknown}", FINAL),
        ("{phase: null}", FINAL),
        ("{reason: Other}", FINAL),
        ("{reason: null}", FINAL),
        ("{exitCode: 4}", FINAL),
        ("{exitCode: null}", FINAL),
        ("{signal: KILL}", FINAL),
        ("{evidence: LostByReboot}", FINAL),
        ("{attempt: 2}", FINAL),
        ("{run: 2, attempt: null, phase: Pending, reason: Queued, exitCode: null}", ""),
        ("{run: 2, attempt: 1, phase: Running, reason: Running, exitCode: null}", ""),
    ];
    for (name, phase, other) in [("s", "Succeeded", "Failed"), ("f", "Failed", "Succeeded")] {
        let end = format!(
            "{{phase: {phase}, reason: R, run: 1, attempt: 1, exitCode: 3, evidence: Exited, \
               stage: {{version: 1, revision: 1, over: true}}}}"
        );
        let changed = format!("{{phase: {other}}}");
        let mut table = table.to_vec();
        table.push((&changed, FINAL));
        fenced(&desk, name, &["{phase: Running, run: 1, attempt: 1}", &end], &table).await;
    }
    let never_started = ["{phase: Failed, reason: ConnectionRefused, run: 1, \
          stage: {version: 1, revision: 1, over: true}}"];
    let table =
        [("{attempt: 1}", FINAL), ("{evidence: NeverStarted}", FINAL), ("{message: m}", "")];
    fenced(&desk, "never-started", &never_started, &table).await;
}

/// What is written beside the record of a run that is not over can be put right: otherwise
/// whoever writes Succeeded by hand would make it true for good.
#[tokio::test]
async fn an_outcome_that_the_record_does_not_have_is_not_final() {
    let desk = Desk::commands().await;
    let forged = "{phase: Succeeded, reason: Completed, exitCode: 0, evidence: Exited}";
    let table = [
        ("{phase: Running, reason: Running, exitCode: null, evidence: StillRunning}", ""),
        ("{phase: Failed, reason: NonZeroExit, exitCode: 3}", ""),
        (
            "{phase: Failed, reason: NonZeroExit, exitCode: 3, \
              stage: {revision: 2, over: true}}",
            "",
        ),
    ];
    // As it is, and as former versions of the operator have left it.
    for (name, over) in [("not-over", ", over: false, run: 1, attempt: 1"), ("former", "")] {
        let running = format!(
            "{{phase: Running, run: 1, attempt: 1, stage: {{version: 1, revision: 1{over}}}}}"
        );
        fenced(&desk, name, &[&running, forged], &table).await;
    }
    let none = ["{phase: Running, run: 1, attempt: 1}", forged];
    fenced(&desk, "no-record", &none, &table[..2]).await;
}

#[tokio::test]
async fn numbers_that_the_record_does_not_have_can_be_put_right() {
    let desk = Desk::commands().await;
    let running = "{phase: Running, run: 1, attempt: 1, observedGeneration: 1, \
                    stage: {version: 1, revision: 3, over: false, run: 1, attempt: 1}}";
    let forged =
        ["{attempt: 2}", "{run: 2, attempt: null}", "{run: 2, attempt: 1, phase: Succeeded}"];
    for (n, forged) in forged.into_iter().enumerate() {
        let table = [
            ("{phase: Running, run: 1, attempt: 1}", ""),
            ("{message: m}", ""),
            ("{phase: Failed, run: 1, attempt: 1, stage: {revision: 4, over: true}}", ""),
            ("{run: null, attempt: null, phase: Pending}", RUN_STAYS),
            ("{run: 3, attempt: null}", RUN_BY_ONE),
            ("{run: 1, attempt: null}", ATTEMPT_STAYS),
            ("{run: 1, attempt: 3}", ATTEMPT_BY_ONE),
        ];
        fenced(&desk, &format!("c{n}"), &[running, forged], &table).await;
    }
    let raised = "{observedGeneration: 999}";
    fenced(&desk, "raised", &[running, raised], &[("{observedGeneration: 1}", "")]).await;
    // A record that says the run is over, of an object whose status was moved to the next run.
    let over = "{phase: Failed, reason: R, stage: {revision: 4, over: true}}";
    let moved = "{run: 2, attempt: null, phase: Succeeded}";
    let table = [
        ("{run: 1, attempt: 1, phase: Failed}", ""),
        ("{run: 2, attempt: null, phase: Pending, stage: {revision: 5, over: false, run: 2}}", ""),
    ];
    fenced(&desk, "moved", &[running, over, moved], &table).await;
    // Before the operator has a record of it.
    let first = "{phase: Pending, run: 1, attempt: null, observedGeneration: 1, \
                  stage: {version: 1, revision: 1, over: false, run: 1, attempt: 0}}";
    let early = "{run: 1, attempt: 1, phase: Failed, observedGeneration: 7}";
    fenced(&desk, "early", &[early], &[(first, ""), ("{run: null}", RUN_STAYS)]).await;
}

#[tokio::test]
async fn out_of_unknown_there_is_a_way() {
    let desk = Desk::commands().await;
    let there = [
        "{phase: Running, run: 1, attempt: 1}",
        "{phase: Unknown, reason: Unreachable, evidence: Unreachable, run: 1, attempt: 1}",
    ];
    let table = [
        ("{phase: Succeeded, reason: Completed, evidence: Exited, exitCode: 0}", ""),
        ("{phase: Failed, reason: Resolved}", ""),
        ("{phase: Unknown, reason: LostByReboot, evidence: LostByReboot}", ""),
        ("{phase: Running, reason: Running, attempt: 2}", ""),
        ("{phase: Pending, reason: PreviousAttemptUncertain}", ""),
        ("{phase: Running, reason: Running, attempt: 3}", ATTEMPT_BY_ONE),
    ];
    fenced(&desk, "u", &there, &table).await;
}

#[tokio::test]
async fn a_stage_changes_with_its_revision_and_keeps_what_the_schema_does_not_know() {
    let desk = Desk::commands().await;
    let first = ["{stage: {version: 1, revision: 5, current: {token: abc, list: [1, 2]}}}"];
    let table = [
        ("{stage: {revision: 6, current: {token: other}}}", ""),
        ("{stage: {revision: 6}}", ""),
        ("{stage: {revision: 5}}", ""),
        ("{message: m}", ""),
        ("{stage: {current: {token: other}}}", STAGE),
        ("{stage: {extra: 1}}", STAGE),
        ("{stage: {revision: 4}}", STAGE),
        ("{stage: {over: true}}", STAGE),
        ("{stage: {record: other}}", STAGE),
        ("{stage: {revision: 1000005}}", ""),
        ("{stage: {revision: 1000006}}", "grows by at most 1000000"),
        ("{stage: {revision: 9223372036854775807}}", "grows by at most 1000000"),
        ("{stage: null}", STAGE),
        ("{stage: {revision: null}}", "status.stage.revision: Required value"),
        ("{stage: {version: null, revision: 6}}", "status.stage.version: Required value"),
    ];
    fenced(&desk, "c", &first, &table).await;
    let kept = desk.get("c").await;
    assert_eq!(kept["status"]["stage"]["current"]["list"], serde_json::json!([1, 2]));
    let fresh = [("{stage: {version: 1}}", "Required value"), ("{stage: {}}", "Required value")];
    fenced(&desk, "fresh", &[], &fresh).await;
}

#[tokio::test]
async fn the_observed_generation_never_goes_back() {
    for desk in [Desk::commands().await, Desk::hosts().await] {
        let table = [
            ("{observedGeneration: 3}", ""),
            ("{observedGeneration: 4}", ""),
            ("{observedGeneration: 2}", GENERATION),
            ("{observedGeneration: null}", GENERATION),
        ];
        fenced(&desk, "c", &["{observedGeneration: 3}"], &table).await;
    }
}

#[tokio::test]
async fn a_status_cannot_be_cleared_or_written_with_the_spec() {
    let desk = Desk::commands().await;
    desk.create("{}").await.unwrap();
    desk.status("c", "{phase: Running, run: 1, attempt: 1}").await.unwrap();
    let mut verdicts = Verdicts::default();
    verdicts.compare("status: null", desk.try_status("c", "null").await, RUN_STAYS);
    // The main resource keeps the status, the status resource keeps the spec.
    let with_spec = desk.merge("c", "{status: {run: 7}, spec: {suspend: true}}").await.unwrap();
    verdicts.check(with_spec["status"]["run"] == 1, "a write of the spec changed the status");
    let created = desk.create("{metadata: {name: d}, status: {run: 7, phase: Failed}}").await;
    let created = created.unwrap();
    verdicts.check(created["status"].get("run").is_none(), "a status came in at creation");
    verdicts.check(created["status"]["phase"] == "Pending", "a new object is not Pending");
    verdicts.conclude();
}

#[tokio::test]
async fn words_in_status_are_bounded_and_not_enumerated() {
    let desk = Desk::commands().await;
    let long = format!("{{reason: {}}}", "R".repeat(65));
    let reason = "{reason: AReasonOfALaterVersion, evidence: AndItsEvidence}";
    let attempts: Vec<_> = (1..=11).map(|n| format!("{{run: 1, attempt: {n}}}")).collect();
    let attempts = format!("{{attempts: [{}]}}", attempts.join(", "));
    let table = [
        (reason, ""),
        (long.as_str(), "may not be more than 64"),
        (&attempts, "must have at most 10 items"),
        (
            "{conditions: [{type: A, status: Yes, reason: R, message: m, lastTransitionTime: '1970-01-01T00:00:00Z'}]}",
            "conditions[0].status",
        ),
    ];
    fenced(&desk, "c", &[], &table).await;
}
