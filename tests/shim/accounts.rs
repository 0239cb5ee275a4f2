//! Accounts of every kind on a real sshd: those that may not be used for now, those whose start-up
//! files put something else in the place of their login shell, and that both are found mended.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remote_command::core::fault::Fault;
use remote_command::host::recorded::Shells;
use remote_command::shim::Account;

use crate::login::Server;
use crate::rig::LIMIT;
use crate::support::login::Login;
use crate::support::sshd::{Options, Sshd};
use crate::support::{programs, until};

fn server(lines: &[&str]) -> Server {
    let login = Login::Shell(programs::debian("bash", "bash").unwrap());
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    Server::start(Options { login, lines, ..Options::default() })
}

fn shells(server: &Server) -> Arc<Shells> {
    Arc::new(Shells::new(server.transport(), Account::default()))
}

/// Changes the account; the user database has one lock.
async fn change(sshd: &Sshd, program: &str, arguments: &[&str]) {
    let program = programs::debian(program, "passwd").unwrap();
    until(LIMIT, "the account is changed", async || {
        let done = Command::new(&program).args(arguments).arg(sshd.user()).output().unwrap();
        done.status.success()
    })
    .await
    .unwrap();
}

async fn fault(shells: &Shells) -> Fault {
    shells.identify(None).await.unwrap_err()
}

