//! `execution: Direct` against real OpenSSH servers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "sessions/direct.rs"]
mod direct;
#[path = "sessions/odd.rs"]
mod odd;
mod sessions;
mod support;

use std::sync::atomic::Ordering;
use std::time::Instant;

use direct::{Machine, direct_of, entry, plan, value};
use odd::{Launch, Odd, Server};
use remote_command::core::action::{Action, Entry, Expect, Kind, Seen, StopReason};
use remote_command::core::fault::{Cause, Standing, Transient};
use remote_command::core::plan::{Direct, Execution, Plan, Value, Verify};
use remote_command::core::record::{Claimed, DirectSeen, EntrySeen, StartFailure};
use remote_command::host::hosts::{Hosts, Whose};
use remote_command::host::spools::Spools;
use remote_command::host::{Host, Material, Stream};
use remote_command::journal::Saved;
use sessions::{LIMIT, Secrets, Way};
use support::login::Login;
use support::sshd::{Options, Sshd};
use support::{programs, until};

fn sweep() -> Action {
    let (machine, store) = (String::new(), String::new());
    Action::Sweep { uid: "uid".to_owned(), machine, store, run_as: None }
}

const NASTY: &str = " $HOME `id` $(id) \\n 'x' \"y\" ; & | * ? ~ ! \t é\n\n--x\n";

fn text(script: &str) -> Value {
    Value::Literal(script.to_owned())
}

#[tokio::test]
async fn nothing_is_parsed_by_any_login_shell() {
    let shells = [("sh", "dash"), ("bash", "bash"), ("fish", "fish"), ("tcsh", "tcsh")];
    for (shell, package) in shells {
        let login = Login::Shell(programs::debian(shell, package).unwrap());
        let sshd = Sshd::start(Options { login, ..Options::default() }).unwrap();
        let hosts = Hosts::new();
        let machine = Machine::of(&hosts, &sshd);
        let print = r#"printf "[%s]" "$@" "$V"; printf "%s" "$W" >&2; cat; pwd; exit 6"#;
        let mut plan = plan(&["/bin/sh", "-c", print, "sh", NASTY, "", "-n"]);
        plan.program.working_directory = Some("/usr".to_owned());
        let env = vec![("V".to_owned(), value(NASTY)), ("W".to_owned(), value("=a b"))];
        let material = Material { env, stdin: Some(value("from stdin\n")), ..Material::default() };
        let (code, out, err) = machine.run(&plan, 1, material).await;
        let wanted = format!("[{NASTY}][][-n][{NASTY}]from stdin\n/usr\n");
        assert_eq!((code, out, err), (6, wanted, "=a b".to_owned()), "{shell}");
        hosts.shutdown().await;
    }
}

#[tokio::test]
async fn a_script_is_run_by_its_interpreter_and_reads_the_commands_stdin() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let mut plan = plan(&["/bin/bash", "-u"]);
    let lines = "read -r first\n\necho \"got $first\"\n# 'quotes\" do not matter\nexit 11";
    plan.program.script = Some(text(lines));
    let material = Material { stdin: Some(value("one\ntwo\n")), ..Material::default() };
    let (code, out, err) = machine.run(&plan, 1, material).await;
    assert_eq!((code, out.as_str(), err.as_str()), (11, "got one\n", ""));
}

#[tokio::test]
async fn a_launch_is_sent_once_and_its_end_is_kept_until_the_sweep() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let mark = sshd.directory().join("mark");
    let script = format!("echo x >> {}; exit 3", mark.display());
    let plan = plan(&["/bin/sh", "-c", &script]);
    let entry = entry(1, Kind::Command);
    let prepared = machine.act(&plan, Action::Prepare { entry: entry.clone() }).await;
    assert!(matches!(prepared, Seen::Prepared { .. }), "{prepared:?}");
    for _ in 0..3 {
        machine.launch(&plan, &entry).await;
    }
    assert!(
        matches!(machine.end(&plan, &entry).await, DirectSeen::Exited(exit) if exit.code() == 3)
    );
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "x\n");
    let swept = machine.act(&plan, sweep());
    assert!(matches!(swept.await, Seen::Swept { .. }));
    assert_eq!(machine.probe(&plan, &entry).await, DirectSeen::Lost);
}

