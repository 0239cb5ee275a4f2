//! What one namespace does with its hosts holds up nobody else, and a dial that nobody wants any
//! more ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use remote_command::core::fault::{Standing, Transient};
use remote_command::host::Transport;
use remote_command::host::hosts::Hosts;

use crate::odd::{self, Odd, Plain, Server};
use crate::sessions::{LIMIT, Secrets, Way, run};
use crate::support::until;

/// Longer than any test may take.
const LONG: u64 = 3_600_000;
/// How long a dial may go on without anybody who waits for it, and what a slow machine adds.
const LINGERS: Duration = Duration::from_secs(6);

fn silent(hosts: &Hosts, scope: &str, port: u16) -> Arc<dyn Transport> {
    let way = Way::to_port(port, "somebody").trusting("x").limits(LONG, LONG, LONG);
    let key = odd::new_key().to_openssh(Default::default()).unwrap();
    hosts.transport(scope, &way.connection(), Secrets::with_key(&key))
}

/// Guards against a tenant who jumps over a host of his own that never answers, and so keeps
/// every turn at the address of another namespace's host.
#[tokio::test]
async fn whoever_jumps_over_a_silent_host_of_his_own_holds_up_no_other_namespace() {
    let (jump, victim) = (Server::start(Odd::OpenSilent).await, Server::start(Odd::Nothing).await);
    let hosts = Hosts::new();
    let over = Way::to_port(jump.port, "somebody").trusting(&jump.known_hosts);
    let mut theirs = Vec::new();
    for sessions in 1..=8 {
        let target = Way::to_port(victim.port, "somebody").trusting(&victim.known_hosts);
        let way = target.limits(LONG, LONG, LONG).sessions(sessions).via(&over);
        let secrets = Secrets::with_key(&jump.client_key);
        let transport = hosts.transport("theirs", &way.connection(), secrets);
        theirs.push(tokio::spawn(async move { run(transport.as_ref(), "true").await }));
    }
    until(LIMIT, "they wait", async || jump.counts.connections() >= 4).await.unwrap();
    let way = Way::to_port(victim.port, "somebody").trusting(&victim.known_hosts);
    let secrets = Secrets::with_key(&victim.client_key);
    let ours = hosts.transport("ours", &way.connection(), secrets);
    let began = Instant::now();
    ours.open("true").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    theirs.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_silent_server_leaves_turns_to_another_namespace() {
    let server = Plain::start("", false).await;
    let hosts = Hosts::new();
    let transports: Vec<_> = (0..20)
        .map(|n| {
            let way = Way::to_port(server.port, &format!("user-{n}")).trusting("x");
            let way = way.limits(LONG, LONG, LONG);
            hosts.transport("theirs", &way.connection(), Secrets::with_key("x"))
        })
        .collect();
    // Credentials are read before anything is sent, so that these need a key.
    drop(transports);
    let key = odd::new_key().to_openssh(Default::default()).unwrap();
    let theirs: Vec<_> = (0..20)
        .map(|n| {
            let way = Way::to_port(server.port, &format!("user-{n}")).trusting("x");
            let way = way.limits(LONG, LONG, LONG);
            let transport = hosts.transport("theirs", &way.connection(), Secrets::with_key(&key));
            tokio::spawn(async move { run(transport.as_ref(), "true").await })
        })
        .collect();
    until(LIMIT, "they have their share", async || server.counts.connections() == 3).await.unwrap();
    let ours = silent(&hosts, "ours", server.port);
    let waiting = tokio::spawn(async move { run(ours.as_ref(), "true").await });
    until(LIMIT, "there is room for another", async || server.counts.connections() == 4)
        .await
        .unwrap();
    waiting.abort();
    theirs.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_dial_ends_soon_after_the_last_who_waited_for_it_has_gone() {
    let server = Plain::start("", false).await;
    let hosts = Hosts::new();
    let transport = silent(&hosts, "default", server.port);
    let mut first = transport.open("true");
    let mut second = transport.open("true");
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
    until(LIMIT, "it is dialled", async || server.counts.connections() == 1).await.unwrap();
    drop(first);
    let kept = tokio::time::timeout(LINGERS, async {
        while server.counts.ended() == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(kept.await.is_err(), "another one still waits for it");
    drop(second);
    until(LINGERS, "it is ended", async || server.counts.ended() == 1).await.unwrap();
    // Who comes later has a dial of his own.
    let mut third = transport.open("true");
    assert!((&mut third).now_or_never().is_none());
    until(LIMIT, "dialled anew", async || server.counts.connections() == 2).await.unwrap();
}

/// Guards against a tenant with bad credentials for many logins of a host, whose refusals count
/// against the operator's address.
#[tokio::test]
async fn credentials_that_one_namespace_is_refused_leave_the_host_to_another() {
    let server = Server::start(Odd::Password("right")).await;
    let hosts = Hosts::new();
    let to = |user: &str| Way::to_port(server.port, user).trusting(&server.known_hosts);
    let mut causes = Vec::new();
    for n in 0..10 {
        let way = to(&format!("user-{n}")).connection();
        let transport = hosts.transport("theirs", &way, Secrets::of(&[("password", "wrong")]));
        causes.push(run(transport.as_ref(), "true").await.lost.unwrap().cause);
    }
    let refused = Standing::AuthenticationRejected.into();
    let throttled = Transient::Throttled.into();
    assert_eq!(causes.iter().filter(|cause| **cause == refused).count(), 2, "{causes:?}");
    assert_eq!(causes.iter().filter(|cause| **cause == throttled).count(), 8, "{causes:?}");
    assert_eq!(server.counts.connections(), 2, "the others were not even dialled");
    let way = to("somebody").connection();
    let ours = hosts.transport("ours", &way, Secrets::of(&[("password", "right")]));
    ours.open("true").await.unwrap();
}
