//! How far a stop reaches beyond session, parents and environment, and what it cannot see.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use remote_command::core::action::StopReason;
use remote_command::core::record::{EntrySeen, Life, Tree};

use crate::rig::{LIMIT, Mounted, Rig, Sh, alive, claim_of, exit_of, is_alive};
use crate::stop::{gone, named, pids_in, started};
use crate::support::processes::{Identity, Signal};
use crate::support::{keeper, programs, until};
use crate::under_every_shell;

under_every_shell! {
    a_stop_reaches_by_its_cgroup_who_left_session_parents_and_environment
    a_wiped_entry_is_searched_for_by_its_cgroup
    a_cgroup_goes_when_nobody_is_in_it_any_more
    where_others_are_hidden_an_empty_scan_is_no_proof
    who_may_not_be_signalled_is_named
    what_was_left_running_as_another_user_is_named
    a_tree_that_goes_on_forking_is_ended
    a_process_that_moves_from_pid_to_pid_is_not_taken_for_gone
    a_process_whose_first_thread_is_over_is_alive
    a_name_with_parentheses_and_newlines_is_only_a_name
}

/// A rig whose logins are in a cgroup of their own, as a session's are.
pub struct Scoped {
    pub rig: Rig,
    cgroup: PathBuf,
}

impl Scoped {
    pub fn new(sh: Sh) -> Scoped {
        let mut rig = Rig::new(sh);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut found = mounts.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let place = words.next()?;
            (words.next()? == "cgroup2").then(|| PathBuf::from(place))
        });
        let Some(mount) = found.next() else {
            panic!("cgroup2 is mounted nowhere: mount -t cgroup2 none DIRECTORY");
        };
        let name = rig.place.path().file_name().unwrap().to_str().unwrap();
        let cgroup = mount.join(name);
        keeper::cgroup(&cgroup).unwrap();
        fs::create_dir(&cgroup).unwrap();
        let (shell, procs) = (rig.account.shell.clone(), cgroup.join("cgroup.procs"));
        let procs = procs.display();
        rig.program("login", &format!("#!/bin/dash\necho $$ >{procs}\nexec {shell} \"$@\"\n"));
        rig.transport = Arc::new(Rig::local_with(&rig.place, "bin/login"));
        Scoped { rig, cgroup }
    }

    /// The cgroups of attempts.
    fn scopes(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.cgroup).unwrap().flatten().map(|entry| entry.path());
        entries.filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Scoped {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let _ = crate::support::block_until(LIMIT, || {
            self.scopes().iter().for_each(|scope| drop(fs::remove_dir(scope)));
            fs::remove_dir(&self.cgroup).is_ok()
        });
    }
}

/// Leaves the session, its parents and the environment.
pub const AWAY: &str = "env -i RIG=$RIG PIDS=$PIDS setsid sh -c \
                    '(setsid sh -c \"trap \\\"\\\" TERM; echo \\$\\$ >>\\$PIDS; \
                    while :; do sleep 1; done\" &)'\n";

async fn a_stop_reaches_by_its_cgroup_who_left_session_parents_and_environment(sh: Sh) {
    let scoped = Scoped::new(sh);
    let text = format!("{AWAY}echo $$ >>$PIDS; sleep 300; sleep 300");
    let (attempt, pids) = started(&scoped.rig, &text, 2).await;
    let record = attempt.kill(StopReason::Cancelled, None).await;
    assert_eq!(record.tree, Tree::Empty);
    for pid in pids {
        assert!(!is_alive(pid), "{pid}");
    }
    attempt.finished().await;
    until(LIMIT, "the cgroup gone", async || {
        attempt.sweep().await;
        scoped.scopes().is_empty()
    })
    .await
    .unwrap();
}

async fn a_wiped_entry_is_searched_for_by_its_cgroup(sh: Sh) {
    let scoped = Scoped::new(sh);
    let text = format!("{AWAY}echo $$ >>$PIDS; exec env -i RIG=$RIG sleep 300");
    let (attempt, pids) = started(&scoped.rig, &text, 2).await;
    fs::remove_dir_all(scoped.rig.store()).unwrap();
    let record = attempt.kill(StopReason::Fenced, None).await;
    assert_eq!((record.entry, record.tree), (EntrySeen::Wiped, Tree::Empty));
    for pid in pids {
        assert!(!is_alive(pid), "{pid}");
    }
}

