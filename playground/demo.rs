//! Plays every example on a playground of its own, shows what happens, and compares
//! how each ended with what its annotations promise. Nothing of it stays.

mod board;
mod example;
mod faults;
mod stream;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use futures::future::join_all;

use crate::support::link::Link;
use crate::support::place::Place;
use crate::support::plane::{self, ControlPlane};
use crate::support::program::Running;
use crate::support::sshd::{Options, Sshd};
use crate::support::{Result, block_until};
use crate::{operator, remote_host};

use board::Board;
use example::Example;

/// The namespace whose host `local` is behind a link that gets cut.
const CUT_OFF: &str = "cut-off";

const OPERATOR_LIMIT: Duration = Duration::from_secs(30);

/// Everything that runs, in the order in which it stops.
struct Stage {
    operator: tokio::sync::Mutex<Running>,
    link: Link,
    near: Sshd,
    cut_off: Sshd,
    plane: ControlPlane,
    board: Arc<Board>,
    /// The link was cut and is back.
    healed: AtomicBool,
    /// The operator's log and state.
    place: Place,
}

impl Stage {
    async fn set() -> Result<Stage> {
        let began = Instant::now();
        let place = Place::new("demo")?;
        println!("starting etcd, kube-apiserver, kube-controller-manager and sshd");
        let plane = ControlPlane::start().await?;
        plane.apply_crds().await?;
        plane.kubectl(&["create", "namespace", CUT_OFF]).await?;
        let near = Sshd::start(Options::default())?;
        let cut_off = Sshd::start(Options::default())?;
        let link = Link::start(cut_off.port()).await?;
        remote_host::declare(plane.recipe(), near.recipe(), "default", near.port()).await?;
        remote_host::declare(plane.recipe(), cut_off.recipe(), CUT_OFF, link.port()).await?;
        println!("starting the operator");
        operator::allow(plane.recipe()).await?;
        let program = operator::program(place.path(), plane.recipe())?;
        let mut operator = program.start()?;
        let leads = || operator.has_ended() || operator::leads(place.path());
        if !block_until(OPERATOR_LIMIT, leads) || operator.has_ended() {
            let words = program.last_words();
            return Err(format!("the operator does not lead:\n{words}").into());
        }
        let operator = tokio::sync::Mutex::new(operator);
        let board = Arc::new(Board::new(began));
        let healed = AtomicBool::new(false);
        Ok(Stage { operator, link, near, cut_off, plane, board, healed, place })
    }

    /// Where the commands of a namespace run.
    fn host_of(&self, namespace: &str) -> &Sshd {
        if namespace == CUT_OFF { &self.cut_off } else { &self.near }
    }

    fn recipe(&self) -> &plane::Recipe {
        self.plane.recipe()
    }
}

pub async fn run() -> Result<ExitCode> {
    let stage = Stage::set().await?;
    let client = stage.plane.client().await?;
    let log = stage.place.join("operator.log");
    // Aborted when this returns: it only looks.
    let mut watching = tokio::task::JoinSet::new();
    watching.spawn(board::watch_objects(stage.board.clone(), client));
    watching.spawn(board::watch_output(stage.board.clone(), log));

    let examples = example::apply_all(&stage).await?;
    let verdicts = tokio::join!(
        join_all(examples.iter().map(|example| play(&stage, example))),
        faults::wipe_records_while_cut_off(&stage, &examples),
    );
    let (verdicts, wiped) = verdicts;
    if let Err(failure) = wiped {
        println!("the records could not be wiped: {failure}");
    }
    println!("\n{}", verdict::table(&verdicts));
    let differ = verdicts.iter().filter(|v| !v.agrees()).count();
    if differ == 0 {
        println!("demo: ok");
        return Ok(ExitCode::SUCCESS);
    }
    println!("the operator's last words:\n{}", stage.operator.lock().await.program().last_words());
    println!("demo: {differ} of {} differ", verdicts.len());
    Ok(ExitCode::FAILURE)
}

/// Does to one example what it is about, waits for its end, and judges it.
async fn play(stage: &Stage, example: &Example) -> verdict::Verdict {
    let fault = faults::cause(stage, example).await;
    // What must be gone at the end is looked for at once.
    let ended = match fault {
        Ok(()) => stage.board.ended(example).await,
        Err(failure) => Err(failure),
    };
    let alive = faults::alive(stage, example);
    // When it does not come, the verdict says so.
    let _ = stage.board.told(example).await;
    verdict::judge(stage, example, ended, &alive)
}
