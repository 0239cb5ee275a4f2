//! Hosts become a connection.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::*;

fn host(name: &str, fields: Json) -> RemoteHost {
    let mut spec = json!({
        "address": format!("{name}.example"),
        "user": "deploy",
        "hostKeys": {"fingerprints": ["SHA256:x"]},
        "credentials": {"secretRef": {"name": "ssh"}},
    });
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    RemoteHost::new(name, serde_json::from_value(spec).unwrap())
}

fn via(name: &str) -> Json {
    json!({"viaRef": {"name": name}})
}

fn command(fields: Json) -> RemoteCommand {
    let mut spec = json!({"hostRef": {"name": "db-1"}, "command": ["true"]});
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    RemoteCommand::new("c", serde_json::from_value(spec).unwrap())
}

fn reach(fields: Json, hosts: &[RemoteHost]) -> Result<Connection, ViaError> {
    let named =
        |name: &str| hosts.iter().find(|host| host.metadata.name.as_deref() == Some(name)).cloned();
    connection_of(&command(fields), &named)
}

fn names(connection: &Connection) -> Vec<&str> {
    connection.hops.iter().map(|hop| hop.name.as_str()).collect()
}

#[test]
fn a_host_gets_every_default() {
    let connection = reach(json!({}), &[host("db-1", json!({}))]).unwrap();
    assert_eq!((connection.sessions, &connection.state_directory), (8, &None));
    let hop = connection.hops.first().unwrap();
    assert_eq!((hop.address.as_str(), hop.port), ("db-1.example", 22));
    let ten = Duration::from_secs(10);
    let expected = HopTimeouts { connect: ten, handshake: ten, authenticate: ten };
    assert_eq!(hop.timeouts, expected);
    assert_eq!(hop.keep_alive, KeepAlive { interval: Duration::from_secs(15), missed: 3 });
}

#[test]
fn jump_hosts_come_in_dialling_order() {
    let hosts = [host("db-1", via("inner")), host("inner", via("outer")), host("outer", json!({}))];
    assert_eq!(names(&reach(json!({}), &hosts).unwrap()), ["outer", "inner", "db-1"]);
    let inline = json!({"hostRef": null, "host": host("db-9", via("outer")).spec});
    assert_eq!(names(&reach(inline, &hosts).unwrap()), ["outer", "db-9.example"]);
}

#[test]
fn a_missing_host_is_named_wherever_it_is_on_the_way() {
    let missing = reach(json!({}), &[]).unwrap_err();
    assert_eq!(missing, ViaError::NotFound("db-1".to_owned()));
    assert_eq!(missing.hold().reason, "HostNotFound");
    assert_eq!(missing.hold().kind, HoldKind::Missing);
    let on_the_way = reach(json!({}), &[host("db-1", via("bastion"))]).unwrap_err();
    assert_eq!(on_the_way, ViaError::NotFound("bastion".to_owned()));
}

#[test]
fn circles_are_found_with_and_without_the_target_in_them() {
    let with = [host("db-1", via("b")), host("b", via("db-1"))];
    let without = [host("db-1", via("a")), host("a", via("b")), host("b", via("a"))];
    let itself = [host("db-1", via("db-1"))];
    let circles = [
        (&with[..], "db-1 \u{2192} b \u{2192} db-1"),
        (&without[..], "a \u{2192} b \u{2192} a"),
        (&itself[..], "db-1 \u{2192} db-1"),
    ];
    for (hosts, circle) in circles {
        let error = reach(json!({}), hosts).unwrap_err();
        assert!(matches!(error, ViaError::Cycle(_)), "{error}");
        assert!(error.to_string().ends_with(&format!("circle: {circle}")), "{error}");
        assert_eq!(
            (error.hold().kind, error.hold().reason.as_str()),
            (HoldKind::Invalid, "ViaCycle")
        );
    }
    // The same name as an address is no circle.
    let inline = json!({"hostRef": null, "host": host("b", via("b.example")).spec});
    reach(inline, &[host("b.example", json!({}))]).unwrap();
}

#[test]
fn a_command_overrides_the_limits_of_the_target_only() {
    let hosts = [
        host("db-1", json!({"viaRef": {"name": "bastion"}, "timeouts": {"handshake": "4s"}})),
        host("bastion", json!({})),
    ];
    let own = json!({"timeouts": {"connect": "3s"}});
    let connection = reach(own, &hosts).unwrap();
    let limits: Vec<_> = connection
        .hops
        .iter()
        .map(|hop| (hop.timeouts.connect.as_secs(), hop.timeouts.handshake.as_secs()))
        .collect();
    assert_eq!(limits, [(10, 10), (3, 4)]);
}

#[test]
fn an_invalid_host_is_named_with_what_to_write() {
    for (fields, part) in [
        (json!({"port": 0}), "\"db-1\": spec.port is 0; it is at least 1 and at most 65535"),
        (json!({"hostKeys": {}}), "\"db-1\": at least one of knownHosts, configMapKeyRef"),
        (json!({"address": "-oProxyCommand=x"}), "\"db-1\": address is a DNS name"),
        (json!({"address": "db-1:22"}), "\"db-1\": address is a DNS name"),
        (json!({"address": "root@db-1"}), "\"db-1\": address is a DNS name"),
        (json!({"address": "[::1]"}), "\"db-1\": address is a DNS name"),
        (json!({"timeouts": {"connect": "1d"}}), "\"db-1\": spec.timeouts.connect is \"1d\""),
        (json!({"sessionsPerConnection": 0}), "\"db-1\": spec.sessionsPerConnection is 0"),
    ] {
        let error = reach(json!({}), &[host("db-1", fields)]).unwrap_err();
        assert!(error.to_string().starts_with(part), "{error}");
        assert_eq!(error.hold().reason, "InvalidSpec");
    }
}
