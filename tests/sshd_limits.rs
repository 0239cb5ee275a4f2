//! Real OpenSSH servers at their limits: sessions, start-ups, authentications, keys, silence.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod sessions;
mod support;

use std::io::Read as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remote_command::core::connection::Connection;
use remote_command::core::fault::{Cause, Ours, Standing, Transient};
use remote_command::host::hosts::Hosts;
use remote_command::host::{Event, Input, Transport};
use sessions::{End, LIMIT, Secrets, Way, finish, run};
use support::link::Link;
use support::sshd::{Kind, Options, Sshd};
use support::wire::Wire;
use support::{block_until, until};

/// For what takes a few seconds: the defaults that would apply instead are longer.
const SOON: Duration = Duration::from_secs(15);

fn start(lines: &[&str]) -> Sshd {
    let lines = lines.iter().map(|line| (*line).to_owned()).collect();
    Sshd::start(Options { lines, ..Options::default() }).unwrap()
}

fn log_of(sshd: &Sshd) -> String {
    std::fs::read_to_string(sshd.directory().join("sshd.log")).unwrap()
}

fn secrets(sshd: &Sshd) -> Arc<Secrets> {
    Secrets::with_key(&sshd.private_key(Kind::Ed25519).unwrap())
}

fn lost(end: &End) -> Cause {
    end.lost.clone().unwrap_or_else(|| panic!("not lost: {end:?}")).cause
}

fn sh(script: &str) -> String {
    format!("exec /bin/sh -c '{script}'")
}

