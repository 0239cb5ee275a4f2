//! Text of hosts, which must not pass for ours in a status, an Event or a log.

use serde_json::json;

use crate::foul::{ALL, Foul, Server, is_clean};
use crate::world::World;

/// A host that is such a server, and a command on it.
async fn declare(world: &World, number: usize, server: &Server) {
    let (host, command) = (format!("host-{number}"), format!("command-{number}"));
    let fields = json!({"port": server.port, "hostKeys": {"knownHosts": server.known_hosts}});
    world.declare_host_with(&host, fields).await;
    let spec = json!({"command": ["true"], "hostRef": {"name": host}, "timeouts": {"queue": "6s"}});
    world.command(&command, spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hosts_say_is_shown_as_text_and_what_is_no_ssh_server_not_at_all() {
    let world = World::new().await;
    let mut servers = Vec::new();
    for (number, foul) in ALL.into_iter().enumerate() {
        let server = Server::start(foul).await;
        declare(&world, number, &server).await;
        servers.push((foul, server));
    }
    for (number, (foul, _)) in servers.iter().enumerate() {
        let name = format!("command-{number}");
        let reason = match foul {
            Foul::NoSsh => "Failed/QueueTimeout",
            Foul::Disconnect => "Failed/QueueTimeout",
            Foul::Forced => "Failed/ForcedCommand",
            Foul::Refused => "Failed/HostChanged",
            // Its helper shell says that the command was ended by a signal.
            Foul::Version | Foul::Left => "Failed/Signaled",
        };
        let (phase, reason) = reason.split_once('/').unwrap();
        let ended = world.shows(&name, phase, reason).await;
        let host = world.hosts().get(&format!("host-{number}")).await.unwrap();
        let status = [
            serde_json::to_string_pretty(&ended.status).unwrap(),
            serde_json::to_string_pretty(&host.status).unwrap(),
        ];
        for text in &status {
            assert!(is_clean(text) && !text.contains("\\u"), "{foul:?}: {text}");
            if *foul == Foul::NoSsh {
                assert!(text.contains("no SSH server") && !text.contains("secret"), "{text}");
            }
        }
        if *foul == Foul::Left {
            assert!(
                status[0].contains("leftRunning") && status[0].contains("forged"),
                "{status:?}"
            );
        }
        if *foul == Foul::Disconnect {
            // Whether a check of the host is told it too, and logs it, is a matter of moments.
            assert!(status[0].contains("disconnected: x\u{fffd}2026-01-02"), "{status:?}");
        }
        if *foul == Foul::Version {
            assert!(status[1].contains("SSH-2.0-x\u{fffd}[2J\u{fffd}\u{fffd}"), "{status:?}");
        }
        for (_, note) in world.events(&name).await {
            assert!(is_clean(&note) && note.len() <= 1024, "{foul:?}: {note:?}");
        }
    }
    let log = world.said(0);
    assert!(is_clean(&log), "{log:?}");
    assert!(!log.contains("secret: "), "{log}");
    assert!(log.contains("connected to SSH-2.0-x\u{fffd}[2J\u{fffd}"), "it is told: {log}");
}