#[tokio::test]
async fn a_launch_never_started_only_when_nothing_of_it_was_sent() {
    let hosts = Hosts::new();
    let plan = plan(&["reboot"]);
    for launch in [Launch::StatusDrop, Launch::StatusPauseEcho] {
        let server = Server::start(Odd::Launch(launch)).await;
        let machine = Machine::of_odd(&hosts, &server);
        let entry = entry(1, Kind::Command);
        machine.launch(&plan, &entry).await;
        let seen = machine.end(&plan, &entry).await;
        assert!(matches!(seen, DirectSeen::NeverStarted(_)), "{launch:?}: {seen:?}");
        assert_eq!(server.counts.more.load(Ordering::SeqCst), 0, "{launch:?}");
        let again = machine.prepare(&plan, 2).await;
        assert!(matches!(again, Seen::Prepared { .. }), "{launch:?}: {again:?}");
    }

    let server = Server::start(Odd::Launch(Launch::EchoDrop)).await;
    let machine = Machine::of_odd(&hosts, &server);
    let first = entry(1, Kind::Command);
    machine.launch(&plan, &first).await;
    assert_eq!(machine.end(&plan, &first).await, DirectSeen::Lost);

    let server = Server::start(Odd::Launch(Launch::EchoStatusDrop)).await;
    let machine = Machine::of_odd(&hosts, &server);
    machine.launch(&plan, &first).await;
    let DirectSeen::Exited(exit) = machine.end(&plan, &first).await else { panic!() };
    assert_eq!(exit.code(), 3);
    let chunk = machine.host.read(&first, Stream::Stdout, 0, 1).await.unwrap();
    assert!(chunk.truncated, "its output may be cut");
}

/// Guards against a launch that is turned away for good and tried again like one that is not.
#[tokio::test]
async fn a_launch_that_the_server_turned_away_says_why() {
    let hosts = Hosts::new();
    let device = Direct { no_shell: true, forced_command: false, may_overlap: false };
    let causes: [(Odd, Cause); 3] = [
        (Odd::OpenRefused, Transient::ChannelRefused.into()),
        (Odd::ExecRefused, Standing::HostUnusable.into()),
        (Odd::NoStatus, Transient::ConnectionLost.into()),
    ];
    for (odd, cause) in causes {
        let server = Server::start(odd.clone()).await;
        let machine = Machine::of_odd(&hosts, &server);
        let mut plan = plan(&["reboot"]);
        let entry = entry(1, Kind::Command);
        machine.launch(&plan, &entry).await;
        let DirectSeen::NeverStarted(fault) = machine.end(&plan, &entry).await else {
            panic!("{odd:?}")
        };
        assert_eq!(fault.cause, cause, "{odd:?}: {}", fault.message);
        if odd != Odd::NoStatus {
            plan.execution = Execution::Direct(device.clone());
            let seen = machine.launch(&plan, &self::entry(2, Kind::Command)).await;
            assert_eq!(seen, DirectSeen::NeverStarted(fault), "{odd:?}");
        }
    }
}

#[tokio::test]
async fn a_shell_that_stays_silent_is_sent_nothing_and_gets_no_second_exec() {
    let sshd = Sshd::start(Options {
        lines: vec!["ForceCommand echo x >> $HOME/runs; exec cat >> $HOME/heard".to_owned()],
        ..Options::default()
    })
    .unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let plan = plan(&["reboot", "now"]);
    let seen = machine.launch(&plan, &entry(1, Kind::Command)).await;
    let DirectSeen::NeverStarted(fault) = seen else { panic!("{seen:?}") };
    assert_eq!(fault.cause, Transient::ReplyTimeout.into());
    assert!(fault.message.contains("did not begin"), "{}", fault.message);
    let read = |name: &str| std::fs::read_to_string(sshd.home().join(name)).unwrap();
    assert!(!read("heard").contains("reboot"), "{}", read("heard"));
    let again = machine.prepare(&plan, 2).await;
    let Seen::Unreachable(fault) = again else { panic!("{again:?}") };
    assert_eq!(fault.cause, Transient::ReplyTimeout.into());
    for process in sshd.commands() {
        process.signal(support::processes::Signal::KILL);
    }
    let forced = async || match machine.prepare(&plan, 3).await {
        Seen::Unreachable(fault) => fault.cause == Standing::ForcedCommand.into(),
        other => panic!("{other:?}"),
    };
    until(LIMIT, "its end is seen", forced).await.unwrap();
    assert_eq!(read("runs"), "x\n");
}