/// A minute later, or as soon as somebody asks, it is found mended, over another connection.
async fn is_found_mended(server: &Server) {
    let seen = shells(server).identify(None).await;
    assert!(seen.is_ok(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_shell_that_lets_nobody_in_is_told_in_its_words_and_looked_at_again() {
    let server = server(&[]);
    let nologin = programs::debian("nologin", "login").unwrap();
    change(&server.sshd, "usermod", &["--shell", &nologin.display().to_string()]).await;
    let shells = shells(&server);
    for _ in 0..2 {
        let fault = fault(&shells).await;
        assert_eq!(fault.reason(), "HostUnusable", "{fault:?}");
        assert!(fault.message.contains("This account is currently not available"), "{fault:?}");
    }
    change(&server.sshd, "usermod", &["--shell", "/bin/bash"]).await;
    is_found_mended(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_has_to_be_changed_is_told_and_found_renewed() {
    // Without PAM sshd takes no notice of it where a key logs in.
    let server = server(&["UsePAM yes"]);
    change(&server.sshd, "chage", &["--lastday", "0"]).await;
    let shells = shells(&server);
    let told = fault(&shells).await;
    assert_eq!(told.reason(), "HostUnusable", "{told:?}");
    assert!(told.message.contains("password"), "{told:?}");
    change(&server.sshd, "chage", &["--lastday", "20000"]).await;
    is_found_mended(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_over_is_told_in_the_words_of_the_server_that_hung_up() {
    let server = server(&["UsePAM yes"]);
    change(&server.sshd, "chage", &["--expiredate", "0"]).await;
    let told = fault(&shells(&server)).await;
    assert_eq!(told.reason(), "HostUnusable", "{told:?}");
    assert!(told.message.contains("Your account has expired"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_key_is_told_with_the_banner_that_was_shown_before() {
    let text = PathBuf::from(format!("/tmp/rc-test-banner-{}", std::process::id()));
    fs::write(&text, "Maintenance until noon\nAsk \x1b[2Jthe desk\n").unwrap();
    let server = server(&[&format!("Banner {}", text.display())]);
    change(&server.sshd, "chage", &["--expiredate", "0"]).await;
    let told = fault(&shells(&server)).await;
    fs::remove_file(text).unwrap();
    assert_eq!(told.reason(), "AuthenticationRejected", "{told:?}");
    assert!(told.message.contains("had said: Maintenance until noon Ask "), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reason_of_a_server_that_disconnects_is_told_with_the_refusal() {
    let server = server(&["MaxAuthTries 1"]);
    change(&server.sshd, "chage", &["--expiredate", "0"]).await;
    let told = fault(&shells(&server)).await;
    assert_eq!(told.reason(), "AuthenticationRejected", "{told:?}");
    assert!(told.message.contains("disconnected: Too many authentication failures"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_shell_that_says_nothing_is_run_once() {
    for shell in ["/bin/false", "/bin/true"] {
        let server = server(&[]);
        change(&server.sshd, "usermod", &["--shell", shell]).await;
        let shells = shells(&server);
        for _ in 0..2 {
            assert_eq!(fault(&shells).await.reason(), "ForcedCommand", "{shell}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_that_is_missing_is_no_reason_to_refuse_an_account() {
    let server = server(&[]);
    change(&server.sshd, "usermod", &["--home", "/nonexistent"]).await;
    is_found_mended(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_shell_in_place_of_the_login_shell_is_told_at_once_and_found_mended() {
    for name in ["tcsh", "dash", "mksh", "yash"] {
        let shell = programs::debian(name, name).unwrap();
        let server = server(&[]);
        let start_up = server.sshd.home().join(".bashrc");
        fs::write(&start_up, format!("echo noise >&2\nexec {}\n", shell.display())).unwrap();
        let shells = shells(&server);
        let began = Instant::now();
        for _ in 0..2 {
            let told = fault(&shells).await;
            assert_eq!(told.reason(), "HostUnusable", "{name}: {told:?}");
            assert!(told.message.contains("start-up files"), "{told:?}");
            assert!(told.message.contains("it said: noise "), "{told:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        fs::remove_file(&start_up).unwrap();
        is_found_mended(&server).await;
        until(LIMIT, "the other shells have ended", async || {
            server.sshd.commands().iter().all(|process| {
                !crate::support::processes::command_line(process.pid)
                    .starts_with(&shell.display().to_string())
            })
        })
        .await
        .unwrap();
    }
}

/// Guards against shells that read all their commands before they run the first: they never
/// complain while they may get more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_that_reads_its_input_to_the_end_is_told_by_the_second_look_and_found_mended() {
    let shell = programs::debian("fish", "fish").unwrap();
    for (noise, looks) in [("echo noise >&2", 2), ("echo Welcome", 1)] {
        let server = server(&[]);
        let start_up = server.sshd.home().join(".bashrc");
        fs::write(&start_up, format!("{noise}\nexec {}\n", shell.display())).unwrap();
        let limit = Duration::from_secs(2);
        let shells = Shells::new(server.transport(), Account::default()).with_reply_limit(limit);
        for look in 1..looks {
            assert_eq!(fault(&shells).await.reason(), "ReplyTimeout", "{look}");
        }
        let told = fault(&shells).await;
        assert_eq!(told.reason(), "HostUnusable", "{told:?}");
        assert!(told.message.contains("start-up files"), "{told:?}");
        assert!(told.message.contains("fish: Unknown command"), "{told:?}");
        fs::remove_file(&start_up).unwrap();
        is_found_mended(&server).await;
    }
}

/// Guards against an account whose start-up files only take long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_slow_is_waited_for_however_often_it_was_sounded_out() {
    let server = server(&[]);
    fs::write(server.sshd.home().join(".bashrc"), "sleep 4\n").unwrap();
    let limit = Duration::from_secs(2);
    let shells = Shells::new(server.transport(), Account::default()).with_reply_limit(limit);
    until(LIMIT, "it answers", async || shells.identify(None).await.is_ok()).await.unwrap();
}

/// `set -x` in a start-up file shows the nonce on stderr, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_that_traces_what_it_does_is_not_taken_for_another_one() {
    let server = server(&[]);
    let trace = "set -x\nexport SHELLOPTS\nPS4='+ trace '\n";
    fs::write(server.sshd.home().join(".bashrc"), trace).unwrap();
    is_found_mended(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_up_file_that_ends_the_login_shell_is_run_once_and_quoted() {
    let server = server(&[]);
    let runs = server.sshd.home().join("runs");
    let text = format!("echo x >>{}\necho so; echo long >&2\nexit 1\n", runs.display());
    fs::write(server.sshd.home().join(".bashrc"), text).unwrap();
    let shells = shells(&server);
    for _ in 0..3 {
        let told = fault(&shells).await;
        assert_eq!(told.reason(), "ForcedCommand", "{told:?}");
        for part in ["status 1", "remotecommand.dev/check", "stdout: so", "stderr: long"] {
            assert!(told.message.contains(part), "{part}: {told:?}");
        }
    }
    assert_eq!(fs::read_to_string(runs).unwrap(), "x\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_up_file_that_waits_is_waited_for_and_quoted() {
    let server = server(&[]);
    let gate = server.sshd.home().join("gate");
    let text = format!("echo the key >&2\nuntil test -e {}; do sleep 0.1; done\n", gate.display());
    fs::write(server.sshd.home().join(".bashrc"), text).unwrap();
    let limit = Duration::from_secs(2);
    let shells = Shells::new(server.transport(), Account::default()).with_reply_limit(limit);
    for _ in 0..2 {
        let told = fault(&shells).await;
        assert_eq!(told.reason(), "ReplyTimeout", "{told:?}");
        assert!(told.message.contains("stderr: the key. Look at the start-up files"), "{told:?}");
    }
    fs::write(gate, "").unwrap();
    until(LIMIT, "it goes on", async || shells.identify(None).await.is_ok()).await.unwrap();
}
