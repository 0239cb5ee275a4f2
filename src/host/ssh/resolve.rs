//! What a hop's name stands for, and which of that may be dialled.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::place::Place;
use crate::core::connection::Hop;
use crate::core::fault::{Fault, Standing, Transient};
use crate::core::foreign::foreign;
use crate::host::networks::Denied;

/// Of a name that stands for more addresses than this the rest is not tried.
const MOST_ADDRESSES: usize = 16;

/// What a hop's name stands for.
pub(super) struct Resolved {
    pub(super) addresses: Vec<SocketAddr>,
    /// It counts as time for connecting.
    pub(super) took: Duration,
}

impl Resolved {
    /// The addresses that may be dialled, as they are now: a name can come to stand for others.
    ///
    /// # Errors
    /// `NameResolutionFailed`; `PolicyDenied` when none of them may be dialled.
    pub(super) async fn of(hop: &Hop, denied: &Denied) -> Result<Self, Fault> {
        let began = Instant::now();
        let resolving = tokio::net::lookup_host((hop.address.as_str(), hop.port));
        match timeout(hop.timeouts.connect, resolving).await {
            Ok(Ok(addresses)) => {
                let addresses = allowed(hop, addresses, denied)?;
                Ok(Self { addresses, took: began.elapsed() })
            }
            Ok(Err(error)) => Err(unresolved(hop, &error.to_string())),
            Err(_) => Err(unresolved(hop, "no answer in time")),
        }
    }

    /// Which server they are.
    ///
    /// # Errors
    /// `NameResolutionFailed` when there are none.
    pub(super) fn place(&self, hop: &Hop) -> Result<Place, Fault> {
        let place = Place::of(self.addresses.iter().map(SocketAddr::ip), hop.port);
        place.ok_or_else(|| unresolved(hop, "the name has no address"))
    }
}

/// Those of a hop's addresses that are in no denied network.
fn allowed(
    hop: &Hop,
    addresses: impl Iterator<Item = SocketAddr>,
    denied: &Denied,
) -> Result<Vec<SocketAddr>, Fault> {
    let mut barred = None;
    let mut allowed = Vec::new();
    for address in addresses {
        match denied.over(address.ip()) {
            Some(network) => barred = barred.or(Some((address.ip(), network))),
            None if allowed.len() < MOST_ADDRESSES => allowed.push(address),
            None => {}
        }
    }
    match barred {
        Some((address, network)) if allowed.is_empty() => {
            let (name, address) = (foreign(&hop.address), address.to_string());
            let stands_for =
                if name == address { String::new() } else { format!(", which is {address}") };
            let message = format!(
                "nothing was sent to {name}{stands_for}: this operator connects to nothing in \
                 {network} (--deny-network); ask those who run it"
            );
            Err(Fault::new(Standing::PolicyDenied, message))
        }
        Some(_) | None => Ok(allowed),
    }
}

/// The fault of a name that stands for no address.
pub(super) fn unresolved(hop: &Hop, why: &str) -> Fault {
    Fault::new(Transient::NameResolutionFailed, format!("resolving {:?}: {why}", hop.address))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::core::connection::{HopTimeouts, HostKeys, KeepAlive};

    /// One that nothing was ever sent to.
    pub(in crate::host::ssh) fn hop() -> Hop {
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
        let found =
            addresses(&["127.0.0.1", "192.0.2.1", "::ffff:127.0.0.2", "2001:db8::1", "::1"]);
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
    fn a_name_that_stands_for_denied_addresses_alone_is_a_standing_fault_and_for_none_no_fault_yet()
    {
        let denied = Denied::usual([]);
        let fault =
            allowed(&hop(), addresses(&["169.254.169.254"]).into_iter(), &denied).unwrap_err();
        assert_eq!(fault.cause, Standing::PolicyDenied.into());
        for part in ["db-1", "169.254.169.254", "169.254.0.0/16", "--deny-network"] {
            assert!(fault.message.contains(part), "{part}: {}", fault.message);
        }
        assert_eq!(allowed(&hop(), std::iter::empty(), &denied), Ok(Vec::new()));
    }
}
