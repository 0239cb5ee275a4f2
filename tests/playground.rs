//! The playground's own parts: what judges the demo, and the scripts that get programs.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "../playground/demo/stream.rs"]
mod stream;
mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use stream::Stream;
use support::programs;
use support::sshd;

fn record(attempt: u64, offset: u64, text: &str) -> Value {
    json!({"kind": "output", "run": 1, "attempt": attempt, "offset": offset, "text": text})
}

fn complaint(records: &[Value]) -> Option<String> {
    let mut stream = Stream::default();
    for record in records {
        stream.take(record);
    }
    stream.complaint().map(str::to_owned)
}

#[test]
fn output_that_is_complete_and_in_order_is_fine_also_when_records_come_again() {
    let (one, two) = (record(1, 0, "one"), record(1, 4, "two"));
    let again = [one.clone(), two.clone(), one.clone(), two.clone(), record(1, 8, "three")];
    assert_eq!(complaint(&again), None);
    let retried = [one.clone(), two.clone(), record(2, 0, "one")];
    assert_eq!(complaint(&retried), None);
    let mut stream = Stream::default();
    assert!(again.iter().map(|record| stream.take(record)).eq([true, true, false, false, true]));
    assert_eq!(stream.lines(), ["one", "two", "three"]);
}

#[test]
fn output_with_a_hole_out_of_order_or_changed_is_complained_about() {
    let (one, two, three) = (record(1, 0, "one"), record(1, 4, "two"), record(1, 8, "three"));
    for wrong in [
        vec![one.clone(), three.clone()],
        vec![two.clone(), one.clone(), three.clone()],
        vec![two.clone()],
        vec![one.clone(), record(1, 0, "won")],
        vec![record(2, 0, "one"), two.clone()],
        vec![one.clone(), json!({"kind": "outputGap", "run": 1, "attempt": 1, "offset": 4})],
    ] {
        assert!(complaint(&wrong).is_some(), "{wrong:?}");
    }
}

fn program(name: &str) -> PathBuf {
    programs::root().join("playground/programs").join(name)
}

#[test]
fn without_a_home_the_scripts_say_what_to_set() {
    for name in ["get", "deny"] {
        let mut command = Command::new(program(name));
        for variable in ["HOME", "XDG_CACHE_HOME", "REMOTE_COMMAND_CACHE", "KUBEBUILDER_ASSETS"] {
            command.env_remove(variable);
        }
        let output = command.output().unwrap();
        assert!(!output.status.success());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            told,
            "programs: no place for a cache: set HOME, XDG_CACHE_HOME or REMOTE_COMMAND_CACHE\n"
        );
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The machine's own `policy-rc.d` is hidden by a mount that goes with the shell.
fn with_apt_get(body: &str) -> Output {
    let place = tempfile::tempdir().unwrap();
    executable(&place.path().join("apt-get"), &format!("#!/bin/sh\n{body}\n"));
    let script = "mount -t tmpfs none /usr/sbin\n\
                  \"$1\" no-such-program=package >/dev/null 2>&1\n\
                  if [ -e /usr/sbin/policy-rc.d ]; then /usr/sbin/policy-rc.d; echo \"left $?\"; fi\n\
                  cat \"$2/told\"";
    let path = std::env::var("PATH").unwrap();
    Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([program("need").as_os_str(), place.path().as_os_str()])
        .env("PATH", format!("{}:{path}", place.path().display()))
        .env("TOLD", place.path().join("told"))
        .output()
        .unwrap()
}

#[test]
fn no_service_is_started_by_an_installation_and_a_kill_leaves_nothing_that_forbids_it() {
    let ask = "/usr/sbin/policy-rc.d; echo \"meanwhile $?\" >\"$TOLD\"";
    let done = with_apt_get(ask);
    assert_eq!(String::from_utf8(done.stdout).unwrap(), "meanwhile 101\n");
    let killed = with_apt_get(&format!("{ask}; kill -9 $PPID"));
    assert_eq!(String::from_utf8(killed.stdout).unwrap(), "left 0\nmeanwhile 101\n");
}

/// What OpenSSH's own client is told when it logs in as whoever runs this.
fn log_in(recipe: &sshd::Recipe) -> String {
    let mut running = recipe.program().unwrap().start().unwrap();
    let answered = || recipe.answers() || running.has_ended();
    assert!(support::block_until(Duration::from_secs(20), answered));
    assert!(!running.has_ended(), "{}", running.program().last_words());
    // Not in sshd's directory: ssh has tokens of its own in the names of files.
    let mut identity = tempfile::NamedTempFile::new().unwrap();
    let key = recipe.private_key(sshd::Kind::Ed25519).unwrap();
    identity.write_all(key.as_bytes()).unwrap();
    let user = Command::new("id").arg("-un").output().unwrap();
    let output = Command::new(programs::debian("ssh", "openssh-client").unwrap())
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"])
        .args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i"])
        .arg(identity.path())
        .args(["-p", &recipe.port().to_string(), "-l"])
        .arg(String::from_utf8(user.stdout).unwrap().trim())
        .args(["127.0.0.1", "echo $XDG_STATE_HOME"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", running.program().last_words());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn sshd_runs_in_a_directory_with_spaces() {
    let place = tempfile::Builder::new().prefix("with spaces and 100% ").tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let recipe = sshd::Recipe::open(place.path(), &sshd::Options::default()).unwrap();
    assert_eq!(log_in(&recipe), recipe.state().display().to_string());
}

/// As it is on machines where nobody may log in as root with a password. Another shadow file is
/// mounted for a process of its own, and the mount goes with it.
#[test]
fn root_with_a_locked_password_can_log_in_to_our_sshd() {
    const INSIDE: &str = "REMOTE_COMMAND_LOCKED";
    let place = tempfile::tempdir().unwrap();
    if std::env::var_os(INSIDE).is_some() {
        let recipe = sshd::Recipe::open(place.path(), &sshd::Options::default()).unwrap();
        return assert_eq!(log_in(&recipe), recipe.state().display().to_string());
    }
    let shadow = place.path().join("shadow");
    fs::write(&shadow, "root:!:20000:0:99999:7:::\n").unwrap();
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/shadow && exec \"$@\""])
        .arg(&shadow)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "root_with_a_locked_password_can_log_in_to_our_sshd", "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success());
}
