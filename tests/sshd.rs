//! SSH against real OpenSSH servers.
#![expect(clippy::unwrap_used, reason = "tests")]

mod sessions;
mod support;

use remote_command::host::hosts::Hosts;
use sessions::{Secrets, Way, run};
use support::sshd::{Kind, Options, Sshd};

/// Keys of every kind log in; one server each, so that nothing is left over from another.
#[tokio::test]
async fn keys_of_every_kind_log_in() {
    let host_keys = vec![Kind::Ed25519, Kind::Ecdsa, Kind::Rsa];
    let sshd = Sshd::start(Options { host_keys, ..Options::default() }).unwrap();
    for kind in [Kind::Ed25519, Kind::Ecdsa, Kind::Rsa] {
        let hosts = Hosts::new();
        let way =
            Way::to(&sshd).trusting(&sshd.recipe().known_hosts_line(kind, sshd.port()).unwrap());
        let secrets = Secrets::with_key(&sshd.private_key(kind).unwrap());
        let transport = hosts.transport("default", &way.connection(), secrets.clone());
        let end = run(transport.as_ref(), "exec /bin/sh -c 'echo out; echo err >&2; exit 3'").await;
        assert_eq!(end.stdout, b"out\n", "{kind:?}: {end:?}");
        assert_eq!(end.stderr, b"err\n");
        assert_eq!(end.status, Some(3));
        hosts.shutdown().await;
    }
}
