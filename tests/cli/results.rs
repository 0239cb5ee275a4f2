//! What a command wrote and how it ended, as the caller gets it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bench::{Bench, LIMIT, Running, host, manifest, script};
use crate::support::block_until;
use crate::support::sshd::{Options, Sshd};

#[test]
fn output_is_byte_exact_and_the_exit_code_is_the_command_s_own() {
    let bench = Bench::local();
    let told = bench.run(&script("a", "printf 'no newline'; printf 'to err' >&2; exit 3"), &["-q"]);
    assert_eq!((told.code(), told.out.as_str()), (3, "no newline"), "{told:?}");
    assert!(told.err.starts_with("to err"), "{told:?}");
    assert!(told.last().contains("Failed/NonZeroExit"), "{told:?}");
}

#[test]
fn script_environment_and_standard_input_arrive_as_they_are() {
    let bench = Bench::local();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: 's3cret'}\n";
    let spec = "script: |\n  echo \"$NAME\"\n  echo ${#TOKEN}\n  cat\nenv:\n\
                - {name: NAME, value: '$(reboot) \"x\" ''y'''}\n\
                - {name: TOKEN, valueFrom: {secretKeyRef: {name: s, key: k}}}\n\
                stdin: {value: \"one\\ntwo\"}";
    let told = bench.run(&format!("{secret}{}", manifest("a", spec)), &[]);
    assert_eq!(told.out, "$(reboot) \"x\" 'y'\n6\none\ntwo", "{told:?}");
    assert_eq!(told.code(), 0);
    assert!(told.last().contains("Succeeded/Completed"), "{told:?}");
    assert!(!told.err.contains("s3cret"));
}

#[test]
fn commands_run_in_file_order_and_the_first_that_failed_decides() {
    let bench = Bench::local();
    let three =
        [script("a", "echo a"), script("b", "echo b; exit 4"), script("c", "echo c; exit 5")];
    let report = bench.path("report.json");
    let told = bench.run(&three.concat(), &["--report", report.to_str().unwrap()]);
    assert_eq!((told.code(), told.out.as_str()), (4, "a\nb\nc\n"), "{told:?}");
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(report["code"], 4);
    let codes: Vec<_> =
        report["commands"].as_array().unwrap().iter().map(|c| &c["exitCode"]).collect();
    assert_eq!(codes, [0, 4, 5]);
    assert_eq!(report["commands"][1]["reason"], "NonZeroExit");
    assert_eq!(report["commands"][2]["output"]["stdout"]["tail"], "c\n");
}

#[test]
fn several_at_once_when_asked_for() {
    let bench = Bench::local();
    let meeting = bench.path("meeting");
    // Each waits for the other: one at a time they would wait for ever.
    let wait_for = |mine: &str, other: &str| {
        let at = meeting.display();
        format!("mkdir -p {at}; touch {at}/{mine}; until [ -e {at}/{other} ]; do sleep 0.1; done")
    };
    let two = [script("a", &wait_for("a", "b")), script("b", &wait_for("b", "a"))].concat();
    let told = bench.run(&two, &["--parallel", "2"]);
    assert_eq!(told.code(), 0, "{told:?}");
}

/// Guards against counting a command whose report waits for an earlier one's as running.
#[test]
fn a_long_first_command_does_not_keep_the_others_waiting_for_a_place() {
    let bench = Bench::local();
    let last = bench.path("last");
    let mut commands =
        script("first", &format!("until [ -e {} ]; do sleep 0.1; done", last.display()));
    for name in ["b", "c", "d"] {
        commands += &script(name, &format!("echo {name}"));
    }
    commands += &script("e", &format!("touch {}", last.display()));
    let told = bench.run(&commands, &["--parallel", "2", "-o", "json"]);
    assert_eq!(told.code(), 0, "{told:?}");
    let report: Value = serde_json::from_str(&told.out).unwrap();
    let names: Vec<_> = report["commands"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["first", "b", "c", "d", "e"], "in file order");
}

#[test]
fn a_json_report_can_take_the_place_of_the_output() {
    let bench = Bench::local();
    let told = bench.run(&script("a", "echo hello; exit 6"), &["-o", "json"]);
    let report: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((told.code(), &report["commands"][0]["exitCode"]), (6, &6.into()));
    assert_eq!(report["commands"][0]["output"]["stdout"]["tail"], "hello\n");
    assert_eq!(report["commands"][0]["evidence"], "Exited");
}

#[test]
fn the_report_names_what_a_command_left_running() {
    let bench = Bench::local();
    // It ends when what it leaves has got its name.
    let body = "sleep 300 >/dev/null 2>&1 &\n\
                until [ \"$(cat /proc/$!/comm)\" = sleep ]; do sleep 0.1; done";
    let told = bench.run(&script("a", body), &["-o", "json"]);
    let report: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(report["commands"][0]["leftRunning"][0]["command"], "sleep", "{report}");
}

