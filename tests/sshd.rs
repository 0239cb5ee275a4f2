//! SSH against real OpenSSH servers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "sshd/keys.rs"]
mod keys;
mod sessions;
mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use remote_command::core::fault::{Cause, Ours, Standing, Transient};
use remote_command::host::hosts::Hosts;
use remote_command::host::networks::Denied;
use remote_command::host::{Event, Input};
use sessions::{End, LIMIT, Secrets, Way, finish, run};
use support::sshd::{Kind, Options, Sshd};
use support::{block_until, until};
use zeroize::Zeroizing;

/// For what takes a few seconds: the defaults that would apply instead are longer.
const SOON: Duration = Duration::from_secs(15);

fn start(lines: &[&str]) -> Sshd {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    Sshd::start(Options { lines, ..Options::default() }).unwrap()
}

fn log_of(sshd: &Sshd) -> String {
    std::fs::read_to_string(sshd.directory().join("sshd.log")).unwrap()
}

fn connections(sshd: &Sshd) -> usize {
    log_of(sshd).matches("Connection from").count()
}

fn secrets(sshd: &Sshd) -> std::sync::Arc<Secrets> {
    Secrets::with_key(&sshd.private_key(Kind::Ed25519).unwrap())
}

fn lost(end: &End) -> Cause {
    end.lost.clone().unwrap_or_else(|| panic!("not lost: {end:?}")).cause
}

fn sh(script: &str) -> String {
    format!("exec /bin/sh -c '{script}'")
}

#[tokio::test]
async fn keys_of_every_kind_log_in() {
    let host_keys = vec![Kind::Ed25519, Kind::Ecdsa, Kind::Rsa];
    let sshd = Sshd::start(Options { host_keys, ..Options::default() }).unwrap();
    for kind in [Kind::Ed25519, Kind::Ecdsa, Kind::Rsa] {
        let hosts = Hosts::new();
        let line = sshd.recipe().known_hosts_line(kind, sshd.port()).unwrap();
        let way = Way::to(&sshd).trusting(&line);
        let secrets = Secrets::with_key(&sshd.private_key(kind).unwrap());
        let transport = hosts.transport("default", &way.connection(), secrets);
        let end = run(transport.as_ref(), &sh("echo out; echo err >&2; exit 3")).await;
        assert_eq!(end.stdout, b"out\n", "{kind:?}: {end:?}");
        assert_eq!(end.stderr, b"err\n");
        assert_eq!((end.status, end.closed), (Some(3), true));
        hosts.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_serves_many_commands() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let way = Way::to(&sshd).connection();
    let transport = hosts.transport("default", &way, secrets(&sshd));
    let began = Instant::now();
    let mut lanes = Vec::new();
    for _ in 0..8 {
        let transport = transport.clone();
        lanes.push(tokio::spawn(async move {
            for _ in 0..25 {
                assert_eq!(run(transport.as_ref(), "true").await.status, Some(0));
            }
        }));
    }
    for lane in lanes {
        lane.await.unwrap();
    }
    println!("{:.0} execs per second", 200.0 / began.elapsed().as_secs_f64());
    assert_eq!(sshd.sessions().len(), 1);
    assert_eq!(log_of(&sshd).matches("Accepted publickey").count(), 1);
    assert_eq!(hosts.active_sessions("default", &way), 0);
    hosts.shutdown().await;
    assert!(block_until(LIMIT, || sshd.sessions().is_empty()));
}

#[tokio::test]
async fn a_command_whose_connection_dies_is_lost_and_the_next_one_dials_again() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    let mut channel = transport.open(&sh("echo here; exec sleep 1000")).await.unwrap();
    assert!(matches!(channel.events.recv().await, Some(Event::Stdout(_))));
    sshd.kill_sessions();
    let end = finish(channel).await;
    assert_eq!(lost(&end), Transient::ConnectionLost.into());
    assert_eq!(end.status, None);
    assert_eq!(run(transport.as_ref(), "true").await.status, Some(0));
}

