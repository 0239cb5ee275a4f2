//! Commands of the build before this one: launched by its own program, whose text is kept beside
//! this file, and followed, stopped and swept by today's. CONTRIBUTING.md says how it is renewed.
//!
//! The requests to it are written out here as that build wrote them: they are no business of
//! today's wire format.

use std::fs;
use std::path::Path;

use remote_command::core::action::{Action, StopReason};
use remote_command::core::record::{EntrySeen, Life, Tree};
use remote_command::host::{Event, ExecChannel, Input, Stream};
use remote_command::shim::wire::{Next, Report};
use remote_command::shim::{Account, bootstrap, loader};
use zeroize::Zeroizing;

use crate::reach::{AWAY, Scoped};
use crate::rig::{Attempt, LIMIT, Rig, Sh, claim_of, claimed, exit_of, is_alive, record};
use crate::stop::{STUBBORN, pids_in};
use crate::under_every_shell;

under_every_shell! {
    a_command_of_the_build_before_is_followed_to_its_end_and_swept
    a_command_of_the_build_before_is_stopped_with_its_whole_tree
    a_command_of_the_build_before_is_found_by_its_marker_when_its_entry_is_gone
    a_command_of_the_build_before_is_found_by_its_cgroup_when_its_entry_is_gone
    an_entry_of_the_build_before_is_launched_or_revoked_once
}

/// What that build sends a login shell, and what it sends the shell then.
const BOOTSTRAP: &str = include_str!("before/bootstrap.sh");
const LOADER: &str = include_str!("before/loader.sh");
/// Stand for the account's shell, and for its state directory, in both.
const SHELL: &str = "/the/shell";
const STATE: &str = "/the/state";

/// Not a test: writes the text of this very build, to be the one before the next.
#[test]
#[ignore = "by hand, after a release"]
fn keep_the_program_of_this_build() {
    let account = Account {
        shell: SHELL.to_owned(),
        state_directory: Some(STATE.to_owned()),
        ..Account::default()
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/before");
    fs::write(directory.join("bootstrap.sh"), bootstrap(SHELL)).unwrap();
    fs::write(directory.join("loader.sh"), loader(&account, None)).unwrap();
}

/// A helper shell of the build before.
struct Former {
    channel: ExecChannel,
    read: Vec<u8>,
    nonce: String,
    /// Whether it can fork a supervisor away, or becomes one.
    forks: bool,
}

impl Former {
    async fn open(rig: &Rig) -> Former {
        let filled = |text: &str| {
            text.replace(SHELL, &rig.account.shell)
                .replace(STATE, rig.account.state_directory.as_ref().unwrap())
        };
        let channel = rig.transport.open(&filled(BOOTSTRAP)).await.unwrap();
        let nonce = crate::rig::entry().token;
        let mut former = Former { channel, read: Vec::new(), nonce, forks: false };
        former.send(&format!("{}\n{}", former.nonce, filled(LOADER))).await;
        former.forks = former.report().await.forks.unwrap();
        former
    }

    async fn send(&self, text: &str) {
        for piece in text.as_bytes().chunks(32 * 1024) {
            let piece = Zeroizing::new(piece.to_vec());
            self.channel.input.send(Input::Bytes(piece)).await.unwrap();
        }
    }

    async fn report(&mut self) -> Report {
        let mut report = Report::default();
        loop {
            let line = self.line().await;
            let Some(line) = line.strip_prefix(&format!("{} ", self.nonce)) else { continue };
            if report.take(line).unwrap() == Next::End {
                return report;
            }
        }
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return String::from_utf8(line).unwrap().trim_end().to_owned();
            }
            let event = tokio::time::timeout(LIMIT, self.channel.events.recv()).await.unwrap();
            match event.unwrap() {
                Event::Stdout(bytes) => self.read.extend(bytes),
                Event::Stderr(_) => {}
                event => panic!("{event:?}"),
            }
        }
    }

    /// Prepares an entry; today's side of it knows what that build would have saved.
    async fn prepare(&mut self, rig: &Rig) -> Attempt {
        let mut attempt = rig.command(&["/unused"]);
        let (uid, token) = (&attempt.entry.uid, &attempt.entry.token);
        self.send(&format!("{} prepare 00000000000000aa {uid} 1-1 {token} \n", self.nonce)).await;
        let identity = self.report().await.identity.unwrap();
        attempt.entry.machine.clone_from(&identity.machine);
        attempt.identity = Some(identity);
        attempt
    }

    /// Launches the script, which gets RIG and PIDS, as that build would.
    async fn launch(&mut self, rig: &Rig, attempt: &Attempt, script: &str) {
        let (uid, token) = (&attempt.entry.uid, &attempt.entry.token);
        let identity = attempt.identity.as_ref().unwrap();
        let (boot, store) = (&identity.boot, &identity.store);
        let latest = identity.uptime_ms + 600_000;
        let place = if self.forks { "helper" } else { "channel" };
        let line = format!("launch 00000000000000bb {uid} 1-1 {token} {boot} {store} {latest}");
        let counts = format!("1 1 {} 5 0", script.len());
        let pids = pids(rig);
        let inputs = format!(
            "{counts}\n.\n.PIDS\n.{}\n.{}\n{script}input00000000000000bb\n",
            pids.display(),
            rig.account.shell
        );
        self.send(&format!("{} {line} 1000000 600 30 {place}\n{inputs}", self.nonce)).await;
        let report = self.report().await;
        assert!(report.taken != self.forks && report.refused.is_none(), "{report:?}");
    }
}

