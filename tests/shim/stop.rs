//! Stop means stopped: how far it reaches, what it leaves alone, and that it needs nobody.

use std::fs;
use std::path::Path;
use std::time::Duration;

use remote_command::core::action::{Action, Seen, StopReason};
use remote_command::core::plan::Value;
use remote_command::core::record::{EntrySeen, Life, Tree};

use crate::rig::{Attempt, LIMIT, Mounted, Rig, Sh, alive, claim_of, exit_of, is_alive, text_of};
use crate::support::processes::{self, Identity, Signal};
use crate::support::until;
use crate::under_every_shell;

under_every_shell! {
    a_stop_reaches_children_in_new_sessions_and_those_that_ignore_term
    a_stop_reaches_children_without_the_marker_and_children_without_a_parent
    a_stop_leaves_other_runs_and_the_helper_shell_alone
    a_stop_reaches_whoever_stayed_in_the_session_when_the_command_ended
    a_stopped_command_hears_term_too
    the_first_reason_stays
    an_end_before_the_stop_wins_and_nothing_is_killed
    what_a_finished_command_left_running_lives_on_and_is_named
    a_stop_that_comes_after_the_sweep_ends_nothing
    a_sleep_that_somebody_ended_brings_the_deadline_no_nearer
    the_deadline_outlives_the_record
    the_deadline_outlives_the_supervisor
    a_stop_with_another_token_ends_nothing
    nothing_is_signalled_before_the_reason_is_written
    the_deadline_is_kept_with_nobody_there
    the_grace_after_terminate_is_kept_with_nobody_there
    the_watch_for_the_deadline_ends_with_the_command
    a_wiped_entry_is_searched_for_by_its_marker
    a_wiped_entry_is_searched_for_by_its_saved_processes
    saved_processes_of_another_boot_are_nobody
    a_pid_that_was_given_to_another_process_is_not_the_command
    a_tree_is_stopped_although_its_supervisor_was_killed
    a_supervisor_that_is_told_to_end_stays_for_the_record
    a_child_that_was_told_to_ignore_signals_cannot_end_its_supervisor
}

/// Starts the script and waits for the pids that it writes, one a line, to $PIDS.
pub async fn started(rig: &Rig, text: &str, count: usize) -> (Attempt, Vec<u32>) {
    let file = rig.place.join(&format!("pids{:08x}", rand::random::<u32>()));
    let mut attempt = rig.script(text).env("PIDS", file.to_str().unwrap());
    attempt.plan.limits.termination = Duration::from_secs(1);
    attempt.launch().await;
    let pids = pids_in(&file, count).await;
    (attempt, pids)
}

/// Waits for so many pids, one a line, in `file`.
pub async fn pids_in(file: &Path, count: usize) -> Vec<u32> {
    let mut pids = Vec::new();
    until(LIMIT, "the pids", async || {
        let text = fs::read_to_string(file).unwrap_or_default();
        pids = text.lines().map_while(|line| line.parse().ok()).collect();
        pids.len() == count
    })
    .await
    .unwrap();
    pids
}

/// Waits until the process has become the program of this name.
pub async fn named(pid: u32, name: &str) {
    until(LIMIT, "its own name", async || processes::name(pid) == name).await.unwrap();
}

pub async fn gone(pid: u32) {
    until(LIMIT, "a process gone", async || !is_alive(pid)).await.unwrap();
}

/// A deadline that comes after a command has begun, on a slow machine too.
pub const LATER: Duration = Duration::from_secs(5);

pub const STUBBORN: &str = "setsid sh -c 'echo $$ >>$PIDS; exec sleep 300' &\n\
     sh -c 'trap \"\" TERM; echo $$ >>$PIDS; while :; do sleep 1; done' &\n\
     echo $$ >>$PIDS\nwait\n";

