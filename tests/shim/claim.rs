//! At most once: who may start an entry, and who may say that nobody did.

use std::fs;
use std::path::Path;

use futures::future::join_all;
use remote_command::core::action::{Action, Expect, Seen, StopReason};
use remote_command::core::record::{EntrySeen, Tree};
use remote_command::host::Stream;
use tokio::task::JoinHandle;

use crate::rig::{Attempt, LIMIT, Mounted, Rig, Sh, claim_of, claimed, is_alive, record, text_of};
use crate::support::processes::{Identity, Signal, children};
use crate::support::until;

use crate::under_every_shell;

under_every_shell! {
    of_24_launches_of_one_entry_exactly_one_starts
    launches_and_revokes_that_race_agree_on_the_taker
    a_launch_stalled_before_its_claim_loses_to_a_revoke
    a_command_never_hears_that_whoever_launched_it_is_gone
    a_claim_names_the_process_that_became_the_command
    a_launch_is_refused_in_another_boot_or_store_or_too_late
    another_token_is_another_entry
    a_revoke_in_another_boot_or_store_takes_nothing
    a_revoked_claim_of_another_boot_proves_nothing
    a_claim_that_somebody_removed_is_not_an_entry_that_never_started
    an_entry_that_has_ended_never_counts_as_unstarted
    a_revoke_that_can_take_nothing_is_no_answer
    a_launch_that_finds_its_entry_taken_tells_by_whom_and_is_not_refused
    every_verb_may_be_repeated_and_come_late
    a_tombstone_turns_away_every_later_launch
}

fn once(rig: &Rig, file: &Path) -> Attempt {
    rig.command(&["/bin/sh", "-c", "echo started >>$0; sleep 0.3", file.to_str().unwrap()])
}