#[tokio::test]
async fn a_flood_that_nobody_reads_stops_neither_others_nor_their_kill() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    let unread = transport.open(&sh("exec yes")).await.unwrap();
    let mut read = transport.open(&sh("exec yes")).await.unwrap();
    let mut got = 0;
    while got < 32 << 20 {
        let event = tokio::time::timeout(LIMIT, read.events.recv()).await.unwrap();
        let Some(Event::Stdout(bytes)) = event else { panic!("{event:?} after {got}") };
        got += bytes.len();
    }
    drop(read);
    assert_eq!(lost(&finish(unread).await), Ours::LibraryLimit.into());
    let ended = async || sshd.commands().is_empty();
    until(LIMIT, "both had their pipes closed", ended).await.unwrap();
    assert_eq!(sshd.sessions().len(), 1);
}

#[tokio::test]
async fn a_frozen_server_is_noticed_by_keepalive() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let way = Way::to(&sshd).keep_alive(1000, 3).connection();
    let transport = hosts.transport("default", &way, secrets(&sshd));
    let mut channel = transport.open(&sh("echo here; exec sleep 1000")).await.unwrap();
    assert!(matches!(channel.events.recv().await, Some(Event::Stdout(_))));
    sshd.freeze();
    let began = Instant::now();
    let end = finish(channel).await;
    sshd.thaw();
    assert_eq!(lost(&end), Transient::ConnectionLost.into());
    assert!(end.lost.unwrap().message.contains("keepalive"));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_connection_that_takes_no_more_bytes_is_noticed() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let way = Way::to(&sshd).keep_alive(1000, 3).connection();
    let transport = hosts.transport("default", &way, secrets(&sshd));
    let mut channels = Vec::new();
    for _ in 0..8 {
        channels.push(transport.open(&sh("exec cat >/dev/null")).await.unwrap());
    }
    sshd.freeze();
    let began = Instant::now();
    for channel in &channels {
        channel.input.send(Input::Bytes(Zeroizing::new(vec![b'x'; 3 << 20]))).await.unwrap();
    }
    for channel in channels {
        assert_eq!(lost(&finish(channel).await), Transient::ConnectionLost.into());
    }
    sshd.thaw();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn commands_reach_a_host_over_a_jump_host() {
    let (jump, target) = (start(&[]), start(&[]));
    let key = jump.private_key(Kind::Ed25519).unwrap();
    let public = jump.directory().join("client_ed25519.pub");
    std::fs::copy(public, target.directory().join("authorized_keys")).unwrap();
    let hosts = Hosts::new();
    let way = Way::to(&target).via(&Way::to(&jump));
    let secrets = Secrets::with_key(&key);
    let transport = hosts.transport("default", &way.connection(), secrets.clone());
    let end = run(transport.as_ref(), &sh("head -c 3000000 /dev/zero; exit 4")).await;
    assert_eq!((end.stdout.len(), end.status), (3_000_000, Some(4)), "{:?}", end.lost);
    assert!(log_of(&jump).contains("Accepted publickey"));

    jump.kill_sessions();
    assert_eq!(run(transport.as_ref(), "true").await.status, Some(0));

    let nowhere = Way::to_port(1, "nobody").via(&Way::to(&jump));
    let transport = hosts.transport("default", &nowhere.connection(), secrets.clone());
    assert_eq!(lost(&run(transport.as_ref(), "true").await), Transient::HostUnreachable.into());

    let closed = Way::to(&target).via(&Way::to_port(1, "nobody").trusting("x"));
    let transport = hosts.transport("default", &closed.connection(), secrets);
    let fault = run(transport.as_ref(), "true").await.lost.unwrap();
    assert_eq!(fault.cause, Transient::ConnectionRefused.into());
    assert!(fault.message.starts_with("via local: "), "{}", fault.message);
}

