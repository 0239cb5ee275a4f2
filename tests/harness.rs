//! The test harness itself: that the real parts start, fail on demand, and are gone
//! afterwards, even when the process that started them is killed.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use support::link::Link;
use support::login::Login;
use support::plane::ControlPlane;
use support::processes;
use support::sshd::{Kind, Options, Sshd};
use support::wire::Wire;
use support::{Result, block_until, programs, until};

const VICTIM: &str = "REMOTE_COMMAND_HARNESS_VICTIM";
const LIMIT: Duration = Duration::from_secs(20);

/// OpenSSH's own client, so that the harness is tried without the operator's.
fn ssh(sshd: &Sshd, port: u16, kind: Kind) -> Result<Command> {
    let known = sshd.directory().join(format!("known_hosts_{port}"));
    fs::write(&known, sshd.recipe().known_hosts_line(Kind::Ed25519, port)?)?;
    sshd.private_key(kind)?;
    let mut command = Command::new(programs::debian("ssh", "openssh-client")?);
    command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
    command.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
    command.arg("-i").arg(sshd.directory().join(format!("client_{}", kind.name())));
    command.args(["-p", &port.to_string(), "-l", sshd.user(), &sshd.address().to_string()]);
    command.stdin(Stdio::null());
    Ok(command)
}

fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[test]
fn sshd_lets_each_kind_of_key_in_and_says_where_records_go() -> Result<()> {
    let sshd = Sshd::start(Options::default())?;
    for kind in [Kind::Ed25519, Kind::Ecdsa, Kind::Rsa] {
        let output = ssh(&sshd, sshd.port(), kind)?.arg("echo $XDG_STATE_HOME").output()?;
        assert_eq!(text(&output), sshd.state().display().to_string());
    }
    let directory = sshd.directory().to_owned();
    drop(sshd);
    assert!(!directory.exists());
    Ok(())
}

#[test]
fn sshd_loses_its_connections_and_the_commands_live_on_until_it_is_dropped() -> Result<()> {
    let sshd = Sshd::start(Options::default())?;
    let mut client =
        ssh(&sshd, sshd.port(), Kind::Ed25519)?.arg("setsid sleep 1000 & sleep 1001").spawn()?;
    assert!(block_until(LIMIT, || sshd.commands().len() >= 2));
    assert_eq!(sshd.sessions().len(), 1);
    sshd.kill_sessions();
    assert!(block_until(LIMIT, || !matches!(client.try_wait(), Ok(None))));
    assert!(block_until(LIMIT, || sshd.sessions().is_empty()));
    let left = sshd.commands();
    assert!(!left.is_empty());
    sshd.stop();
    assert!(!sshd.recipe().answers());
    sshd.go_on()?;
    assert!(sshd.recipe().answers());
    drop(sshd);
    assert!(left.iter().all(|process| !process.is_alive()));
    Ok(())
}

#[test]
fn sshd_knows_users_with_other_login_shells() -> Result<()> {
    for (shell, package) in [("fish", "fish"), ("tcsh", "tcsh"), ("sh", "dash")] {
        let login = Login::Shell(programs::debian(shell, package)?);
        let sshd = Sshd::start(Options { login, ..Options::default() })?;
        let output = ssh(&sshd, sshd.port(), Kind::Ed25519)?.arg("id -un; echo $0").output()?;
        assert!(text(&output).starts_with(sshd.user()), "{}", text(&output));
        let user = sshd.user().to_owned();
        drop(sshd);
        assert!(!fs::read_to_string("/etc/passwd")?.contains(&user));
    }
    Ok(())
}

#[test]
fn a_frozen_sshd_answers_only_after_it_thawed() -> Result<()> {
    let sshd = Sshd::start(Options::default())?;
    sshd.freeze();
    let mut client = ssh(&sshd, sshd.port(), Kind::Ed25519)?.arg("true").spawn()?;
    assert!(!block_until(Duration::from_millis(500), || !matches!(client.try_wait(), Ok(None))));
    sshd.thaw();
    assert!(block_until(LIMIT, || !matches!(client.try_wait(), Ok(None))));
    assert!(client.wait()?.success());
    Ok(())
}

