//! The end as it was, life as it is, and "not yet" or "cannot tell" wherever that is the truth.

use std::fs;
use std::time::Duration;

use remote_command::core::action::{Action, Kind, Seen, StopReason};
use remote_command::core::plan::Verify;
use remote_command::core::record::{EntrySeen, Life, StartFailure, Tree};
use remote_command::host::Stream;

use crate::rig::{LIMIT, Mounted, Rig, Sh, claim_of, claimed, exit_of, is_alive, record};
use crate::stop::{LATER, started};
use crate::support::processes::{Identity, Signal};
use crate::support::until;
use crate::under_every_shell;

under_every_shell! {
    exit_codes_and_signals_are_told_as_they_were
    a_program_that_cannot_be_started_is_told_apart_from_one_that_failed
    a_working_directory_that_is_not_there_is_told_apart_from_a_failure
    a_torn_exit_record_reads_as_not_yet
    a_command_whose_supervisor_holds_the_code_is_finishing
    a_full_disk_before_the_launch_is_refused_before_anything_starts
    a_disk_that_fills_up_loses_neither_the_end_nor_the_reason_for_stopping
    a_killed_supervisor_leaves_a_loss_and_no_verdict
    the_command_outlives_its_helper_shell_and_its_operator
    a_command_can_trap_the_interrupt_signal
    a_check_runs_beside_its_attempt_with_its_own_limit
    in_another_boot_nobody_of_the_record_lives
    a_disk_without_room_for_another_file_makes_no_record_lie
    a_host_without_procfs_cannot_tell
    a_host_without_procfs_still_keeps_the_deadline
    a_host_whose_setsid_cannot_fork_gives_each_command_a_channel_of_its_own
    a_host_without_setsid_runs_and_stops_commands
    a_grep_that_stops_at_a_nul_does_no_harm
}

async fn exit_codes_and_signals_are_told_as_they_were(sh: Sh) {
    let rig = Rig::new(sh);
    let table = [
        ("exit 0", 0, None),
        ("exit 1", 1, None),
        ("exit 126", 126, None),
        ("exit 127", 127, None),
        ("exit 255", 255, None),
        ("kill -TERM $$", 143, Some("TERM")),
        ("kill -KILL $$", 137, Some("KILL")),
        ("kill -INT $$", 130, Some("INT")),
        ("kill -SEGV $$", 139, Some("SEGV")),
    ];
    for (script, code, signal) in table {
        let mut attempt = rig.command(&["/bin/dash", "-c", script]);
        attempt.launch().await;
        let exit = attempt.finished().await;
        assert_eq!((exit.code(), exit.signal()), (code, signal), "{script}");
        assert_eq!(exit.start_failure(), StartFailure::None);
        assert!(exit.ended_uptime_ms().unwrap() > 0);
        let claim = claim_of(&attempt.probe().await);
        assert!(claim.claimed_uptime_ms <= exit.ended_uptime_ms().unwrap());
        assert_eq!(claim.command, Life::Gone);
    }
}

async fn a_program_that_cannot_be_started_is_told_apart_from_one_that_failed(sh: Sh) {
    let rig = Rig::new(sh);
    let plain = rig.place.join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let table = [
        ("/nowhere/program", 127, StartFailure::CommandNotFound),
        ("no-such-program-anywhere", 127, StartFailure::CommandNotFound),
        ("cd", 127, StartFailure::CommandNotFound),
        ("", 127, StartFailure::CommandNotFound),
        (plain.to_str().unwrap(), 126, StartFailure::PermissionDenied),
        ("/tmp", 126, StartFailure::PermissionDenied),
        ("true", 0, StartFailure::None),
    ];
    for (program, code, failure) in table {
        let mut attempt = rig.command(&[program]);
        if program == "cd" {
            attempt = attempt.env("PATH", "/nowhere:");
        }
        attempt.launch().await;
        let exit = attempt.finished().await;
        assert_eq!((exit.code(), exit.start_failure()), (code, failure), "{program:?}");
        let err = attempt.output(Stream::Stderr).await;
        assert_eq!(err.is_empty(), failure == StartFailure::None, "{program:?}");
    }
}

