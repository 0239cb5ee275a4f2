//! The playground that is left running below target/playground: `up`, `down` and
//! `operator-restart`. Each part is known by a pid file; `up` starts what is missing
//! and leaves alone what is alive.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use remote_command::core::quote::quote;

use crate::support::processes::{self, Signal};
use crate::support::program::{self, Program};
use crate::support::{Result, plane, programs, sshd, until};
use crate::{operator, remote_host};

const LIMIT: Duration = Duration::from_secs(120);

/// A little longer than kubectl itself waits.
const DELETE_LIMIT: Duration = Duration::from_secs(40);

/// In the order in which they end.
const PARTS: [&str; 5] = ["operator", "sshd", "kube-controller-manager", "kube-apiserver", "etcd"];

/// Always this one, wherever cargo was told to put what it builds.
fn directory() -> PathBuf {
    programs::root().join("target/playground")
}

/// What every process of this playground carries, should its pid file get lost.
fn mark(directory: &Path) -> String {
    format!("REMOTE_COMMAND_PLAYGROUND={}", directory.display())
}

fn host_state(directory: &Path) -> PathBuf {
    directory.join("host-state")
}

fn pid_file(directory: &Path, part: &str) -> PathBuf {
    directory.join(format!("{part}.pid"))
}

fn leave(directory: &Path, part: &str, program: Program) -> Result<()> {
    let program = program.env("REMOTE_COMMAND_PLAYGROUND", directory);
    if program.leave(&pid_file(directory, part))? {
        println!("started {part}");
    }
    Ok(())
}

/// Waits until it holds. Fails as soon as one of these parts has ended, with its last words.
async fn wait_for(
    directory: &Path,
    parts: &[(&str, &Program)],
    what: &str,
    mut holds: impl AsyncFnMut() -> bool,
) -> Result<()> {
    let ended =
        || parts.iter().find(|(part, _)| program::left(&pid_file(directory, part)).is_none());
    let waited = until(LIMIT, what, async || ended().is_some() || holds().await).await;
    if let Some((part, program)) = ended() {
        return Err(format!("{part} ended:\n{}", program.last_words()).into());
    }
    waited.map_err(|late| {
        let words = parts.iter().map(|(part, program)| format!("{part}: {}", program.last_words()));
        format!("{late}\n{}", words.collect::<Vec<_>>().join("\n")).into()
    })
}

/// Starts what is not running and waits until the host `local` is Ready.
pub async fn up() -> Result<()> {
    start().await.map_err(|e| format!("{e}\n`make down` removes what was started").into())
}

async fn start() -> Result<()> {
    let directory = directory();
    fs::create_dir_all(&directory)?;
    let plane = plane::Recipe::open(&directory)?;
    place_programs(&directory)?;
    start_plane(&directory, &plane).await?;
    let sshd = start_sshd(&directory).await?;
    plane::apply_crds(&plane).await?;
    remote_host::declare(&plane, &sshd, "default", sshd.port()).await?;
    operator::allow(&plane).await?;
    start_operator(&directory, &plane).await?;
    println!("waiting for the host `local`");
    let wait = ["wait", "--for=condition=Ready", "--timeout=60s", "remotehost/local"];
    if let Err(failure) = plane.kubectl(&wait).await {
        let log = directory.join("operator.log");
        return Err(format!("{failure}\nthe operator's log is {}", log.display()).into());
    }
    tell_what_next(&directory)
}

async fn start_plane(directory: &Path, plane: &plane::Recipe) -> Result<()> {
    let (etcd, apiserver) = (plane.etcd()?, plane.apiserver()?);
    let etcd = ("etcd", &etcd);
    leave(directory, "etcd", etcd.1.clone())?;
    wait_for(directory, &[etcd], "etcd answers", async || plane.etcd_answers()).await?;
    leave(directory, "kube-apiserver", apiserver.clone())?;
    // Both: at a port that somebody else has, something answers at first.
    let parts = [etcd, ("kube-apiserver", &apiserver)];
    wait_for(directory, &parts, "the API server is ready", async || plane.is_ready().await).await?;
    leave(directory, "kube-controller-manager", plane.controllers()?)
}

async fn start_sshd(directory: &Path) -> Result<sshd::Recipe> {
    let state = Some(host_state(directory));
    let options = sshd::Options { state, ..sshd::Options::default() };
    let recipe = sshd::Recipe::open(&directory.join("sshd"), &options)?;
    let program = recipe.program()?;
    leave(directory, "sshd", program.clone())?;
    wait_for(directory, &[("sshd", &program)], "sshd answers", async || recipe.answers()).await?;
    Ok(recipe)
}