#[test]
fn a_cut_wire_is_silent_and_a_healed_one_goes_on() -> Result<()> {
    let wire = Arc::new(Wire::start()?);
    let sshd = Sshd::start(Options { wire: Some(wire.clone()), ..Options::default() })?;
    let mut client = ssh(&sshd, sshd.port(), Kind::Ed25519)?;
    let client = client.arg("echo 1; read -r line; echo $line").stdin(Stdio::piped());
    let mut client = client.stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(client.stdout.take().ok_or("no pipe")?).lines();
    assert_eq!(output.next().transpose()?.as_deref(), Some("1"));
    wire.cut()?;
    writeln!(client.stdin.take().ok_or("no pipe")?, "2")?;
    let ended = || !matches!(client.try_wait(), Ok(None));
    assert!(!block_until(Duration::from_secs(1), ended));
    wire.heal()?;
    assert_eq!(output.next().transpose()?.as_deref(), Some("2"));
    assert!(client.wait()?.success());
    let name = wire.namespace().to_owned();
    drop((sshd, wire));
    assert!(!Path::new("/run/netns").join(name).exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_cut_stalled_and_healed() -> Result<()> {
    let sshd = Sshd::start(Options::default())?;
    let link = Link::start(sshd.port()).await?;
    let connect = || tokio::net::TcpStream::connect(("127.0.0.1", link.port()));
    assert_eq!(text(&ssh(&sshd, link.port(), Kind::Ed25519)?.arg("echo 1").output()?), "1");

    link.stall();
    let mut stalled = connect().await?;
    let mut byte = [0];
    let read = tokio::io::AsyncReadExt::read_exact(&mut stalled, &mut byte);
    assert!(tokio::time::timeout(Duration::from_millis(300), read).await.is_err());
    link.heal().await?;
    let read = tokio::io::AsyncReadExt::read_exact(&mut stalled, &mut byte);
    tokio::time::timeout(LIMIT, read).await??;
    assert_eq!(&byte, b"S");

    link.cut().await?;
    assert!(connect().await.is_err());
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stalled, &mut Vec::new()).await;
    assert_eq!(read.map_err(|e| e.kind()), Err(std::io::ErrorKind::ConnectionReset));
    link.heal().await?;
    assert_eq!(text(&ssh(&sshd, link.port(), Kind::Ed25519)?.arg("echo 2").output()?), "2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_survives_its_api_server_and_knows_users() -> Result<()> {
    use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
    use kube::api::{Api, DeleteParams, PostParams};

    let plane = ControlPlane::start().await?;
    let name = plane.namespace("harness").await?;
    let configs: Api<ConfigMap> = Api::namespaced(plane.client().await?, &name);
    let mut config = ConfigMap::default();
    config.metadata.name = Some("one".into());
    configs.create(&PostParams::default(), &config).await?;

    let stranger: Api<ConfigMap> = Api::namespaced(plane.client_of("eve", "").await?, &name);
    let refused = stranger.get("one").await.err().ok_or("a stranger was let in")?;
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 403));

    plane.kill_apiserver();
    assert!(configs.get("one").await.is_err());
    plane.restart_apiserver().await?;
    configs.get("one").await?;

    plane.pause_apiserver();
    let answer = tokio::time::timeout(Duration::from_millis(500), configs.get("one")).await;
    assert!(answer.is_err());
    plane.resume_apiserver();
    let shown = plane.kubectl(&["get", "configmap", "one", "-n", &name, "-o", "name"]).await?;
    assert_eq!(shown.trim(), "configmap/one");

    let namespaces: Api<Namespace> = Api::all(plane.client().await?);
    namespaces.delete(&name, &DeleteParams::default()).await?;
    // The controller that empties it looks again for a restarted API server ever more rarely.
    until(6 * LIMIT, "the namespace is gone", async || {
        matches!(namespaces.get_opt(&name).await, Ok(None))
    })
    .await
}

/// In the process that is going to be killed.
fn victim() -> Result<()> {
    let sshd = Sshd::start(Options::default())?;
    ssh(&sshd, sshd.port(), Kind::Ed25519)?.arg("setsid sleep 1000 >/dev/null 2>&1 &").output()?;
    println!("\nvictim {}", sshd.directory().display());
    loop {
        std::thread::park();
    }
}

#[test]
fn all_is_gone_after_the_process_that_started_it_was_killed() -> Result<()> {
    if std::env::var_os(VICTIM).is_some() {
        return victim();
    }
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "all_is_gone_after_the_process_that_started_it_was_killed"])
        .arg("--nocapture")
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
    let line = output.lines().map_while(|l| l.ok()).find(|l| l.starts_with("victim "));
    let line = line.ok_or("the other process did not start")?;
    let directory = PathBuf::from(line.rsplit(' ').next().unwrap_or_default());
    let mark = format!("XDG_STATE_HOME={}", directory.join("state").display());
    let servers: Vec<_> = processes::children(child.id());
    assert!(block_until(LIMIT, || !processes::marked(&mark).is_empty()));
    child.kill()?;
    child.wait()?;
    assert!(block_until(LIMIT, || !Path::new(&directory).exists()), "{directory:?} is left");
    assert!(processes::marked(&mark).is_empty());
    let keepers_gone = block_until(LIMIT, || servers.iter().all(|s| !s.is_alive()));
    assert!(keepers_gone, "{servers:?}");
    Ok(())
}