async fn a_working_directory_that_is_not_there_is_told_apart_from_a_failure(sh: Sh) {
    let rig = Rig::new(sh);
    let table = [
        ("/nowhere", "/nowhere cannot be found"),
        ("nowhere", "./nowhere cannot be found"),
        ("/etc/passwd", "/etc/passwd is not a directory"),
    ];
    for (directory, flaw) in table {
        let mut attempt = rig.command(&["/bin/true"]);
        attempt.plan.program.working_directory = Some(directory.into());
        attempt.launch().await;
        let exit = attempt.finished().await;
        assert_eq!((exit.code(), exit.start_failure()), (127, StartFailure::CommandNotFound));
        let err = String::from_utf8(attempt.output(Stream::Stderr).await).unwrap();
        assert_eq!(err, format!("remote-command: working directory {flaw}\n"));
    }
}

async fn a_torn_exit_record_reads_as_not_yet(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/sh", "-c", "exit 3"]);
    attempt.launch().await;
    attempt.finished().await;
    let file = attempt.directory(&rig).join("exit");
    let whole = fs::read_to_string(&file).unwrap();
    for cut in [0, 1, 20, 33, 40, 50, 80] {
        let torn = format!("{}{}", &whole[..cut], " ".repeat(whole.len() - cut));
        fs::write(&file, torn).unwrap();
        assert_eq!(exit_of(&attempt.probe().await), None, "cut at {cut}");
    }
    fs::write(&file, whole.replacen(" 3 ", " 4 ", 1)).unwrap();
    assert_eq!(exit_of(&attempt.probe().await), None);
    fs::write(&file, whole).unwrap();
    assert_eq!(exit_of(&attempt.probe().await).unwrap().code(), 3);
}

async fn a_command_whose_supervisor_holds_the_code_is_finishing(sh: Sh) {
    let rig = Rig::new(sh);
    let go = rig.place.join("go");
    let text = "until [ -e $0 ]; do sleep 0.1; done; exit 6";
    let mut attempt = rig.command(&["/bin/sh", "-c", text, go.to_str().unwrap()]);
    attempt.launch().await;
    let file = attempt.directory(&rig).join("exit");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fs::write(go, "").unwrap();
    let record = attempt.until("finishing", |record| claim_of(record).command == Life::Gone).await;
    let claim = claim_of(&record);
    assert_eq!((claim.supervisor, claim.exit), (Life::Alive, None));
    // A stop finds nothing to stop, and does not end the supervisor.
    attempt.terminate(StopReason::Cancelled).await;
    assert_eq!(claim_of(&attempt.probe().await).supervisor, Life::Alive);
    fs::remove_dir(&file).unwrap();
    fs::write(&file, " ".repeat(256)).unwrap();
    assert_eq!(attempt.finished().await.code(), 6);
}

async fn a_full_disk_before_the_launch_is_refused_before_anything_starts(sh: Sh) {
    let disk = Mounted::small_disk(sh).await;
    let mut first = disk.rig.command(&["/bin/true"]);
    first.prepare().await;
    disk.fill();
    let second = disk.rig.command(&["/bin/true"]);
    let seen = second.act(Action::Prepare { entry: second.entry.clone() }).await;
    let Seen::Unreachable(fault) = seen else { panic!("{seen:?}") };
    assert_eq!(fault.reason(), "HostUnusable", "{fault:?}");
    let seen = first.act(first.launch_action()).await;
    assert!(matches!(seen, Seen::Refused { .. }), "{seen:?}");
    disk.free();
    assert_eq!(claimed(first.act(first.launch_action()).await).stop, None);
    assert_eq!(first.finished().await.code(), 0);
}

