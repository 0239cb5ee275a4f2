//! The same over a real sshd: login shells, start-up noise, forced commands, other users.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use remote_command::core::action::{Action, Entry, Seen, StopReason};
use remote_command::core::plan::Value;
use remote_command::core::record::Tree;
use remote_command::host::hosts::Hosts;
use remote_command::host::recorded::{Recorded, Shells};
use remote_command::host::{Host as _, Stream, Transport};
use remote_command::shim::Account;

use crate::rig::{Attempt, LIMIT, claim_of, entry, exit_of, plan};
use crate::sessions::{Secrets, Way};
use crate::support::login::Login;
use crate::support::place::Place;
use crate::support::processes::Signal;
use crate::support::sshd::{Kind, Options, Sshd};
use crate::support::{programs, until};

pub struct Server {
    pub sshd: Sshd,
    hosts: Hosts,
}

impl Server {
    pub fn start(options: Options) -> Server {
        Server { sshd: Sshd::start(options).unwrap(), hosts: Hosts::new() }
    }

    pub fn with_login_shell(name: &str) -> Server {
        let login = Login::Shell(programs::debian(name, name).unwrap());
        Server::start(Options { login, ..Options::default() })
    }

    pub fn transport(&self) -> Arc<dyn Transport> {
        let key = self.sshd.private_key(Kind::Ed25519).unwrap();
        let way = Way::to(&self.sshd).connection();
        self.hosts.transport("default", &way, Secrets::with_key(&key))
    }

    pub fn attempt(&self, argv: &[&str], run_as: Option<&str>) -> Attempt {
        let shells = Arc::new(Shells::new(self.transport(), Account::default()));
        let entry = Entry { run_as: run_as.map(str::to_owned), ..entry() };
        Attempt { host: Recorded::new(shells), plan: plan(argv), entry, identity: None }
    }
}

