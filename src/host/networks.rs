//! Networks that are not connected to: what a tenant writes as an address must not make this
//! process knock at its own door.
//!
//! What is judged is the address that is about to be dialled, after the name was resolved. An
//! IPv6 address that stands for an IPv4 one is judged as both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What can be reached from a process and is nobody's host: this machine (and the unspecified
/// address, which leads to it; RFC 1122, 3.2.1.3; RFC 4291, 2.5), and what is on its links
/// (RFC 3927, RFC 4291), where clouds serve credentials.
const OWN: [(IpAddr, u8); 6] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
];

/// Networks that are not connected to; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied(Vec<IpNet>);

/// A network as it is typed: a CIDR, or an address that stands for itself alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// A text that names no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a network, for example 10.0.0.0/8 or fd00::/8, or an address")]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    /// An IPv4-mapped network is the IPv4 network that it stands for.
    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let network = match text.parse::<IpNet>() {
            Ok(network) => network,
            Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| NoNetwork)?),
        };
        let mapped = match network {
            IpNet::V4(_) => None,
            IpNet::V6(v6) => v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96)),
        };
        let v4 = mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok());
        Ok(Self(v4.map_or(network, IpNet::V4).trunc()))
    }
}

impl Denied {
    /// These, and no others.
    pub fn only(networks: impl IntoIterator<Item = Network>) -> Self {
        Self(networks.into_iter().map(|network| network.0).collect())
    }

    /// This machine, its links, and `others`: single addresses.
    pub fn usual(others: impl IntoIterator<Item = IpAddr>) -> Self {
        let own = OWN.iter().filter_map(|(address, length)| IpNet::new(*address, *length).ok());
        let others = others.into_iter().map(|address| IpNet::from(address.to_canonical()));
        Self(own.chain(others).collect())
    }

    /// The network that keeps `address` from being dialled, if one does.
    pub fn over(&self, address: IpAddr) -> Option<IpNet> {
        let meant = embedded(address);
        let holds = |network: &&IpNet| {
            network.contains(&address) || meant.is_some_and(|meant| network.contains(&meant))
        };
        self.0.iter().find(holds).copied()
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped (RFC 4291, 2.5.5.2), compatible (2.5.5.1),
/// translated (RFC 6052, RFC 8215 with the same layout) or tunnelled (6to4, RFC 3056).
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let low = |prefix: Ipv6Addr, length| {
        let within = Ipv6Net::new(prefix, length).is_ok_and(|network| network.contains(&v6));
        within.then(|| {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d)
        })
    };
    let tunnelled = || match v6.octets() {
        [0x20, 0x02, a, b, c, d, ..] => Some(Ipv4Addr::new(a, b, c, d)),
        _ => None,
    };
    let found = low(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96)
        .or_else(|| low(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96))
        .or_else(|| low(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48))
        .or_else(|| low(Ipv6Addr::UNSPECIFIED, 96).filter(|_| !v6.is_loopback()))
        .or_else(tunnelled);
    found.map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(denied: &Denied, address: &str) -> Option<String> {
        denied.over(address.parse().unwrap()).map(|network| network.to_string())
    }

    fn only(networks: &[&str]) -> Denied {
        Denied::only(networks.iter().map(|network| network.parse().unwrap()))
    }

    #[test]
    fn usually_this_machine_its_links_and_the_api_server_are_denied_and_nothing_else() {
        let usual = Denied::usual(["10.96.0.1".parse().unwrap()]);
        for address in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "::1",
            "::",
            "fe80::1",
            "febf::1",
            "10.96.0.1",
        ] {
            assert!(over(&usual, address).is_some(), "{address}");
        }
        for address in ["10.96.0.2", "192.168.1.1", "8.8.8.8", "fec0::1", "fd00::1", "::2:0:0:1"] {
            assert_eq!(over(&usual, address), None, "{address}");
        }
    }

    #[test]
    fn an_ipv6_address_that_stands_for_an_ipv4_one_is_judged_as_that_one() {
        let usual = Denied::usual([]);
        for address in [
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::127.0.0.1",
            "2002:7f00:1::1",
            "::ffff:0.0.0.0",
        ] {
            assert!(over(&usual, address).is_some(), "{address}");
        }
        for address in ["::ffff:10.0.0.1", "64:ff9b::808:808", "2002:808:808::1"] {
            assert_eq!(over(&usual, address), None, "{address}");
        }
        assert_eq!(over(&only(&["64:ff9b::/96"]), "64:ff9b::808:808").unwrap(), "64:ff9b::/96");
    }

    #[test]
    fn a_network_is_typed_as_a_cidr_or_as_an_address() {
        let denied = only(&["10.1.2.3/8", "192.0.2.7", "fd00::/8", "::ffff:172.16.0.0/108"]);
        assert_eq!(over(&denied, "10.200.0.1").unwrap(), "10.0.0.0/8");
        assert_eq!(over(&denied, "192.0.2.7").unwrap(), "192.0.2.7/32");
        assert_eq!(over(&denied, "192.0.2.8"), None);
        assert_eq!(over(&denied, "172.17.0.1").unwrap(), "172.16.0.0/12");
        assert_eq!(over(&denied, "127.0.0.1"), None);
        for text in ["", "10.0.0.0/33", "10.0.0/8", "localhost", "10.0.0.0/8,::1", "::/129"] {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
    }
}