async fn a_stop_reaches_children_in_new_sessions_and_those_that_ignore_term(sh: Sh) {
    let rig = Rig::new(sh);
    let (mut attempt, pids) = started(&rig, STUBBORN, 3).await;
    // Long enough for the grace not to end by itself.
    attempt.plan.limits.termination = Duration::from_secs(300);
    let record = attempt.terminate(StopReason::Cancelled).await;
    assert_eq!(claim_of(&record).stop, Some(StopReason::Cancelled));
    let record = attempt
        .until("the exit, and who ignores TERM", |record| {
            exit_of(record).is_some() && matches!(record.tree, Tree::Alive(_))
        })
        .await;
    // Another survivor is its `sleep 1`, which comes and goes.
    let survivors = alive(&record);
    let stubborn = |pid: &u32| survivors.contains(pid) && is_alive(*pid);
    assert!(pids.iter().any(stubborn), "{survivors:?} of {pids:?}");
    let record = attempt.kill(StopReason::Cancelled, None).await;
    assert_eq!(record.tree, Tree::Empty);
    let exit = attempt.finished().await;
    assert_eq!((exit.code(), exit.signal()), (143, Some("TERM")));
    let record = attempt.probe().await;
    assert_eq!((claim_of(&record).stop, record.tree), (Some(StopReason::Cancelled), Tree::Empty));
    for pid in pids {
        assert!(!is_alive(pid), "{pid}");
    }
}

async fn a_stop_reaches_children_without_the_marker_and_children_without_a_parent(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "env -i PIDS=$PIDS RIG=$RIG /bin/sh -c 'echo $$ >>$PIDS; exec sleep 300' &\n\
                (sh -c 'echo $$ >>$PIDS; exec sleep 300' &)\n\
                (env -i RIG=$RIG sleep 300 & echo $! >>$PIDS)\n\
                env -i RIG=$RIG PIDS=$PIDS setsid sh -c 'echo $$ >>$PIDS; exec sleep 300' &\n\
                wait\n";
    let (attempt, pids) = started(&rig, text, 4).await;
    assert_eq!(attempt.kill(StopReason::Deleted, None).await.tree, Tree::Empty);
    for pid in pids {
        assert!(!is_alive(pid), "{pid}");
    }
}

async fn a_stop_reaches_whoever_stayed_in_the_session_when_the_command_ended(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "env -i RIG=$RIG PIDS=$PIDS \
                sh -c 'trap \"\" TERM; echo $$ >>$PIDS; while :; do sleep 1; done' &\nwait\n";
    let (mut attempt, pids) = started(&rig, text, 1).await;
    attempt.plan.limits.termination = Duration::from_secs(300);
    attempt.terminate(StopReason::Cancelled).await;
    let record = attempt.until("the end", |record| exit_of(record).is_some()).await;
    until(LIMIT, "the supervisor gone", async || {
        claim_of(&attempt.probe().await).supervisor == Life::Gone
    })
    .await
    .unwrap();
    assert!(alive(&attempt.probe().await).contains(&pids[0]), "{record:?}");
    assert_eq!(attempt.kill(StopReason::Cancelled, None).await.tree, Tree::Empty);
    assert!(!is_alive(pids[0]));
}

async fn a_stop_leaves_other_runs_and_the_helper_shell_alone(sh: Sh) {
    let rig = Rig::new(sh);
    let (other, pids) = started(&rig, "echo $$ >>$PIDS; sleep 300", 1).await;
    let (mut attempt, _) = started(&rig, STUBBORN, 3).await;
    attempt.host = remote_command::host::recorded::Recorded::new(rig.shells());
    attempt.terminate(StopReason::Cancelled).await;
    assert_eq!(attempt.kill(StopReason::Cancelled, None).await.tree, Tree::Empty);
    assert!(is_alive(pids[0]));
    let claim = claim_of(&other.probe().await);
    assert_eq!((claim.supervisor, claim.command, claim.stop), (Life::Alive, Life::Alive, None));
    attempt.finished().await;
}

async fn a_stopped_command_hears_term_too(sh: Sh) {
    let rig = Rig::new(sh);
    let (mut attempt, pids) = started(&rig, "echo $$ >>$PIDS; exec sleep 300", 1).await;
    attempt.plan.limits.termination = Duration::from_secs(300);
    Identity::of(pids[0]).unwrap().signal(Signal::STOP);
    attempt.terminate(StopReason::IdleTimeout).await;
    assert_eq!(attempt.finished().await.signal(), Some("TERM"));
}

async fn the_first_reason_stays(sh: Sh) {
    let rig = Rig::new(sh);
    let (attempt, _) =
        started(&rig, "trap '' TERM; echo $$ >>$PIDS; sleep 300; sleep 300", 1).await;
    attempt.terminate(StopReason::IdleTimeout).await;
    let record = attempt.kill(StopReason::Cancelled, None).await;
    assert_eq!(claim_of(&record).stop, Some(StopReason::IdleTimeout));
    assert_eq!(attempt.finished().await.signal(), Some("KILL"));
    let claim = claim_of(&attempt.kill(StopReason::Deleted, None).await);
    assert_eq!(claim.stop, Some(StopReason::IdleTimeout));
}

