//! Where records are kept, for how long, and what is no place for them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use remote_command::core::action::{Action, Refusal, Seen};
use remote_command::core::fault::Fault;
use remote_command::core::interpreter::interpreter;
use remote_command::core::record::EntrySeen;

use crate::rig::{Mounted, Rig, Sh, record};
use crate::under_every_shell;

under_every_shell! {
    records_are_for_their_owner_only
    a_store_that_somebody_else_could_write_to_is_refused
    what_somebody_else_put_in_the_place_is_named_and_nothing_is_made_in_it
    a_store_reached_by_a_symbolic_link_is_refused
    nothing_is_made_where_anybody_may_put_something_in_the_way
    the_default_places_are_tried_in_order
    a_network_file_system_is_used_only_when_named
    a_new_store_has_a_new_id_and_an_old_launch_is_refused
    another_machine_is_told_apart_before_anything_is_done
    records_that_others_put_where_ours_may_be_are_not_touched
    a_store_without_hard_links_is_refused
    nothing_is_executed_from_the_store
    tombstones_of_another_boot_go
    records_older_than_30_days_go_after_a_day_of_uptime
}

async fn unusable(rig: &Rig) -> Fault {
    let attempt = rig.command(&["/bin/true"]);
    let seen = attempt.act(Action::Prepare { entry: attempt.entry.clone() }).await;
    let Seen::Unreachable(fault) = seen else { panic!("{seen:?}") };
    assert_eq!(fault.reason(), "HostUnusable", "{fault:?}");
    fault
}

async fn records_are_for_their_owner_only(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.script("cat; echo here").env("SECRET", "value");
    attempt.plan.program.stdin = Some(remote_command::core::plan::Value::Literal("in".into()));
    attempt.run().await;
    let mut open = vec![rig.place.join("state/remote-command")];
    while let Some(path) = open.pop() {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            open.extend(fs::read_dir(&path).unwrap().flatten().map(|entry| entry.path()));
        } else {
            assert_eq!(mode, 0o600, "{}", path.display());
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains("value"), "{}", path.display());
        }
    }
}

async fn a_store_that_somebody_else_could_write_to_is_refused(sh: Sh) {
    let rig = Rig::new(sh);
    rig.command(&["/bin/true"]).prepare().await;
    for directory in [rig.place.join("state/remote-command"), rig.store()] {
        let at = directory.display();
        fs::set_permissions(&directory, Permissions::from_mode(0o770)).unwrap();
        let message = unusable(&rig).await.message;
        assert!(message.contains(&format!("{at} must have mode 0700")), "{message}");
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        chown(&directory, Some(65_534), None).unwrap();
        let message = unusable(&rig).await.message;
        assert!(message.contains(&format!("{at} belongs to user 65534")), "{message}");
        chown(&directory, Some(0), None).unwrap();
    }
    rig.command(&["/bin/true"]).prepare().await;
}

/// Guards against a flaw that is told of a directory which is not there, and of its mode where
/// its owner is the fault.
async fn what_somebody_else_put_in_the_place_is_named_and_nothing_is_made_in_it(sh: Sh) {
    let rig = Rig::new(sh);
    let directory = rig.place.join("state/remote-command");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
    chown(&directory, Some(65_534), None).unwrap();
    let message = unusable(&rig).await.message;
    let flaw = format!("{} belongs to user 65534 and not to 0", directory.display());
    assert!(message.ends_with(&flaw), "{message}");
    assert!(!rig.store().exists());
    fs::remove_dir(&directory).unwrap();
    fs::write(&directory, "").unwrap();
    let message = unusable(&rig).await.message;
    assert!(message.ends_with(&format!("{} is not a directory", directory.display())), "{message}");
}

async fn a_store_reached_by_a_symbolic_link_is_refused(sh: Sh) {
    let rig = Rig::new(sh);
    let elsewhere = rig.place.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::set_permissions(&elsewhere, Permissions::from_mode(0o700)).unwrap();
    symlink(&elsewhere, rig.place.join("state/remote-command")).unwrap();
    assert!(unusable(&rig).await.message.contains("symbolic link"));
}