fn pids(rig: &Rig) -> std::path::PathBuf {
    rig.place.join("pids")
}

/// A command of that build whose shell and operator are gone.
async fn launched(rig: &Rig, script: &str) -> Attempt {
    let mut former = Former::open(rig).await;
    let attempt = former.prepare(rig).await;
    former.launch(rig, &attempt, script).await;
    attempt
}

/// Where that build keeps an entry.
fn directory(rig: &Rig, attempt: &Attempt) -> std::path::PathBuf {
    let directory =
        rig.store().join(&attempt.entry.uid).join(format!("1-1-{}", attempt.entry.token));
    assert!(directory.join("claim").exists(), "{}", directory.display());
    directory
}

async fn a_command_of_the_build_before_is_followed_to_its_end_and_swept(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "cat; until [ -e $RIG/go ]; do sleep 0.1; done; echo err >&2; exit 7";
    let attempt = launched(&rig, text).await;
    let record = attempt.until("its input", |record| record.output.stdout.bytes == 5).await;
    let claim = claim_of(&record);
    assert_eq!(
        (claim.supervisor, claim.command, claim.watch),
        (Life::Alive, Life::Alive, Life::Alive)
    );
    assert_eq!(claimed(attempt.act(attempt.launch_action()).await).processes, claim.processes);
    assert_eq!(claim_of(&attempt.revoke().await).processes, claim.processes);
    attempt.sweep().await;
    assert_eq!(claim_of(&attempt.probe().await).exit, None, "what lives is not swept");
    fs::write(rig.place.join("go"), "").unwrap();
    assert_eq!(attempt.finished().await.code(), 7);
    assert_eq!(attempt.output(Stream::Stdout).await, b"input");
    assert_eq!(attempt.output(Stream::Stderr).await, b"err\n");
    let at = directory(&rig, &attempt);
    attempt.sweep().await;
    let mut left: Vec<_> = fs::read_dir(at).unwrap().flatten().map(|f| f.file_name()).collect();
    left.sort();
    assert_eq!(left, ["claim", "swept"]);
    assert_eq!(attempt.probe().await.entry, EntrySeen::Wiped);
    assert_eq!(record_of_launch(&attempt).await, EntrySeen::Wiped);
}

async fn record_of_launch(attempt: &Attempt) -> EntrySeen {
    record(attempt.act(attempt.launch_action()).await).entry
}

async fn a_command_of_the_build_before_is_stopped_with_its_whole_tree(sh: Sh) {
    let rig = Rig::new(sh);
    let attempt = launched(&rig, STUBBORN).await;
    let pids = pids_in(&pids(&rig), 3).await;
    attempt.terminate(StopReason::Cancelled).await;
    let record = attempt.kill(StopReason::Deleted, None).await;
    assert_eq!(record.tree, Tree::Empty);
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    let record = attempt.until("the end", |record| exit_of(record).is_some()).await;
    assert_eq!(claim_of(&record).stop, Some(StopReason::Cancelled));
}

async fn a_command_of_the_build_before_is_found_by_its_marker_when_its_entry_is_gone(sh: Sh) {
    let rig = Rig::new(sh);
    let attempt = launched(&rig, STUBBORN).await;
    let pids = pids_in(&pids(&rig), 3).await;
    fs::remove_dir_all(directory(&rig, &attempt)).unwrap();
    let record = attempt.kill(StopReason::Fenced, None).await;
    assert_eq!((record.entry, record.tree), (EntrySeen::Wiped, Tree::Empty));
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
}

async fn a_command_of_the_build_before_is_found_by_its_cgroup_when_its_entry_is_gone(sh: Sh) {
    let scoped = Scoped::new(sh);
    let text = format!("{AWAY}echo $$ >>$PIDS; exec env -i RIG=$RIG sleep 300");
    let attempt = launched(&scoped.rig, &text).await;
    let pids = pids_in(&pids(&scoped.rig), 2).await;
    fs::remove_dir_all(directory(&scoped.rig, &attempt)).unwrap();
    let record = attempt.kill(StopReason::Fenced, None).await;
    assert_eq!((record.entry, record.tree), (EntrySeen::Wiped, Tree::Empty));
    assert!(pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
}

/// An operator that is replaced between Prepare and Launch.
async fn an_entry_of_the_build_before_is_launched_or_revoked_once(sh: Sh) {
    let rig = Rig::new(sh);
    let mut former = Former::open(&rig).await;
    let mut attempt = former.prepare(&rig).await;
    attempt.plan.program.argv = vec!["/bin/sh".into(), "-c".into(), "exit 3".into()];
    assert_eq!(attempt.probe().await.entry, EntrySeen::Unclaimed);
    let claim = claimed(attempt.act(attempt.launch_action()).await);
    assert_eq!(attempt.finished().await.code(), 3);
    assert_eq!(claim_of(&attempt.revoke().await).processes, claim.processes);
    directory(&rig, &attempt);
    let attempt = former.prepare(&rig).await;
    assert_eq!(attempt.revoke().await.entry, EntrySeen::Revoked);
    directory(&rig, &attempt);
    assert_eq!(record_of_launch(&attempt).await, EntrySeen::Revoked);
    let swept = former.prepare(&rig).await;
    swept.sweep().await;
    assert_eq!(record_of_launch(&swept).await, EntrySeen::Wiped);
    let prepared = former.prepare(&rig).await;
    prepared.act(Action::Prepare { entry: prepared.entry.clone() }).await;
    assert_eq!(prepared.revoke().await.entry, EntrySeen::Revoked);
    directory(&rig, &prepared);
}