#[tokio::test]
async fn an_attempt_is_asked_about_in_the_way_it_was_launched_whatever_the_spec_says_now() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let (direct, mut recorded) = (plan(&["sleep", "1000"]), plan(&["sleep", "1000"]));
    recorded.execution = Execution::Recorded;
    let first = entry(1, Kind::Command);
    machine.launch(&direct, &first).await;
    assert_eq!(machine.probe(&recorded, &first).await, DirectSeen::Running);
    let (entry, reason) = (first.clone(), StopReason::Cancelled);
    let kill = Action::Kill { entry, reason, processes: None };
    // Where sshd refuses signals it stays, which only this way of asking can tell.
    direct_of(machine.act(&recorded, kill).await);
    assert!(matches!(machine.act(&recorded, sweep()).await, Seen::Swept { .. }));
    assert_eq!(machine.probe(&recorded, &first).await, DirectSeen::Lost);
    // A launch whose way was changed before it was sent starts nothing.
    let seen = machine.launch(&recorded, &self::entry(2, Kind::Command)).await;
    assert!(matches!(seen, DirectSeen::NeverStarted(_)), "{seen:?}");

    let mut entry = Entry { uid: "other".to_owned(), ..self::entry(1, Kind::Command) };
    let prepared = machine.act(&recorded, Action::Prepare { entry: entry.clone() }).await;
    let Seen::Prepared { identity, .. } = prepared else { panic!("{prepared:?}") };
    entry.machine = identity.machine;
    let seen = machine.act(&direct, Action::Probe { entry }).await;
    assert!(matches!(seen, Seen::Host { .. }), "{seen:?}");
}

#[tokio::test]
async fn another_process_knows_nothing_of_it_and_says_so() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let (before, after) = (Hosts::new(), Hosts::new());
    let plan = plan(&["sleep", "1000"]);
    let entry = entry(1, Kind::Command);
    let machine = Machine::of(&before, &sshd);
    assert_eq!(machine.launch(&plan, &entry).await, DirectSeen::Running);
    assert_eq!(machine.probe(&plan, &entry).await, DirectSeen::Running);
    assert_eq!(Machine::of(&after, &sshd).probe(&plan, &entry).await, DirectSeen::Lost);
    sshd.kill_sessions();
    assert_eq!(machine.end(&plan, &entry).await, DirectSeen::Lost);
}

#[tokio::test]
async fn signals_end_it_and_the_signal_is_told() {
    let login = Login::Shell("/bin/sh".into());
    let sshd = Sshd::start(Options { login, ..Options::default() }).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let plan = plan(&["sh", "-c", "trap \"\" TERM; echo up; sleep 1000; sleep 1000"]);
    let entry = entry(1, Kind::Command);
    machine.launch(&plan, &entry).await;
    until(LIMIT, "up", async || machine.output(&entry, Stream::Stdout).await == "up\n")
        .await
        .unwrap();
    let reason = StopReason::Cancelled;
    let (processes, grace_ms) = (None, 1000);
    let terminate = Action::Terminate { entry: entry.clone(), reason, processes, grace_ms };
    assert_eq!(direct_of(machine.act(&plan, terminate).await), DirectSeen::Running);
    let kill = Action::Kill { entry: entry.clone(), reason, processes: None };
    direct_of(machine.act(&plan, kill).await);
    let DirectSeen::Exited(exit) = machine.end(&plan, &entry).await else { panic!() };
    assert_eq!(exit.signal(), Some("KILL"));
}

/// Guards against the shell's 128+n, and its own words for it in the command's stderr.
#[tokio::test]
async fn a_script_that_ends_by_a_signal_is_told_with_it_and_its_shell_says_nothing() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let long = "# a line that no pipe has room for\n".repeat(5000);
    let ends = [("KILL", 137, ""), ("TERM", 143, ""), ("KILL", 137, long.as_str())];
    for (attempt, (signal, code, head)) in (1..).zip(ends) {
        let mut plan = plan(&["/bin/sh"]);
        plan.program.script = Some(text(&format!("{head}echo up; kill -{signal} $$; echo never")));
        let (exit, out, err) = machine.exit(&plan, attempt, Material::default()).await;
        assert_eq!((exit.code(), exit.signal()), (code, Some(signal)), "{}", head.len());
        assert_eq!((out.as_str(), err.as_str()), ("up\n", ""), "{}", head.len());
    }
}