/// Where anybody may make names: a link, a link to nothing, and directories of another user's.
async fn nothing_is_made_where_anybody_may_put_something_in_the_way(sh: Sh) {
    let mut mounted = Mounted::new(sh, "mount -t tmpfs -o mode=1777 none /var/tmp").await;
    let place = mounted.rig.place.path().display().to_string();
    fs::create_dir(mounted.rig.place.join("victim")).unwrap();
    // Nothing can be kept in the home, so that the next place is taken.
    let home = mounted.rig.place.join("home/.local/state");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("remote-command"), "").unwrap();
    mounted.rig.account.state_directory = None;
    let planted = [
        format!("ln -s {place}/victim AT"),
        format!("ln -s {place}/victim/new AT"),
        "mkdir -m 700 AT; chown 65534 AT".to_owned(),
        "mkdir -m 777 AT; chown 65534 AT".to_owned(),
    ];
    for plant in &planted {
        let at = "/var/tmp/remote-command-0";
        mounted.run(&plant.replace("AT", at));
        let message = unusable(&mounted.rig).await.message;
        assert!(message.contains(at), "{plant}: {message}");
        mounted.run(&format!("rm -rf {at}"));
    }
    let left = fs::read_dir(mounted.rig.place.join("victim")).unwrap().count();
    assert_eq!(left, 0);
}

// Not where the shell makes directories itself: nothing can step in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_planted_while_the_store_is_made_is_not_followed() {
    for sh in [Sh::Dash, Sh::Bash, Sh::Busybox] {
        for level in ["state/remote-command", "state/one", "state/one/two"] {
            let mut rig = Rig::new(sh);
            let state = rig.place.join("state/one/two").display().to_string();
            if level != "state/remote-command" {
                rig.account.state_directory = Some(state);
            }
            let victim = rig.place.join("victim");
            fs::create_dir(&victim).unwrap();
            let at = rig.place.join(level);
            // In the moment before it would be made.
            let mkdir = format!(
                "#!/bin/dash\nfor last; do :; done\ncase $last in {0} | {0}/*) \
                 [ -e {0} ] || /bin/ln -s {1} {0} ;; esac\nexec /bin/mkdir \"$@\"\n",
                at.display(),
                victim.display(),
            );
            rig.program("mkdir", &mkdir);
            unusable(&rig).await;
            assert!(fs::symlink_metadata(&at).unwrap().is_symlink(), "{level}");
            let made: Vec<_> = fs::read_dir(&victim).unwrap().flatten().collect();
            assert!(made.is_empty(), "{sh:?} {level}: {made:?}");
        }
    }
}

async fn the_default_places_are_tried_in_order(sh: Sh) {
    let mut rig = Rig::new(sh);
    rig.account.state_directory = None;
    let machine = fs::read_to_string("/etc/machine-id").unwrap().trim().to_owned();
    rig.command(&["/bin/true"]).prepare().await;
    assert!(rig.place.join("home/.local/state/remote-command").join(&machine).join("id").exists());
    let xdg = rig.place.join("xdg");
    rig.transport = Arc::new(Rig::local(&rig.place).env("XDG_STATE_HOME", xdg.to_str().unwrap()));
    let mut attempt = rig.command(&["/bin/true"]);
    attempt.prepare().await;
    assert!(xdg.join("remote-command").join(&machine).join("id").exists());
    rig.transport = Arc::new(Rig::local(&rig.place));
    let mut homeless = rig.attempt(attempt.plan.clone());
    homeless.entry = attempt.entry.clone();
    assert_eq!(homeless.probe().await.entry, EntrySeen::Wiped);
    // An entry is found in every place that the account has, not only in the first.
    rig.transport = Arc::new(
        Rig::local(&rig.place)
            .env("XDG_STATE_HOME", xdg.to_str().unwrap())
            .env("HOME", rig.place.join("another").to_str().unwrap()),
    );
    let mut found = rig.attempt(attempt.plan.clone());
    found.entry = attempt.entry.clone();
    assert_eq!(found.probe().await.entry, EntrySeen::Unclaimed);
}

/// The fallback is one place for all tests of this user: one after the other.
static FALLBACK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Removes the fallback store when nobody has an entry in it.
fn tidy(store: &Path) {
    let files = ["id", "expired"];
    let entries = fs::read_dir(store).unwrap().flatten();
    if entries.into_iter().all(|e| files.iter().any(|file| e.file_name() == *file)) {
        fs::remove_dir_all(store).unwrap();
        let _ = fs::remove_dir(store.parent().unwrap());
    }
}

async fn a_network_file_system_is_used_only_when_named(sh: Sh) {
    let _alone = FALLBACK.lock().await;
    let mut rig = Rig::new(sh);
    let home = rig.place.join("home").display().to_string();
    let fake = rig.place.join("proc");
    fs::create_dir_all(fake.join("self")).unwrap();
    let mounts = format!("dev / ext4 rw 0 0\nserver:/home {home} nfs4 rw 0 0\n");
    fs::write(fake.join("self/mounts"), mounts).unwrap();
    rig.account.procfs = fake.display().to_string();
    let named = rig.account.state_directory.replace(home.clone());
    rig.command(&["/bin/true"]).prepare().await;
    assert!(rig.place.join("home/remote-command").exists());
    rig.account.state_directory = None;
    let mut elsewhere = rig.command(&["/bin/true"]);
    elsewhere.prepare().await;
    assert!(!rig.place.join("home/.local/state/remote-command").exists());
    let uid = &elsewhere.entry.uid;
    let machine = &elsewhere.entry.machine;
    let store = PathBuf::from(format!("/var/tmp/remote-command-0/{machine}"));
    assert!(store.join(uid).exists());
    fs::remove_dir_all(store.join(uid)).unwrap();
    tidy(&store);
    rig.account.state_directory = named;
}