/// Reads `size` bytes on each of `lanes` channels at once; those that were lost, by their fault.
async fn load(transport: &Arc<dyn Transport>, lanes: usize, size: usize) -> Vec<Cause> {
    let lanes = (0..lanes).map(|_| {
        let transport = transport.clone();
        tokio::spawn(async move {
            let opened = transport.open(&sh(&format!("head -c {size} /dev/zero"))).await;
            let mut channel = opened.map_err(|fault| fault.cause)?;
            let mut got = 0;
            while let Some(event) = channel.events.recv().await {
                match event {
                    Event::Stdout(bytes) => got += bytes.len(),
                    Event::Stderr(_) | Event::ExitStatus(0) | Event::Closed => {}
                    Event::Lost(fault) => return Err(fault.cause),
                    other => panic!("{other:?} after {got} bytes"),
                }
            }
            assert_eq!(got, size);
            Ok(())
        })
    });
    let ends = futures::future::join_all(lanes).await;
    ends.into_iter().filter_map(|end| end.unwrap().err()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_exchange_that_we_begin_kills_a_busy_connection_and_the_servers_do_not() {
    let sshd = start(&["RekeyLimit 16M", "LogLevel DEBUG1"]);
    let way = Way::to(&sshd).connection();
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &way, secrets(&sshd));
    assert_eq!(load(&transport, 8, 40_000_000).await, []);
    let exchanges = log_of(&sshd).matches("SSH2_MSG_NEWKEYS received").count();
    assert!(exchanges > 8, "{exchanges} key exchanges");
    assert_eq!(sshd.sessions().len(), 1);
    hosts.shutdown().await;

    // The trap: the library's own exchange does not survive what is on its way meanwhile.
    let sshd = start(&[]);
    let way = Way::to(&sshd).connection();
    let mut deaths = Vec::new();
    for _ in 0..5 {
        let hosts = Hosts::with_wear(8 << 20, u64::MAX);
        let transport = hosts.transport("default", &way, secrets(&sshd));
        deaths = load(&transport, 8, 40_000_000).await;
        hosts.shutdown().await;
        if !deaths.is_empty() {
            break;
        }
    }
    assert!(deaths.contains(&Ours::LibraryLimit.into()), "{deaths:?}");
}

#[tokio::test]
async fn a_worn_connection_takes_no_new_commands_and_ends_with_its_last_one() {
    let sshd = start(&[]);
    let hosts = Hosts::with_wear(16 << 30, 1 << 20);
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    let old = transport.open(&sh("echo here; read line; exit 4")).await.unwrap();
    assert_eq!(run(transport.as_ref(), &sh("head -c 3000000 /dev/zero")).await.status, Some(0));
    assert_eq!(sshd.sessions().len(), 1);
    let new = transport.open(&sh("read line")).await.unwrap();
    assert_eq!(sshd.sessions().len(), 2);
    old.input.send(Input::Eof).await.unwrap();
    assert_eq!(finish(old).await.status, Some(4));
    let one = || sshd.sessions().len() == 1;
    assert!(block_until(LIMIT, one), "the worn one has ended");
    drop(new);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_output_arrives_over_a_slow_link_too() {
    let sshd = start(&[]);
    let link = Link::start(sshd.port()).await.unwrap();
    let line = sshd.recipe().known_hosts_line(Kind::Ed25519, link.port()).unwrap();
    let hosts = Hosts::new();
    let way = Way::to_port(link.port(), sshd.user()).trusting(&line);
    let transport = hosts.transport("default", &way.connection(), secrets(&sshd));
    assert_eq!(run(transport.as_ref(), "true").await.status, Some(0));
    link.slow(Duration::from_millis(200)).await.unwrap();
    let end = run(transport.as_ref(), &sh("head -c 2000000 /dev/zero; exit 3")).await;
    assert_eq!((end.stdout.len(), end.status, end.closed), (2_000_000, Some(3), true));
}

#[tokio::test]
async fn processes_left_running_hold_their_sessions() {
    let sshd = Sshd::start(Options { max_sessions: 2, ..Options::default() }).unwrap();
    let hosts = Hosts::new();
    let way = Way::to(&sshd).sessions(2).connection();
    let transport = hosts.transport("default", &way, secrets(&sshd));
    for _ in 0..2 {
        let channel = transport.open(&sh("exec sleep 1000")).await.unwrap();
        channel.input.send(Input::Close).await.unwrap();
        assert_eq!(lost(&finish(channel).await), Transient::ConnectionLost.into());
    }
    assert_eq!(sshd.commands().len(), 2);
    for _ in 0..3 {
        assert_eq!(run(transport.as_ref(), "true").await.status, Some(0));
    }
    assert_eq!(log_of(&sshd).matches("Accepted publickey").count(), 2);
}

/// Helper shells that nobody uses are let go by this.
#[tokio::test]
async fn a_machine_whose_channels_are_all_in_use_says_so() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let way = Way::to(&sshd).sessions(1).connection();
    let transport = hosts.transport("default", &way, secrets(&sshd));
    let mut lanes = Vec::new();
    for _ in 0..16 {
        assert!(!transport.is_full(), "{} of 16", lanes.len());
        lanes.push(transport.open(&sh("read line")).await.unwrap());
    }
    assert!(transport.is_full());
    drop(lanes.pop());
    until(LIMIT, "room for one more", async || !transport.is_full()).await.unwrap();
    lanes.push(transport.open("true").await.unwrap());
}

#[tokio::test]
async fn a_limit_that_was_learned_is_forgotten_when_the_host_changes() {
    let sshd = Sshd::start(Options { max_sessions: 1, ..Options::default() }).unwrap();
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    let connections = async || {
        let lanes = [(); 3].map(|()| transport.open("read line"));
        let lanes = futures::future::join_all(lanes).await;
        let lanes: Vec<_> = lanes.into_iter().map(Result::unwrap).collect();
        let count = sshd.sessions().len();
        for lane in lanes {
            lane.input.send(Input::Eof).await.unwrap();
            finish(lane).await;
        }
        count
    };
    assert_eq!(connections().await, 3);
    sshd.stop();
    let file = sshd.directory().join("sshd_config");
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, lines.replace("MaxSessions 1\n", "MaxSessions 10\n")).unwrap();
    sshd.go_on().unwrap();
    hosts.poke("default", "local");
    assert_eq!(connections().await, 1);
}

