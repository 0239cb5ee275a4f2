//! Nothing was started, somebody mends something, and the same command line is typed again.

use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::bench::{Bench, host, host_with, manifest, script};
use crate::support::sshd::{Kind, Options, Sshd};

/// A private key that no sshd lets in, and that no server shows.
fn other_key(bench: &Bench) -> (String, String) {
    let path = bench.path("other");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&path)
        .status();
    assert!(made.unwrap().success(), "ssh-keygen");
    let read = |path| fs::read_to_string(path).unwrap();
    (read(path.clone()), read(path.with_extension("pub")))
}

/// Guards against an old reason that is told again within milliseconds, with nobody asked.
#[test]
fn whatever_was_wrong_with_the_files_the_mended_ones_are_tried_at_once() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let bench = Bench::remote();
    let known = sshd.known_hosts_line().unwrap();
    let key = sshd.private_key(Kind::Ed25519).unwrap();
    let (wrong_key, wrong_host_key) = other_key(&bench);
    let right = host(&sshd, &known);
    let with = |known: &str, key: &str| host_with(&sshd, sshd.port(), known, key);
    let at = format!("[{}]:{}", sshd.address(), sshd.port());
    let cases = [
        (with(&known, &wrong_key), "AuthenticationRejected"),
        (with(&format!("{at} {wrong_host_key}"), &key), "HostKeyMismatch"),
        (with(&format!("elsewhere {wrong_host_key}"), &key), "HostKeyUnknown"),
        (with(&known, "no key"), "CredentialsInvalid"),
        (right.replace(&format!("user: {}", sshd.user()), "user: nobody-of-that-name"), "Authent"),
    ];
    for (case, (wrong, reason)) in cases.iter().enumerate() {
        let command = script(&format!("c{case}"), "echo done");
        let told = bench.run(&format!("{wrong}{command}"), &[]);
        assert_eq!(told.code(), 222, "{told:?}");
        assert!(told.last().contains(reason), "{reason}: {told:?}");
        // What is said is about the files as they are now.
        let (other, reason) = &cases[(case + 1) % cases.len()];
        let told = bench.run(&format!("{other}{command}"), &[]);
        assert_eq!(told.code(), 222, "{told:?}");
        assert!(told.last().contains(reason), "{reason}: {told:?}");
        let told = bench.run(&format!("{right}{command}"), &[]);
        assert_eq!((told.code(), told.out.as_str()), (0, "done\n"), "{told:?}");
    }
}

/// Guards against a queue clock that runs while no `run` is at work.
#[test]
fn the_time_between_two_runs_is_not_waited_in() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let bench = Bench::remote();
    let known = sshd.known_hosts_line().unwrap();
    let command = manifest("a", "command: [echo, done]\ntimeouts: {queue: 10s}");
    let wrong = host_with(&sshd, sshd.port(), &known, &other_key(&bench).0);
    let told = bench.run(&format!("{wrong}{command}"), &[]);
    assert_eq!(told.code(), 222, "{told:?}");
    // As if that had been an hour ago.
    let hour = Duration::from_secs(3600);
    let (state, lock) = (bench.kept("default/a.json"), bench.kept("default/a.lock"));
    let mut kept: Value = serde_json::from_slice(&fs::read(&state).unwrap()).unwrap();
    let since: jiff::Timestamp =
        serde_json::from_value(kept["stage"]["queue"]["since"].clone()).unwrap();
    kept["stage"]["queue"]["since"] = json!(since - hour);
    fs::write(&state, kept.to_string()).unwrap();
    for file in [state, lock] {
        let file = File::options().append(true).open(file).unwrap();
        file.set_modified(SystemTime::now() - hour).unwrap();
    }
    let told = bench.run(&format!("{}{command}", host(&sshd, &known)), &[]);
    assert_eq!((told.code(), told.out.as_str()), (0, "done\n"), "{told:?}");
}