/// A command, its inputs and a stop.
async fn works(server: &Server) {
    let awkward = " '\"`$(id)\\n!! %d ~ * \n\u{e9}\u{1}";
    let mut attempt =
        server.attempt(&["/bin/sh", "-c", "cat; printf %s \"$1$A\"; exit 3", "sh", awkward], None);
    attempt.plan.program.env.push(("A".into(), Value::Literal(awkward.into())));
    attempt.plan.program.stdin = Some(Value::Literal(awkward.into()));
    let (code, out, err) = attempt.run().await;
    assert_eq!(
        (code, String::from_utf8_lossy(&out).as_ref()),
        (3, awkward.repeat(3).as_str()),
        "{err:?}"
    );
    let mut attempt = server.attempt(&["/bin/sh", "-c", "setsid sleep 300 & sleep 300"], None);
    attempt.launch().await;
    attempt.terminate(StopReason::Cancelled).await;
    assert_eq!(attempt.kill(StopReason::Cancelled, None).await.tree, Tree::Empty);
    assert_eq!(claim_of(&attempt.probe().await).stop, Some(StopReason::Cancelled));
    attempt.sweep().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_for_whoever_logs_in() {
    works(&Server::start(Options::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_with_the_login_shell_sh() {
    works(&Server::with_login_shell("dash")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_with_the_login_shell_fish() {
    works(&Server::with_login_shell("fish")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_with_the_login_shell_tcsh() {
    works(&Server::with_login_shell("tcsh")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_from_start_up_files_is_not_mistaken_for_reports() {
    let server = Server::with_login_shell("tcsh");
    let noise = "echo 'remote-command welcome'\necho 'end'\necho -n 'no newline'\necho err | tee /dev/stderr >/dev/null\n";
    fs::write(server.sshd.home().join(".cshrc"), noise).unwrap();
    fs::write(server.sshd.home().join(".tcshrc"), noise).unwrap();
    works(&server).await;
}

/// An account that runs `command` whatever is asked for, and notes each run.
fn forced(command: &str) -> (Server, Place) {
    let place = Place::new("forced").unwrap();
    let line = format!("ForceCommand echo run >>{}; {command}", place.join("runs").display());
    (Server::start(Options { lines: vec![line], ..Options::default() }), place)
}

async fn is_refused_after_one_exec(command: &str) {
    let (server, place) = forced(command);
    let attempt = server.attempt(&["/bin/true"], None);
    for _ in 0..3 {
        for action in [
            Action::Prepare { entry: attempt.entry.clone() },
            Action::Probe { entry: attempt.entry.clone() },
        ] {
            let seen = attempt.act(action).await;
            let Seen::Unreachable(fault) = seen else { panic!("{seen:?}") };
            assert_eq!(fault.reason(), "ForcedCommand", "{fault:?}");
        }
    }
    assert_eq!(fs::read_to_string(place.join("runs")).unwrap().lines().count(), 1, "{command}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_command_sees_exactly_one_exec() {
    is_refused_after_one_exec("echo backup done").await;
    is_refused_after_one_exec("exit 3").await;
    is_refused_after_one_exec("cat").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_forced_command_is_run_once_while_it_lives() {
    let (server, place) = forced("exec sleep 1000");
    let limit = Duration::from_secs(2);
    let shells = Shells::new(server.transport(), Account::default()).with_reply_limit(limit);
    for _ in 0..3 {
        let fault = shells.identify(None).await.unwrap_err();
        assert_eq!(fault.reason(), "ReplyTimeout", "{fault:?}");
    }
    for process in server.sshd.commands() {
        process.signal(Signal::KILL);
    }
    until(LIMIT, "its end is seen", async || {
        shells.identify(None).await.unwrap_err().reason() == "ForcedCommand"
    })
    .await
    .unwrap();
    assert_eq!(fs::read_to_string(place.join("runs")).unwrap().lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_command_that_runs_what_was_asked_for_is_an_ordinary_account() {
    let (server, _place) = forced("exec sh -c \"$SSH_ORIGINAL_COMMAND\"");
    works(&server).await;
}

/// A throw-away target user and a sudoers file that the login may use.
struct Sudo(PathBuf);

impl Sudo {
    fn allow(login: &str, rule: &str) -> Sudo {
        programs::debian("sudo", "sudo").unwrap();
        let path = PathBuf::from(format!("/etc/sudoers.d/{}", login.replace('.', "_")));
        fs::write(&path, format!("{login} {rule}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        Sudo(path)
    }
}

impl Drop for Sudo {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_as_another_user_with_a_record_of_its_own() {
    let server = Server::with_login_shell("dash");
    let target = Server::with_login_shell("dash");
    let user = target.sshd.user().to_owned();
    let _sudo = Sudo::allow(server.sshd.user(), &format!("ALL=({user}) NOPASSWD: /bin/sh"));
    let text = "id -un; cat; printf %s \"$SECRET\"; (setsid sleep 300 &)";
    let mut attempt = server.attempt(&["/bin/sh", "-c", text], Some(&user));
    attempt.plan.program.env.push(("SECRET".into(), Value::Literal("value".into())));
    attempt.plan.program.stdin = Some(Value::Literal("input\n".into()));
    let seen = attempt.launch().await;
    let expected = format!("{user}\ninput\nvalue");
    let record = attempt
        .until("the end, and all output", |r| {
            exit_of(r).is_some() && r.output.stdout.bytes >= expected.len() as u64
        })
        .await;
    let chunk = attempt.host.read(&attempt.entry, Stream::Stdout, 0, 4096).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&chunk.bytes), expected);
    assert_eq!(claim_of(&record).processes, seen.processes);
    let left = crate::rig::alive(&attempt.probe().await);
    assert_eq!(left.len(), 1);
    crate::support::processes::Identity::of(left[0])
        .unwrap()
        .signal(crate::support::processes::Signal::KILL);
    let mut stopped = server.attempt(&["/bin/sleep", "300"], Some(&user));
    stopped.launch().await;
    assert_eq!(stopped.kill(StopReason::Cancelled, None).await.tree, Tree::Empty);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_sudo_does_not_allow_is_refused_before_anything_starts() {
    let server = Server::with_login_shell("dash");
    for (run_as, what) in [("root", "password"), ("no-such-user", ""), ("-x", "")] {
        let attempt = server.attempt(&["/bin/true"], Some(run_as));
        let seen = attempt.act(Action::Prepare { entry: attempt.entry.clone() }).await;
        let Seen::Unreachable(fault) = seen else { panic!("{seen:?}") };
        assert_eq!(fault.reason(), "RunAsRestricted", "{fault:?}");
        assert!(fault.message.contains(what), "{fault:?}");
    }
}
