//! Several commands in one `run`: whose line is whose, what they came to, and what is run again.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::pty::openpty;
use serde_json::Value;

use crate::bench::{Bench, LIMIT, Running, manifest, script};
use crate::support::block_until;

/// What a `run` whose stdout is a terminal shows there, and how it ended.
fn on_a_terminal(command: &mut Command) -> (String, crate::bench::Told) {
    let pty = openpty(None, None).unwrap();
    let screen = std::thread::spawn(move || shown(pty.master));
    let running = Running::start(command.stdout(Stdio::from(pty.slave)));
    // The terminal has its end when nobody holds it any more.
    command.stdout(Stdio::null());
    let told = running.told();
    (screen.join().unwrap(), told)
}

fn shown(master: OwnedFd) -> String {
    let (mut master, mut all, mut some) = (File::from(master), Vec::new(), [0; 4096]);
    // EIO is the end of a terminal that nobody writes to any more.
    while let Ok(count @ 1..) = master.read(&mut some) {
        all.extend_from_slice(some.get(..count).unwrap());
    }
    String::from_utf8(all).unwrap().replace("\r\n", "\n")
}

/// Two that write halves of their lines at the same time.
fn halves(bench: &Bench) -> String {
    let halves = |mine: &str, other: &str| {
        let at = bench.path("halves");
        let (at, wait) = (at.display(), "do sleep 0.05; done");
        format!(
            "mkdir -p {at}\nfor n in 1 2 3; do\nprintf 'half of {mine} '; touch {at}/{mine}$n\n\
             until [ -e {at}/{other}$n ]; {wait}\nsleep 0.3; echo and whole\ndone\n\
             echo err of {mine} >&2\nprintf 'end of {mine}'"
        )
    };
    [script("a", &halves("a", "bb")), script("bb", &halves("bb", "a"))].concat()
}