async fn a_new_store_has_a_new_id_and_an_old_launch_is_refused(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/true"]);
    let old = attempt.prepare().await.store.clone();
    fs::remove_dir_all(rig.store()).unwrap();
    assert_eq!(attempt.probe().await.entry, EntrySeen::Wiped);
    let mut other = rig.attempt(attempt.plan.clone());
    other.entry = crate::rig::entry();
    let new = other.prepare().await.store.clone();
    assert_ne!(old, new);
    let launch = attempt.launch_action();
    assert_eq!(record(attempt.act(launch.clone()).await).entry, EntrySeen::Wiped);
    assert_eq!(attempt.revoke().await.entry, EntrySeen::Wiped);
    // Prepared anew in the new store, the launch that was saved for the old one is refused.
    let entry = attempt.entry.clone();
    attempt.act(Action::Prepare { entry }).await;
    let seen = attempt.act(launch).await;
    assert!(matches!(seen, Seen::Refused { .. }), "{seen:?}");
}

async fn another_machine_is_told_apart_before_anything_is_done(sh: Sh) {
    let rig = Rig::new(sh);
    let mut attempt = rig.command(&["/bin/sleep", "300"]);
    attempt.launch().await;
    attempt.entry.machine = "0".repeat(32);
    let (entry, expect) = (attempt.entry.clone(), attempt.expect());
    let (boot, store) = (expect.boot.clone(), expect.store.clone());
    let reason = remote_command::core::action::StopReason::Fenced;
    let (uid, machine, name) = (entry.uid.clone(), entry.machine.clone(), store.clone());
    let verbs = [
        Action::Launch { entry: entry.clone(), expect },
        Action::Probe { entry: entry.clone() },
        Action::Kill { entry: entry.clone(), reason, processes: None },
        Action::Revoke { entry, boot, store },
        Action::Sweep { uid, machine, store: name, run_as: None },
    ];
    for verb in verbs {
        let fault = match attempt.act(verb).await {
            // What is not sent to it starts nothing.
            Seen::Unreachable(fault) | Seen::Refused { why: Refusal::Unsent(fault), .. } => fault,
            seen => panic!("{seen:?}"),
        };
        assert_eq!(fault.reason(), "WrongHost");
    }
    attempt.entry.machine = String::new();
    let claim = crate::rig::claim_of(&attempt.probe().await);
    assert!(crate::rig::is_alive(claim.processes.command.pid) && claim.stop.is_none());
}

async fn records_that_others_put_where_ours_may_be_are_not_touched(sh: Sh) {
    let mut mounted = Mounted::new(sh, "mount -t tmpfs -o mode=1777 none /var/tmp").await;
    mounted.rig.account.state_directory = None;
    let mut attempt = mounted.rig.command(&["/bin/true"]);
    attempt.prepare().await;
    let victim = mounted.rig.place.join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("precious"), "").unwrap();
    let mut forged = mounted.rig.command(&["/bin/true"]);
    forged.entry.machine.clone_from(&attempt.entry.machine);
    let (machine, half) = (&attempt.entry.machine, &forged.entry.token[..16]);
    let (uid, other, victim_at) = (&attempt.entry.uid, &forged.entry.uid, victim.display());
    mounted.run(&format!(
        "umask 077; at=/var/tmp/remote-command-0/{machine}; mkdir -p $at/{uid} $at/{other}/1-1-{half}; \
         ln -s {victim_at} $at/{uid}/1-1-ffff; echo >$at/{other}/1-1-{half}/exit; \
         chown -R 65534 /var/tmp/remote-command-0"
    ));
    attempt.sweep().await;
    assert_eq!(forged.probe().await.entry, EntrySeen::Wiped);
    let left: Vec<_> = fs::read_dir(&victim).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["precious"]);
}

async fn a_store_without_hard_links_is_refused(sh: Sh) {
    // Each link takes an inode of a tmpfs: there is room for what comes before.
    let mounts = "mount -t tmpfs -o mode=700,nr_inodes=5 none $1/state";
    let mounted = Mounted::new(sh, mounts).await;
    let message = unusable(&mounted.rig).await.message;
    assert!(message.contains("hard links"), "{message}");
}