/// Guards against the end of a script's shell that is told while the script goes on.
#[tokio::test]
async fn a_script_that_tidies_up_when_it_is_stopped_has_the_last_word() {
    let login = Login::Shell("/bin/sh".into());
    let sshd = Sshd::start(Options { login, ..Options::default() }).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let mut plan = plan(&["/bin/sh"]);
    plan.program.script =
        Some(text("trap 'echo tidied; exit 3' TERM; echo up; while :; do sleep 0.1; done\n"));
    let entry = entry(1, Kind::Command);
    machine.launch(&plan, &entry).await;
    until(LIMIT, "up", async || machine.output(&entry, Stream::Stdout).await == "up\n")
        .await
        .unwrap();
    let (reason, processes) = (StopReason::Cancelled, None);
    let terminate = Action::Terminate { entry: entry.clone(), reason, processes, grace_ms: 9000 };
    machine.act(&plan, terminate).await;
    let DirectSeen::Exited(exit) = machine.end(&plan, &entry).await else { panic!() };
    assert_eq!((exit.code(), exit.signal()), (3, None));
    assert_eq!(machine.output(&entry, Stream::Stdout).await, "up\ntidied\n");
}

#[tokio::test]
async fn what_cannot_be_started_is_told_apart_from_a_command_that_ended() {
    use StartFailure::{CommandNotFound, PermissionDenied};
    let login = Login::Shell("/bin/sh".into());
    let sshd = Sshd::start(Options { login, ..Options::default() }).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let mut searched = plan(&["group"]);
    searched.program.script = Some(text("true"));
    let cases = [
        (plan(&["/nowhere/program"]), "", 127, CommandNotFound, "/nowhere/program: no such"),
        (plan(&["no-such-program"]), "", 127, CommandNotFound, "no-such-program: no such"),
        (plan(&["cd"]), "", 127, CommandNotFound, "cd: no such program"),
        (plan(&["./passwd"]), "/etc", 126, PermissionDenied, "./passwd may not be executed"),
        (searched, "/etc", 126, PermissionDenied, "group may not be executed"),
        (plan(&["true"]), "/nowhere", 127, CommandNotFound, "/nowhere cannot be found"),
        (plan(&["true"]), "-", 127, CommandNotFound, "./- cannot be found"),
        (plan(&["true"]), "/etc/passwd", 127, CommandNotFound, "is not a directory"),
        (plan(&["true"]), "/root", 126, PermissionDenied, "/root may not be entered"),
    ];
    for (attempt, (mut plan, directory, code, start, words)) in (1..).zip(cases) {
        plan.program.working_directory = Some(directory.to_owned()).filter(|d| !d.is_empty());
        let path = ("PATH".to_owned(), value("/usr/bin:/bin:"));
        let material =
            Material { env: vec![path], stdin: Some(value("unread")), ..Material::default() };
        let (exit, out, err) = machine.exit(&plan, attempt, material).await;
        assert_eq!((exit.code(), exit.start_failure()), (code, start), "{words}: {err}");
        assert_eq!(out, "", "{words}");
        assert!(err.lines().last().unwrap().starts_with("remote-command: "), "{err}");
        assert!(err.contains(words), "{words}: {err}");
    }
    // What begins as a mark would is output.
    let (exit, out, _) = machine.exit(&plan(&["printf", "\\001x"]), 99, Material::default()).await;
    assert_eq!((exit.start_failure(), out.as_str()), (StartFailure::None, "\u{1}x"));
}

/// Guards against an exit code for a command that never ran.
#[tokio::test]
async fn what_the_host_refuses_to_start_is_no_exit_code() {
    let login = Login::Shell("/bin/sh".into());
    let sshd = Sshd::start(Options { login, ..Options::default() }).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let plan = plan(&["/bin/true"]);
    let many = |count: usize| {
        let big = "x".repeat(120_000);
        (0..count).map(|n| (format!("V{n}"), value(&big))).collect::<Vec<_>>()
    };
    let cases = [
        (vec![("OPTIND".to_owned(), value("x"))], Some("EnvironmentRefused")),
        (many(22), Some("ArgumentsTooLong")),
        (many(12), None),
    ];
    for (attempt, (env, reason)) in (1..).zip(cases) {
        let entry = entry(attempt, Kind::Command);
        let seen =
            machine.launch_with(&plan, &entry, Material { env, ..Material::default() }).await;
        match (reason, seen) {
            (Some(reason), DirectSeen::NeverStarted(fault)) => assert_eq!(fault.reason(), reason),
            (None, _) => {
                let end = machine.end(&plan, &entry).await;
                assert!(matches!(&end, DirectSeen::Exited(exit) if exit.code() == 0), "{end:?}");
            }
            (_, seen) => panic!("{seen:?}"),
        }
    }
}

