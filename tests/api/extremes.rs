//! The largest status that an operator makes, on the real API server.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use remote_command::api::bounds::{WHOLE, bounded, size};
use remote_command::api::{
    AttemptStatus, OutputStatus, Phase, ProcessStatus, RemoteCommandStatus, StageRecord,
};

use crate::desk::Desk;

/// Everything as long as it goes, of one character.
fn filled(with: char) -> RemoteCommandStatus {
    let long = with.to_string().repeat(200_000);
    let some = Some(long.clone());
    let condition = |n: usize| Condition {
        type_: format!("Type{n}"),
        status: "True".to_owned(),
        reason: "R".repeat(100),
        message: long.clone(),
        observed_generation: Some(1),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    };
    let attempt = |attempt| AttemptStatus {
        run: 1,
        attempt,
        evidence: some.clone(),
        reason: some.clone(),
        signal: some.clone(),
        ..AttemptStatus::default()
    };
    let mut output = OutputStatus { location: some.clone(), ..OutputStatus::default() };
    output.stdout.tail.clone_from(&some);
    output.stderr.tail.clone_from(&some);
    let process = ProcessStatus { pid: 1, uid: 1, command: long.clone() };
    let status = RemoteCommandStatus {
        observed_generation: 1,
        phase: Phase::Failed,
        reason: some.clone(),
        message: some.clone(),
        run: Some(1),
        attempt: Some(1),
        evidence: some.clone(),
        signal: some.clone(),
        left_running: Some(vec![process; 100]),
        output: Some(output),
        attempts: Some((1..30).map(attempt).collect()),
        conditions: Some((0..8).map(condition).collect()),
        stage: Some(StageRecord {
            version: 1,
            revision: 1,
            over: Some(true),
            run: Some(1),
            attempt: Some(1),
            record: Some("x".repeat(160 * 1024)),
            ..StageRecord::default()
        }),
        ..RemoteCommandStatus::default()
    };
    bounded(status, 65_536)
}

#[tokio::test]
async fn the_largest_statuses_are_accepted_and_come_back_as_they_were() {
    let desk = Desk::commands().await;
    for (n, character) in ['x', '\u{1}', '<', '"', '🙂', '\u{2028}'].into_iter().enumerate() {
        let status = filled(character);
        assert!(size(&status) <= WHOLE, "{character:?}: {} bytes", size(&status));
        let name = format!("c{n}");
        desk.create(&format!("{{metadata: {{name: {name}}}}}")).await.unwrap();
        let sent = serde_json::to_value(&status).unwrap();
        let patch = Patch::Merge(serde_json::json!({ "status": sent }));
        let stored = desk.api.patch_status(&name, &PatchParams::default(), &patch).await;
        let stored = stored.unwrap_or_else(|failure| panic!("{character:?}: {failure}"));
        assert_eq!(stored.data["status"]["output"], sent["output"], "{character:?}");
        assert_eq!(stored.data["status"]["message"], sent["message"], "{character:?}");
    }
}
