//! SSH against servers that misbehave on purpose: each stage fails with its own reason,
//! within its own bound, and leaves nothing behind.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "sessions/odd.rs"]
mod odd;
#[path = "ssh/others.rs"]
mod others;
mod sessions;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use odd::{Odd, Plain, Server, Then};
use remote_command::core::fault::{Cause, Ours, Standing, Transient};
use remote_command::host::Transport;
use remote_command::host::hosts::{Hosts, Whose};
use remote_command::host::networks::Denied;
use remote_command::host::recorded::Shells;
use remote_command::shim::Account;
use sessions::{End, LIMIT, Secrets, Way, finish, run};
use support::link::Link;
use support::until;

fn to(server: &Server) -> Way {
    Way::to_port(server.port, "somebody").trusting(&server.known_hosts)
}

fn transport(hosts: &Hosts, server: &Server, way: &Way) -> Arc<dyn Transport> {
    hosts.transport("default", &way.connection(), Secrets::with_key(&server.client_key))
}

fn lost(end: &End) -> Cause {
    end.lost.clone().unwrap_or_else(|| panic!("not lost: {end:?}")).cause
}

/// Fails with this cause, not before `least` and soon after it.
async fn fails(transport: &dyn Transport, cause: impl Into<Cause>, least: Duration) -> String {
    let began = Instant::now();
    let end = run(transport, "true").await;
    let took = began.elapsed();
    assert_eq!(lost(&end), cause.into(), "{end:?}");
    assert!(took >= least && took < least + SOON, "{took:?}");
    end.lost.unwrap().message
}

/// For what happens without a limit running out.
const AT_ONCE: Duration = Duration::ZERO;

/// What a slow machine may add to a limit, or take where none runs out.
const SOON: Duration = Duration::from_secs(8);

fn plain(hosts: &Hosts, port: u16) -> Arc<dyn Transport> {
    dialled(hosts, &Way::to_port(port, "somebody"))
}

/// With limits for connecting and for the handshake that soon run out.
fn hasty(hosts: &Hosts, port: u16) -> Arc<dyn Transport> {
    dialled(hosts, &Way::to_port(port, "somebody").limits(800, 900, 700))
}

fn dialled(hosts: &Hosts, way: &Way) -> Arc<dyn Transport> {
    let way = way.clone().trusting("x");
    let key = odd::new_key().to_openssh(Default::default()).unwrap();
    hosts.transport("default", &way.connection(), Secrets::with_key(&key))
}

#[tokio::test]
async fn what_fails_before_the_handshake_has_its_own_reasons() {
    let hosts = Hosts::new();
    fails(plain(&hosts, 1).as_ref(), Transient::ConnectionRefused, AT_ONCE).await;

    let mut way = Way::to_port(22, "somebody").trusting("x");
    way.hop().address = "no-such-host.invalid".to_owned();
    let key = odd::new_key().to_openssh(Default::default()).unwrap();
    let nowhere = hosts.transport("default", &way.connection(), Secrets::with_key(&key));
    let end = run(nowhere.as_ref(), "true").await;
    assert_eq!(lost(&end), Transient::NameResolutionFailed.into());

    let hung_up = Plain::start("", true).await;
    fails(plain(&hosts, hung_up.port).as_ref(), Transient::HostUnreachable, AT_ONCE).await;

    for text in ["Exceeded MaxStartups\r\n", "Not allowed at this time\r\n"] {
        let busy = Plain::start(text, true).await;
        let said = fails(plain(&hosts, busy.port).as_ref(), Transient::Throttled, AT_ONCE).await;
        assert!(said.contains(text.trim()), "{said}");
    }

    let web = Plain::start("HTTP/1.1 400 Bad Request\r\n\r\n", true).await;
    let said = fails(plain(&hosts, web.port).as_ref(), Ours::ProtocolError, AT_ONCE).await;
    assert!(said.contains("no SSH server") && !said.contains("400"), "{said}");

    // What is no SSH server is not read out because it knows the words of one that is busy.
    let sly = Plain::start("secret Exceeded MaxStartups secret\r\n", true).await;
    let said = fails(plain(&hosts, sly.port).as_ref(), Transient::Throttled, AT_ONCE).await;
    assert!(!said.contains("secret"), "{said}");
}

