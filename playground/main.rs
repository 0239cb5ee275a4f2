//! The playground: a real control plane, a real sshd and the operator on this machine,
//! to be left running (`up`, `down`, `operator-restart`) or to show and check every
//! example (`demo`). It is not a way to install the operator anywhere.

mod demo;
mod operator;
mod remote_host;
mod standing;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use support::{Result, programs};

const USAGE: &str = "usage: playground up | down | demo | operator-restart";

#[tokio::main]
async fn main() -> ExitCode {
    let word = std::env::args().nth(1).unwrap_or_default();
    // Whatever was started is dropped, and so stopped, on every way out of here.
    let done = tokio::select! {
        done = run(&word) => done,
        interrupted = interruption(&word) => interrupted,
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("playground: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(word: &str) -> Result<ExitCode> {
    if !programs::root().join("playground/programs/get").is_file() {
        return Err("type `make up` or another of its words at the root of the repository".into());
    }
    match word {
        "up" => standing::up().await.map(|()| ExitCode::SUCCESS),
        "down" => standing::down().await.map(|()| ExitCode::SUCCESS),
        "operator-restart" => standing::operator_restart().await.map(|()| ExitCode::SUCCESS),
        "demo" => demo::run().await,
        _ => Err(USAGE.into()),
    }
}

/// Returns when somebody wants this to end.
async fn interruption(word: &str) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let code = tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
        _ = hang_up.recv() => 129,
    };
    let what_follows = match word {
        "demo" => "cleaning up",
        _ => "what was started stays; `make down` removes it",
    };
    eprintln!("playground: interrupted; {what_follows}");
    Ok(ExitCode::from(code))
}