/// Starts it unless it is alive, and waits until it leads.
async fn start_operator(directory: &Path, plane: &plane::Recipe) -> Result<()> {
    let program = operator::program(directory, plane)?;
    leave(directory, "operator", program.clone())?;
    let part = ("operator", &program);
    wait_for(directory, &[part], "the operator leads", async || operator::leads(directory)).await
}

/// The programs to type, in one directory for the PATH.
fn place_programs(directory: &Path) -> Result<()> {
    let bin = directory.join("bin");
    fs::create_dir_all(&bin)?;
    let kubectl = programs::control_plane("kubectl")?;
    // What kubectl caches goes with the playground too.
    let cache = directory.join("kubectl-cache");
    let word = |path: &Path| quote(&path.display().to_string());
    let text = format!("#!/bin/sh\nKUBECACHEDIR={} exec {} \"$@\"\n", word(&cache), word(&kubectl));
    fs::write(bin.join("kubectl"), text)?;
    fs::set_permissions(bin.join("kubectl"), fs::Permissions::from_mode(0o755))?;
    let this = std::env::current_exe()?;
    let release = this.ancestors().nth(2).ok_or("this program has no directory")?;
    for name in ["remote-command", "kubectl-remote_command"] {
        let link = bin.join(name);
        if !link.is_symlink() {
            symlink(release.join("remote-command"), link)?;
        }
    }
    Ok(())
}

fn tell_what_next(directory: &Path) -> Result<()> {
    let shown = |path: PathBuf| quote(&path.display().to_string());
    println!(
        "
The playground is up. Type next:

  export KUBECONFIG={kubeconfig} PATH={bin}:$PATH
  kubectl apply -f examples/01-hello.yaml
  kubectl get remotecommands --watch
  tail -f {log}

  make operator-restart    kill -9 the operator, start it again
  make down                stop everything and remove it

Records on the host: {records}
Metrics: http://127.0.0.1:{port}/metrics",
        kubeconfig = shown(directory.join("kubeconfig")),
        bin = shown(directory.join("bin")),
        log = shown(directory.join("operator.log")),
        records = shown(host_state(directory).join("remote-command")),
        port = operator::port(directory)?,
    );
    Ok(())
}

/// Ends every process of the playground, what its commands left on the host included.
pub async fn down() -> Result<()> {
    let directory = directory();
    if let Err(failure) = delete_commands(&directory).await {
        println!("not all of them were: {failure}");
    }
    for part in PARTS {
        let file = pid_file(&directory, part);
        if part == "sshd" {
            end_sshd(&directory);
        }
        program::end_left(&file, true)?;
    }
    processes::kill_marked(&format!("XDG_STATE_HOME={}", host_state(&directory).display()));
    processes::kill_marked(&mark(&directory));
    match fs::remove_dir_all(&directory) {
        Ok(()) => println!("the playground is down"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => println!("no playground is up"),
        Err(e) => return Err(format!("cannot remove {}: {e}", directory.display()).into()),
    }
    Ok(())
}

/// Asks the operator to end what runs, while there is one. Only the record on the host knows
/// what a command with `runAs` started: sudo drops the environment that marks the others.
async fn delete_commands(directory: &Path) -> Result<()> {
    let is_left = |part| program::left(&pid_file(directory, part)).is_some();
    if !["etcd", "kube-apiserver", "sshd", "operator"].into_iter().all(is_left) {
        return Ok(());
    }
    println!("deleting the commands, so that what they run is ended");
    let plane = plane::Recipe::open(directory)?;
    let delete = ["delete", "remotecommands", "--all", "--all-namespaces", "--timeout=30s"];
    // The API server may be there and not answer.
    tokio::time::timeout(DELETE_LIMIT, plane.kubectl(&delete)).await??;
    Ok(())
}

/// Found by what it was started with: it overwrites the environment that marks the others.
fn end_sshd(directory: &Path) {
    let configuration = directory.join("sshd/sshd_config").display().to_string();
    for listener in processes::mentioning("sshd", &configuration) {
        // It must not accept while its connections, which would go on without it, end.
        listener.signal(Signal::STOP);
        let connections = processes::descendants(listener.pid);
        let own = |pid| processes::name(pid).starts_with("sshd");
        connections.iter().filter(|c| own(c.pid)).for_each(|c| c.signal(Signal::KILL));
        listener.signal(Signal::KILL);
    }
}

/// SIGKILL, as a crash would do it, and a new start.
pub async fn operator_restart() -> Result<()> {
    let directory = directory();
    if !directory.join("kubeconfig").exists() {
        return Err("no playground is up: type `make up` first".into());
    }
    program::end_left(&pid_file(&directory, "operator"), false)?;
    start_operator(&directory, &plane::Recipe::open(&directory)?).await
}