#[tokio::test]
async fn however_a_denied_address_is_spelled_nothing_is_sent_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let hosts = Hosts::new().denying(Denied::usual([]));
    for address in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "localhost",
        "LOCALHOST",
        "0",
        "0.0.0.0",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
    ] {
        let mut way = Way::to_port(port, "somebody");
        way.hop().address = address.to_owned();
        let denied = dialled(&hosts, &way);
        let said = fails(denied.as_ref(), Standing::PolicyDenied, AT_ONCE).await;
        assert!(said.contains("--deny-network") && said.contains(address), "{said}");
    }
    let knocked = listener.accept().map(drop).unwrap_err();
    assert_eq!(knocked.kind(), std::io::ErrorKind::WouldBlock, "nobody came");
}

#[tokio::test]
async fn a_connection_that_is_not_accepted_times_out() {
    // A listener whose queue is full: the kernel drops further requests to connect.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    for _ in 0..4 {
        let one = tokio::net::TcpStream::connect(address);
        queued.push(tokio::time::timeout(Duration::from_millis(200), one).await);
    }
    let hosts = Hosts::new();
    let transport = hasty(&hosts, address.port());
    fails(transport.as_ref(), Transient::ConnectTimeout, Duration::from_millis(800)).await;
}

#[tokio::test]
async fn a_silent_or_stalling_handshake_times_out_and_leaves_no_socket() {
    for (words, missing) in [("", "banner"), ("SSH-2.0-odd\r\n", "key exchange")] {
        let server = Plain::start(words, false).await;
        let hosts = Hosts::new();
        let transport = hasty(&hosts, server.port);
        let limit = Duration::from_millis(900);
        let said = fails(transport.as_ref(), Transient::HandshakeTimeout, limit).await;
        assert!(said.contains(missing), "{said}");
        until(LIMIT, "closed", async || server.counts.ended() == 1).await.unwrap();
    }
}

#[tokio::test]
async fn a_stage_with_a_longer_limit_than_a_report_is_told_by_its_own_name() {
    let server = Plain::start("SSH-2.0-odd\r\n", false).await;
    let way = Way::to_port(server.port, "somebody").trusting("x").limits(1000, 2000, 1000);
    let key = odd::new_key().to_openssh(Default::default()).unwrap();
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &way.connection(), Secrets::with_key(&key));
    let brief = Duration::from_secs(1);
    let shells = Arc::new(Shells::new(transport, Account::default()).with_reply_limit(brief));
    // More than there are shells: those who wait for one are told the same.
    let all = (0..4).map(|_| shells.identify(None));
    for told in futures::future::join_all(all).await {
        assert_eq!(told.unwrap_err().cause, Transient::HandshakeTimeout.into());
    }
}

#[tokio::test]
async fn a_reason_to_disconnect_during_the_handshake_is_told() {
    const TOO_MANY: u8 = 12;
    let words = b"come back later";
    let mut payload = vec![1, 0, 0, 0, TOO_MANY, 0, 0, 0, words.len() as u8];
    payload.extend(words);
    payload.extend([0; 4]);
    // RFC 4253, 6: the whole is a multiple of 8, with 4 bytes of padding at least.
    let padding = 4 + (8 - (5 + payload.len() + 4) % 8) % 8;
    let mut text = b"SSH-2.0-odd\r\n".to_vec();
    text.extend([0, 0, 0, (1 + payload.len() + padding) as u8, padding as u8]);
    text.extend(payload);
    text.extend(vec![0; padding]);
    let text: &'static str = String::from_utf8(text).unwrap().leak();
    let server = Plain::start(text, false).await;
    let said =
        fails(plain(&Hosts::new(), server.port).as_ref(), Transient::Throttled, AT_ONCE).await;
    assert!(said.contains("come back later"), "{said}");
}