/// Guards against a shell's own end, or a forced command, for a host that cannot fork.
#[tokio::test]
async fn with_too_few_processes_a_direct_command_has_all_its_output_or_never_starts() {
    let login = Login::Shell(programs::debian("bash", "bash").unwrap());
    let sshd = Sshd::start(Options { login, ..Options::default() }).unwrap();
    let mut started = Vec::new();
    let says = "printf 1; /bin/true || exit 0; printf 2";
    // How many it takes is the machine's affair: the dead count until init takes note of them.
    for most in 1..=60 {
        if started.len() == 3 {
            break;
        }
        let hosts = Hosts::new();
        let machine = Machine::of(&hosts, &sshd);
        std::fs::write(sshd.home().join(".bashrc"), format!("ulimit -u {most}\n")).unwrap();
        let mut plan = plan(&["/bin/sh"]);
        // Too long for a pipe of the shell's own, so that it needs a process to write it.
        plan.program.script = Some(text(&format!("{says}\n#{}\n", "x".repeat(100_000))));
        let entry = entry(most, Kind::Command);
        match machine.launch(&plan, &entry).await {
            DirectSeen::NeverStarted(fault) => {
                assert_eq!(fault.reason(), "ProcessLimit", "{fault:?}")
            }
            DirectSeen::Lost => panic!("lost with {most}"),
            DirectSeen::Running | DirectSeen::Exited(_) => {
                let end = machine.end(&plan, &entry).await;
                // What the command itself may start is its own affair.
                assert!(matches!(&end, DirectSeen::Exited(_)), "{most}: {end:?}");
                assert!(machine.output(&entry, Stream::Stdout).await.starts_with('1'), "{most}");
                started.push(most);
            }
        }
        hosts.shutdown().await;
    }
    assert!(started.len() == 3 && !started.contains(&1), "both were met: {started:?}");
}

/// Guards the values of a command against a forced command that gives back what it reads: that was
/// taken for a shell, and sent all of them.
#[tokio::test]
async fn a_forced_command_that_echoes_is_sent_nothing_of_the_command() {
    let lines = vec!["ForceCommand exec tee -a $HOME/heard /dev/stderr".to_owned()];
    let sshd = Sshd::start(Options { lines, ..Options::default() }).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let seen = machine.launch(&plan(&["reboot", "now"]), &entry(1, Kind::Command)).await;
    assert!(matches!(seen, DirectSeen::NeverStarted(_)), "{seen:?}");
    let heard = std::fs::read_to_string(sshd.home().join("heard")).unwrap();
    assert!(!heard.contains("reboot"), "{heard}");
    for process in sshd.commands() {
        process.signal(support::processes::Signal::KILL);
    }
}

#[tokio::test]
async fn an_account_that_runs_something_else_is_not_given_our_line_again() {
    let sshd = Sshd::start(Options {
        lines: vec!["ForceCommand echo x >> $HOME/runs; echo Welcome".to_owned()],
        ..Options::default()
    })
    .unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let mut plan = plan(&["reboot"]);
    let first = entry(1, Kind::Command);
    let seen = machine.launch(&plan, &first).await;
    let DirectSeen::NeverStarted(fault) = seen else { panic!("{seen:?}") };
    assert_eq!(fault.cause, Standing::ForcedCommand.into());
    assert!(fault.message.contains("Welcome"), "{}", fault.message);
    let again = machine.act(&plan, Action::Prepare { entry: entry(2, Kind::Command) }).await;
    let Seen::Unreachable(fault) = again else { panic!("{again:?}") };
    assert_eq!(fault.cause, Standing::ForcedCommand.into());
    let runs = || std::fs::read_to_string(sshd.home().join("runs")).unwrap();
    assert_eq!(runs(), "x\n");

    // Told that it is a forced command, at once: one exec per attempt, none for checks.
    let direct = Direct { no_shell: false, forced_command: true, may_overlap: false };
    plan.execution = Execution::Direct(direct);
    let prepared = machine.prepare(&plan, 3).await;
    assert!(matches!(prepared, Seen::Prepared { .. }), "{prepared:?}");
    let (code, out, _) = machine.run(&plan, 3, Material::default()).await;
    assert_eq!((code, out.as_str(), runs().as_str()), (0, "Welcome\n", "x\nx\n"));
}