fn starts(file: &Path) -> usize {
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

/// Another operator that knows the same entry.
fn rival(rig: &Rig, attempt: &Attempt) -> Attempt {
    let mut rival = rig.attempt(attempt.plan.clone());
    rival.entry = attempt.entry.clone();
    rival.identity.clone_from(&attempt.identity);
    rival
}

async fn of_24_launches_of_one_entry_exactly_one_starts(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("starts");
    let mut attempt = once(&rig, &file);
    attempt.prepare().await;
    let rivals: Vec<_> = (0..24).map(|_| rival(&rig, &attempt)).collect();
    let seen = join_all(rivals.iter().map(|rival| rival.act(rival.launch_action()))).await;
    let processes: Vec<_> = seen.into_iter().map(|seen| claimed(seen).processes).collect();
    assert!(processes.iter().all(|p| *p == processes[0]), "{processes:?}");
    assert_eq!(attempt.finished().await.code(), 0);
    assert_eq!(starts(&file), 1);
}

async fn launches_and_revokes_that_race_agree_on_the_taker(sh: Sh) {
    let rig = Rig::new(sh);
    for round in 0..6 {
        let file = rig.place.join(&format!("starts{round}"));
        let mut attempt = once(&rig, &file);
        attempt.prepare().await;
        let rivals: Vec<_> = (0..12).map(|_| rival(&rig, &attempt)).collect();
        let seen = join_all(rivals.iter().enumerate().map(async |(i, rival)| {
            if (i + round) % 2 == 0 {
                record(rival.act(rival.launch_action()).await).entry
            } else {
                rival.revoke().await.entry
            }
        }))
        .await;
        let revoked = seen.iter().filter(|entry| **entry == EntrySeen::Revoked).count();
        assert!(revoked == 0 || revoked == seen.len(), "{seen:?}");
        if revoked == 0 {
            assert_eq!(attempt.finished().await.code(), 0);
        }
        assert_eq!(starts(&file), usize::from(revoked == 0), "{seen:?}");
    }
}

/// For a shell that runs its `ln` itself: one with a function of that name.
const STALLING_SHELL: &str = "#!/bin/dash\n[ \"$1\" = -c ] || exec $RIG/bin/busybox sh \"$@\"\n\
    text=$2; shift 2\nexec $RIG/bin/busybox sh -c 'ln() { case \"$2\" in */claim) \
    if [ -e $RIG/hold ]; then rm $RIG/hold; read -r p rest </proc/self/stat; \
    echo $p >$RIG/stalled; kill -STOP $p; fi ;; esac; command ln \"$@\"; }\n'\"$text\" \"$@\"\n";

/// A claim's `ln` that stops itself just before it would link.
fn stall_the_next_claim(rig: &Rig) {
    let script = "#!/bin/dash\ncase \"$2\" in */claim) if [ -e $RIG/hold ]; then\n\
                  rm $RIG/hold; echo $$ >$RIG/stalled; kill -STOP $$; fi ;; esac\n\
                  exec /bin/ln \"$@\"\n";
    if rig.sh == Sh::BusyboxStatic {
        rig.program("sh", STALLING_SHELL);
    } else {
        rig.program("ln", script);
    }
    fs::write(rig.place.join("hold"), "").unwrap();
}

/// The claim that has stopped itself: before that, a signal to go on would be lost on it.
async fn stalled_claim(rig: &Rig) -> Identity {
    let pid = text_of(&rig.place.join("stalled")).await.trim().parse().unwrap();
    let claim = Identity::of(pid).unwrap();
    until(LIMIT, "the claim stalls", async || claim.is_stopped()).await.unwrap();
    claim
}

async fn a_revoke_that_can_take_nothing_is_no_answer(sh: Sh) {
    let mounts = "mount -t tmpfs -o mode=700 none $1/state";
    let mounted = Mounted::new(sh, mounts).await;
    let mut attempt = mounted.rig.command(&["/bin/true"]);
    attempt.prepare().await;
    mounted.run("mount -o remount,ro $1");
    let Expect { boot, store, .. } = attempt.expect();
    let revoke = Action::Revoke { entry: attempt.entry.clone(), boot, store };
    let seen = attempt.act(revoke).await;
    assert!(matches!(seen, Seen::Unreachable(_)), "{seen:?}");
    mounted.run("mount -o remount,rw $1");
    assert_eq!(attempt.revoke().await.entry, EntrySeen::Revoked);
}

async fn an_entry_that_has_ended_never_counts_as_unstarted(sh: Sh) {
    let rig = Rig::new(sh);
    for extra in [None, Some("stop")] {
        let mut attempt = rig.script("exit 4");
        attempt.launch().await;
        attempt.finished().await;
        let directory = attempt.directory(&rig);
        if let Some(extra) = extra {
            fs::write(directory.join(extra), "").unwrap();
            fs::write(directory.join("exit"), " ".repeat(256)).unwrap();
        }
        for file in fs::read_dir(&directory).unwrap().flatten() {
            if file.file_name() != "exit" && extra.is_none_or(|extra| file.file_name() != extra) {
                fs::remove_file(file.path()).unwrap();
            }
        }
        assert_eq!(attempt.probe().await.entry, EntrySeen::Wiped);
        assert_eq!(attempt.revoke().await.entry, EntrySeen::Wiped);
        assert!(!directory.join("claim").exists());
    }
}

async fn a_launch_that_finds_its_entry_taken_tells_by_whom_and_is_not_refused(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.script("exit 4");
    let processes = attempt.launch().await.processes;
    let Action::Launch { entry, expect } = attempt.launch_action() else { unreachable!() };
    let late = Expect { latest_uptime_ms: 1, ..expect.clone() };
    let elsewhere = Expect { boot: "another".to_owned(), ..expect };
    for expect in [late, elsewhere] {
        let seen = attempt.act(Action::Launch { entry: entry.clone(), expect }).await;
        assert_eq!(claimed(seen).processes, processes);
    }
}

async fn a_launch_stalled_before_its_claim_loses_to_a_revoke(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("starts");
    let mut attempt = once(&rig, &file);
    attempt.prepare().await;
    stall_the_next_claim(&rig);
    let stalled = rival(&rig, &attempt);
    let launch = tokio::spawn(async move { stalled.act(stalled.launch_action()).await });
    let claim = stalled_claim(&rig).await;
    assert_eq!(attempt.probe().await.entry, EntrySeen::Unclaimed);
    assert_eq!(attempt.revoke().await.entry, EntrySeen::Revoked);
    claim.signal(Signal::CONT);
    assert_eq!(record(launch.await.unwrap()).entry, EntrySeen::Revoked);
    assert_eq!(attempt.probe().await.entry, EntrySeen::Revoked);
    assert_eq!(starts(&file), 0);
}

/// A launch that lost has drains of its own, which see the end of nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_that_lost_does_not_end_the_output_of_the_one_that_won() {
    for sh in [Sh::Dash, Sh::Bash] {
        let rig = Rig::new(sh);
        let go = rig.place.join("go");
        let text = "echo one; until [ -e $0 ]; do sleep 0.1; done; echo two";
        let mut attempt = rig.command(&["/bin/sh", "-c", text, go.to_str().unwrap()]);
        attempt.prepare().await;
        let (launch, _, stalled) = stalled_launch(&rig, &attempt).await;
        let session = session_of(stalled.pid).unwrap();
        claimed(attempt.act(attempt.launch_action()).await);
        stalled.signal(Signal::CONT);
        claimed(launch.await.unwrap());
        until(LIMIT, "the loser gone", async || {
            rig.processes().iter().all(|process| session_of(process.pid) != Some(session))
        })
        .await
        .unwrap();
        let record = attempt.until("a line", |record| record.output.stdout.bytes > 0).await;
        assert!(!record.output.stdout.ended && !record.output.stderr.ended, "{record:?}");
        fs::write(go, "").unwrap();
        attempt.finished().await;
        assert_eq!(attempt.output(Stream::Stdout).await, b"one\ntwo\n");
    }
}

