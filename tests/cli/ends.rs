//! Ends that are not the command's own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Command;

use crate::bench::{Bench, LIMIT, Running, host, manifest, script};
use crate::support::block_until;
use crate::support::sshd::{Options, Sshd};

#[test]
fn a_time_limit_has_its_own_code() {
    let bench = Bench::local();
    let spec = "command: [sleep, '300']\ntimeouts: {execution: 1s, termination: 1s}";
    let told = bench.run(&manifest("a", spec), &[]);
    assert_eq!(told.code(), 223, "{told:?}");
    assert!(told.last().contains("Failed/ExecutionTimeout"), "{told:?}");
    assert!(block_until(LIMIT, || bench.processes().is_empty()), "{:?}", bench.processes());
}

#[test]
fn a_program_that_is_not_there_and_one_that_may_not_run_end_as_in_a_shell() {
    let bench = Bench::local();
    let told = bench.run(&manifest("a", "command: [no-such-program]"), &[]);
    assert_eq!(told.code(), 127, "{told:?}");
    assert!(told.last().contains("Failed/CommandNotFound: not started: no such"), "{told:?}");
    let told = bench.run(&manifest("b", "command: [/etc/passwd]"), &[]);
    assert_eq!(told.code(), 126, "{told:?}");
    assert!(told.last().contains("its program or working directory was not allowed"), "{told:?}");
    assert!(told.err.contains("/etc/passwd may not be executed"), "{told:?}");
}

#[test]
fn a_lost_record_is_unknown() {
    let bench = Bench::local();
    let text = script("a", "echo up\nsleep 300");
    let mut run = Running::start(&mut bench.command(&text, &[]));
    run.read_to("up");
    for entry in fs::read_dir(bench.state().join("remote-command")).unwrap().flatten() {
        if entry.file_name() != "run" {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    let told = run.told();
    assert_eq!(told.code(), 221, "{told:?}");
    assert!(told.last().contains("Unknown/"), "{told:?}");
    // A person says how it ended: in the file, as in a cluster by a patch.
    let resolved = format!("{text}  resolution: {{run: 1, attempt: 1, as: Succeeded}}\n");
    let told = bench.run(&resolved, &[]);
    assert_eq!(told.code(), 0, "{told:?}");
    assert!(told.last().contains("Succeeded/Resolved"), "{told:?}");
}

#[test]
fn a_host_that_refuses_is_not_started_at_its_queue_limit() {
    let bench = Bench::remote();
    let sshd = Sshd::start(Options::default()).unwrap();
    let hosts = host(&sshd, &sshd.known_hosts_line().unwrap());
    sshd.stop();
    let text = format!("{hosts}{}", manifest("a", "command: [echo]\ntimeouts: {queue: 2s}"));
    let told = bench.run(&text, &[]);
    assert_eq!(told.code(), 222, "{told:?}");
    assert!(told.err.contains("Pending/ConnectionRefused"), "{told:?}");
    assert!(told.last().contains("Failed/ConnectionRefused"), "{told:?}");
}

#[test]
fn a_wrong_host_key_is_told_at_once() {
    let (sshd, other) = (Sshd::start(Options::default()).unwrap(), tempfile::tempdir().unwrap());
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(other.path().join("key"))
        .status();
    assert!(made.unwrap().success(), "ssh-keygen");
    let key = fs::read_to_string(other.path().join("key.pub")).unwrap();
    let line = format!("[{}]:{} {key}", sshd.address(), sshd.port());
    let bench = Bench::remote();
    let told = bench.run(&format!("{}{}", host(&sshd, &line), script("a", "echo")), &[]);
    assert_eq!(told.code(), 222, "{told:?}");
    assert!(told.last().contains("HostKeyMismatch"), "{told:?}");
    assert!(told.last().contains("nothing was started"), "{told:?}");
}

/// The login is taken away after the first attempt: a fault that waiting does not mend.
#[test]
fn a_command_that_has_started_is_not_told_as_never_started() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let bench = Bench::remote();
    let hosts = host(&sshd, &sshd.known_hosts_line().unwrap());
    let spec = "command: [sh, -c, 'echo up; exit 75']\nidempotency: Idempotent\n\
                retry: {exitCodes: [75], backoff: {initial: 4s, max: 4s}}\ntimeouts: {queue: 3s}";
    let mut run =
        Running::start(&mut bench.command(&format!("{hosts}{}", manifest("a", spec)), &[]));
    run.read_to("up");
    let told_of = BufReader::new(run.0.stderr.take().unwrap());
    let mut lines = told_of.lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line.contains("Pending/BackingOff")));
    sshd.stop();
    fs::write(sshd.directory().join("authorized_keys"), "").unwrap();
    sshd.go_on().unwrap();
    let rest: Vec<String> = lines.collect();
    let told = run.told();
    assert!(rest.iter().any(|line| line.contains("AuthenticationRejected")), "{rest:?}");
    assert_eq!(told.code(), 75, "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("nothing was started")), "{rest:?}");
}