/// Guards against a puzzle, and an hour of it: what answers in place of our shell says what it is.
#[tokio::test]
async fn what_answers_in_place_of_our_shell_is_told_in_its_words() {
    let bash = programs::debian("bash", "bash").unwrap();
    let closed = "echo This account is currently not available.; exit 1";
    let cases = [("exec dash", "start-up files"), (closed, "currently not available")];
    for (start_up, told) in cases {
        let login = Login::Shell(bash.clone());
        let sshd = Sshd::start(Options { login, ..Options::default() }).unwrap();
        std::fs::write(sshd.home().join(".bashrc"), format!("{start_up}\n")).unwrap();
        let hosts = Hosts::new();
        let machine = Machine::of(&hosts, &sshd);
        let plan = plan(&["true"]);
        let seen = machine.launch(&plan, &entry(1, Kind::Command)).await;
        let DirectSeen::NeverStarted(fault) = seen else { panic!("{seen:?}") };
        assert_eq!(fault.cause, Standing::HostUnusable.into(), "{fault:?}");
        assert!(fault.message.contains(told), "{fault:?}");
        let again = machine.act(&plan, Action::Prepare { entry: entry(2, Kind::Command) }).await;
        assert!(matches!(again, Seen::Unreachable(_)), "once a minute: {again:?}");
        std::fs::remove_file(sshd.home().join(".bashrc")).unwrap();
        hosts.reconsider("default", Whose::RemoteHost("local"));
        let (code, _, _) = machine.run(&plan, 3, Material::default()).await;
        assert_eq!(code, 0);
        hosts.shutdown().await;
    }
}

/// Guards against a nonce that is taken for the user to become: `sudo: unknown user`.
#[tokio::test]
async fn a_start_up_file_that_takes_a_line_of_ours_is_told_and_nobody_is_asked_for_its_user() {
    let login = Login::Shell(programs::debian("bash", "bash").unwrap());
    let sshd = Sshd::start(Options { login, ..Options::default() }).unwrap();
    std::fs::write(sshd.home().join(".bashrc"), "read -r x\n").unwrap();
    let machine = Machine::of(&Hosts::new(), &sshd);
    let seen = machine.launch(&plan(&["true"]), &entry(1, Kind::Command)).await;
    let DirectSeen::NeverStarted(fault) = seen else { panic!("{seen:?}") };
    assert_eq!(fault.cause, Standing::ForcedCommand.into(), "{fault:?}");
    let told = "a start-up file has read what was meant for us";
    assert!(fault.message.contains(told) && !fault.message.contains("sudo"), "{fault:?}");
}

#[tokio::test]
async fn run_as_becomes_that_user_or_starts_nothing() {
    programs::debian("sudo", "sudo").unwrap();
    let print = r#"id -un; printf "%s" "$V"; cat"#;
    let mut plan = plan(&["/bin/sh", "-c", print]);
    plan.program.run_as = Some("nobody".to_owned());
    let env = || vec![("V".to_owned(), value(NASTY))];
    let material = || Material { env: env(), stdin: Some(value("in")), ..Material::default() };

    let sshd = Sshd::start(Options::default()).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let (code, out, _) = machine.run(&plan, 1, material()).await;
    assert_eq!((code, out), (0, format!("nobody\n{NASTY}in")));

    let login = Login::Shell("/bin/sh".into());
    let sshd = Sshd::start(Options { login, ..Options::default() }).unwrap();
    let machine = Machine::of(&hosts, &sshd);
    let seen = machine.launch_with(&plan, &entry(1, Kind::Command), material()).await;
    let DirectSeen::NeverStarted(fault) = seen else { panic!("{seen:?}") };
    assert_eq!(fault.cause, Standing::RunAsRestricted.into());
    assert!(fault.message.contains("sudo"), "{}", fault.message);
    let again = machine.act(&plan, Action::Prepare { entry: entry(2, Kind::Command) }).await;
    let Seen::Unreachable(fault) = again else { panic!("{again:?}") };
    assert_eq!(fault.cause, Standing::RunAsRestricted.into());
    plan.program.run_as = None;
    assert_eq!(machine.run(&plan, 3, material()).await.0, 0);
}