fn whole_lines(screen: &str) -> Vec<&str> {
    let mut lines: Vec<_> = screen.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn on_a_terminal_each_line_of_several_at_once_is_whole_and_says_whose_it_is() {
    let bench = Bench::local();
    let (screen, told) =
        on_a_terminal(&mut bench.command(&halves(&bench), &["-q", "--parallel", "2"]));
    assert_eq!(told.code(), 0, "{told:?}");
    let expected = [
        "a | end of a",
        "a | half of a and whole",
        "a | half of a and whole",
        "a | half of a and whole",
        "bb | end of bb",
        "bb | half of bb and whole",
        "bb | half of bb and whole",
        "bb | half of bb and whole",
    ];
    assert_eq!(whole_lines(&screen), expected, "{screen}");
    // Stderr is no terminal here: it is left as it is.
    assert_eq!(whole_lines(&told.err), ["err of a", "err of bb"], "{told:?}");
}

#[test]
fn output_is_left_as_it_is_where_one_runs_at_a_time_or_it_is_no_terminal() {
    let bench = Bench::local();
    let two = |round: u8| {
        let command = |name| script(&format!("{name}{round}"), "printf half; echo; printf end");
        [command("a"), command("b")].concat()
    };
    let (screen, _) = on_a_terminal(&mut bench.command(&two(1), &["-q"]));
    assert_eq!(screen, "half\nendhalf\nend");
    let one = script("one", "printf half");
    let (screen, _) = on_a_terminal(&mut bench.command(&one, &["-q", "--parallel", "2"]));
    assert_eq!(screen, "half");
    let told = bench.run(&two(2), &["-q", "--parallel", "2"]);
    assert!(!told.out.contains('|'), "{told:?}");
}

#[test]
fn a_prefix_that_is_asked_for_is_everywhere_and_long_lines_are_cut_into_pieces() {
    let bench = Bench::local();
    let text = [
        script("a", "echo out; echo err >&2; head -c 40000 /dev/zero | tr '\\0' x"),
        script("b", "echo out"),
    ];
    let told = bench.run(&text.concat(), &["-q", "--prefix"]);
    assert_eq!(told.code(), 0, "{told:?}");
    assert!(told.out.starts_with("a | out\na | xxx") && told.out.ends_with("x\nb | out\n"));
    assert!(told.out.lines().all(|line| line.starts_with("a | ") || line.starts_with("b | ")));
    assert_eq!(told.out.matches('x').count(), 40_000);
    assert_eq!(told.err, "a | err\n");
}

#[test]
fn killed_midway_and_run_again_prefixed_lines_come_once_and_whole() {
    let bench = Bench::local();
    let text = crate::bench::counting(&bench);
    let mut first = Running::start(&mut bench.command(&text, &["--prefix"]));
    let begun = first.read_to("counting | 3");
    assert!(block_until(LIMIT, || bench.offset_written() == 6));
    first.signal(nix::sys::signal::Signal::SIGKILL);
    drop(first);
    crate::bench::let_go(&bench);
    let told = bench.run(&text, &["--prefix"]);
    let expected: String = (1..=10).map(|n| format!("counting | {n}\n")).collect();
    assert_eq!(format!("{begun}{}", told.out), expected, "{told:?}");
}

#[test]
fn at_the_end_of_several_a_line_each_and_a_count_are_told() {
    let bench = Bench::local();
    let three = [
        script("good", "true"),
        script("bad", "exit 4"),
        manifest("slow", "command: [sleep, '300']\ntimeouts: {execution: 1s, termination: 1s}"),
    ]
    .concat();
    let told = bench.run(&three, &["--parallel", "3"]);
    assert_eq!(told.code(), 4, "the first in file order: {told:?}");
    let last: Vec<_> = told.err.lines().rev().take(4).collect();
    assert_eq!(
        last,
        [
            "remote-command: 3 commands: 1 succeeded, 2 failed",
            "remote-command: slow: Failed/ExecutionTimeout, exit code 143; on this machine, started now",
            "remote-command: bad: Failed/NonZeroExit, exit code 4; on this machine, started now",
            "remote-command: good: Succeeded/Completed, exit code 0; on this machine, started now",
        ]
    );
    let again = bench.run(&three, &[]);
    assert!(
        again.err.contains("good: Succeeded/Completed, exit code 0; on this machine, had ended")
    );
    assert_eq!(bench.run(&script("alone", "true"), &[]).err.matches(" commands: ").count(), 0);
    assert_eq!(
        bench.run(&[script("one", "true"), script("two", "true")].concat(), &["-q"]).err,
        ""
    );
}

// ---- what is run again ------------------------------------------------------------------

/// Notes each start by name; `body` decides how it ends.
fn noting(bench: &Bench, name: &str, body: &str) -> String {
    script(name, &format!("echo {name} >> {}\n{body}", bench.path("starts").display()))
}

fn started(bench: &Bench) -> String {
    let starts = bench.path("starts");
    let text = fs::read_to_string(&starts).unwrap_or_default();
    let _ = fs::remove_file(starts);
    text.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn only_what_did_not_succeed_is_run_again() {
    let bench = Bench::local();
    let mended = bench.path("mended");
    let three = [
        noting(&bench, "good", "echo output"),
        noting(&bench, "bad", &format!("[ -e {} ]", mended.display())),
        noting(&bench, "late", "true"),
    ];
    assert_eq!(bench.run(&three[..2].concat(), &[]).code(), 1);
    assert_eq!(started(&bench), "good bad");
    fs::write(&mended, "").unwrap();
    let text = three.concat();
    // What was written elsewhere is not missed here.
    let mut command = bench.command(&text, &["--only-unfinished", "--report", "/dev/fd/1"]);
    let out = File::create(bench.path("empty")).unwrap();
    let told = Running::start(command.stdout(out)).told();
    assert_eq!((told.code(), started(&bench).as_str()), (0, "bad late"), "{told:?}");
    assert!(told.err.contains("good: skipped: it had succeeded before (ended at "), "{told:?}");
    assert!(told.err.contains("3 commands: 3 succeeded"), "{told:?}");
    let told = bench.run(&text, &["--only-unfinished"]);
    assert_eq!((told.code(), started(&bench).as_str()), (0, ""), "{told:?}");
    assert_eq!(told.err.matches("skipped: it had succeeded before").count(), 3, "{told:?}");
    // A success of something else is none of this.
    let changed = noting(&bench, "good", "echo other output");
    assert_eq!(bench.run(&changed, &["--only-unfinished"]).code(), 225);
    // A failure of something else is run as it is now.
    assert_eq!(bench.run(&noting(&bench, "worse", "exit 9"), &[]).code(), 9);
    let told = bench.run(&noting(&bench, "worse", "exit 0"), &["--only-unfinished"]);
    assert_eq!(told.code(), 0, "{told:?}");
}

#[test]
fn what_is_under_way_is_followed_and_gets_no_other_run() {
    let bench = Bench::local();
    let text = crate::bench::counting(&bench);
    let mut first = Running::start(&mut bench.command(&text, &[]));
    first.read_to("3");
    first.signal(nix::sys::signal::Signal::SIGKILL);
    drop(first);
    crate::bench::let_go(&bench);
    let told = bench.run(&text, &["--only-unfinished"]);
    assert_eq!((told.code(), crate::bench::starts(&bench)), (7, 1), "{told:?}");
}

/// Removes every record that this machine has, as if nobody knew any more.
fn forget_records(bench: &Bench) {
    for entry in fs::read_dir(bench.state().join("remote-command")).unwrap().flatten() {
        if entry.file_name() != "run" {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

/// It may have done its work: whether that does harm twice is the class's to say, or a person's.
#[test]
fn what_is_unknown_is_run_again_where_that_does_no_harm_or_a_person_says_so() {
    let bench = Bench::local();
    let body = format!("[ -e {} ] || sleep 300", bench.path("go").display());
    let harmful = noting(&bench, "harmful", &body);
    let harmless = format!(
        "{}  idempotency: Idempotent\n  retry: {{limit: 0}}\n",
        noting(&bench, "harmless", &body)
    );
    let text = format!("{harmful}{harmless}");
    let run = Running::start(&mut bench.command(&text, &["--parallel", "2"]));
    let both = || fs::read_to_string(bench.path("starts")).unwrap_or_default().lines().count() == 2;
    assert!(block_until(LIMIT, both));
    forget_records(&bench);
    let told = run.told();
    assert_eq!(told.code(), 221, "{told:?}");
    assert!(told.err.contains("2 commands: 2 unknown"), "{told:?}");
    assert!(block_until(Duration::from_secs(20), || started(&bench).is_empty()));

    crate::bench::let_go(&bench);
    let told = bench.run(&text, &["--only-unfinished"]);
    assert_eq!((told.code(), started(&bench).as_str()), (221, "harmless"), "{told:?}");
    assert!(told.err.contains("harmful: nobody knows whether it did its work"), "{told:?}");
    assert!(told.err.contains("--only-unfinished --new-run runs it again"), "{told:?}");
    assert!(told.err.contains("2 commands: 1 succeeded, 1 unknown"), "{told:?}");
    let told = bench.run(&text, &["--only-unfinished", "--new-run"]);
    assert_eq!((told.code(), started(&bench).as_str()), (0, "harmful"), "{told:?}");
}

#[test]
fn an_interrupt_asks_for_no_other_run() {
    let bench = Bench::local();
    let first = script("first", "echo up; sleep 300");
    let second = noting(&bench, "second", "exit 3");
    assert_eq!(bench.run(&second, &[]).code(), 3);
    started(&bench);
    let mut run =
        Running::start(&mut bench.command(&format!("{first}{second}"), &["--only-unfinished"]));
    run.read_to("up");
    run.signal(nix::sys::signal::Signal::SIGINT);
    let told = run.told();
    assert_eq!((told.code(), started(&bench).as_str()), (224, ""), "{told:?}");
    assert!(told.err.contains("second: not started: interrupted"), "{told:?}");
    let again = bench.run(&second, &["-o", "json"]);
    let report: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!((again.code(), &report["commands"][0]["run"]), (3, &1.into()), "{again:?}");
}
