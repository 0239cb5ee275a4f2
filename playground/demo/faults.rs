//! What is done to the examples while they run: the operator is killed, a command is
//! cancelled or deleted, a link is cut and the records behind it are wiped.

use std::fs;
use std::io::ErrorKind;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::processes;
use crate::support::{Result, until};

use super::example::Example;
use super::{CUT_OFF, Stage};

const LIMIT: Duration = Duration::from_secs(40);
const NOTICE_LIMIT: Duration = Duration::from_secs(8);

/// Does what the example is about, if anything has to be done for it.
pub async fn cause(stage: &Stage, example: &Example) -> Result<()> {
    if !example.processes.is_empty() {
        until(LIMIT, "its processes run", async || all_run(stage, example)).await?;
    }
    match example.name.as_str() {
        "long" => restart_operator(stage, example).await,
        "cancel" => {
            running(stage, example).await?;
            stage.board.act(&example.name, "kubectl patch: cancel");
            let patch = r#"{"spec":{"cancel":true}}"#;
            let name = format!("remotecommand/{}", example.name);
            stage.recipe().kubectl(&["patch", &name, "--type=merge", "-p", patch]).await.map(drop)
        }
        "delete" => {
            running(stage, example).await?;
            stage.board.act(&example.name, "kubectl delete");
            let name = format!("remotecommand/{}", example.name);
            stage.recipe().kubectl(&["delete", &name, "--timeout=60s"]).await.map(drop)
        }
        _ => Ok(()),
    }
}

async fn running(stage: &Stage, example: &Example) -> Result<()> {
    until(LIMIT, "it is Running", async || stage.board.phase(example) == "Running").await
}

async fn restart_operator(stage: &Stage, example: &Example) -> Result<()> {
    // One fault after the other is easier to follow, but it must come midway.
    until(LIMIT, "it is midway", async || {
        let lines = stage.board.lines(example).len();
        lines >= 7 || lines >= 3 && stage.healed.load(Ordering::Relaxed)
    })
    .await?;
    let mut operator = stage.operator.lock().await;
    stage.board.act(&example.name, "kill -9 of the operator, and a new one");
    operator.kill();
    *operator = operator.program().clone().start()?;
    Ok(())
}

/// Cuts the link once all commands behind it have started, wipes every record there,
/// and heals the link.
pub async fn wipe_records_while_cut_off(stage: &Stage, examples: &[Example]) -> Result<()> {
    let behind: Vec<_> = examples.iter().filter(|e| e.namespace == CUT_OFF).collect();
    until(LIMIT, "the commands behind the link have started", async || {
        behind.iter().all(|e| starts(stage, e) > 0 && stage.board.phase(e) == "Running")
    })
    .await?;
    stage.board.act("", "the link is cut, every record behind it is wiped");
    stage.link.cut().await?;
    let records = stage.cut_off.state().join("remote-command");
    // A command that is writing into it makes the removal fail in between.
    until(LIMIT, "the records are gone", async || match fs::remove_dir_all(&records) {
        Ok(()) => true,
        Err(e) => e.kind() == ErrorKind::NotFound,
    })
    .await?;
    // An operator that was killed in the meantime cannot notice; that is no failure here.
    let noticed = async || behind.iter().any(|e| stage.board.last(e) == "Running/Reattaching");
    let _ = until(NOTICE_LIMIT, "the operator notices", noticed).await;
    stage.board.act("", "the link is back");
    stage.link.heal().await?;
    stage.healed.store(true, Ordering::Relaxed);
    Ok(())
}

/// How often the command says that it started, in a file of its own on the host.
pub fn starts(stage: &Stage, example: &Example) -> usize {
    let file = format!("example-{}-starts", example.name);
    let path = stage.host_of(&example.namespace).state().join(file);
    fs::read_to_string(path).map(|text| text.lines().count()).unwrap_or(0)
}

/// The processes of the example that are alive, by the words it names.
pub fn alive(stage: &Stage, example: &Example) -> Vec<String> {
    let commands = stage.host_of(&example.namespace).commands();
    let lines = commands.iter().map(|process| processes::command_line(process.pid));
    lines.filter(|line| example.processes.contains(line)).collect()
}

fn all_run(stage: &Stage, example: &Example) -> bool {
    let alive = alive(stage, example);
    example.processes.iter().all(|words| alive.contains(words))
}