async fn a_cgroup_goes_when_nobody_is_in_it_any_more(sh: Sh) {
    let scoped = Scoped::new(sh);
    let (attempt, pids) = started(&scoped.rig, AWAY, 1).await;
    attempt.until("the end", |record| exit_of(record).is_some()).await;
    let record = attempt.probe().await;
    assert!(alive(&record).contains(&pids[0]), "left running, and named: {record:?}");
    attempt.sweep().await;
    assert!(is_alive(pids[0]) && scoped.scopes().len() == 1);
    Identity::of(pids[0]).unwrap().signal(Signal::KILL);
    gone(pids[0]).await;
    until(LIMIT, "nobody in it", async || {
        fs::read_to_string(scoped.scopes()[0].join("cgroup.procs")).unwrap().is_empty()
    })
    .await
    .unwrap();
    until(LIMIT, "the cgroup gone", async || {
        attempt.sweep().await;
        scoped.scopes().is_empty()
    })
    .await
    .unwrap();
    assert!(!attempt.directory(&scoped.rig).join("scope").exists());
}

/// Somebody who may neither see nor signal processes of others.
const NOBODY: u32 = 65_533;

/// A rig for somebody who is not root and sees `procfs`; `rooted` there becomes root.
async fn unprivileged(sh: Sh, hidepid: u32) -> Mounted {
    let setpriv = programs::debian("setpriv", "util-linux").unwrap();
    let through = format!("{} --reuid {NOBODY} --regid {NOBODY} --clear-groups", setpriv.display());
    let mounts = format!("mkdir $1/proc && mount -t proc -o hidepid={hidepid} proc $1/proc");
    let mut mounted = Mounted::entered_by(sh, &mounts, &through).await;
    let rig = &mut mounted.rig;
    rig.account.procfs = rig.place.join("proc").display().to_string();
    for owned in [rig.place.path(), &rig.place.join("state"), &rig.place.join("home")] {
        chown(owned, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let rooted = rig.place.join("bin/rooted");
    fs::copy(&setpriv, &rooted).unwrap();
    fs::set_permissions(&rooted, Permissions::from_mode(0o4755)).unwrap();
    mounted
}

const ROOTED: &str = "rooted --reuid 0 --regid 0 --clear-groups \
                      sh -c 'echo $$ >>$PIDS; exec sleep 300' &";

async fn where_others_are_hidden_an_empty_scan_is_no_proof(sh: Sh) {
    let mounted = unprivileged(sh, 2).await;
    let text = format!("echo $$ >>$PIDS; {ROOTED} wait");
    let (attempt, pids) = started(&mounted.rig, &text, 2).await;
    let record = attempt.kill(StopReason::Cancelled, None).await;
    assert!(!is_alive(pids[0]) && is_alive(pids[1]), "{record:?}");
    assert_eq!(record.tree, Tree::CannotTell);
    Identity::of(pids[1]).unwrap().signal(Signal::KILL);
    until(LIMIT, "the group shown to be gone", async || {
        attempt.kill(StopReason::Cancelled, None).await.tree == Tree::Empty
    })
    .await
    .unwrap();
}

async fn who_may_not_be_signalled_is_named(sh: Sh) {
    let mounted = unprivileged(sh, 0).await;
    let text = format!("echo $$ >>$PIDS; {ROOTED} wait");
    let (attempt, pids) = started(&mounted.rig, &text, 2).await;
    named(pids[1], "sleep").await;
    let record = attempt.kill(StopReason::Cancelled, None).await;
    let Tree::Alive(survivors) = &record.tree else { panic!("{record:?}") };
    let survivor = &survivors[0];
    assert_eq!((survivor.pid, survivor.uid, survivor.command.as_str()), (pids[1], 0, "sleep"));
    assert!(is_alive(pids[1]) && !is_alive(pids[0]));
}

async fn what_was_left_running_as_another_user_is_named(sh: Sh) {
    let mounted = unprivileged(sh, 0).await;
    let (attempt, pids) = started(&mounted.rig, &format!("{ROOTED} exit 0"), 1).await;
    let record = attempt.until("the end", |record| exit_of(record).is_some()).await;
    assert_eq!(alive(&record), pids);
}

async fn a_tree_that_goes_on_forking_is_ended(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "trap '' TERM; echo $$ >>$PIDS; \
                while :; do setsid sh -c 'trap \"\" TERM; sleep 0.3; sleep 0.3' & sleep 0.02; done";
    let (attempt, pids) = started(&rig, text, 1).await;
    let record = attempt.kill(StopReason::Cancelled, None).await;
    assert_eq!(record.tree, Tree::Empty);
    assert!(!is_alive(pids[0]));
}

/// Each of them lives for a moment, and hands the marker on to a child in a session of its own.
/// All of them hold the fifo, which ends when nobody does any more.
const MOVING: &str = "import os, sys, time\n\
    os.open(sys.argv[2], os.O_WRONLY)\n\
    beats = os.open(os.environ['PIDS'], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n\
    for beat in range(int(300 / float(sys.argv[1]))):\n\
    \x20   os.write(beats, b'%d\\n' % os.getpid())\n\
    \x20   if os.fork(): os._exit(0)\n\
    \x20   os.setsid()\n\
    \x20   time.sleep(float(sys.argv[1]))\n";

async fn a_process_that_moves_from_pid_to_pid_is_not_taken_for_gone(sh: Sh) {
    let rig = Rig::new(sh);
    let python = programs::debian("python3", "python3").unwrap();
    for pause in ["0.01", "0.05", "0.2"] {
        let (beats, fifo) = (format!("beats-{pause}"), format!("fifo-{pause}"));
        let (beats, fifo) = (rig.place.join(&beats), rig.place.join(&fifo));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let python = python.to_str().unwrap();
        // The command itself stays: after its end nothing would be killed.
        let stays = ["/bin/sh", "-c", "\"$@\"; sleep 300", "sh"];
        let words = [&stays[..], &[python, "-c", MOVING, pause, fifo.to_str().unwrap()]].concat();
        let mut attempt = rig.command(&words).env("PIDS", beats.to_str().unwrap());
        attempt.launch().await;
        let ended = tokio::task::spawn_blocking(move || fs::read(fifo).unwrap());
        let moved = async || fs::read(&beats).is_ok_and(|text| text.len() > 20);
        until(LIMIT, "it moves", moved).await.unwrap();
        let killed = async || attempt.kill(StopReason::Cancelled, None).await.tree == Tree::Empty;
        until(LIMIT, "it is said to be gone", killed).await.unwrap();
        let gone = tokio::time::timeout(Duration::from_secs(2), ended).await;
        assert!(gone.is_ok(), "with a pause of {pause} s it is said to be gone, and lives on");
    }
}

async fn a_process_whose_first_thread_is_over_is_alive(sh: Sh) {
    let rig = Rig::new(sh);
    let python = programs::debian("python3", "python3").unwrap();
    let program = "import ctypes, os, platform, sys, threading, time\n\
                   threading.Thread(target=lambda: time.sleep(300)).start()\n\
                   print(os.getpid(), file=open(os.environ['PIDS'], 'a'), flush=True)\n\
                   number = {'x86_64': 60, 'aarch64': 93}[platform.machine()]\n\
                   ctypes.CDLL(None).syscall(number, 0)\n";
    let file = rig.place.join("pids");
    let mut attempt =
        rig.command(&[python.to_str().unwrap(), "-c", program]).env("PIDS", file.to_str().unwrap());
    attempt.launch().await;
    let pid = pids_in(&file, 1).await[0];
    until(LIMIT, "the first thread is over", async || state_of(pid) == Some('Z')).await.unwrap();
    let claim = claim_of(&attempt.probe().await);
    assert_eq!((claim.supervisor, claim.command), (Life::Alive, Life::Alive));
    let record = attempt.kill(StopReason::Cancelled, None).await;
    assert_eq!(record.tree, Tree::Empty);
    until(LIMIT, "the process gone", async || !Path::new(&format!("/proc/{pid}")).exists())
        .await
        .unwrap();
}

fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

async fn a_name_with_parentheses_and_newlines_is_only_a_name(sh: Sh) {
    let rig = Rig::new(sh);
    let odd = rig.place.join("a) Z 1 1\n(b");
    fs::copy(programs::debian("sleep", "coreutils").unwrap(), &odd).unwrap();
    let file = rig.place.join("pids");
    let text = "\"$1\" 300 & echo $! >>$0; \"$1\" 300 & echo $! >>$0; exec \"$1\" 300";
    let file_name = file.to_str().unwrap();
    let mut attempt = rig.command(&["/bin/sh", "-c", text, file_name, odd.to_str().unwrap()]);
    let command = attempt.launch().await.processes.command.pid;
    let pids = pids_in(&file, 2).await;
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    until(LIMIT, "all of that name", async || {
        [pids[0], pids[1], command].into_iter().all(|pid| name(pid) == "a) Z 1 1\n(b\n")
    })
    .await
    .unwrap();
    let claim = claim_of(&attempt.probe().await);
    assert_eq!((claim.supervisor, claim.command), (Life::Alive, Life::Alive));
    assert_eq!(attempt.kill(StopReason::Cancelled, None).await.tree, Tree::Empty);
    for pid in [pids[0], pids[1], command] {
        assert!(!is_alive(pid), "{pid}");
    }
}
