//! Killed, interrupted, cut off, and run again.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bench::{
    Bench, LIMIT, ONE_TO_TEN, ONE_TO_THREE, Running, counting, host, host_at, let_go, manifest,
    script, starts,
};
use crate::support::link::Link;
use crate::support::sshd::{Kind, Options, Sshd};
use crate::support::{block_until, processes};

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
    // Only output that was noted as written is not written again. There is no more of it
    // before it is let go, which a kill could come between and its note.
    assert!(block_until(LIMIT, || bench.offset_written() == begun.len() as u64));
    first.signal(Signal::SIGKILL);
    let rest = first.told();
    assert_eq!((rest.status.code(), rest.out.as_str()), (None, ""), "{rest:?}");
    let mut second = Running::start(&mut bench.command(text, &[]));
    let_go(bench);
    let counted_on = second.read_to("10");
    let second = second.told();
    assert_eq!((second.code(), second.out.as_str()), (7, ""), "{second:?}");
    assert_eq!(format!("{begun}{counted_on}"), ONE_TO_TEN, "{second:?}");
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
    let_go(&bench);
    let told = run.told();
    assert_eq!((told.code(), format!("{begun}{}", told.out).as_str()), (7, ONE_TO_TEN), "{told:?}");
    assert_eq!(starts(&bench), 1);
}

/// Guards against an end that is told of a run which starts later: nothing of it ever did.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_run_behind_a_lost_one_waits_until_its_queue_limit_and_is_not_started_later() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let link = Link::start(sshd.port()).await.unwrap();
    let known = sshd.recipe().known_hosts_line(Kind::Ed25519, link.port()).unwrap();
    let bench = Bench::remote();
    let (host, command) = (host_at(&sshd, link.port(), &known), counting(&bench));
    let text = format!("{host}{command}  timeouts: {{resolve: 2s, termination: 1s}}\n");
    let mut run = Running::start(&mut bench.command(&text, &[]));
    run.read_to("3");
    link.cut().await.unwrap();
    let told = run.told();
    assert_eq!(told.code(), 221, "{told:?}");
    let soon = text.replace("{resolve", "{queue: 3s, resolve");
    let new = bench.run(&soon, &["--new-run"]);
    assert_eq!((new.code(), starts(&bench)), (222, 1), "{new:?}");
    assert!(new.err.contains("Pending/PreviousAttemptUncertain: host does not"), "{new:?}");
    assert!(new.last().contains("Failed/QueueTimeout: never started"), "{new:?}");
    link.heal().await.unwrap();
    let again = bench.run(&text, &[]);
    assert_eq!((again.code(), starts(&bench)), (222, 1), "{again:?}");
    let_go(&bench);
    let third = bench.run(&text, &["--new-run"]);
    assert_eq!((third.code(), starts(&bench)), (7, 2), "{third:?}");
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
    let_go(&bench);
    let last = bench.run(&text, &[]);
    assert_eq!((last.code(), starts(&bench)), (7, 1), "{last:?}");
}