#[tokio::test]
async fn one_bad_credential_is_offered_once_by_all_of_a_namespace_and_a_few_times_by_all_others() {
    let (sshd, other) = (start(&["LogLevel DEBUG1"]), start(&[]));
    let offers = || log_of(&sshd).matches("method publickey").count();
    let (bad, good) = (other.private_key(Kind::Ed25519), sshd.private_key(Kind::Ed25519));
    let (bad, good) = (bad.unwrap(), good.unwrap());
    let all = async |hosts: &Hosts, key: &str, scope: &dyn Fn(u32) -> String| {
        let all = (1..=20).map(|number| {
            // Connections of their own, also within one namespace.
            let way = Connection { sessions: number, ..Way::to(&sshd).connection() };
            let transport = hosts.transport(&scope(number), &way, Secrets::with_key(key));
            async move { run(transport.as_ref(), "true").await }
        });
        futures::future::join_all(all).await
    };
    let hosts = Hosts::new();
    for end in all(&hosts, &bad, &|_| "bad".to_owned()).await {
        assert_eq!(lost(&end), Standing::AuthenticationRejected.into());
    }
    assert_eq!(offers(), 1, "{}", log_of(&sshd));
    for end in all(&hosts, &good, &|number| format!("good-{number}")).await {
        assert_eq!(end.status, Some(0), "{:?}", end.lost);
    }
    let before = offers();
    for end in all(&hosts, &bad, &|number| format!("bad-{number}")).await {
        let cause = lost(&end);
        let refused = cause == Standing::AuthenticationRejected.into();
        assert!(refused || cause == Transient::Throttled.into(), "{cause:?}");
    }
    assert!(offers() <= before + 2, "{}", log_of(&sshd));
}

#[tokio::test]
async fn a_fingerprint_pins_any_of_a_servers_keys() {
    let host_keys = vec![Kind::Ed25519, Kind::Ecdsa, Kind::Rsa];
    let sshd = Sshd::start(Options { host_keys, ..Options::default() }).unwrap();
    let pin = |kind: Kind| {
        let file = sshd.directory().join(format!("host_{}.pub", kind.name()));
        let output = Command::new("ssh-keygen").arg("-lf").arg(file).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    for kind in [Kind::Ed25519, Kind::Ecdsa, Kind::Rsa] {
        let hosts = Hosts::new();
        let way = Way::to(&sshd).pinning(&pin(kind));
        let transport = hosts.transport("default", &way.connection(), secrets(&sshd));
        let end = run(transport.as_ref(), "true").await;
        assert_eq!(end.status, Some(0), "{kind:?}: {end:?}");
        let facts = hosts.check("default", &way.connection(), secrets(&sshd)).await.unwrap();
        assert_eq!(facts.host_key_fingerprint, pin(kind));
    }
    let hosts = Hosts::new();
    let way = Way::to(&sshd).pinning("SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let transport = hosts.transport("default", &way.connection(), secrets(&sshd));
    let end = run(transport.as_ref(), "true").await;
    assert_eq!(lost(&end), Standing::HostKeyMismatch.into(), "{end:?}");
}

#[tokio::test]
async fn a_server_with_nothing_in_common_is_told() {
    for line in ["Ciphers aes128-cbc", "KexAlgorithms diffie-hellman-group14-sha1"] {
        let sshd = start(&[line]);
        let hosts = Hosts::new();
        let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
        let end = run(transport.as_ref(), "true").await;
        assert_eq!(lost(&end), Standing::NoCommonAlgorithm.into(), "{line}: {end:?}");
    }
}

#[tokio::test]
async fn a_full_or_impatient_server_is_told_by_its_words() {
    let sshd = start(&["MaxStartups 1:100:1"]);
    let mut waiting = None;
    assert!(block_until(LIMIT, || {
        // The probe for readiness may still be counted.
        let mut stream = std::net::TcpStream::connect((sshd.address(), sshd.port())).unwrap();
        let mut start = [0; 4];
        let welcome = stream.read_exact(&mut start).is_ok() && &start == b"SSH-";
        waiting = welcome.then_some(stream);
        welcome
    }));
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&sshd));
    let end = run(transport.as_ref(), "true").await;
    assert_eq!(lost(&end), Transient::Throttled.into(), "{end:?}");
    drop(waiting);
    let heals = async || run(transport.as_ref(), "true").await.status == Some(0);
    until(LIMIT, "its turn comes", heals).await.unwrap();

    let (sshd, other) = (start(&["MaxAuthTries 1"]), start(&[]));
    let transport = hosts.transport("default", &Way::to(&sshd).connection(), secrets(&other));
    let end = run(transport.as_ref(), "true").await;
    assert_eq!(lost(&end), Standing::AuthenticationRejected.into(), "{end:?}");
}