// Not under busybox: its shell brings the tools along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_tool_is_named() {
    for sh in [Sh::Dash, Sh::Bash] {
        let mut rig = Rig::new(sh);
        for tool in
            ["cat", "dd", "grep", "ln", "ls", "mkdir", "mkfifo", "rm", "sleep", "uname", "id"]
        {
            let real = crate::support::programs::debian(tool, "coreutils").unwrap();
            symlink(real, rig.place.join("bin").join(tool)).unwrap();
        }
        let bin = rig.place.join("bin").display().to_string();
        rig.transport = Arc::new(Rig::local(&rig.place).env("PATH", &bin));
        assert!(unusable(&rig).await.message.contains("wc is missing"));
    }
}

async fn nothing_is_executed_from_the_store(sh: Sh) {
    let mounted = Mounted::new(sh, "mount -t tmpfs -o noexec,mode=700 none $1/state").await;
    let (code, out, _) = mounted.rig.script("echo here; exit 3").run().await;
    assert_eq!((code, out.as_slice()), (3, &b"here\n"[..]));
    // As the kernel would run it, without the kernel.
    for (text, expected) in [
        ("#!/usr/bin/env python3\nprint('snake')\n", "snake\n"),
        ("#!/bin/bash -eu\necho $-; false; echo never\n", "ehuB\n"),
        ("#!\t/usr/bin/env -S printf a%.0s\\n  \n", "a\n"),
    ] {
        let mut attempt = mounted.rig.script(text);
        attempt.plan.program.argv = interpreter(text.as_bytes()).unwrap();
        let (_, out, err) = attempt.run().await;
        let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
        assert_eq!(out, expected, "{text}: {err}");
    }
}

async fn tombstones_of_another_boot_go(sh: Sh) {
    let rig = Rig::new(sh);
    let (mut swept, mut kept) = (rig.command(&["/bin/true"]), rig.command(&["/bin/true"]));
    for attempt in [&mut swept, &mut kept] {
        attempt.run().await;
    }
    swept.sweep().await;
    assert!(swept.directory(&rig).join("claim").exists());
    for attempt in [&swept, &kept] {
        let claim = attempt.directory(&rig).join("claim");
        let boot = &attempt.identity.as_ref().unwrap().boot;
        let text = fs::read_to_string(&claim).unwrap();
        fs::write(&claim, text.replace(boot, "another")).unwrap();
    }
    // Once a day of uptime is often enough.
    rig.command(&["/bin/true"]).prepare().await;
    assert!(swept.directory(&rig).exists());
    fs::remove_file(rig.store().join("expired")).unwrap();
    rig.command(&["/bin/true"]).prepare().await;
    crate::support::until(Duration::from_secs(20), "the tombstone is gone", async || {
        !swept.directory(&rig).exists()
    })
    .await
    .unwrap();
    assert_eq!(crate::rig::exit_of(&kept.probe().await).unwrap().code(), 0);
}

async fn records_older_than_30_days_go_after_a_day_of_uptime(sh: Sh) {
    let mut rig = Rig::new(sh);
    let fake = rig.place.join("proc");
    fs::create_dir(&fake).unwrap();
    for real in ["self", "sys", "1"] {
        symlink(format!("/proc/{real}"), fake.join(real)).unwrap();
    }
    let up = |days: u32| {
        fs::write(fake.join("uptime"), format!("{}.00 1.00\n", days * 86_400 + 60)).unwrap()
    };
    up(1);
    rig.account.procfs = fake.display().to_string();
    let [mut old, mut swept, mut young, mut unclaimed, mut revoked] =
        [(); 5].map(|()| rig.command(&["/bin/true"]));
    for attempt in [&mut old, &mut swept, &mut young] {
        attempt.run().await;
    }
    swept.sweep().await;
    unclaimed.prepare().await;
    revoked.prepare().await;
    revoked.revoke().await;
    let backdated = [
        old.directory(&rig).join("exit"),
        swept.directory(&rig).join("swept"),
        unclaimed.directory(&rig).join("exit"),
        revoked.directory(&rig).join("exit"),
    ];
    for file in &backdated {
        let status = Command::new("touch").args(["-d", "31 days ago"]).arg(file).status().unwrap();
        assert!(status.success());
    }
    // A clock that jumped is no reason: the boot must be older than a day since the claim.
    fs::remove_file(rig.store().join("expired")).unwrap();
    rig.command(&["/bin/true"]).prepare().await;
    rig.command(&["/bin/true"]).prepare().await;
    for file in &backdated {
        assert!(file.exists(), "{}", file.display());
    }
    up(3);
    let mut next = rig.command(&["/bin/true"]);
    next.prepare().await;
    next.prepare().await;
    for file in &backdated {
        assert!(!file.parent().unwrap().exists(), "{}", file.display());
    }
    assert!(young.directory(&rig).exists());
}