async fn an_end_before_the_stop_wins_and_nothing_is_killed(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "setsid sleep 300 & echo $! >>$PIDS; exit 5";
    let (attempt, pids) = started(&rig, text, 1).await;
    attempt.until("the end", |record| exit_of(record).is_some()).await;
    for reason in [StopReason::Cancelled, StopReason::Deleted] {
        for record in [attempt.terminate(reason).await, attempt.kill(reason, None).await] {
            let claim = claim_of(&record);
            assert_eq!((claim.stop, claim.exit.unwrap().code()), (None, 5));
            assert_eq!(alive(&record), pids);
        }
    }
    assert!(is_alive(pids[0]));
    assert!(!attempt.directory(&rig).join("stop").exists());
}

async fn what_a_finished_command_left_running_lives_on_and_is_named(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "setsid sleep 300 >/dev/null 2>&1 & echo $! >>$PIDS; exit 0";
    let (attempt, pids) = started(&rig, text, 1).await;
    attempt.finished().await;
    named(pids[0], "sleep").await;
    let record = attempt.probe().await;
    let Tree::Alive(left) = &record.tree else { panic!("{record:?}") };
    assert_eq!((left[0].pid, left[0].command.as_str()), (pids[0], "sleep"));
    attempt.sweep().await;
    assert!(is_alive(pids[0]));
}

async fn a_stop_that_comes_after_the_sweep_ends_nothing(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "setsid sleep 300 >/dev/null 2>&1 & echo $! >>$PIDS; exit 0";
    let (attempt, pids) = started(&rig, text, 1).await;
    attempt.finished().await;
    attempt.sweep().await;
    let record = attempt.terminate(StopReason::Deleted).await;
    assert_eq!((record.entry, record.tree), (EntrySeen::Wiped, Tree::Unsearched));
    attempt.kill(StopReason::Fenced, None).await;
    assert!(is_alive(pids[0]));
}

async fn a_sleep_that_somebody_ended_brings_the_deadline_no_nearer(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.script("read forever <$RIG/never; exit 1");
    let status = std::process::Command::new("mkfifo").arg(rig.place.join("never")).status();
    assert!(status.unwrap().success());
    attempt.plan.limits.execution = Duration::from_secs(60);
    attempt.launch().await;
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    for _ in 0..4 {
        let mut asleep = None;
        until(LIMIT, "the watch sleeps", async || {
            asleep = rig.processes().into_iter().find(|process| name(process.pid) == "sleep\n");
            asleep.is_some()
        })
        .await
        .unwrap();
        let asleep = asleep.unwrap();
        asleep.signal(Signal::KILL);
        gone(asleep.pid).await;
    }
    let claim = claim_of(&attempt.probe().await);
    assert_eq!((claim.watch, claim.command, claim.stop), (Life::Alive, Life::Alive, None));
    attempt.kill(StopReason::Cancelled, None).await;
}

async fn the_deadline_outlives_the_record(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("pids");
    let mut attempt = rig.script(STUBBORN).env("PIDS", file.to_str().unwrap());
    attempt.plan.limits.execution = LATER;
    attempt.plan.limits.termination = Duration::from_secs(1);
    attempt.launch().await;
    let pids = pids_in(&file, 3).await;
    fs::remove_dir_all(rig.store()).unwrap();
    drop(attempt);
    for pid in pids {
        gone(pid).await;
    }
}

async fn the_deadline_outlives_the_supervisor(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("pids");
    let mut attempt = rig.script(STUBBORN).env("PIDS", file.to_str().unwrap());
    attempt.plan.limits.execution = LATER;
    attempt.plan.limits.termination = Duration::from_secs(1);
    let claim = attempt.launch().await;
    let pids = pids_in(&file, 3).await;
    Identity::of(claim.processes.supervisor.pid).unwrap().signal(Signal::KILL);
    for pid in pids {
        gone(pid).await;
    }
    assert_eq!(claim_of(&attempt.probe().await).stop, Some(StopReason::ExecutionTimeout));
}