async fn a_disk_that_fills_up_loses_neither_the_end_nor_the_reason_for_stopping(sh: Sh) {
    let disk = Mounted::small_disk(sh).await;
    let text =
        "trap 'exit 5' TERM; echo ready; i=0; while [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done";
    let mut stopped = disk.rig.command(&["/bin/dash", "-c", text]);
    stopped.launch().await;
    // While there is still room for it.
    stopped.until("ready", |record| record.output.stdout.bytes > 0).await;
    let text = "head -c 1000000 /dev/zero; exit 8";
    let mut full = disk.rig.command(&["/bin/dash", "-c", text]);
    full.launch().await;
    assert_eq!(full.finished().await.code(), 8);
    let output = full.probe().await.output.stdout;
    assert!(output.truncated && output.bytes < 128 * 1024, "{output:?}");
    disk.fill();
    stopped.terminate(StopReason::Cancelled).await;
    let record = stopped.until("the end", |record| exit_of(record).is_some()).await;
    let claim = claim_of(&record);
    assert_eq!((claim.exit.unwrap().code(), claim.stop), (5, Some(StopReason::Cancelled)));
}

async fn a_killed_supervisor_leaves_a_loss_and_no_verdict(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/sleep", "300"]);
    let processes = attempt.launch().await.processes;
    for process in [&processes.supervisor, &processes.command] {
        let process = Identity::of(process.pid).unwrap();
        process.signal(Signal::KILL);
        until(LIMIT, "killed", async || !process.is_alive()).await.unwrap();
    }
    let record = attempt.probe().await;
    let claim = claim_of(&record);
    assert_eq!((claim.supervisor, claim.command), (Life::Gone, Life::Gone));
    assert_eq!((claim.exit, claim.stop), (None, None));
    let again = claim_of(&attempt.kill(StopReason::Fenced, None).await);
    assert_eq!(again.stop, Some(StopReason::Fenced));
}

async fn the_command_outlives_its_helper_shell_and_its_operator(sh: Sh) {
    let rig = Rig::new(sh);
    let go = rig.place.join("go");
    let text = "until [ -e $0 ]; do sleep 0.1; done; echo here; exit 2";
    let mut attempt = rig.command(&["/bin/sh", "-c", text, go.to_str().unwrap()]);
    let processes = attempt.launch().await.processes;
    let mut later = rig.attempt(attempt.plan.clone());
    later.entry = attempt.entry.clone();
    drop(attempt);
    for process in rig.processes() {
        let children = crate::support::processes::children(process.pid);
        // Helper shells read; whatever belongs to the command is below its first process.
        if children.is_empty()
            && fs::read_to_string(format!("/proc/{}/comm", process.pid)).is_ok_and(|c| c == "sh\n")
        {
            let environ =
                fs::read_to_string(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
            if !environ.contains("REMOTE_COMMAND") {
                process.signal(Signal::KILL);
            }
        }
    }
    assert!(is_alive(processes.command.pid) && is_alive(processes.supervisor.pid));
    fs::write(go, "").unwrap();
    assert_eq!(later.finished().await.code(), 2);
    assert_eq!(later.output(Stream::Stdout).await, b"here\n");
}

async fn a_command_can_trap_the_interrupt_signal(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "trap 'echo trapped; exit 4' INT; trap 'exit 6' QUIT; kill -INT $$; sleep 1; exit 1";
    let (code, out, _) = rig.script(text).run().await;
    assert_eq!((code, out.as_slice()), (4, &b"trapped\n"[..]));
}

async fn a_check_runs_beside_its_attempt_with_its_own_limit(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.script("exit 9");
    let command = ["/bin/sh", "-c", "exit 100"].map(str::to_owned).to_vec();
    attempt.plan.verify = Some(Verify { command, timeout: Duration::from_secs(5) });
    attempt.launch().await;
    assert_eq!(attempt.finished().await.code(), 9);
    attempt.entry.kind = Kind::Verify;
    attempt.launch().await;
    assert_eq!(attempt.finished().await.code(), 100);
    let command = ["/bin/sleep", "300"].map(str::to_owned).to_vec();
    attempt.plan.verify = Some(Verify { command, timeout: LATER });
    attempt.entry.attempt = 2;
    attempt.launch().await;
    assert_eq!(attempt.finished().await.signal(), Some("TERM"));
    assert_eq!(claim_of(&attempt.probe().await).stop, Some(StopReason::ExecutionTimeout));
}

async fn in_another_boot_nobody_of_the_record_lives(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/sleep", "300"]);
    let claim = attempt.launch().await;
    let file = attempt.directory(&rig).join("claim");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(&claim.processes.boot, "another:1:2")).unwrap();
    let record = attempt.probe().await;
    let now = claim_of(&record);
    assert_eq!((now.supervisor, now.command, now.exit), (Life::Gone, Life::Gone, None));
    assert_eq!(now.processes.boot, "another:1:2");
    assert_ne!(record.boot, now.processes.boot);
    assert!(is_alive(claim.processes.command.pid));
}

