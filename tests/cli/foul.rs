//! Text of hosts on the terminal of whoever runs a command.

use russh::keys::{Algorithm, PrivateKey};

use crate::bench::{Bench, manifest};
use crate::foul_servers::{ALL, Foul, Server, is_clean};

fn host(server: &Server) -> String {
    let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let key = key.to_openssh(Default::default()).unwrap().to_string();
    let key: String = key.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "---\napiVersion: remotecommand.dev/v1alpha1\nkind: RemoteHost\nmetadata: {{name: host}}\n\
         spec:\n  address: 127.0.0.1\n  port: {}\n  user: somebody\n  hostKeys: {{knownHosts: '{}'}}\n  \
         credentials: {{secretRef: {{name: key}}}}\n---\napiVersion: v1\nkind: Secret\n\
         metadata: {{name: key}}\nstringData:\n  ssh-privatekey: |\n{key}",
        server.port, server.known_hosts,
    )
}

#[test]
fn what_hosts_say_does_nothing_to_a_terminal_and_passes_for_no_line_of_ours() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for foul in ALL {
        let server = runtime.block_on(Server::start(foul));
        let bench = Bench::remote();
        let spec = "command: ['true']\ntimeouts: {queue: 2s}";
        let documents = format!("{}{}", manifest("a", spec), host(&server));
        let report = bench.path("report.json");
        let report = report.to_str().unwrap();
        let told = bench.run(&documents, &["--log", "info", "--report", report]);
        assert!(is_clean(&told.err) && is_clean(&told.out), "{foul:?}: {told:?}");
        let ours = |line: &str| line.starts_with("remote-command: ") || line.starts_with("20");
        assert!(told.err.lines().all(ours), "{foul:?}: {}", told.err);
        let report = std::fs::read_to_string(report).unwrap();
        assert!(is_clean(&report) && !report.contains("\\u"), "{foul:?}: {report}");
        if foul == Foul::NoSsh {
            assert!(
                told.err.contains("no SSH server") && !told.err.contains("secret:"),
                "{told:?}"
            );
        } else if foul != Foul::Version {
            assert!(told.err.contains("forged"), "it is told: {told:?}");
        }
    }
}