#[tokio::test]
async fn behind_a_jump_host_a_denied_network_is_what_the_jump_host_makes_of_it() {
    let (jump, target) = (start(&[]), start(&[]));
    let credentials = secrets(&jump);
    let public = jump.directory().join("client_ed25519.pub");
    std::fs::copy(public, target.directory().join("authorized_keys")).unwrap();
    let hosts = Hosts::new().denying(Denied::only(["0.0.0.0/8".parse().unwrap()]));
    // It leads to this machine, too.
    let known = target.known_hosts_line().unwrap().replace("127.0.0.1", "0.0.0.0");
    let mut way = Way::to(&target).trusting(&known);
    way.hop().address = "0.0.0.0".to_owned();
    let transport = hosts.transport("default", &way.connection(), credentials.clone());
    let before = connections(&target);
    let fault = run(transport.as_ref(), "true").await.lost.unwrap();
    assert_eq!(fault.cause, Standing::PolicyDenied.into());
    assert_eq!(connections(&target), before, "nobody came");
    let over = way.via(&Way::to(&jump)).connection();
    let transport = hosts.transport("default", &over, credentials);
    let end = run(transport.as_ref(), "true").await;
    assert_eq!(end.status, Some(0), "{:?}", end.lost);
}

#[tokio::test]
async fn a_server_with_one_session_per_connection_serves_many_at_once() {
    let sshd = Sshd::start(Options { max_sessions: 1, ..Options::default() }).unwrap();
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    let lanes = (0..6).map(|_| {
        let transport = transport.clone();
        tokio::spawn(async move { run(transport.as_ref(), &sh("sleep 0.3; exit 7")).await })
    });
    for lane in futures::future::join_all(lanes).await {
        let end = lane.unwrap();
        assert_eq!(end.status, Some(7), "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_busy_channels_survive_the_servers_key_exchanges() {
    let sshd = start(&["RekeyLimit 16M", "LogLevel DEBUG1"]);
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    let size = 60_000_000;
    let lanes = (0..4).map(|_| {
        let transport = transport.clone();
        tokio::spawn(async move {
            let mut channel =
                transport.open(&sh(&format!("head -c {size} /dev/zero"))).await.unwrap();
            let mut got = 0;
            while let Some(event) = channel.events.recv().await {
                match event {
                    Event::Stdout(bytes) => got += bytes.len(),
                    Event::Stderr(_) | Event::ExitStatus(0) | Event::Closed => {}
                    other => panic!("{other:?} after {got} bytes"),
                }
            }
            got
        })
    });
    for lane in futures::future::join_all(lanes).await {
        assert_eq!(lane.unwrap(), size);
    }
    let exchanges = log_of(&sshd).matches("SSH2_MSG_NEWKEYS received").count();
    assert!(exchanges > 8, "{exchanges} key exchanges");
    assert_eq!(sshd.sessions().len(), 1);
}

#[tokio::test]
async fn a_consumer_that_does_not_read_stops_nobody_else() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    let flood = transport.open(&sh("echo $$ >&2; exec yes")).await.unwrap();
    for _ in 0..20 {
        let quick = tokio::time::timeout(LIMIT, run(transport.as_ref(), "true")).await;
        assert_eq!(quick.unwrap().status, Some(0));
    }
    assert_eq!(sshd.sessions().len(), 1);
    // The flood was given up once the consumer was too far behind; `yes` had its pipe closed.
    let end = finish(flood).await;
    assert!(end.lost.unwrap().message.contains("behind"), "the end is told");
    let gone = || sshd.commands().is_empty();
    assert!(block_until(LIMIT, gone), "yes has ended");
}

#[tokio::test]
async fn a_kill_is_not_stuck_behind_input_that_nobody_reads() {
    let login = support::login::Login::Shell("/bin/sh".into());
    let sshd = Sshd::start(Options { login, ..Options::default() }).unwrap();
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    let channel = transport.open(&sh("exec sleep 1000")).await.unwrap();
    // More than the server's window: the writer waits, for a reader that never comes.
    channel.input.send(Input::Bytes(Zeroizing::new(vec![b'x'; 4 << 20]))).await.unwrap();
    until(LIMIT, "sleep runs", async || !sshd.commands().is_empty()).await.unwrap();
    channel.input.send(Input::Signal("KILL")).await.unwrap();
    let end = finish(channel).await;
    assert_eq!(end.signal.as_deref(), Some("KILL"));
}

#[tokio::test]
async fn a_writer_does_not_hang_when_the_command_ends_without_reading() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    let channel = transport.open(&sh("sleep 0.5; exit 9")).await.unwrap();
    let input = channel.input.clone();
    let writer = tokio::spawn(async move {
        while input.send(Input::Bytes(Zeroizing::new(vec![b'x'; 1 << 20]))).await.is_ok() {}
    });
    assert_eq!(finish(channel).await.status, Some(9));
    tokio::time::timeout(LIMIT, writer).await.unwrap().unwrap();

    let channel = transport.open(&sh("exec sleep 1000")).await.unwrap();
    let input = channel.input.clone();
    let writer = tokio::spawn(async move {
        while input.send(Input::Bytes(Zeroizing::new(vec![b'x'; 1 << 20]))).await.is_ok() {}
    });
    until(LIMIT, "sleep runs", async || !sshd.commands().is_empty()).await.unwrap();
    sshd.kill_sessions();
    assert!(finish(channel).await.lost.is_some());
    tokio::time::timeout(LIMIT, writer).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_background_child_that_holds_the_output_does_not_hold_the_end() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let way = Way::to(&sshd).connection();
    let transport = hosts.transport("default", &way, secrets(&sshd));
    let began = Instant::now();
    let end = run(transport.as_ref(), &sh("sleep 1000 & exit 5")).await;
    assert_eq!((end.status, end.closed, end.detached), (Some(5), false, true));
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2) && took < SOON, "{took:?}");
    assert_eq!(hosts.active_sessions("default", &way), 0);
}