async fn a_disk_without_room_for_another_file_makes_no_record_lie(sh: Sh) {
    let mounts = "mount -t tmpfs -o size=4m,nr_inodes=60,mode=700 none $1/state";
    let disk = Mounted::new(sh, mounts).await;
    for free in 0..7 {
        let ran = disk.rig.place.join(&format!("ran{free}"));
        let text = "echo ran >$0; exit 5";
        let mut attempt = disk.rig.command(&["/bin/sh", "-c", text, ran.to_str().unwrap()]);
        attempt.prepare().await;
        disk.run(&format!(
            "i=0; while true >$1/full$i; do i=$((i + 1)); done 2>/dev/null; \
             n=0; while [ $n -lt {free} ]; do rm $1/full$n; n=$((n + 1)); done"
        ));
        attempt.act(attempt.launch_action()).await;
        let record = attempt.probe().await;
        if matches!(record.entry, EntrySeen::Claimed(_)) {
            let exit = attempt.until("the end", |record| exit_of(record).is_some()).await;
            let exit = exit_of(&exit).unwrap();
            assert_eq!((exit.code(), exit.start_failure()), (5, StartFailure::None), "{free} free");
            assert!(ran.exists(), "{free} free");
        } else {
            assert!(!ran.exists(), "{free} free: {record:?}");
        }
        attempt.sweep().await;
        disk.run("rm -f $1/full*");
    }
}

async fn a_host_without_procfs_cannot_tell(sh: Sh) {
    let mut rig = Rig::new(sh);
    rig.account.procfs = "/nowhere".into();
    let go = rig.place.join("go");
    let text = "until [ -e $0 ]; do sleep 0.1; done; exit 2";
    let mut attempt = rig.command(&["/bin/sh", "-c", text, go.to_str().unwrap()]);
    let identity = attempt.prepare().await.clone();
    assert_eq!((identity.can_tell, identity.boot.as_str(), identity.uptime_ms), (false, "", 0));
    let seen = record(attempt.act(attempt.launch_action()).await);
    let claim = claim_of(&seen);
    assert_eq!((claim.supervisor, claim.command), (Life::CannotTell, Life::CannotTell));
    assert!(is_alive(claim.processes.command.pid));
    let record = attempt.kill(StopReason::Fenced, Some(claim.processes)).await;
    assert_eq!(record.tree, Tree::CannotTell);
    fs::write(go, "").unwrap();
    let exit = attempt.finished().await;
    assert_eq!((exit.code(), exit.ended_uptime_ms()), (2, None));
}

async fn a_host_without_procfs_still_keeps_the_deadline(sh: Sh) {
    let mut rig = Rig::new(sh);
    rig.account.procfs = "/nowhere".into();
    let mut attempt = rig.script("sleep 300; sleep 300");
    attempt.plan.limits.execution = LATER;
    attempt.plan.limits.termination = LATER;
    attempt.launch().await;
    assert_eq!(attempt.finished().await.signal(), Some("TERM"));
    assert_eq!(claim_of(&attempt.probe().await).stop, Some(StopReason::ExecutionTimeout));
}

