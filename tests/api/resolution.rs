//! `spec.resolution`: a person's word on exactly the attempt that is Unknown.

use serde_json::Value;

use crate::desk::{Desk, Verdicts};

const REFUSED: &str =
    "spec.resolution is accepted only on an update, while status.phase is Unknown";
const WORD: &str = "{spec: {resolution: {run: 1, attempt: 2, as: Succeeded}}}";

/// An object whose status shows this phase for attempt 2 of run 1.
async fn with_phase(desk: &Desk, name: &str, phase: &str) {
    desk.create(&format!("{{metadata: {{name: {name}}}}}")).await.unwrap();
    for status in [
        "{phase: Running, run: 1, attempt: 1}".to_owned(),
        format!("{{phase: {phase}, reason: R, run: 1, attempt: 2}}"),
    ] {
        desk.status(name, &status).await.unwrap();
    }
}

#[tokio::test]
async fn a_resolution_is_refused_at_creation() {
    let desk = Desk::commands().await;
    let mut verdicts = Verdicts::default();
    verdicts.compare("create", desk.try_create(WORD).await, REFUSED);
    // A restore from a backup brings the status along; creation drops it.
    let restored = "{spec: {resolution: {run: 1, attempt: 2, as: Failed}}, \
                    status: {phase: Unknown, run: 1, attempt: 2, observedGeneration: 1}}";
    verdicts.compare("restore", desk.try_create(restored).await, REFUSED);
    verdicts.conclude();
}

#[tokio::test]
async fn a_resolution_is_accepted_for_exactly_the_unknown_attempt() {
    let desk = Desk::commands().await;
    let mut verdicts = Verdicts::default();
    desk.create("{metadata: {name: fresh}}").await.unwrap();
    verdicts.compare("fresh", desk.try_merge("fresh", WORD).await, REFUSED);
    for phase in ["Pending", "Running", "Succeeded", "Failed"] {
        let name = phase.to_lowercase();
        with_phase(&desk, &name, phase).await;
        verdicts.compare(phase, desk.try_merge(&name, WORD).await, REFUSED);
    }
    with_phase(&desk, "unknown", "Unknown").await;
    for (word, expected) in [
        (WORD, ""),
        ("{spec: {resolution: {run: 1, attempt: 2, as: Failed}}}", ""),
        ("{spec: {resolution: {run: 1, attempt: 2, as: Retry}}}", ""),
        ("{spec: {resolution: {run: 1, attempt: 1, as: Retry}}}", REFUSED),
        ("{spec: {resolution: {run: 2, attempt: 2, as: Retry}}}", REFUSED),
        ("{spec: {resolution: {run: 1, as: Retry}}}", "spec.resolution.attempt: Required value"),
        ("{spec: {resolution: {run: 1, attempt: 2}}}", "spec.resolution.as: Required value"),
        (
            "{spec: {resolution: {run: 1, attempt: 2, as: Unknown}}}",
            r#"supported values: "Succeeded", "Failed", "Retry""#,
        ),
    ] {
        verdicts.compare(word, desk.try_merge("unknown", word).await, expected);
    }
    verdicts.conclude();
}

/// Guards against an Unknown that nobody can leave: a run that could not begin has no attempt.
#[tokio::test]
async fn a_run_that_is_unknown_before_its_first_attempt_is_resolved_as_attempt_0() {
    let desk = Desk::commands().await;
    let mut verdicts = Verdicts::default();
    desk.create("{metadata: {name: waiting}}").await.unwrap();
    desk.status("waiting", "{phase: Unknown, reason: R, run: 1}").await.unwrap();
    let minus = "spec.resolution.attempt: Invalid value: -1";
    for (word, expected) in [
        ("{spec: {resolution: {run: 1, attempt: 1, as: Retry}}}", REFUSED),
        ("{spec: {resolution: {run: 1, attempt: -1, as: Retry}}}", minus),
        ("{spec: {resolution: {run: 1, attempt: 0, as: Failed}}}", ""),
    ] {
        verdicts.compare(word, desk.try_merge("waiting", word).await, expected);
    }
    with_phase(&desk, "begun", "Unknown").await;
    let none = "{spec: {resolution: {run: 1, attempt: 0, as: Retry}}}";
    verdicts.compare("an attempt is shown", desk.try_merge("begun", none).await, REFUSED);
    verdicts.conclude();
}

#[tokio::test]
async fn a_resolution_that_was_used_may_stay_or_go_and_not_change() {
    let desk = Desk::commands().await;
    let mut verdicts = Verdicts::default();
    with_phase(&desk, "used", "Unknown").await;
    desk.merge("used", WORD).await.unwrap();
    let resolved = "{phase: Succeeded, reason: Resolved}";
    verdicts.compare("the write that uses it", desk.status("used", resolved).await, "");
    let other = "{spec: {resolution: {run: 1, attempt: 2, as: Failed}}}";
    verdicts.compare("another word", desk.try_merge("used", other).await, REFUSED);
    verdicts.compare("an edit beside it", desk.merge("used", "{spec: {suspend: true}}").await, "");
    let again = "{phase: Running, run: 2, attempt: 1, reason: Running}";
    verdicts.compare("a later run", desk.status("used", again).await, "");
    verdicts.compare("the same again", desk.merge("used", WORD).await, "");
    verdicts.compare("taken away", desk.merge("used", "{spec: {resolution: null}}").await, "");
    verdicts.compare("put back", desk.merge("used", WORD).await, REFUSED);
    let object = desk.get("used").await;
    verdicts.check(object["spec"]["resolution"] == Value::Null, "it is gone");
    verdicts.conclude();
}