#[tokio::test]
async fn a_signal_is_told_by_its_name() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    for name in ["TERM", "KILL", "USR1", "SEGV"] {
        let end = run(transport.as_ref(), &sh(&format!("kill -{name} $$"))).await;
        assert_eq!((end.signal.as_deref(), end.closed), (Some(name), true), "{end:?}");
    }
}

#[tokio::test]
async fn a_refused_key_is_not_offered_again_and_again() {
    let (sshd, other) = (start(&[]), start(&[]));
    let before = connections(&sshd);
    let hosts = Hosts::new();
    let secrets = secrets(&other);
    let way = Way::to(&sshd).connection();
    let transport = hosts.transport("default", &way, secrets.clone());
    for _ in 0..20 {
        let cause = lost(&run(transport.as_ref(), "true").await);
        assert_eq!(cause, Standing::AuthenticationRejected.into());
        // Even someone who asks to look again at once does not make it be offered.
        hosts.poke("default", "key");
    }
    assert_eq!(connections(&sshd) - before, 1, "{}", log_of(&sshd));

    // With another credential it goes on at once.
    secrets.set(&[("ssh-privatekey", &sshd.private_key(Kind::Ed25519).unwrap())]);
    hosts.poke("default", "key");
    assert_eq!(run(transport.as_ref(), "true").await.status, Some(0));
}

#[tokio::test]
async fn credentials_that_cannot_be_used_reach_nobody() {
    let sshd = start(&[]);
    let before = connections(&sshd);
    let key = sshd.private_key(Kind::Ed25519).unwrap();
    let broken: &[&[(&str, &str)]] = &[
        &[],
        &[("other", "x")],
        &[("ssh-privatekey", "no key at all")],
        &[("ssh-privatekey", &key), ("ssh-certificate", "nonsense")],
    ];
    for values in broken {
        let hosts = Hosts::new();
        let way = Way::to(&sshd).connection();
        let transport = hosts.transport("default", &way, Secrets::of(values));
        let cause = lost(&run(transport.as_ref(), "true").await);
        assert_eq!(cause, Standing::CredentialsInvalid.into(), "{values:?}");
    }
    assert_eq!(connections(&sshd), before, "{}", log_of(&sshd));
}