#[tokio::test]
async fn a_server_that_hangs_up_on_a_credential_is_not_offered_it_again_and_again() {
    let server = Server::start(Odd::AuthHangUp).await;
    let hosts = Hosts::new();
    let transport = transport(&hosts, &server, &to(&server));
    for _ in 0..5 {
        let cause = lost(&run(transport.as_ref(), "true").await);
        assert_eq!(cause, Transient::ConnectionLost.into());
        hosts.poke("default", "key");
    }
    assert_eq!(server.counts.connections(), 1);
}

/// Guards against a login that is refused without a word, where the server said why.
#[tokio::test]
async fn what_a_server_said_before_it_refused_is_told() {
    const BOOTING: &str = "System is booting up. Unprivileged users are not permitted to log in.\n";
    for (banner, then, cause, told) in [
        (
            BOOTING,
            Then::HangsUp,
            Cause::from(Standing::HostUnusable),
            "it said: System is booting up.",
        ),
        (BOOTING, Then::Refuses, Standing::AuthenticationRejected.into(), "had said: System is"),
        (
            "Closed\r\nfor \u{1b}[2Jlunch",
            Then::HangsUp,
            Transient::ConnectionLost.into(),
            "closed the connection; it had said: Closed for \u{fffd}[2Jlunch",
        ),
    ] {
        let server = Server::start(Odd::Shows(banner, then)).await;
        let hosts = Hosts::new();
        let transport = transport(&hosts, &server, &to(&server));
        let said = fails(transport.as_ref(), cause, AT_ONCE).await;
        assert!(said.contains(told), "{said}");
    }
}

/// Guards against a person's word that has no effect for an hour, and against one that counts for
/// more than one try.
#[tokio::test]
async fn a_refused_credential_is_offered_once_more_when_somebody_asks() {
    let server = Server::start(Odd::Shows("no", Then::Refuses)).await;
    let hosts = Hosts::new();
    let way = to(&server);
    let transport = transport(&hosts, &server, &way);
    let rejected = Standing::AuthenticationRejected;
    fails(transport.as_ref(), rejected, AT_ONCE).await;
    hosts.reconsider("default", Whose::RemoteHost("local"));
    fails(transport.as_ref(), rejected, AT_ONCE).await;
    assert_eq!(server.counts.connections(), 1);
    hosts.ask_again("default", Whose::RemoteHost("local"));
    for _ in 0..3 {
        fails(transport.as_ref(), rejected, AT_ONCE).await;
    }
    assert_eq!(server.counts.connections(), 2);
    hosts.ask_again("default", Whose::Way(&way.connection()));
    fails(transport.as_ref(), Transient::Throttled, AT_ONCE).await;
    assert_eq!(server.counts.connections(), 2, "the server has refused enough for now");
}

#[tokio::test]
async fn new_connections_are_made_on_demand_but_not_again_at_once() {
    let server = Server::start(Odd::Deaf).await;
    let hosts = Hosts::new();
    let transport = transport(&hosts, &server, &to(&server));
    let mut old = transport.open("old").await.unwrap();
    for (renewed, connections) in [(true, 2), (false, 2)] {
        assert_eq!(transport.renew(), renewed);
        let _new = transport.open("new").await.unwrap();
        assert_eq!(server.counts.connections(), connections);
    }
    assert!(old.events.try_recv().is_err(), "what runs on the old one goes on");
}