#[test]
fn a_result_is_told_again_without_starting_again_unless_a_new_run_is_asked_for() {
    let bench = Bench::local();
    let text = counting(&bench);
    let_go(&bench);
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

/// A host that accepts connections and never says a word.
fn silent_host(sshd: &Sshd, listener: &TcpListener) -> String {
    let port = listener.local_addr().unwrap().port();
    let text = host_at(sshd, port, "x");
    text.replacen("spec:\n", "spec:\n  timeouts: {handshake: 5m}\n", 1)
}

#[test]
fn an_interrupt_does_not_wait_for_a_host_that_says_nothing() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bench = Bench::remote();
    let text = format!("{}{}", silent_host(&sshd, &listener), script("a", "echo never"));
    let mut run = Running::start(&mut bench.command(&text, &[]));
    let mut told = BufReader::with_capacity(1, run.0.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting for the handshake with host for up to 300s") {
        line.clear();
        assert_ne!(told.read_line(&mut line).unwrap(), 0, "it never says what it waits for");
    }
    let began = Instant::now();
    run.signal(Signal::SIGINT);
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(run.0.wait().unwrap().code(), Some(224), "{rest}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(rest.contains("Failed/Cancelled"), "{rest}");
}

#[test]
fn the_queue_limit_does_not_wait_for_a_host_that_says_nothing() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bench = Bench::remote();
    let command = format!("{}  timeouts: {{queue: 3s}}\n", script("a", "echo never"));
    let text = format!("{}{command}", silent_host(&sshd, &listener));
    let began = Instant::now();
    let told = bench.run(&text, &[]);
    assert_eq!(told.code(), 222, "{told:?}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

/// Guards against an end at the moment the tree is gone: the last lines are on record a moment
/// later.
#[test]
fn what_an_interrupted_command_says_at_last_is_shown() {
    let bench = Bench::local();
    let body = "trap 'echo rolling back; echo rolled back; exit 3' TERM\necho up\n\
                while :; do sleep 0.2; done";
    let mut run = Running::start(&mut bench.command(&script("a", body), &[]));
    run.read_to("up");
    run.signal(Signal::SIGINT);
    let told = run.told();
    assert_eq!(told.code(), 224, "{told:?}");
    assert_eq!(told.out, "rolling back\nrolled back\n", "{told:?}");
}

#[test]
fn a_second_interrupt_leaves_it_running_and_it_can_be_run_to_its_end() {
    let bench = Bench::local();
    let go = bench.path("go");
    let body = format!(
        "trap 'echo stubborn' TERM\necho up\nuntil [ -e {} ]; do sleep 0.1; done",
        go.display()
    );
    let text = format!("{}  timeouts: {{termination: 10m}}\n", script("a", &body));
    let mut run = Running::start(&mut bench.command(&text, &[]));
    run.read_to("up");
    run.signal(Signal::SIGINT);
    run.read_to("stubborn");
    // Signals that come together are one.
    assert!(block_until(LIMIT, || {
        run.signal(Signal::SIGTERM);
        run.0.try_wait().unwrap().is_some()
    }));
    let told = run.told();
    assert_eq!(told.code(), 226, "{told:?}");
    assert!(told.last().contains("left running"), "{told:?}");
    assert!(!bench.processes().is_empty());
    let_go(&bench);
    assert_eq!(bench.run(&text, &[]).code(), 224, "a cancel that was seen is final");
}

#[test]
fn an_interrupt_that_comes_by_two_signals_is_one() {
    let bench = Bench::local();
    let mut run = Running::start(&mut bench.command(&script("a", "echo up; sleep 300"), &[]));
    run.read_to("up");
    // Both are there when it goes on, however long we take between them.
    let process = processes::Identity::of(run.0.id()).unwrap();
    run.signal(Signal::SIGSTOP);
    assert!(block_until(LIMIT, || process.is_stopped()));
    run.signal(Signal::SIGTERM);
    run.signal(Signal::SIGINT);
    run.signal(Signal::SIGCONT);
    let told = run.told();
    assert_eq!(told.code(), 224, "{told:?}");
    assert!(block_until(LIMIT, || bench.processes().is_empty()), "{:?}", bench.processes());
}

#[test]
fn detached_on_interrupt_it_runs_on() {
    let bench = Bench::local();
    let text = counting(&bench);
    let mut run = Running::start(&mut bench.command(&text, &["--detach-on-interrupt"]));
    run.read_to("2");
    run.signal(Signal::SIGINT);
    assert_eq!(run.told().code(), 226);
    let_go(&bench);
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
    let_go(&bench);
    assert_eq!(first.told().code(), 7);
}

#[test]
fn a_file_that_was_emptied_in_between_gets_all_output_again() {
    let bench = Bench::local();
    let (text, out) = (counting(&bench), bench.path("out"));
    let into_file = || {
        let mut command = bench.command(&text, &["--new-run", "-q"]);
        command.stdout(File::create(&out).unwrap());
        Running::start(&mut command)
    };
    let first = into_file();
    assert!(block_until(LIMIT, || bench.offset_written() == ONE_TO_THREE.len() as u64));
    first.signal(Signal::SIGKILL);
    drop(first);
    let second = into_file();
    // It goes on with the command; one that had ended would be run anew.
    assert!(block_until(LIMIT, || fs::read_to_string(&out).unwrap() == ONE_TO_THREE));
    let_go(&bench);
    assert_eq!(second.told().code(), 7);
    assert_eq!(fs::read_to_string(&out).unwrap(), ONE_TO_TEN);
    assert_eq!(starts(&bench), 1);
}

/// Guards against an empty file that looks like the output of a success.
#[test]
fn output_that_was_written_before_and_is_not_in_the_file_is_told_as_missing() {
    let bench = Bench::local();
    let (text, out) = (script("a", "echo one; echo two >&2"), bench.path("out"));
    let into = |stdout: File| {
        let mut command = bench.command(&text, &["-q"]);
        command.stdout(stdout);
        Running::start(&mut command).told()
    };
    assert_eq!(into(File::create(&out).unwrap()).code(), 0);
    let appended = into(File::options().append(true).open(&out).unwrap());
    assert_eq!(appended.code(), 0, "it is all there: {appended:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), "one\n");
    let emptied = into(File::create(&out).unwrap());
    assert_eq!(emptied.code(), 228, "{emptied:?}");
    let words = "its output was written before and is kept nowhere else, and stdout does not";
    assert!(emptied.err.contains(words), "{emptied:?}");
    // Whoever only looks at the result is not troubled.
    assert_eq!(into(File::options().write(true).open("/dev/null").unwrap()).code(), 0);
    assert_eq!(bench.run(&text, &["-q"]).code(), 0, "a pipe");
    assert_eq!(bench.run(&text, &["-o", "json"]).code(), 0);
    let mut anew = bench.command(&text, &["-q", "--new-run"]);
    anew.stdout(File::create(&out).unwrap());
    assert_eq!(Running::start(&mut anew).told().code(), 0);
    assert_eq!(fs::read_to_string(&out).unwrap(), "one\n");
}

/// Guards against an end by a signal of its own, which reads as the command's.
#[test]
fn a_terminal_that_goes_leaves_the_command_running() {
    let bench = Bench::local();
    let text = counting(&bench);
    let mut run = Running::start(&mut bench.command(&text, &[]));
    run.read_to("2");
    run.signal(Signal::SIGHUP);
    let told = run.told();
    assert_eq!(told.code(), 226, "{told:?}");
    assert!(told.last().contains("left running"), "{told:?}");
    let_go(&bench);
    let again = bench.run(&text, &[]);
    assert_eq!((again.code(), starts(&bench)), (7, 1), "{again:?}");
}

#[test]
fn under_nohup_a_terminal_that_goes_is_not_heard_of() {
    let bench = Bench::local();
    let plain = bench.command(&counting(&bench), &[]);
    let mut command = Command::new("nohup");
    command.arg(plain.get_program()).args(plain.get_args());
    command.env("XDG_STATE_HOME", bench.state()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = Running::start(&mut command);
    run.read_to("2");
    run.signal(Signal::SIGHUP);
    let_go(&bench);
    let told = run.told();
    assert_eq!((told.code(), starts(&bench)), (7, 1), "{told:?}");
}

#[test]
fn that_nothing_was_started_is_told_even_when_quiet() {
    let bench = Bench::local();
    let text = script("a", "true");
    let first = bench.run(&text, &["-q"]);
    assert_eq!((first.code(), first.err.as_str()), (0, ""), "{first:?}");
    let again = bench.run(&text, &["-q"]);
    assert_eq!(again.code(), 0, "{again:?}");
    assert!(again.err.contains("it had ended before; nothing was started; --new-run"), "{again:?}");
    let new = bench.run(&text, &["-q", "--new-run"]);
    assert_eq!((new.code(), new.err.as_str()), (0, ""), "{new:?}");
}

#[test]
fn under_on_change_a_changed_command_is_run_and_nothing_is_said_to_have_ended_before() {
    let bench = Bench::local();
    let text =
        |code: u8| manifest("a", &format!("command: [sh, -c, 'exit {code}']\nrunPolicy: OnChange"));
    assert_eq!(bench.run(&text(1), &[]).code(), 1);
    let changed = bench.run(&text(2), &[]);
    assert_eq!(changed.code(), 2, "{changed:?}");
    assert!(!changed.err.contains("nothing was started"), "{changed:?}");
    let same = bench.run(&text(2), &[]);
    assert!(same.err.contains("nothing was started"), "{same:?}");
    // One new run, not one for the change and another one for the word.
    let both = bench.run(&text(3), &["--new-run", "-o", "json"]);
    assert_eq!(both.code(), 3, "{both:?}");
    let report: serde_json::Value = serde_json::from_str(&both.out).unwrap();
    assert_eq!(report["commands"][0]["run"], 3, "{report}");
}

/// A command that asks for another attempt, a minute later.
fn backing_off() -> String {
    let spec = "command: [sh, -c, 'echo up; exit 75']\nidempotency: Idempotent\n\
                retry: {exitCodes: [75], backoff: {initial: 60s, max: 60s}}";
    manifest("a", spec)
}

#[test]
fn left_between_two_attempts_nothing_is_said_to_run() {
    let bench = Bench::local();
    let mut run = Running::start(&mut bench.command(&backing_off(), &["--detach-on-interrupt"]));
    let told_of = BufReader::new(run.0.stderr.take().unwrap());
    let mut lines = told_of.lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line.contains("Pending/BackingOff")));
    run.signal(Signal::SIGINT);
    let last = lines.last().unwrap();
    assert_eq!(run.told().code(), 226, "{last}");
    assert!(last.contains("left before another attempt"), "{last}");
}

/// The name server takes questions and never answers, as some do.
#[test]
fn an_interrupt_does_not_wait_for_a_name_that_is_being_looked_up() {
    let bench = Bench::remote();
    let silent = UdpSocket::bind("127.53.53.53:53").unwrap();
    let servers =
        bench.write("resolv.conf", "nameserver 127.53.53.53\noptions timeout:30 attempts:1\n");
    let text = format!(
        "apiVersion: remotecommand.dev/v1alpha1\nkind: RemoteHost\nmetadata: {{name: host}}\nspec:\n  \
         address: somewhere.test\n  user: u\n  hostKeys: {{fingerprints: \
         ['SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA']}}\n  credentials: {{secretRef: \
         {{name: key}}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\nstringData: \
         {{password: p}}\n{}",
        manifest("a", "command: ['true']")
    );
    let plain = bench.command(&text, &[]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"");
    command.arg(&servers).arg(plain.get_program()).args(plain.get_args());
    command.env("XDG_STATE_HOME", bench.state()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = Running::start(&mut command);
    silent.set_read_timeout(Some(LIMIT)).unwrap();
    silent.recv(&mut [0; 512]).unwrap();
    let began = Instant::now();
    run.signal(Signal::SIGINT);
    let told = run.told();
    // The look-up would take 30 seconds.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(told.code(), 224, "{told:?}");
}