#[test]
fn much_output_comes_whole() {
    let bench = Bench::local();
    let told = bench.run(&script("a", "seq 1 300000"), &["-q"]);
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(told.code(), 0, "{}", told.err);
    assert!(told.out == expected, "{} of {} bytes came", told.out.len(), expected.len());
}

/// Guards against a pace that only ever slows down: at this command's age a silent one is
/// looked at every four seconds and more, and half of its lines would be two seconds old.
#[test]
fn the_output_of_a_ticking_command_arrives_while_it_is_fresh() {
    let bench = Bench::local();
    let body = "for n in $(seq 32); do date +%s%3N; sleep 0.5; done";
    let text = script("ticking", body);
    let mut running = bench.command(&text, &["-q"]).spawn().unwrap();
    let mut late = Vec::new();
    for line in BufReader::new(running.stdout.take().unwrap()).lines() {
        let written: i64 = line.unwrap().trim().parse().unwrap();
        late.push(jiff::Timestamp::now().as_millisecond() - written);
    }
    assert!(running.wait().unwrap().success());
    assert_eq!(late.len(), 32);
    // The median: a machine that stands still for a while makes some of them late.
    let mut later = late.split_off(16);
    later.sort_unstable();
    assert!(later[8] < 1_500, "milliseconds from written to read: {later:?}");
}

#[test]
fn nothing_is_left_behind_on_the_host() {
    let bench = Bench::local();
    assert_eq!(bench.run(&script("a", "echo hi"), &[]).code(), 0);
    let marks = fs::read_dir(bench.state().join("remote-command/run/@output")).unwrap();
    assert_eq!(marks.count(), 0, "notes about output that was written to its end");
    assert!(block_until(LIMIT, || bench.processes().is_empty()), "{:?}", bench.processes());
    let mut big = Vec::new();
    sizes(&bench.state(), &mut big);
    big.retain(|(path, _)| !path.to_string_lossy().contains("/remote-command/run/"));
    let total: u64 = big.iter().map(|(_, size)| size).sum();
    assert!(total < 4096, "tombstones are small: {big:?}");
}

fn sizes(directory: &Path, found: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sizes(&path, found);
        } else {
            found.push((path, entry.metadata().unwrap().len()));
        }
    }
}

#[test]
fn exit_code_and_output_over_ssh() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let bench = Bench::remote();
    let hosts = host(&sshd, &sshd.known_hosts_line().unwrap());
    let spec = "command: [sh, -c, 'cat; echo \"$A\" >&2; exit 9']\n\
                env: [{name: A, value: b}]\nstdin: {value: in}";
    let told = bench.run(&format!("{hosts}{}", manifest("a", spec)), &["-q"]);
    assert_eq!((told.code(), told.out.as_str()), (9, "in"), "{told:?}");
    assert!(told.err.starts_with("b\n"), "{told:?}");
}

#[test]
fn a_direct_command_over_ssh_has_output_too() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let bench = Bench::remote();
    let hosts = host(&sshd, &sshd.known_hosts_line().unwrap());
    let spec = "command: [sh, -c, 'echo first; sleep 2; printf second; echo \"$A\" >&2; exit 9']\n\
                env: [{name: A, value: b}]\nexecution: Direct";
    let text = format!("{hosts}{}", manifest("a", spec));
    let mut run = Running::start(&mut bench.command(&text, &["-q"]));
    // Live: the command has not ended.
    run.read_to("first");
    let told = run.told();
    assert_eq!((told.code(), told.out.as_str()), (9, "second"), "{told:?}");
    assert!(told.err.starts_with("b\n"), "{told:?}");

    // As if it had been killed before it could write everything.
    let kept = bench.state().join("remote-command/run/default/a.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    assert!(state.as_object_mut().unwrap().remove("delivered").is_some());
    fs::write(&kept, state.to_string()).unwrap();
    let again = bench.run(&text, &["-q"]);
    assert_eq!((again.code(), again.out.as_str()), (9, ""), "{again:?}");
    assert!(again.err.contains("its output went with the process"), "{again:?}");
}

