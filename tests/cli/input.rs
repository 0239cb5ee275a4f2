//! What is refused, and where input comes from.

use std::io::Write;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::bench::{Bench, LIMIT, Running, manifest, script};
use crate::support::block_until;

#[test]
fn bad_input_is_told_with_its_place_and_nothing_is_started() {
    let bench = Bench::local();
    let cases = [
        (
            manifest("a", "comand: [x]"),
            "command.yaml:7: spec.comand: unknown field; did you mean command?",
        ),
        (
            manifest("a", "suspend: false"),
            "exactly one of spec.command, spec.script and spec.scriptFrom is required",
        ),
        (
            manifest("a", "command: [sleep, 5]"),
            "spec.command[1]: a string is wanted: put 5 in quotes",
        ),
        (manifest("a", "command: [x]\ntimeouts: {queue: soon}"), "a duration is written with"),
        (
            manifest("a", "command: [x]\nstdin: {valueFrom: {secretKeyRef: {name: s, key: k}}}"),
            "RemoteCommand a: secret \"s\" does not exist",
        ),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n".to_owned(), "nothing to run"),
        (manifest("a", "command: [x]\nexecution: Direct"), "--local has none"),
        (manifest("a", "command: [x]\nsuspend: true"), "spec.suspend is true"),
        ("a: [".to_owned(), "command.yaml: "),
    ];
    for (text, sentence) in cases {
        let told = bench.run(&text, &[]);
        assert_eq!(told.code(), 225, "{told:?}");
        assert!(told.err.contains(sentence), "{sentence:?} is not in {}", told.err);
        assert!(!bench.state().join("remote-command/run/@local/default/a.json").exists());
    }
    let told = Bench::remote().run(&script("a", "x"), &[]);
    assert_eq!(told.code(), 225, "{told:?}");
    assert!(told.err.contains("RemoteHost \"host\" does not exist"), "{told:?}");
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let bench = Bench::local();
    let text = script("a", "true");
    let told = bench.run(&text, &["--state-directory", "/proc/nowhere"]);
    assert_eq!(told.code(), 228, "{told:?}");
    assert!(told.err.contains("cannot use /proc/nowhere/@local/default: "), "{told:?}");
    let state = bench.path("own");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("@output"), "").unwrap();
    let told = bench.run(&text, &["--state-directory", state.to_str().unwrap()]);
    assert_eq!(told.code(), 228, "{told:?}");
    let named = format!("{}: ", state.join("@output").display());
    assert!(told.err.contains(&named), "{told:?}");
}

#[test]
fn files_can_come_through_standard_input() {
    let bench = Bench::local();
    let mut command = bench.command("", &[]);
    let mut child = {
        command.args(["-f", "-"]).stdin(Stdio::piped());
        Running::start(&mut command)
    };
    let mut stdin = child.0.stdin.take().unwrap();
    stdin.write_all(script("a", "echo from stdin").as_bytes()).unwrap();
    drop(stdin);
    assert_eq!(child.told().out, "from stdin\n");
}

#[test]
fn an_interrupt_ends_a_run_that_waits_for_its_input() {
    let bench = Bench::local();
    let mut command = bench.command("", &[]);
    let mut run = Running::start(command.args(["-f", "-"]).stdin(Stdio::piped()));
    // More than a pipe holds: it is being read, and the rest is waited for.
    run.0.stdin.as_mut().unwrap().write_all("# nothing yet\n".repeat(10_000).as_bytes()).unwrap();
    run.signal(Signal::SIGINT);
    assert!(block_until(LIMIT, || run.0.try_wait().unwrap().is_some()), "Ctrl-C did nothing");
}

/// A disk that is full when the end of a command is to be noted.
#[test]
fn a_state_that_cannot_be_kept_is_told_with_what_is_known_and_gone_on_from_later() {
    let bench = Bench::local();
    let (state, starts) = (bench.path("own"), bench.path("starts"));
    std::fs::create_dir(&state).unwrap();
    let (full, free) = (state.join("full"), bench.path("free"));
    let body = format!(
        // Its end is what cannot be kept: its beginning may have been before the disk was full.
        "echo started >> {}\n[ -e {} ] || head -c 1000000 /dev/zero > {}\n:\n",
        starts.display(),
        free.display(),
        full.display()
    );
    let plain = bench.command(&script("a", &body), &["--state-directory"]);
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg(
        "mount -t tmpfs -o size=64k none \"$0\" || exit 99\n\"$@\" \"$0\"; echo $?\n\
         rm \"$0/full\"; touch \"${0%/own}/free\"; \"$@\" \"$0\"; echo $?",
    );
    command.arg(&state).arg(plain.get_program()).args(plain.get_args());
    command.env("XDG_STATE_HOME", bench.state()).env("HOME", bench.directory.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let told = Running::start(&mut command).told();
    assert_eq!(told.out, "228\n0\n", "{told:?}");
    let sentence = "the stage could not be written: No space left on device (os error 28); it may \
                    be running on host; the same command line again goes on";
    assert!(told.err.contains(sentence), "{told:?}");
    assert_eq!(std::fs::read_to_string(starts).unwrap(), "started\n");
}