#[tokio::test]
async fn words_for_a_device_are_sent_as_they_are_or_not_at_all() {
    let sshd = Sshd::start(Options {
        lines: vec!["ForceCommand echo got $SSH_ORIGINAL_COMMAND".to_owned()],
        ..Options::default()
    })
    .unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let device = Direct { no_shell: true, forced_command: false, may_overlap: false };
    let mut show = plan(&["show", "interface", "eth0/1"]);
    show.execution = Execution::Direct(device.clone());
    let (_, out, _) = machine.run(&show, 1, Material::default()).await;
    assert_eq!(out, "got show interface eth0/1\n");
    for word in ["a b", "a;b", "$x", ""] {
        let mut bad = plan(&["show", word]);
        bad.execution = Execution::Direct(device.clone());
        let seen = machine.launch(&bad, &entry(2, Kind::Command)).await;
        assert!(matches!(seen, DirectSeen::NeverStarted(_)), "{word:?}: {seen:?}");
    }
}

#[tokio::test]
async fn verify_runs_its_own_command() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let hosts = Hosts::new();
    let machine = Machine::of(&hosts, &sshd);
    let mut plan = plan(&["false"]);
    let command = ["sh", "-c", "exit 100"].map(str::to_owned).to_vec();
    plan.verify = Some(Verify { command, timeout: LIMIT });
    let entry = entry(0, Kind::Verify);
    machine.launch(&plan, &entry).await;
    assert!(matches!(machine.end(&plan, &entry).await, DirectSeen::Exited(e) if e.code() == 100));
}

/// Takes all output from here on, and looks at each byte.
async fn only_zeros(machine: &Machine, entry: &Entry, from: u64) -> u64 {
    let mut offset = from;
    loop {
        let chunk = machine.host.read(entry, Stream::Stdout, offset, 1 << 20).await.unwrap();
        assert_eq!(chunk.offset, offset, "nothing is missing");
        assert!(!chunk.truncated && chunk.bytes.iter().all(|byte| *byte == 0));
        offset += chunk.bytes.len() as u64;
        if chunk.bytes.is_empty() {
            return offset;
        }
    }
}