#[tokio::test]
async fn who_waits_for_a_session_tries_again_when_a_failed_dial_has_rested() {
    let server = Server::start(Odd::Deaf).await;
    let hosts = Hosts::new();
    let transport = transport(&hosts, &server, &to(&server).sessions(1));
    let _first = transport.open("first").await.unwrap();
    server.counts.hangs_up.store(true, Ordering::SeqCst);
    let second = tokio::spawn(async move { transport.open("second").await.map(drop) });
    until(LIMIT, "it dials", async || server.counts.connections() == 2).await.unwrap();
    server.counts.hangs_up.store(false, Ordering::SeqCst);
    // A turn in the queue may take 30 seconds; the rest of a failed dial takes one.
    let brief = Duration::from_secs(20);
    tokio::time::timeout(brief, second).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_host_sees_few_handshakes_at_once() {
    let server = Plain::start("", false).await;
    let hosts = Hosts::new();
    let way = Way::to_port(server.port, "somebody").trusting("x").limits(5000, 1000, 1000);
    let key = odd::new_key().to_openssh(Default::default()).unwrap();
    let most = AtomicUsize::new(0);
    let all = async {
        let all = (0..10).map(|scope| {
            let secrets = Secrets::with_key(&key);
            let transport = hosts.transport(&scope.to_string(), &way.connection(), secrets);
            async move { lost(&run(transport.as_ref(), "true").await) }
        });
        futures::future::join_all(all).await
    };
    let watch = async {
        loop {
            let open = server.counts.connections() - server.counts.ended();
            most.fetch_max(open, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        causes = all => {
            let timed_out: Cause = Transient::HandshakeTimeout.into();
            assert!(causes.iter().all(|cause| *cause == timed_out), "{causes:?}");
        }
        () = watch => {}
    }
    // The next one may come in before the server has seen the last one go.
    let most = most.into_inner();
    assert!((3..=8).contains(&most) && server.counts.connections() == 10, "{most}");
}

#[tokio::test]
async fn shutting_down_during_the_key_exchange_leaves_no_socket() {
    let server = Plain::start("SSH-2.0-odd\r\n", false).await;
    let way = Way::to_port(server.port, "somebody").trusting("x").limits(5000, 60_000, 1000);
    let key = odd::new_key().to_openssh(Default::default()).unwrap();
    let hosts = Hosts::new();
    let transport = hosts.transport("default", &way.connection(), Secrets::with_key(&key));
    let waiting = tokio::spawn(async move { run(transport.as_ref(), "true").await });
    until(LIMIT, "dialled", async || server.counts.connections() == 1).await.unwrap();
    let began = Instant::now();
    hosts.shutdown().await;
    assert_eq!(lost(&waiting.await.unwrap()), Transient::ConnectionLost.into());
    until(LIMIT, "closed", async || server.counts.ended() == 1).await.unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn authentication_that_never_ends_times_out() {
    let server = Server::start(Odd::AuthSilent).await;
    let hosts = Hosts::new();
    let way = to(&server).limits(5000, 20_000, 900);
    let limit = Duration::from_millis(900);
    let transport = transport(&hosts, &server, &way);
    fails(transport.as_ref(), Transient::AuthenticationTimeout, limit).await;
}

#[tokio::test]
async fn passwords_are_given_in_both_ways_and_refused_ones_are_told() {
    for odd in [Odd::Password("right"), Odd::Interactive("right")] {
        let server = Server::start(odd.clone()).await;
        for (password, cause) in
            [("right\n", None), ("wrong", Some(Standing::AuthenticationRejected.into()))]
        {
            let hosts = Hosts::new();
            let secrets = Secrets::of(&[("password", password)]);
            let transport = hosts.transport("default", &to(&server).connection(), secrets);
            let end = run(transport.as_ref(), "true").await;
            assert_eq!(end.lost.map(|fault| fault.cause), cause, "{odd:?}");
        }
    }
}

/// Guards against a server that makes the client answer for ever, and be told for ever.
#[tokio::test]
async fn what_is_no_login_is_not_answered() {
    let password = "p".repeat(1024);
    for (questions, words, cause, answers) in [
        (8, 0, Standing::AuthenticationRejected.into(), 24),
        (9, 0, Standing::AuthenticationRejected.into(), 0),
        (5000, 0, Standing::AuthenticationRejected.into(), 0),
        (1, 200_000, Cause::from(Ours::ProtocolError), 2),
    ] {
        let server = Server::start(Odd::Asks(questions, words)).await;
        let hosts = Hosts::new();
        let secrets = Secrets::of(&[("password", &password)]);
        let transport = hosts.transport("default", &to(&server).connection(), secrets);
        fails(transport.as_ref(), cause, AT_ONCE).await;
        let answered = server.counts.answers.load(Ordering::SeqCst);
        assert_eq!(answered, answers, "{questions} questions, {words} bytes");
    }
}

#[tokio::test]
async fn a_credential_that_is_too_long_to_be_one_is_offered_to_nobody() {
    let long = "p".repeat(1025);
    let key = "k".repeat(64 * 1024 + 1);
    for (name, value) in [("password", &long), ("passphrase", &long), ("ssh-privatekey", &key)] {
        let server = Server::start(Odd::Nothing).await;
        let hosts = Hosts::new();
        let secrets = Secrets::of(&[("password", "right"), (name, value)]);
        let transport = hosts.transport("default", &to(&server).connection(), secrets);
        let said = fails(transport.as_ref(), Standing::CredentialsInvalid, AT_ONCE).await;
        assert!(said.contains(&format!("{name} has more than")), "{said}");
        assert_eq!(server.counts.connections(), 0);
    }
}

#[tokio::test]
async fn no_channel_of_a_servers_is_accepted_and_who_goes_on_is_left() {
    let server = Server::start(Odd::OpensChannels(30)).await;
    let hosts = Hosts::new();
    let transport = transport(&hosts, &server, &to(&server));
    let end = run(transport.as_ref(), "true").await;
    assert_eq!((end.status, end.closed), (Some(3), true), "{end:?}");
    let told = |server: &Server| {
        let counts = &server.counts;
        (counts.accepted.load(Ordering::SeqCst), counts.refused.load(Ordering::SeqCst))
    };
    assert_eq!(told(&server), (0, 30));

    let server = Server::start(Odd::OpensChannels(1000)).await;
    let transport = self::transport(&hosts, &server, &to(&server));
    let end = run(transport.as_ref(), "true").await;
    assert_eq!(lost(&end), Ours::ProtocolError.into());
    assert_eq!(told(&server).0, 0);
}

#[tokio::test]
async fn a_channel_that_is_never_opened_is_given_up() {
    let server = Server::start(Odd::OpenSilent).await;
    let hosts = Hosts::new();
    let transport = transport(&hosts, &server, &to(&server));
    let limit = Duration::from_secs(10);
    fails(transport.as_ref(), Transient::ReplyTimeout, limit).await;
    let ended = async || server.counts.ended() == 1;
    until(LIMIT, "its connection is given up too", ended).await.unwrap();
}

#[tokio::test]
async fn a_channel_that_is_opened_too_late_is_closed() {
    let server = Server::start(Odd::OpenLate(Duration::from_secs(11))).await;
    let hosts = Hosts::new();
    let transport = transport(&hosts, &server, &to(&server));
    let limit = Duration::from_secs(10);
    fails(transport.as_ref(), Transient::ReplyTimeout, limit).await;
    until(LIMIT, "closed", async || server.counts.closes() == 1).await.unwrap();
}

#[tokio::test]
async fn a_caller_who_gives_up_leaves_no_channel() {
    let server = Server::start(Odd::OpenLate(Duration::from_secs(1))).await;
    let hosts = Hosts::new();
    let way = to(&server);
    let transport = transport(&hosts, &server, &way);
    // What is given up is the channel, not the handshake before it.
    let secrets = Secrets::with_key(&server.client_key);
    hosts.check("default", &way.connection(), secrets).await.unwrap();
    let brief = Duration::from_millis(500);
    assert!(tokio::time::timeout(brief, transport.open("true")).await.is_err());
    until(LIMIT, "closed", async || server.counts.closes() == 1).await.unwrap();
    let unused = async || hosts.active_sessions("default", &way.connection()) == 0;
    until(LIMIT, "given back", unused).await.unwrap();
}

#[tokio::test]
async fn a_server_that_opens_no_channel_at_all_is_left_alone_for_a_while() {
    let server = Server::start(Odd::OpenRefused).await;
    let hosts = Hosts::new();
    let transport = transport(&hosts, &server, &to(&server));
    for _ in 0..50 {
        assert_eq!(lost(&run(transport.as_ref(), "true").await), Transient::ChannelRefused.into());
    }
    assert!(server.counts.connections() <= 3, "{}", server.counts.connections());
}

#[tokio::test]
async fn an_exec_that_is_refused_or_never_acknowledged_is_told() {
    let server = Server::start(Odd::ExecRefused).await;
    let hosts = Hosts::new();
    let refusing = transport(&hosts, &server, &to(&server));
    fails(refusing.as_ref(), Standing::HostUnusable, AT_ONCE).await;

    let server = Server::start(Odd::ExecSilent).await;
    let silent = transport(&hosts, &server, &to(&server));
    fails(silent.as_ref(), Transient::ReplyTimeout, Duration::from_secs(10)).await;

    let server = Server::start(Odd::ExecFlood).await;
    let flooding = transport(&hosts, &server, &to(&server));
    fails(flooding.as_ref(), Ours::ProtocolError, AT_ONCE).await;
}

#[tokio::test]
async fn the_end_is_told_in_any_order_and_only_with_a_status() {
    for odd in [Odd::EofFirst, Odd::StatusFirst, Odd::Nothing] {
        let server = Server::start(odd).await;
        let hosts = Hosts::new();
        let end = run(transport(&hosts, &server, &to(&server)).as_ref(), "true").await;
        assert_eq!((end.status, end.closed), (Some(3), true), "{end:?}");
    }

    let server = Server::start(Odd::NoStatus).await;
    let hosts = Hosts::new();
    let end = run(transport(&hosts, &server, &to(&server)).as_ref(), "true").await;
    assert_eq!((end.status, end.closed), (None, false));
    assert_eq!(lost(&end), Transient::ConnectionLost.into());

    let server = Server::start(Odd::NoClose).await;
    let began = Instant::now();
    let end = run(transport(&hosts, &server, &to(&server)).as_ref(), "true").await;
    assert_eq!((end.status, end.closed, end.detached), (Some(3), false, true));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    until(LIMIT, "closed by us", async || server.counts.closes() == 1).await.unwrap();
}

#[tokio::test]
async fn output_that_comes_after_the_status_is_waited_for_as_long_as_it_comes() {
    let server = Server::start(Odd::LateOutput(7)).await;
    let hosts = Hosts::new();
    let end = run(transport(&hosts, &server, &to(&server)).as_ref(), "true").await;
    assert_eq!((end.status, end.closed, end.detached), (Some(3), true, false));
    assert_eq!(end.stdout, b"late".repeat(7));
}

#[tokio::test]
async fn a_link_that_stalls_under_a_running_command_is_noticed() {
    let server = Server::start(Odd::Deaf).await;
    let link = Link::start(server.port).await.unwrap();
    let hosts = Hosts::new();
    let way = Way::to_port(link.port(), "somebody").pinning(&server.fingerprint);
    let way = way.keep_alive(1000, 3);
    let transport = transport(&hosts, &server, &way);
    let channel = transport.open("true").await.unwrap();
    link.stall();
    let began = Instant::now();
    let end = finish(channel).await;
    assert_eq!(lost(&end), Transient::ConnectionLost.into());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn many_who_wait_share_one_dial() {
    let server = Server::start(Odd::Nothing).await;
    let hosts = Hosts::new();
    let way = to(&server).sessions(100);
    let secrets = Secrets::with_key(&server.client_key);
    let transport = hosts.transport("default", &way.connection(), secrets.clone());
    let all = (0..100).map(|_| {
        let transport = transport.clone();
        async move { run(transport.as_ref(), "true").await.status }
    });
    for status in futures::future::join_all(all).await {
        assert_eq!(status, Some(3));
    }
    assert_eq!((server.counts.connections(), secrets.reads()), (1, 1));
}

#[tokio::test]
async fn a_dead_host_is_not_hammered_and_all_are_told_at_once() {
    let server = Plain::start("", true).await;
    let hosts = Hosts::new();
    let transport = plain(&hosts, server.port);
    let began = Instant::now();
    let all = (0..1000).map(|_| {
        let transport = transport.clone();
        async move { lost(&run(transport.as_ref(), "true").await) }
    });
    for cause in futures::future::join_all(all).await {
        assert_eq!(cause, Transient::HostUnreachable.into());
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(server.counts.connections() <= 4, "{}", server.counts.connections());
}

#[tokio::test]
async fn a_machine_that_nobody_uses_is_forgotten_once_its_fault_has_rested() {
    let hosts = Hosts::new();
    let key = odd::new_key().to_openssh(Default::default()).unwrap();
    let secrets = Secrets::with_key(&key);
    let way = Way::to_port(1, "somebody").trusting("x").connection();
    let transport = hosts.transport("default", &way, secrets.clone());
    assert_eq!(lost(&run(transport.as_ref(), "true").await), Transient::ConnectionRefused.into());
    drop(transport);
    let another = async || {
        drop(hosts.transport("other", &way, Secrets::with_key(&key)));
        Arc::strong_count(&secrets) == 1
    };
    until(LIMIT, "forgotten", another).await.unwrap();
}

#[tokio::test]
async fn a_standing_fault_is_looked_at_again_when_poked() {
    let server = Server::start(Odd::Nothing).await;
    let hosts = Hosts::new();
    let way = to(&server).trusting("");
    let transport = transport(&hosts, &server, &way);
    for _ in 0..10 {
        assert_eq!(lost(&run(transport.as_ref(), "true").await), Standing::HostKeyUnknown.into());
    }
    assert_eq!(server.counts.connections(), 1);
    hosts.poke("elsewhere", "local");
    hosts.poke("default", "another");
    run(transport.as_ref(), "true").await;
    assert_eq!(server.counts.connections(), 1);
    hosts.poke("default", "local");
    run(transport.as_ref(), "true").await;
    assert_eq!(server.counts.connections(), 2);
}

#[tokio::test]
async fn after_a_poke_new_commands_take_a_new_connection_and_old_ones_go_on() {
    let server = Server::start(Odd::Deaf).await;
    let hosts = Hosts::new();
    let transport = transport(&hosts, &server, &to(&server));
    let mut old = transport.open("old").await.unwrap();
    hosts.poke("default", "key");
    let _new = transport.open("new").await.unwrap();
    assert_eq!(server.counts.connections(), 2);
    assert!(old.events.try_recv().is_err());
    drop(old);
    until(LIMIT, "the old connection ends", async || server.counts.ended() == 1).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_every_connection_and_dials_no_more() {
    let server = Server::start(Odd::Deaf).await;
    let hosts = Hosts::new();
    let transport = transport(&hosts, &server, &to(&server));
    let channel = transport.open("true").await.unwrap();
    hosts.shutdown().await;
    assert_eq!(lost(&finish(channel).await), Transient::ConnectionLost.into());
    until(LIMIT, "ended", async || server.counts.ended() == 1).await.unwrap();
    assert!(run(transport.as_ref(), "true").await.lost.is_some());
    assert_eq!(server.counts.connections(), 1);
}