async fn a_stop_with_another_token_ends_nothing(sh: Sh) {
    let rig = Rig::new(sh);
    let (attempt, pids) = started(&rig, "echo $$ >>$PIDS; sleep 300; sleep 300", 1).await;
    let mut other = rig.attempt(attempt.plan.clone());
    other.entry = attempt.entry.clone();
    other.entry.token = crate::rig::entry().token;
    for record in [
        other.terminate(StopReason::Cancelled).await,
        other.kill(StopReason::Cancelled, None).await,
    ] {
        assert_eq!((record.entry, record.tree), (EntrySeen::Wiped, Tree::Empty));
    }
    let claim = claim_of(&attempt.probe().await);
    assert_eq!((claim.stop, claim.command), (None, Life::Alive));
    assert!(is_alive(pids[0]));
}

async fn nothing_is_signalled_before_the_reason_is_written(sh: Sh) {
    let disk = Mounted::small_disk(sh).await;
    let (attempt, pids) = started(&disk.rig, "echo $$ >>$PIDS; sleep 300; sleep 300", 1).await;
    disk.run("rm -f $1/remote-command/*/*/*/spare");
    disk.fill();
    let (entry, reason) = (attempt.entry.clone(), StopReason::Cancelled);
    let seen = attempt.act(Action::Kill { entry, reason, processes: None }).await;
    assert!(matches!(seen, Seen::Unreachable(_)), "{seen:?}");
    assert!(is_alive(pids[0]));
    disk.free();
    attempt.kill(reason, None).await;
    assert!(!is_alive(pids[0]));
}

async fn the_deadline_is_kept_with_nobody_there(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("pids");
    let mut attempt = rig.script(STUBBORN).env("PIDS", file.to_str().unwrap());
    attempt.plan.limits.execution = LATER;
    attempt.plan.limits.termination = Duration::from_secs(1);
    attempt.launch().await;
    let mut later = rig.attempt(attempt.plan.clone());
    later.entry = attempt.entry.clone();
    drop(attempt);
    let pids: Vec<u32> = {
        text_of(&file).await;
        until(LIMIT, "pids", async || fs::read_to_string(&file).unwrap().lines().count() == 3)
            .await
            .unwrap();
        fs::read_to_string(&file).unwrap().lines().map(|line| line.parse().unwrap()).collect()
    };
    for pid in pids {
        gone(pid).await;
    }
    let exit = later.finished().await;
    assert!(matches!(exit.signal(), Some("TERM" | "KILL")), "{exit:?}");
    let record = later.probe().await;
    assert_eq!(claim_of(&record).stop, Some(StopReason::ExecutionTimeout));
    assert_eq!(record.tree, Tree::Empty);
}

async fn the_grace_after_terminate_is_kept_with_nobody_there(sh: Sh) {
    let rig = Rig::new(sh);
    let (attempt, pids) = started(&rig, STUBBORN, 3).await;
    let entry = attempt.entry.clone();
    attempt.terminate(StopReason::Cancelled).await;
    drop(attempt);
    for pid in pids {
        gone(pid).await;
    }
    let mut later = rig.command(&["unused"]);
    later.entry = entry;
    assert_eq!(claim_of(&later.probe().await).stop, Some(StopReason::Cancelled));
}

async fn the_watch_for_the_deadline_ends_with_the_command(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/true"]);
    for _ in 0..20 {
        attempt.entry = crate::rig::entry();
        attempt.launch().await;
        attempt.finished().await;
    }
    drop(attempt);
    until(LIMIT, "nothing left of it", async || rig.processes().is_empty()).await.unwrap();
}

async fn a_wiped_entry_is_searched_for_by_its_marker(sh: Sh) {
    let rig = Rig::new(sh);
    let (attempt, pids) = started(&rig, STUBBORN, 3).await;
    fs::remove_dir_all(attempt.directory(&rig)).unwrap();
    assert_eq!(attempt.probe().await.entry, EntrySeen::Wiped);
    let record = attempt.kill(StopReason::Fenced, None).await;
    assert_eq!((record.entry, record.tree), (EntrySeen::Wiped, Tree::Empty));
    for pid in pids {
        assert!(!is_alive(pid), "{pid}");
    }
}