fn session_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

/// Launches through a helper shell of its own, whose claim stalls; gives the claim's pid.
async fn stalled_launch(rig: &Rig, attempt: &Attempt) -> (JoinHandle<Seen>, Identity, Identity) {
    stall_the_next_claim(rig);
    let others = rig.channels();
    let same = rival(rig, attempt);
    same.probe().await;
    let helper = rig.channels().into_iter().find(|process| !others.contains(process)).unwrap();
    let launch = tokio::spawn(async move { same.act(same.launch_action()).await });
    (launch, helper, stalled_claim(rig).await)
}

// Not under busybox: its setsid cannot fork, a launch has a channel of its own and is not
// repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_repeated_after_its_helper_shell_died_starts_once() {
    for sh in [Sh::Dash, Sh::Bash] {
        starts_once_although_its_helper_shell_died(sh).await;
    }
}

async fn starts_once_although_its_helper_shell_died(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("starts");
    let mut attempt = once(&rig, &file);
    attempt.prepare().await;
    let (launch, helper, stalled) = stalled_launch(&rig, &attempt).await;
    for process in [vec![helper], children(helper.pid)].concat() {
        process.signal(Signal::KILL);
    }
    // Nobody sends it again by himself; a copy that comes all the same is the same launch.
    let seen = launch.await.unwrap();
    assert!(matches!(seen, Seen::Unreachable(_)), "{seen:?}");
    let winner = claimed(attempt.act(attempt.launch_action()).await).processes;
    stalled.signal(Signal::CONT);
    assert_eq!(attempt.finished().await.code(), 0);
    assert_eq!(claim_of(&attempt.probe().await).processes, winner);
    until(LIMIT, "the loser is gone", async || !stalled.is_alive()).await.unwrap();
    assert_eq!(starts(&file), 1);
}

async fn a_command_never_hears_that_whoever_launched_it_is_gone(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("starts");
    let mut attempt = once(&rig, &file);
    attempt.prepare().await;
    let (launch, helper, stalled) = stalled_launch(&rig, &attempt).await;
    launch.abort();
    assert!(launch.await.unwrap_err().is_cancelled());
    if !sh.is_busybox() {
        for process in [vec![helper], children(helper.pid)].concat() {
            process.signal(Signal::KILL);
            until(LIMIT, "killed", async || !process.is_alive()).await.unwrap();
        }
    }
    stalled.signal(Signal::CONT);
    attempt.until("claimed", |record| record.entry != EntrySeen::Unclaimed).await;
    assert_eq!(attempt.finished().await.code(), 0);
    assert_eq!(starts(&file), 1);
}

async fn a_claim_names_the_process_that_became_the_command(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/sh", "-c", "echo $$; exec sleep 60"]);
    let claimed = attempt.launch().await;
    let record = attempt.until("its pid", |record| record.output.stdout.bytes > 0).await;
    let chunk = attempt.output(remote_command::host::Stream::Stdout).await;
    let pid: u32 = String::from_utf8(chunk).unwrap().trim().parse().unwrap();
    assert_eq!(claimed.processes.command.pid, pid);
    let now = claim_of(&record);
    assert_eq!(now.processes, claimed.processes);
    assert_eq!(now.processes.boot, record.boot);
    let start = Identity::of(pid).unwrap().start;
    assert_eq!(now.processes.command.start, start);
    assert!(is_alive(now.processes.supervisor.pid));
}

async fn a_launch_is_refused_in_another_boot_or_store_or_too_late(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("starts");
    let mut attempt = once(&rig, &file);
    attempt.prepare().await;
    let right = attempt.expect();
    let wrong = [
        Expect { boot: "another".into(), ..right.clone() },
        Expect { boot: String::new(), ..right.clone() },
        Expect { store: "0".repeat(32), ..right.clone() },
        Expect { latest_uptime_ms: 1, ..right.clone() },
    ];
    for expect in wrong {
        let entry = attempt.entry.clone();
        let seen = attempt.act(Action::Launch { entry, expect }).await;
        assert!(matches!(seen, Seen::Refused { .. }), "{seen:?}");
    }
    assert_eq!(attempt.probe().await.entry, EntrySeen::Unclaimed);
    assert_eq!(attempt.revoke().await.entry, EntrySeen::Revoked);
    assert_eq!(starts(&file), 0);
}

