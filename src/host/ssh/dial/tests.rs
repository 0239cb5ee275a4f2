use super::*;
use crate::core::connection::{HopTimeouts, HostKeys, KeepAlive};

fn hop() -> Hop {
    let second = Duration::from_secs(1);
    Hop {
        name: "h".to_owned(),
        address: "db-1".to_owned(),
        port: 22,
        user: "u".to_owned(),
        host_keys: HostKeys::default(),
        credentials: "s".to_owned(),
        timeouts: HopTimeouts { connect: second, handshake: second, authenticate: second },
        keep_alive: KeepAlive { interval: second, missed: 3 },
    }
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 22)).collect()
}

#[test]
fn of_several_addresses_only_those_in_no_denied_network_are_tried() {
    let denied = Denied::usual([]);
    let found = addresses(&["127.0.0.1", "192.0.2.1", "::ffff:127.0.0.2", "2001:db8::1", "::1"]);
    let allowed = allowed(&hop(), found.into_iter(), &denied).unwrap();
    assert_eq!(allowed, addresses(&["192.0.2.1", "2001:db8::1"]));
}

#[test]
fn denied_addresses_do_not_crowd_out_the_others() {
    let mut found = addresses(&["127.0.0.1"; MOST_ADDRESSES + 1]);
    found.extend(addresses(&["192.0.2.1"; MOST_ADDRESSES + 1]));
    let allowed = allowed(&hop(), found.into_iter(), &Denied::usual([])).unwrap();
    assert_eq!(allowed, addresses(&["192.0.2.1"; MOST_ADDRESSES]));
}

#[test]
fn a_name_that_stands_for_denied_addresses_alone_is_a_standing_fault_and_for_none_no_fault_yet() {
    let denied = Denied::usual([]);
    let fault = allowed(&hop(), addresses(&["169.254.169.254"]).into_iter(), &denied).unwrap_err();
    assert_eq!(fault.cause, Standing::PolicyDenied.into());
    for part in ["db-1", "169.254.169.254", "169.254.0.0/16", "--deny-network"] {
        assert!(fault.message.contains(part), "{part}: {}", fault.message);
    }
    assert_eq!(allowed(&hop(), std::iter::empty(), &denied), Ok(Vec::new()));
}

/// Shows nothing: not labelled, and not allowed.
struct Barred;

#[async_trait::async_trait]
impl Lookup for Barred {
    async fn secret(&self, name: &str) -> Result<crate::host::SecretValues, LookupError> {
        Err(LookupError::Unlabelled(name.to_owned(), "use=ssh".to_owned()))
    }

    async fn config_map(&self, name: &str, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Denied(name.to_owned(), "forbidden".to_owned()))
    }
}

#[tokio::test]
async fn what_may_not_be_read_any_more_is_denied_and_not_taken_for_invalid() {
    let mut hop = hop();
    let read = Credentials::read(&hop, &Barred).await;
    assert_eq!(read.map(drop).unwrap_err().cause, Standing::PolicyDenied.into());
    hop.host_keys.config_map = Some(("keys".to_owned(), "known_hosts".to_owned()));
    let known = known_keys(&hop, &Barred).await;
    assert_eq!(known.map(drop).unwrap_err().cause, Standing::PolicyDenied.into());
}