/// Guards against output that is thrown away because nobody reads it yet.
#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_flood_is_lost_and_others_go_on() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let spools = Spools::in_directory(sshd.directory(), 1 << 30);
    let hosts = Hosts::new().spooling(spools.clone());
    let machine = Machine::of(&hosts, &sshd);
    let flood = plan(&["head", "-c", "100000000", "/dev/zero"]);
    let first = entry(1, Kind::Command);
    let began = Instant::now();
    machine.launch(&flood, &first).await;
    let beside = machine.run(&plan(&["echo", "beside"]), 2, Material::default()).await;
    assert_eq!((beside.0, beside.1.as_str()), (0, "beside\n"));
    let DirectSeen::Exited(exit) = machine.end(&flood, &first).await else { panic!() };
    assert_eq!(exit.code(), 0);
    println!("100 MB in {:?}", began.elapsed());
    assert_eq!(sshd.sessions().len(), 1, "over one connection");
    assert_eq!(only_zeros(&machine, &first, 0).await, 100_000_000);
    assert_eq!(only_zeros(&machine, &first, 77_777_777).await, 100_000_000);

    machine.host.release(&first, Stream::Stdout, 90_000_000);
    assert!(spools.used() < 40_000_000, "{}", spools.used());
    assert_eq!(only_zeros(&machine, &first, 90_000_000).await, 100_000_000);
    let left = std::fs::read_dir(sshd.directory()).unwrap();
    let nameless =
        left.flatten().all(|file| !file.file_name().to_string_lossy().starts_with(".tmp"));
    assert!(nameless, "what waits on disk has no name");
    assert!(matches!(machine.act(&flood, sweep()).await, Seen::Swept { .. }));
    assert_eq!(spools.used(), 0, "the sweep gives it back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_on_disk_is_told_as_cut_off_and_ends_nothing() {
    let sshd = Sshd::start(Options::default()).unwrap();
    for (spools, least) in [
        (Spools::in_directory(sshd.directory(), 8_000_000), 3_000_000),
        (Spools::in_directory("/proc/nowhere", 1 << 30), 0),
    ] {
        let hosts = Hosts::new().spooling(spools);
        let machine = Machine::of(&hosts, &sshd);
        let flood = plan(&["head", "-c", "20000000", "/dev/zero"]);
        let first = entry(1, Kind::Command);
        machine.launch(&flood, &first).await;
        assert!(
            matches!(machine.end(&flood, &first).await, DirectSeen::Exited(e) if e.code() == 0)
        );
        let end = machine.host.read(&first, Stream::Stdout, u64::MAX, 1).await.unwrap();
        assert!(end.truncated && (least..=4_000_000).contains(&end.offset), "{}", end.offset);
        let beside = machine.run(&plan(&["echo", "beside"]), 2, Material::default()).await;
        assert_eq!((beside.0, beside.1.as_str()), (0, "beside\n"));
    }
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_starts_nothing() {
    let hosts = Hosts::new();
    let way = Way::to_port(1, "nobody").trusting("x").connection();
    let host = hosts.host("default", &way, Secrets::with_key("x"));
    let plan = plan(&["true"]);
    let prepare = Action::Prepare { entry: entry(1, Kind::Command) };
    let seen = host.act(&plan, &Saved::for_test(prepare), None).await;
    let Seen::Unreachable(fault) = seen else { panic!("{seen:?}") };
    assert_eq!(fault.cause, Standing::CredentialsInvalid.into());

    let sshd = Sshd::start(Options::default()).unwrap();
    let machine = Machine::of(&hosts, &sshd);
    sshd.stop();
    let seen = machine.act(&plan, Action::Prepare { entry: entry(1, Kind::Command) }).await;
    let Seen::Unreachable(fault) = seen else { panic!("{seen:?}") };
    assert_eq!(fault.cause, Transient::ConnectionRefused.into());
    let seen = machine.launch(&plan, &entry(1, Kind::Command)).await;
    assert!(matches!(seen, DirectSeen::NeverStarted(_)), "{seen:?}");
}

/// The recorded way over the same connections: prepared, launched, and its record read.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_commands_share_one_connection_too() {
    let sshd = Sshd::start(Options::default()).unwrap();
    let hosts = Hosts::new();
    let host = Machine::of(&hosts, &sshd).host;
    let began = Instant::now();
    let lanes = (0..8).map(|lane| {
        let host = host.as_ref();
        async move {
            for attempt in 1..=5 {
                let mut plan = plan(&["sh", "-c", "echo hello; exit 3"]);
                plan.execution = Execution::Recorded;
                plan.uid = format!("uid-{lane}");
                recorded(host, &plan, attempt).await;
            }
        }
    });
    futures::future::join_all(lanes).await;
    println!("{:.0} recorded per second", 40.0 / began.elapsed().as_secs_f64());
    assert_eq!(sshd.sessions().len(), 1);
}

async fn recorded(host: &dyn Host, plan: &Plan, attempt: i32) {
    let act = async |action| host.act(plan, &Saved::for_test(action), None).await;
    let mut entry = Entry { uid: plan.uid.clone(), ..entry(attempt, Kind::Command) };
    let seen = act(Action::Prepare { entry: entry.clone() }).await;
    let Seen::Prepared { identity, .. } = seen else { panic!("{seen:?}") };
    entry.machine = identity.machine;
    let latest_uptime_ms = identity.uptime_ms + 600_000;
    let expect = Expect { boot: identity.boot, store: identity.store, latest_uptime_ms };
    let launch = Action::Launch { entry: entry.clone(), expect };
    host.act(plan, &Saved::for_test(launch), Some(Material::default())).await;
    // The record of the exit does not wait for the end of the output.
    let code = async || match act(Action::Probe { entry: entry.clone() }).await {
        Seen::Host { record, .. } => match &record.entry {
            EntrySeen::Claimed(Claimed { exit: Some(exit), .. }) => {
                record.output.stdout.ended.then_some(exit.code())
            }
            _ => None,
        },
        other => panic!("{other:?}"),
    };
    until(LIMIT, "it ends", async || code().await == Some(3)).await.unwrap();
    let chunk = host.read(&entry, Stream::Stdout, 0, 100).await.unwrap();
    assert_eq!(chunk.bytes, b"hello\n");
}