fn keygen(arguments: &[&str], directory: &Path) {
    let output = Command::new("ssh-keygen").args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("ssh-keygen (openssh-client): {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn an_encrypted_key_needs_its_passphrase() {
    let sshd = start(&[]);
    sshd.private_key(Kind::Ed25519).unwrap();
    keygen(&["-q", "-p", "-N", "a b c", "-f", "client_ed25519"], sshd.directory());
    let key = sshd.private_key(Kind::Ed25519).unwrap();
    for (passphrase, status) in [("a b c\n", Some(0)), ("wrong", None)] {
        let hosts = Hosts::new();
        let values = [("ssh-privatekey", key.as_str()), ("passphrase", passphrase)];
        let way = Way::to(&sshd).connection();
        let transport = hosts.transport("default", &way, Secrets::of(&values));
        let end = run(transport.as_ref(), "true").await;
        assert_eq!(end.status, status, "{end:?}");
    }
}

#[tokio::test]
async fn certificates_of_users_and_hosts_are_honoured() {
    for (kind, bits) in [("ed25519", "256"), ("rsa", "2048"), ("ecdsa", "256")] {
        let sshd = start(&[]);
        let directory = sshd.directory();
        keygen(&["-q", "-N", "", "-t", "ed25519", "-f", "ca"], directory);
        keygen(&["-q", "-N", "", "-t", kind, "-b", bits, "-f", "user"], directory);
        keygen(&["-q", "-s", "ca", "-I", "id", "-n", sshd.user(), "user.pub"], directory);
        let host = ["-q", "-h", "-s", "ca", "-I", "h", "-n", "127.0.0.1", "host_ed25519.pub"];
        keygen(&host, directory);
        sshd.stop();
        let configuration = directory.join("sshd_config");
        let lines = std::fs::read_to_string(&configuration).unwrap();
        let of = |name: &str| directory.join(name).display().to_string();
        let more = format!(
            "TrustedUserCAKeys {}\nHostCertificate {}\n",
            of("ca.pub"),
            of("host_ed25519-cert.pub")
        );
        std::fs::write(&configuration, more + &lines).unwrap();
        sshd.go_on().unwrap();

        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
        let values = [("ssh-privatekey", read("user")), ("ssh-certificate", read("user-cert.pub"))];
        let values: Vec<_> = values.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let secrets = Secrets::of(&values);
        let authority = format!("@cert-authority [127.0.0.1]:* {}", read("ca.pub"));
        let hosts = Hosts::new();
        let way = Way::to(&sshd).trusting(&authority);
        let transport = hosts.transport("default", &way.connection(), secrets.clone());
        let end = run(transport.as_ref(), "true").await;
        assert_eq!(end.status, Some(0), "{kind}: {end:?}\n{}", log_of(&sshd));

        let elsewhere = format!("@cert-authority *.example.net {}", read("ca.pub"));
        let way = Way::to(&sshd).trusting(&elsewhere);
        let transport = hosts.transport("default", &way.connection(), secrets);
        let cause = lost(&run(transport.as_ref(), "true").await);
        assert_eq!(cause, Standing::HostKeyUnknown.into());
    }
}

#[tokio::test]
async fn only_a_known_host_key_is_talked_to() {
    let (sshd, other) = (start(&[]), start(&[]));
    let own = sshd.known_hosts_line().unwrap();
    let theirs = other.recipe().known_hosts_line(Kind::Ed25519, sshd.port()).unwrap();
    let revoked = format!("{own}@revoked {own}");
    let cases = [
        (String::new(), Standing::HostKeyUnknown),
        (theirs, Standing::HostKeyMismatch),
        (revoked, Standing::HostKeyRevoked),
    ];
    for (known_hosts, standing) in cases {
        let hosts = Hosts::new();
        let way = Way::to(&sshd).trusting(&known_hosts);
        let transport = hosts.transport("default", &way.connection(), secrets(&sshd));
        assert_eq!(lost(&run(transport.as_ref(), "true").await), standing.into());
    }
    assert!(!log_of(&sshd).contains("Accepted"), "nothing was proved to a stranger");

    let hosts = Hosts::new();
    let facts = hosts.check("default", &Way::to(&sshd).connection(), secrets(&sshd)).await.unwrap();
    assert!(facts.server_version.starts_with("SSH-2.0-OpenSSH"), "{facts:?}");
    let pinned = Way::to(&sshd).pinning(&facts.host_key_fingerprint);
    let transport = hosts.transport("default", &pinned.connection(), secrets(&sshd));
    assert_eq!(run(transport.as_ref(), "true").await.status, Some(0));
}
