//! A host that lacks processes for the user (`ulimit -u`): what cannot be had before the claim is
//! a command that never started, and no byte of output is lost.

use std::fs;
use std::sync::Arc;

use futures::future::join_all;
use remote_command::core::action::{Action, Refusal, Seen};
use remote_command::core::record::EntrySeen;
use remote_command::host::Stream;
use remote_command::host::recorded::{Recorded, Shells};
use remote_command::shim::Account;

use crate::login::Server;
use crate::rig::{Attempt, LIMIT, Rig, Sh, exit_of, is_alive};
use crate::support::processes::{Identity, Signal, children};
use crate::support::until;
use crate::under_every_shell;

under_every_shell! {
    a_drain_that_is_gone_is_told_and_never_taken_for_an_end_of_output
}

const SAYS: &str = "i=0; while [ $i -lt 5 ]; do echo out; echo err >&2; i=$((i + 1)); done";

/// Every later login may have this many processes and threads; none is no limit.
fn limit(server: &Server, most: Option<u32>) {
    let line = most.map_or(String::new(), |most| format!("ulimit -u {most}\n"));
    fs::write(server.sshd.home().join(".bashrc"), line).unwrap();
}

/// What came of one launch: true when it started. Everything else is a host that lacks processes.
async fn try_one(attempt: &mut Attempt) -> bool {
    let entry = attempt.entry.clone();
    let seen = attempt.act(Action::Prepare { entry: entry.clone() }).await;
    let Seen::Prepared { identity, .. } = seen else {
        let Seen::Unreachable(fault) = seen else { panic!("{seen:?}") };
        assert_eq!(fault.reason(), "ProcessLimit", "{fault:?}");
        return false;
    };
    attempt.entry.machine.clone_from(&identity.machine);
    attempt.identity = Some(identity);
    match attempt.act(attempt.launch_action()).await {
        Seen::Host { record, .. } => matches!(record.entry, EntrySeen::Claimed(_)),
        Seen::Refused { why: Refusal::Unable(fault) | Refusal::Unsent(fault), .. }
        | Seen::Unreachable(fault) => {
            assert_eq!(fault.reason(), "ProcessLimit", "{fault:?}");
            false
        }
        seen => panic!("{seen:?}"),
    }
}

/// With nothing in the way any more: either all of its output, or a claim that can be taken back,
/// and nothing left of it.
async fn is_whole_or_never_started(server: &Server, attempt: Attempt) -> bool {
    let (entry, identity) = (attempt.entry.clone(), attempt.identity.clone());
    drop(attempt);
    let mut later = server.attempt(&["/bin/sh", "-c", SAYS], None);
    (later.entry, later.identity) = (entry, identity);
    if later.identity.is_none() {
        return false;
    }
    if later.revoke().await.entry == EntrySeen::Revoked {
        return false;
    }
    let exit = later.finished().await;
    let record = later.probe().await;
    assert_eq!((exit.code(), exit.signal()), (0, None));
    assert!(!record.output.stdout.truncated && !record.output.stderr.truncated, "{record:?}");
    assert_eq!(later.output(Stream::Stdout).await, "out\n".repeat(5).as_bytes());
    assert_eq!(later.output(Stream::Stderr).await, "err\n".repeat(5).as_bytes());
    true
}

/// Guards against a command that starts beside a drain that could not be forked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_too_few_processes_a_command_has_all_its_output_or_never_starts() {
    let server = Server::with_login_shell("bash");
    let (mut started, mut refused) = (Vec::new(), Vec::new());
    for most in 2..=60 {
        if started.len() == 6 {
            break;
        }
        limit(&server, Some(most));
        let mut attempt = server.attempt(&["/bin/sh", "-c", SAYS], None);
        let said = try_one(&mut attempt).await;
        limit(&server, None);
        let ran = is_whole_or_never_started(&server, attempt).await;
        assert!(ran || !said, "{most}");
        if ran {
            started.push(most)
        } else {
            refused.push(most)
        }
        no_attempt_is_left(&server).await;
    }
    assert!(started.len() == 6 && refused.len() > 6, "{started:?}, not {refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_commands_at_once_within_the_limit_of_shared_hosting_lose_nothing() {
    let server = Server::with_login_shell("bash");
    // Those that never started are tried again, fewer at once where all were in each other's way:
    // what a back-off with jitter comes to.
    let (mut left, mut at_once) = (8, 8);
    for _ in 0..20 {
        limit(&server, Some(35));
        let shells = Arc::new(Shells::new(server.transport(), Account::default()));
        let mut attempts: Vec<_> = (0..at_once.min(left))
            .map(|_| {
                let host = Recorded::new(shells.clone());
                Attempt { host, ..server.attempt(&["/bin/sh", "-c", SAYS], None) }
            })
            .collect();
        drop(shells);
        join_all(attempts.iter_mut().map(try_one)).await;
        limit(&server, None);
        let mut ran = 0;
        for attempt in attempts {
            ran += u32::from(is_whole_or_never_started(&server, attempt).await);
        }
        no_attempt_is_left(&server).await;
        left -= ran;
        if left == 0 {
            return;
        }
        if ran == 0 {
            at_once = (at_once / 2).max(1);
        }
    }
    panic!("{left} of 8 never started, {at_once} at once");
}

/// Supervisors, drains and watches of the server's user are gone, and init has taken note of their
/// ends: until then they count as its processes.
async fn no_attempt_is_left(server: &Server) {
    let user = server.sshd.user().to_owned();
    until(LIMIT, "nobody stays behind", async || {
        let output = std::process::Command::new("ps").args(["-u", &user, "-o", "args="]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let left = |line: &str| line.contains("rc_supervise") || line.starts_with("dd ");
        !text.lines().any(|line| left(line) || line.contains("<defunct>"))
    })
    .await
    .unwrap();
}

async fn a_drain_that_is_gone_is_told_and_never_taken_for_an_end_of_output(sh: Sh) {
    let rig = Rig::new(sh);
    let text = "echo first; until [ -e $RIG/go ]; do sleep 0.1; done";
    let mut attempt = rig.script(text);
    attempt.launch().await;
    attempt.until("the first line", |record| record.output.stdout.bytes > 0).await;
    let claim = fs::read_to_string(attempt.directory(&rig).join("claim")).unwrap();
    let drain: u32 = claim.split(' ').nth(7).unwrap().split('.').next().unwrap().parse().unwrap();
    let drain = Identity::of(drain).unwrap();
    for process in [vec![drain], children(drain.pid)].concat() {
        process.signal(Signal::KILL);
        until(LIMIT, "killed", async || !is_alive(process.pid)).await.unwrap();
    }
    fs::write(rig.place.join("go"), "").unwrap();
    let record = attempt.until("the end", |r| exit_of(r).is_some() && r.output.stderr.ended).await;
    assert!(record.output.stdout.truncated && record.output.stdout.ended, "{record:?}");
    assert!(!record.output.stderr.truncated, "{record:?}");
    assert_eq!(attempt.output(Stream::Stdout).await, b"first\n");
}