async fn a_host_whose_setsid_cannot_fork_gives_each_command_a_channel_of_its_own(sh: Sh) {
    let rig = Rig::new(sh);
    rig.program("setsid", "#!/bin/dash\n[ \"$1\" != -f ] && exec /usr/bin/setsid \"$@\"\n");
    let go = rig.place.join("go");
    let text = "until [ -e $0 ]; do sleep 0.1; done; cat; exit 3";
    let mut attempt = rig.command(&["/bin/sh", "-c", text, go.to_str().unwrap()]);
    attempt.plan.program.stdin = Some(remote_command::core::plan::Value::Literal("input\n".into()));
    let claim = attempt.launch().await;
    assert_eq!(claim.command, Life::Alive);
    let mut later = rig.attempt(attempt.plan.clone());
    (later.entry, later.identity) = (attempt.entry.clone(), attempt.identity.clone());
    let again = claimed(later.act(later.launch_action()).await);
    assert_eq!(again.processes, claim.processes);
    drop(attempt);
    fs::write(go, "").unwrap();
    assert_eq!(later.finished().await.code(), 3);
    assert_eq!(later.output(Stream::Stdout).await, b"input\n");
    let text = "trap '' TERM; echo $$ >>$PIDS; setsid sleep 300 & sleep 300; sleep 300";
    let (stopped, _) = started(&rig, text, 1).await;
    stopped.terminate(StopReason::Cancelled).await;
    assert_eq!(stopped.kill(StopReason::Cancelled, None).await.tree, Tree::Empty);
    assert_eq!(stopped.finished().await.signal(), Some("KILL"));
}

/// Guards against a setsid that is taken for missing, because it has no path.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_that_brings_all_its_tools_needs_no_file_of_them() {
    let mut rig = Rig::new(Sh::BusyboxStatic);
    for file in fs::read_dir(rig.place.join("bin")).unwrap().flatten() {
        if file.file_name() != "sh" && file.file_name() != "busybox" {
            fs::remove_file(file.path()).unwrap();
        }
    }
    let bin = rig.place.join("bin").display().to_string();
    rig.transport = std::sync::Arc::new(Rig::local(&rig.place).env("PATH", &bin));
    let text = "env -i PIDS=$PIDS RIG=$RIG sh -c 'echo $$ >>$PIDS; exec sleep 300' & \
                echo $$ >>$PIDS; wait";
    let (attempt, pids) = started(&rig, text, 2).await;
    let claim = claim_of(&attempt.probe().await);
    let session = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().to_owned()
    };
    let command = claim.processes.command.pid;
    assert_eq!(session(command), command.to_string(), "a session of its own");
    assert_eq!(attempt.kill(StopReason::Cancelled, None).await.tree, Tree::Empty);
    assert!(pids.into_iter().all(|pid| !is_alive(pid)));
}

async fn a_host_without_setsid_runs_and_stops_commands(sh: Sh) {
    let mut rig = Rig::new(sh);
    let tools = "cat dd find grep ln ls mkdir mkfifo rm sleep wc id uname rmdir";
    for tool in tools.split(' ') {
        if !sh.is_busybox() {
            let real = crate::support::programs::debian(tool, "coreutils").unwrap();
            std::os::unix::fs::symlink(real, rig.place.join("bin").join(tool)).unwrap();
        }
    }
    let _ = fs::remove_file(rig.place.join("bin/setsid"));
    let bin = rig.place.join("bin").display().to_string();
    rig.transport = std::sync::Arc::new(Rig::local(&rig.place).env("PATH", &bin));
    let (code, out, _) = rig.script("echo here; exit 3").run().await;
    assert_eq!((code, out.as_slice()), (3, &b"here\n"[..]));
    let text = "trap '' TERM; echo $$ >>$PIDS; sleep 300 & sleep 300; sleep 300";
    let (stopped, _) = started(&rig, text, 1).await;
    stopped.terminate(StopReason::Cancelled).await;
    assert_eq!(stopped.kill(StopReason::Cancelled, None).await.tree, Tree::Empty);
    assert_eq!(stopped.finished().await.signal(), Some("KILL"));
}

async fn a_grep_that_stops_at_a_nul_does_no_harm(sh: Sh) {
    let rig = Rig::new(sh);
    rig.program("grep", "#!/bin/dash\nexit 1\n");
    let mut attempt = rig.script("(setsid sleep 300 &) ; exec sleep 300");
    let claim = attempt.launch().await;
    fs::remove_dir_all(attempt.directory(&rig)).unwrap();
    let record = attempt.kill(StopReason::Fenced, None).await;
    assert_eq!((record.entry, record.tree), (EntrySeen::Wiped, Tree::Empty));
    assert!(!is_alive(claim.processes.command.pid));
}