/// Guards against an end with 0 and silence after output that was cut.
#[test]
fn output_beyond_its_limit_is_told_as_missing_also_after_the_end() {
    let bench = Bench::local();
    let spec = "command: [sh, -c, 'head -c 70000 /dev/zero; echo all of it >&2']\n\
                output: {sizeLimit: 64Ki}";
    let (text, out) = (manifest("a", spec), bench.path("out"));
    let into_file = |more: &str| {
        let mut command = bench.command(&text, &[more]);
        command.stdout(File::options().append(true).create(true).open(&out).unwrap());
        Running::start(&mut command).told()
    };
    let sentence = "its output is not all there: stdout was cut after 65536 bytes, at \
                    output.sizeLimit";
    for round in ["-q", "-q", "--only-unfinished"] {
        let told = into_file(round);
        assert_eq!(told.code(), 228, "{round}: {told:?}");
        assert!(told.err.contains(sentence), "{round}: {told:?}");
        assert_eq!(fs::metadata(&out).unwrap().len(), 65_536);
    }
    let told = bench.run(&text, &["-o", "json", "--new-run"]);
    let report: Value = serde_json::from_str(&told.out).unwrap();
    let command = &report["commands"][0];
    assert_eq!((told.code(), &command["phase"]), (228, &"Succeeded".into()), "{told:?}");
    assert_eq!(command["output"]["stdout"]["truncated"], true);
    // All that the limit lets through is all there.
    let whole = manifest("b", &spec.replace("70000", "65536"));
    assert_eq!(bench.run(&whole, &["-q"]).code(), 0);
}

/// Nothing of a Direct command's output is kept on the host; what comes too fast is lost.
#[test]
fn direct_output_that_nobody_read_while_it_came_is_whole() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let bench = Bench::remote();
    let hosts = host(&sshd, &sshd.known_hosts_line().unwrap());
    let done = bench.path("done");
    let spec = format!(
        "command: [sh, -c, 'head -c 8000000 /dev/zero; touch {}']\nexecution: Direct",
        done.display()
    );
    let text = format!("{hosts}{}", manifest("a", &spec));
    let run = Running::start(&mut bench.command(&text, &["-q"]));
    // Nobody reads while it writes.
    assert!(block_until(LIMIT, || done.exists()));
    let told = run.told();
    assert_eq!((told.code(), told.out.len()), (0, 8_000_000), "{}", told.err);
}

// ---- where it goes ----------------------------------------------------------------------

#[test]
fn output_that_cannot_be_written_is_told_and_has_a_code_of_its_own() {
    let bench = Bench::local();
    let text = script("a", "echo one; sleep 1; echo two");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let told = Running::start(bench.command(&text, &["-q"]).stdout(full)).told();
    assert_eq!(told.code(), 228, "{told:?}");
    assert_eq!(
        told.err.matches("and is tried again: No space left on device").count(),
        1,
        "{told:?}"
    );
    // The host still has it.
    let again = bench.run(&text, &["-q"]);
    assert_eq!((again.code(), again.out.as_str()), (0, "one\ntwo\n"), "{again:?}");
}

#[test]
fn a_report_goes_into_a_pipe_or_a_device_that_stays_what_it_is() {
    let bench = Bench::local();
    let pipe = bench.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let run = Running::start(
        &mut bench.command(&script("a", "exit 6"), &["--report", pipe.to_str().unwrap()]),
    );
    let report: Value = serde_json::from_slice(&fs::read(&pipe).unwrap()).unwrap();
    assert_eq!((run.told().code(), &report["code"]), (6, &6.into()));
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());

    let out = bench.path("out");
    let mut command = bench.command(&script("b", "echo hello"), &["--report", "/dev/stdout"]);
    let run = Running::start(command.stdout(File::create(&out).unwrap()));
    assert_eq!(run.told().code(), 0);
    let text = fs::read_to_string(&out).unwrap();
    let report: Value = serde_json::from_str(text.strip_prefix("hello\n").unwrap()).unwrap();
    assert_eq!(report["commands"][0]["name"], "b");
}

#[test]
fn a_report_takes_the_place_of_the_file_that_a_link_leads_to() {
    let bench = Bench::local();
    let (file, link) = (bench.write("file", "old"), bench.path("link"));
    std::os::unix::fs::symlink(&file, &link).unwrap();
    bench.run(&script("a", "true"), &["--report", link.to_str().unwrap()]);
    assert!(link.is_symlink());
    assert!(fs::read_to_string(&file).unwrap().starts_with('{'));
    assert!(!bench.path("file.part").exists());
}

#[test]
fn a_report_that_cannot_be_written_is_refused_before_anything_starts() {
    let bench = Bench::local();
    let started = bench.path("started");
    let text = script("a", &format!("touch {}", started.display()));
    for place in ["/no/such/directory/report", "/proc"] {
        let told = bench.run(&text, &["--report", place]);
        assert_eq!(told.code(), 228, "{told:?}");
        assert!(told.err.contains("cannot write the report"), "{told:?}");
    }
    assert!(!started.exists());
}
