//! Which networks this operator's hosts may not be in: `--deny-network`, or else its own machine,
//! its links, and the API server.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::timeout;
use tracing::warn;

use crate::host::networks::{Denied, Network, NoNetwork};

/// How long the API server's name may take to be resolved.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

/// Where a pod finds the API server.
const SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";

/// A word of `--deny-network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// `none`: every network is allowed.
    Nothing,
    /// This one is not.
    Of(Network),
}

impl FromStr for Denial {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        if text == "none" { Ok(Self::Nothing) } else { text.parse().map(Self::Of) }
    }
}

/// What is denied by these words; by none, the usual networks and the API server, whose host in
/// the kubeconfig is `api_server`. Its names are resolved now.
pub async fn denied(words: &[Denial], api_server: Option<&str>) -> Denied {
    if !words.is_empty() {
        return Denied::only(words.iter().filter_map(|word| match word {
            Denial::Nothing => None,
            Denial::Of(network) => Some(*network),
        }));
    }
    let in_pod = std::env::var(SERVICE_HOST).ok();
    let names: BTreeSet<&str> = api_server.into_iter().chain(in_pod.as_deref()).collect();
    let mut found = Vec::new();
    for name in names {
        found.extend(addresses(name).await);
    }
    Denied::usual(found)
}

async fn addresses(name: &str) -> Vec<IpAddr> {
    // As a URL writes an IPv6 address.
    let name = name.trim_start_matches('[').trim_end_matches(']');
    match timeout(RESOLVE_LIMIT, tokio::net::lookup_host((name, 0))).await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        Ok(Err(error)) => {
            warn!(name, %error, "the API server's addresses are not known, so hosts may have them");
            Vec::new()
        }
        Err(_) => {
            warn!(name, "the API server's addresses are not known, so hosts may have them");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_api_server_is_denied_by_its_address_or_name_unless_words_replace_the_usual() {
        let over = |denied: &Denied, address: &str| denied.over(address.parse().unwrap()).is_some();
        let usual = denied(&[], Some("192.0.2.1")).await;
        assert!(over(&usual, "192.0.2.1") && over(&usual, "127.0.0.1"));
        assert!(over(&usual, "::ffff:192.0.2.1") && !over(&usual, "192.0.2.2"));
        let bracketed = denied(&[], Some("[2001:db8::1]")).await;
        assert!(over(&bracketed, "2001:db8::1"));
        let own = denied(&["10.0.0.0/8".parse().unwrap()], Some("192.0.2.1")).await;
        assert!(over(&own, "10.1.1.1") && !over(&own, "127.0.0.1") && !over(&own, "192.0.2.1"));
        let none = denied(&[Denial::Nothing], Some("192.0.2.1")).await;
        assert_eq!(none, Denied::default());
    }
}