#[tokio::test]
async fn one_missed_keepalive_means_one_interval() {
    let sshd = start(&[]);
    let hosts = Hosts::new();
    let way = Way::to(&sshd).keep_alive(6000, 1).connection();
    let transport = hosts.transport("default", &way, secrets(&sshd));
    let mut channel = transport.open(&sh("echo here; exec sleep 1000")).await.unwrap();
    assert!(matches!(channel.events.recv().await, Some(Event::Stdout(_))));
    sshd.freeze();
    let began = Instant::now();
    let end = finish(channel).await;
    sshd.thaw();
    assert_eq!(lost(&end), Transient::ConnectionLost.into());
    // Two intervals would be 12 seconds.
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_target_that_falls_silent_behind_a_jump_host_is_noticed() {
    let (jump, target) = (start(&[]), start(&[]));
    let key = jump.private_key(Kind::Ed25519).unwrap();
    let public = jump.directory().join("client_ed25519.pub");
    std::fs::copy(public, target.directory().join("authorized_keys")).unwrap();
    let hosts = Hosts::new();
    let way = Way::to(&target).keep_alive(1000, 3).via(&Way::to(&jump));
    let transport = hosts.transport("default", &way.connection(), Secrets::with_key(&key));
    let mut channel = transport.open(&sh("echo here; exec sleep 1000")).await.unwrap();
    assert!(matches!(channel.events.recv().await, Some(Event::Stdout(_))));
    target.freeze();
    let began = Instant::now();
    let end = finish(channel).await;
    assert_eq!(lost(&end), Transient::ConnectionLost.into());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());

    // Its kernel still accepts connections, on which nothing is said.
    let way = Way::to(&target).limits(5000, 1000, 1000).via(&Way::to(&jump));
    let transport = hosts.transport("default", &way.connection(), Secrets::with_key(&key));
    let end = run(transport.as_ref(), "true").await;
    target.thaw();
    assert_eq!(lost(&end), Transient::HandshakeTimeout.into(), "{end:?}");
}

#[tokio::test]
async fn packets_that_vanish_are_noticed_and_their_return_is_too() {
    let wire = Arc::new(Wire::start().unwrap());
    let sshd = Sshd::start(Options { wire: Some(wire.clone()), ..Options::default() }).unwrap();
    let mut way = Way::to(&sshd).keep_alive(1000, 3).limits(1000, 10_000, 10_000);
    way.hop().address = sshd.address().to_string();
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &way.connection(), secrets(&sshd));
    let mut reading = transport.open(&sh("echo here; exec sleep 1000")).await.unwrap();
    assert!(matches!(reading.events.recv().await, Some(Event::Stdout(_))));
    let writing = transport.open(&sh("exec sleep 1000")).await.unwrap();
    let jump = start(&[]);
    let key = jump.private_key(Kind::Ed25519).unwrap();
    wire.cut().unwrap();
    let began = Instant::now();
    let bytes = zeroize::Zeroizing::new(vec![b'x'; 1 << 20]);
    writing.input.send(Input::Bytes(bytes)).await.unwrap();
    for channel in [reading, writing] {
        assert_eq!(lost(&finish(channel).await), Transient::ConnectionLost.into());
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(lost(&run(transport.as_ref(), "true").await), Transient::ConnectTimeout.into());

    // A jump host that waits for its own connection has the target's limit.
    let over = way.clone().via(&Way::to(&jump)).connection();
    let over = hosts.transport("default", &over, Secrets::with_key(&key));
    let began = Instant::now();
    assert_eq!(lost(&run(over.as_ref(), "true").await), Transient::ConnectTimeout.into());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());

    wire.heal().unwrap();
    let heals = async || run(transport.as_ref(), "true").await.status == Some(0);
    until(LIMIT, "it is reached again", heals).await.unwrap();
}
