//! The command line, run as a user would run it: `remote-command run` on this machine and
//! against a real sshd, killed and interrupted; help, completion and what is refused.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::link::Link;
use support::sshd::{Kind, Options, Sshd};
use support::{block_until, processes};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// A directory in which everything happens: files, state, and the host's records.
struct Bench {
    directory: TempDir,
    /// What `run` is given besides the files.
    manner: Vec<String>,
}

impl Bench {
    /// Commands run on this machine.
    fn local() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), manner: vec!["--local".to_owned()] }
    }

    /// Commands run over SSH, as their files say.
    fn remote() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), manner: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// `remote-command run` on `text`.
    fn command(&self, text: &str, args: &[&str]) -> Command {
        let file = self.write("command.yaml", text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_remote-command"));
        command.arg("run").args(["-f".as_ref(), file.as_os_str()]).args(&self.manner).args(args);
        command.env("XDG_STATE_HOME", self.state()).env("HOME", self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, text: &str, args: &[&str]) -> Told {
        Running(self.command(text, args).spawn().unwrap()).told()
    }

    /// The only file in the state directory whose name ends so.
    fn offset_written(&self) -> u64 {
        let marks = self.state().join("remote-command/run/@output");
        let files = fs::read_dir(marks).into_iter().flatten().flatten();
        let stdout =
            files.map(|file| file.path()).find(|path| path.extension().unwrap() == "stdout");
        let text = stdout.and_then(|path| fs::read(path).ok()).unwrap_or_default();
        let mark: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        mark["offset"].as_u64().unwrap_or_default()
    }

    /// Everything that was started for commands of this bench on this machine.
    fn processes(&self) -> Vec<processes::Identity> {
        processes::marked(&format!("XDG_STATE_HOME={}", self.state().display()))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        processes::kill_marked(&format!("XDG_STATE_HOME={}", self.state().display()));
    }
}

/// A `run` under way, ended with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }

    /// Reads stdout until a line comes that is `last`.
    fn read_to(&mut self, last: &str) -> String {
        let mut read = String::new();
        // Byte by byte: what follows the line must stay for the next reader.
        let stdout = self.0.stdout.as_mut().unwrap();
        let mut lines = BufReader::with_capacity(1, stdout);
        while !read.ends_with(&format!("{last}\n")) {
            assert_ne!(lines.read_line(&mut read).unwrap(), 0, "{last:?} never came: {read:?}");
        }
        read
    }

    /// Waits for its end, at most as long as any test may take.
    fn told(mut self) -> Told {
        let (mut stdout, mut stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let out = std::thread::spawn(move || drain(stdout.as_mut()));
        let err = std::thread::spawn(move || drain(stderr.as_mut()));
        let mut status = None;
        let ended = block_until(LIMIT, || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            self.0.kill().unwrap();
        }
        let (out, err) = (out.join().unwrap(), err.join().unwrap());
        let Some(status) = status else { panic!("it did not end; it told: {err}") };
        Told { status, out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn drain(from: Option<&mut impl Read>) -> String {
    let mut bytes = Vec::new();
    from.map(|from| from.read_to_end(&mut bytes).unwrap());
    String::from_utf8(bytes).unwrap()
}

/// What a `run` said and how it ended.
#[derive(Debug)]
struct Told {
    status: ExitStatus,
    out: String,
    err: String,
}

impl Told {
    fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("{self:?}"))
    }

    /// The last line on stderr.
    fn last(&self) -> &str {
        self.err.lines().last().unwrap_or_default()
    }
}

/// A RemoteCommand with the given lines of spec.
fn manifest(name: &str, spec: &str) -> String {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "---\napiVersion: remotecommand.dev/v1alpha1\nkind: RemoteCommand\n\
         metadata: {{name: {name}}}\nspec:\n  hostRef: {{name: host}}\n{indented}"
    )
}

/// A RemoteCommand with a script.
fn script(name: &str, script: &str) -> String {
    let indented: String = script.lines().map(|line| format!("  {line}\n")).collect();
    manifest(name, &format!("script: |\n{indented}"))
}

/// Notes each start, then counts slowly enough to be caught in the middle.
fn counting(bench: &Bench) -> String {
    let starts = bench.path("starts");
    let body = format!(
        "echo started >> {}\nfor n in 1 2 3 4 5 6 7 8 9 10; do echo $n; sleep 0.2; done\nexit 7",
        starts.display()
    );
    script("counting", &body)
}

const ONE_TO_TEN: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";

fn starts(bench: &Bench) -> usize {
    fs::read_to_string(bench.path("starts")).unwrap_or_default().lines().count()
}

/// A RemoteHost called `host` and its Secret.
fn host(sshd: &Sshd, known_hosts: &str) -> String {
    host_at(sshd, sshd.port(), known_hosts)
}

/// The same, reached through another port.
fn host_at(sshd: &Sshd, port: u16, known_hosts: &str) -> String {
    let key = sshd.private_key(Kind::Ed25519).unwrap();
    let indent =
        |text: &str| text.lines().map(|line| format!("      {line}\n")).collect::<String>();
    format!(
        "---\napiVersion: remotecommand.dev/v1alpha1\nkind: RemoteHost\n\
         metadata: {{name: host}}\nspec:\n  address: {}\n  port: {}\n  user: {}\n  hostKeys:\n    \
         knownHosts: |\n{}  credentials: {{secretRef: {{name: key}}}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData:\n  \
         ssh-privatekey: |\n{}",
        sshd.address(),
        port,
        sshd.user(),
        indent(known_hosts),
        indent(&key),
    )
}

// ---- results ----------------------------------------------------------------------------

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
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
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

#[test]
fn a_json_report_can_take_the_place_of_the_output() {
    let bench = Bench::local();
    let told = bench.run(&script("a", "echo hello; exit 6"), &["-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((told.code(), &report["commands"][0]["exitCode"]), (6, &6.into()));
    assert_eq!(report["commands"][0]["output"]["stdout"]["tail"], "hello\n");
    assert_eq!(report["commands"][0]["evidence"], "Exited");
}

#[test]
fn the_report_names_what_a_command_left_running() {
    let bench = Bench::local();
    let told = bench.run(&script("a", "sleep 300 >/dev/null 2>&1 &"), &["-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&told.out).unwrap();
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
/// looked at every four seconds and more.
#[test]
fn the_output_of_a_ticking_command_arrives_while_it_is_fresh() {
    let bench = Bench::local();
    let text = script(
        "ticking",
        "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do date +%s%3N; sleep 1; done",
    );
    let mut running = bench.command(&text, &["-q"]).spawn().unwrap();
    let mut late = Vec::new();
    for line in BufReader::new(running.stdout.take().unwrap()).lines() {
        let written: i64 = line.unwrap().trim().parse().unwrap();
        late.push(jiff::Timestamp::now().as_millisecond() - written);
    }
    assert!(running.wait().unwrap().success());
    assert_eq!(late.len(), 14);
    assert!(late.iter().all(|ms| *ms < 2_500), "milliseconds from written to read: {late:?}");
}

#[test]
fn nothing_is_left_behind_on_the_host() {
    let bench = Bench::local();
    assert_eq!(bench.run(&script("a", "echo hi"), &[]).code(), 0);
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

// ---- killed, interrupted, run again -----------------------------------------------------

#[test]
fn killed_midway_and_run_again_it_goes_on_and_starts_once() {
    let bench = Bench::local();
    goes_on_after_a_kill(&bench, &counting(&bench));
}

#[test]
fn the_same_over_ssh() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let bench = Bench::remote();
    let hosts = host(&sshd, &sshd.known_hosts_line().unwrap());
    goes_on_after_a_kill(&bench, &format!("{hosts}{}", counting(&bench)));
}

fn goes_on_after_a_kill(bench: &Bench, text: &str) {
    let mut first = Running::start(&mut bench.command(text, &[]));
    let begun = first.read_to("3");
    // Only output that was noted as written is not written again.
    assert!(block_until(LIMIT, || bench.offset_written() >= begun.len() as u64));
    first.signal(Signal::SIGKILL);
    let rest = first.told();
    assert_eq!(rest.status.code(), None, "{rest:?}");
    let second = bench.run(text, &[]);
    assert_eq!(second.code(), 7, "{second:?}");
    let whole = format!("{begun}{}{}", rest.out, second.out);
    assert_eq!(whole, ONE_TO_TEN, "{second:?}");
    assert_eq!(starts(bench), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_midway_costs_time_and_nothing_else() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let link = Link::start(sshd.port()).await.unwrap();
    let known = sshd.recipe().known_hosts_line(Kind::Ed25519, link.port()).unwrap();
    let bench = Bench::remote();
    let text = format!("{}{}", host_at(&sshd, link.port(), &known), counting(&bench));
    let mut run = Running::start(&mut bench.command(&text, &[]));
    let begun = run.read_to("3");
    link.cut().await.unwrap();
    let told_of = BufReader::new(run.0.stderr.take().unwrap());
    let reattaching = told_of.lines().find(|line| line.as_ref().unwrap().contains("Reattaching"));
    assert!(reattaching.is_some());
    link.heal().await.unwrap();
    let told = run.told();
    assert_eq!((told.code(), format!("{begun}{}", told.out).as_str()), (7, ONE_TO_TEN), "{told:?}");
    assert_eq!(starts(&bench), 1);
}

#[test]
fn a_reader_that_does_not_read_does_not_hold_the_command_up() {
    let bench = Bench::local();
    let done = bench.path("done");
    let text = script("a", &format!("seq 1 300000; touch {}", done.display()));
    let run = Running::start(&mut bench.command(&text, &["-q"]));
    assert!(block_until(LIMIT, || done.exists()), "the command waits for our reader");
    let told = run.told();
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(told.code(), 0, "{}", told.err);
    assert!(told.out == expected, "{} of {} bytes came", told.out.len(), expected.len());
}

#[test]
fn a_reader_that_goes_away_changes_nothing_about_the_result() {
    let bench = Bench::local();
    let mut run = Running::start(&mut bench.command(&script("a", "seq 1 300000; exit 3"), &["-q"]));
    run.read_to("1");
    run.0.stdout = None;
    assert_eq!(run.told().code(), 3);
}

#[test]
fn killed_again_and_again_it_still_starts_once() {
    let bench = Bench::local();
    let text = counting(&bench);
    for moment in [1_u64, 20, 60, 120, 250, 400] {
        let run = Running::start(&mut bench.command(&text, &[]));
        // Any moment will do; the state of the world is checked below.
        assert!(!block_until(Duration::from_millis(moment), || false));
        run.signal(Signal::SIGKILL);
        drop(run);
    }
    let last = bench.run(&text, &[]);
    assert_eq!((last.code(), starts(&bench)), (7, 1), "{last:?}");
}

#[test]
fn a_result_is_told_again_without_starting_again_unless_a_new_run_is_asked_for() {
    let bench = Bench::local();
    let text = counting(&bench);
    assert_eq!(bench.run(&text, &[]).code(), 7);
    let again = bench.run(&text, &[]);
    assert_eq!((again.code(), again.out.as_str(), starts(&bench)), (7, "", 1), "{again:?}");
    assert!(again.last().contains("Failed/NonZeroExit"), "{again:?}");
    let new = bench.run(&text, &["--new-run"]);
    assert_eq!((new.code(), new.out.as_str(), starts(&bench)), (7, ONE_TO_TEN, 2), "{new:?}");
}

#[test]
fn a_changed_command_is_not_taken_for_the_same() {
    let bench = Bench::local();
    assert_eq!(bench.run(&script("a", "exit 1"), &[]).code(), 1);
    let refused = bench.run(&script("a", "exit 2"), &[]);
    assert_eq!(refused.code(), 225, "{refused:?}");
    assert!(refused.err.contains("it was changed since it was run; --new-run"), "{refused:?}");
    assert_eq!(bench.run(&script("a", "exit 2"), &["--new-run"]).code(), 2);
}

#[test]
fn an_interrupt_cancels_and_the_whole_tree_is_gone() {
    let bench = Bench::local();
    let body =
        "setsid sleep 301 &\nsh -c 'trap \"\" TERM; while :; do sleep 1; done' &\necho up\nwait";
    let text = format!("{}  timeouts: {{termination: 1s}}\n", script("a", body));
    let mut run = Running::start(&mut bench.command(&text, &[]));
    run.read_to("up");
    run.signal(Signal::SIGINT);
    let told = run.told();
    assert_eq!(told.code(), 224, "{told:?}");
    assert!(told.last().contains("Failed/Cancelled"), "{told:?}");
    assert!(block_until(LIMIT, || bench.processes().is_empty()), "{:?}", bench.processes());
}

#[test]
fn a_second_interrupt_leaves_it_running_and_it_can_be_run_to_its_end() {
    let bench = Bench::local();
    let body = "trap 'echo stubborn' TERM\necho up\nwhile :; do sleep 0.1; done";
    let text = format!("{}  timeouts: {{termination: 3s}}\n", script("a", body));
    let mut run = Running::start(&mut bench.command(&text, &[]));
    run.read_to("up");
    run.signal(Signal::SIGINT);
    run.read_to("stubborn");
    run.signal(Signal::SIGTERM);
    let told = run.told();
    assert_eq!(told.code(), 226, "{told:?}");
    assert!(told.last().contains("left running"), "{told:?}");
    assert!(!bench.processes().is_empty());
    assert_eq!(bench.run(&text, &[]).code(), 224, "a cancel that was seen is final");
}

#[test]
fn detached_on_interrupt_it_runs_on() {
    let bench = Bench::local();
    let text = counting(&bench);
    let mut run = Running::start(&mut bench.command(&text, &["--detach-on-interrupt"]));
    run.read_to("2");
    run.signal(Signal::SIGINT);
    assert_eq!(run.told().code(), 226);
    let again = bench.run(&text, &[]);
    assert_eq!((again.code(), starts(&bench)), (7, 1), "{again:?}");
}

#[test]
fn two_at_once_on_the_same_command_are_one_too_many() {
    let bench = Bench::local();
    let text = counting(&bench);
    let mut first = Running::start(&mut bench.command(&text, &[]));
    first.read_to("1");
    let second = bench.run(&text, &[]);
    assert_eq!(second.code(), 227, "{second:?}");
    assert!(second.err.contains("another `remote-command run` of it is at work"), "{second:?}");
    assert_eq!(first.told().code(), 7);
}

// ---- other ends -------------------------------------------------------------------------

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
    assert!(told.last().contains("Failed/CommandNotFound"), "{told:?}");
    let told = bench.run(&manifest("b", "command: [/etc/passwd]"), &[]);
    assert_eq!(told.code(), 126, "{told:?}");
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

// ---- bad input --------------------------------------------------------------------------

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
            "exactly one of spec.command and spec.script is required",
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

// ---- words ------------------------------------------------------------------------------

fn typed(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remote-command"));
    command.args(args).env("COLUMNS", "100").env_remove("REMOTE_COMMAND_LOG");
    command.output().unwrap()
}

#[test]
fn the_help_says_what_there_is() {
    for subcommand in ["", "operator", "run", "crds", "completion"] {
        let args: Vec<&str> =
            [subcommand, "--help"].into_iter().filter(|a| !a.is_empty()).collect();
        let output = typed(&args);
        assert!(output.status.success());
        let name = format!("help_{}", if subcommand.is_empty() { "top" } else { subcommand });
        insta::assert_snapshot!(name, String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn version_and_mistakes_have_their_codes() {
    let version = typed(&["--version"]);
    assert!(version.status.success());
    let text = String::from_utf8(version.stdout).unwrap();
    assert!(
        text.starts_with("remote-command ") && text.contains("remotecommand.dev/v1alpha1"),
        "{text}"
    );
    for mistake in [
        &["walk"][..],
        &["run"],
        &["run", "--parallel", "0", "-f", "x"],
        &["operator", "--retry-period", "10s"],
        &[],
    ] {
        assert_eq!(typed(mistake).status.code(), Some(225), "{mistake:?}");
    }
    let missing = typed(&["run", "-f", "/no/such/file"]);
    assert_eq!(missing.status.code(), Some(225));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("/no/such/file: cannot be read"));
}

#[test]
fn completion_scripts_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let script = typed(&["completion", shell]);
        assert!(script.status.success());
        assert!(String::from_utf8(script.stdout.clone()).unwrap().contains("remote-command"));
        if shell == "bash" {
            let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            bash.stdin.take().unwrap().write_all(&script.stdout).unwrap();
            assert!(bash.wait().unwrap().success(), "bash -n");
        }
    }
}

#[test]
fn definitions_are_printed_or_written_to_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("crds");
    assert!(typed(&["crds", "--output-dir", path.to_str().unwrap()]).status.success());
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
    let printed = String::from_utf8(typed(&["crds"]).stdout).unwrap();
    assert_eq!(printed.matches("kind: CustomResourceDefinition").count(), 2);
}