async fn another_token_is_another_entry(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("starts");
    let mut attempt = once(&rig, &file);
    attempt.prepare().await;
    let mut stranger = rival(&rig, &attempt);
    stranger.entry.token = "f".repeat(32);
    assert_eq!(record(stranger.act(stranger.launch_action()).await).entry, EntrySeen::Wiped);
    assert_eq!(stranger.revoke().await.entry, EntrySeen::Wiped);
    assert_eq!(stranger.probe().await.entry, EntrySeen::Wiped);
    assert_eq!(attempt.probe().await.entry, EntrySeen::Unclaimed);
    assert_eq!(starts(&file), 0);
}

async fn a_revoke_in_another_boot_or_store_takes_nothing(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/true"]);
    attempt.prepare().await;
    let (entry, right) = (attempt.entry.clone(), attempt.expect());
    for (boot, store) in [("another".into(), right.store), (right.boot, "0".repeat(32))] {
        let entry = entry.clone();
        let seen = record(attempt.act(Action::Revoke { entry, boot, store }).await);
        assert_eq!(seen.entry, EntrySeen::Unclaimed);
    }
    assert!(!attempt.directory(&rig).join("claim").exists());
}

async fn a_revoked_claim_of_another_boot_proves_nothing(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/true"]);
    let boot = attempt.prepare().await.boot.clone();
    assert_eq!(attempt.revoke().await.entry, EntrySeen::Revoked);
    let claim = attempt.directory(&rig).join("claim");
    let text = fs::read_to_string(&claim).unwrap();
    fs::write(&claim, text.replace(&boot, "another")).unwrap();
    assert_eq!(attempt.probe().await.entry, EntrySeen::Unclaimed);
    assert_eq!(attempt.revoke().await.entry, EntrySeen::Unclaimed);
}

async fn a_claim_that_somebody_removed_is_not_an_entry_that_never_started(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("starts");
    let mut attempt = once(&rig, &file);
    attempt.launch().await;
    attempt.finished().await;
    fs::remove_file(attempt.directory(&rig).join("claim")).unwrap();
    assert_eq!(attempt.revoke().await.entry, EntrySeen::Wiped);
    assert_eq!(record(attempt.act(attempt.launch_action()).await).entry, EntrySeen::Wiped);
    assert_eq!(attempt.probe().await.entry, EntrySeen::Wiped);
    assert_eq!(starts(&file), 1);
}

async fn every_verb_may_be_repeated_and_come_late(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("starts");
    let mut attempt = rig.command(&["/bin/sh", "-c", "echo started >>$0; exec sleep 60"]);
    attempt.plan.program.argv.push(file.display().to_string());
    let first = attempt.prepare().await.clone();
    let again = attempt.prepare().await.clone();
    assert_eq!((&first.boot, &first.store), (&again.boot, &again.store));
    let launch = attempt.launch_action();
    let claim = claimed(attempt.act(launch.clone()).await).processes;
    assert_eq!(claimed(attempt.act(launch.clone()).await).processes, claim);
    attempt.prepare().await;
    assert_eq!(claim_of(&attempt.revoke().await).processes, claim);
    for _ in 0..2 {
        attempt.terminate(StopReason::Cancelled).await;
    }
    for _ in 0..2 {
        let record = attempt.kill(StopReason::Deleted, None).await;
        assert_eq!(record.tree, Tree::Empty, "{record:?}");
        assert_eq!(claim_of(&record).stop, Some(StopReason::Cancelled));
    }
    attempt.finished().await;
    assert_eq!(claim_of(&attempt.terminate(StopReason::Deleted).await).processes, claim);
    assert_eq!(claimed(attempt.act(launch.clone()).await).processes, claim);
    for _ in 0..2 {
        attempt.sweep().await;
        assert_eq!(attempt.probe().await.entry, EntrySeen::Wiped);
        assert_eq!(attempt.revoke().await.entry, EntrySeen::Wiped);
        attempt.prepare().await;
        assert_eq!(record(attempt.act(launch.clone()).await).entry, EntrySeen::Wiped);
        assert_eq!(attempt.kill(StopReason::Deleted, None).await.entry, EntrySeen::Wiped);
    }
    assert_eq!(starts(&file), 1);
}

async fn a_tombstone_turns_away_every_later_launch(sh: Sh) {
    let rig = Rig::new(sh);
    let file = rig.place.join("starts");
    let mut unclaimed = once(&rig, &file);
    unclaimed.prepare().await;
    unclaimed.sweep().await;
    assert_eq!(record(unclaimed.act(unclaimed.launch_action()).await).entry, EntrySeen::Wiped);
    let directory = unclaimed.directory(&rig);
    let left: Vec<_> = fs::read_dir(&directory).unwrap().flatten().map(|f| f.file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    // Even when all but the claim is gone.
    fs::remove_file(directory.join("swept")).unwrap();
    unclaimed.prepare().await;
    assert_eq!(record(unclaimed.act(unclaimed.launch_action()).await).entry, EntrySeen::Revoked);
    assert_eq!(starts(&file), 0);
}