async fn a_wiped_entry_is_searched_for_by_its_saved_processes(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "exec env -i RIG=$RIG PIDS=$PIDS sh -c 'echo $$ >>$PIDS; sleep 300; sleep 300'";
    let (attempt, pids) = started(&rig, text, 1).await;
    let processes = claim_of(&attempt.probe().await).processes;
    fs::remove_dir_all(rig.store()).unwrap();
    let unknown = attempt.kill(StopReason::Fenced, None).await;
    assert_eq!(unknown.tree, Tree::Empty);
    assert!(is_alive(pids[0]), "nothing pointed at it");
    let record = attempt.kill(StopReason::Fenced, Some(processes)).await;
    assert_eq!(record.tree, Tree::Empty);
    assert!(!is_alive(pids[0]));
}

async fn saved_processes_of_another_boot_are_nobody(sh: Sh) {
    let rig = Rig::new(sh);
    let (attempt, pids) =
        started(&rig, "exec env -i RIG=$RIG PIDS=$PIDS sh -c 'echo $$ >>$PIDS; exec sleep 300'", 1)
            .await;
    let mut processes = claim_of(&attempt.probe().await).processes;
    processes.boot = "another".into();
    fs::remove_dir_all(rig.store()).unwrap();
    attempt.kill(StopReason::Fenced, Some(processes)).await;
    assert!(is_alive(pids[0]));
}

async fn a_pid_that_was_given_to_another_process_is_not_the_command(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "exec env -i RIG=$RIG PIDS=$PIDS sh -c 'echo $$ >>$PIDS; exec sleep 300'";
    let (attempt, pids) = started(&rig, text, 1).await;
    let processes = claim_of(&attempt.probe().await).processes;
    let file = attempt.directory(&rig).join("claim");
    let mut text = fs::read_to_string(&file).unwrap();
    for process in [&processes.supervisor, &processes.command] {
        let now = format!(" {} {} ", process.pid, process.start);
        text = text.replace(&now, &format!(" {} {} ", process.pid, process.start - 1));
    }
    fs::write(&file, text).unwrap();
    let claim = claim_of(&attempt.probe().await);
    assert_eq!((claim.supervisor, claim.command), (Life::Gone, Life::Gone));
    assert_eq!(attempt.kill(StopReason::Fenced, None).await.tree, Tree::Empty);
    assert!(is_alive(pids[0]));
}

async fn a_tree_is_stopped_although_its_supervisor_was_killed(sh: Sh) {
    let rig = Rig::new(sh);
    let (attempt, pids) = started(&rig, STUBBORN, 3).await;
    let claim = claim_of(&attempt.probe().await);
    Identity::of(claim.processes.supervisor.pid).unwrap().signal(Signal::KILL);
    gone(claim.processes.supervisor.pid).await;
    let claim = claim_of(&attempt.probe().await);
    assert_eq!((claim.supervisor, claim.command), (Life::Gone, Life::Alive));
    let record = attempt.kill(StopReason::Cancelled, None).await;
    assert_eq!(record.tree, Tree::Empty);
    let claim = claim_of(&record);
    assert_eq!((claim.exit, claim.stop), (None, Some(StopReason::Cancelled)));
    for pid in pids {
        assert!(!is_alive(pid), "{pid}");
    }
}

async fn a_supervisor_that_is_told_to_end_stays_for_the_record(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "until [ -e $PIDS.go ]; do sleep 0.1; done & echo $$ >>$PIDS; wait; exit 9";
    let (attempt, _) = started(&rig, text, 1).await;
    let supervisor = claim_of(&attempt.probe().await).processes.supervisor.pid;
    let supervisor = Identity::of(supervisor).unwrap();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        supervisor.signal(signal);
    }
    let environ = attempt.plan.program.env.iter().find(|(name, _)| name == "PIDS").unwrap();
    let Value::Literal(pids) = &environ.1 else { panic!("{environ:?}") };
    fs::write(format!("{pids}.go"), "").unwrap();
    assert_eq!(attempt.finished().await.code(), 9);
}

async fn a_child_that_was_told_to_ignore_signals_cannot_end_its_supervisor(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "trap '' TERM INT HUP; kill -TERM 0; kill -INT 0; kill -HUP 0; echo alive; exit 9";
    let mut attempt = rig.script(text);
    let (code, out, _) = attempt.run().await;
    assert_eq!((code, out.as_slice()), (9, &b"alive\n"[..]));
}
