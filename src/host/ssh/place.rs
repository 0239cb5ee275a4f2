//! Which server is meant: by the whole way to it, as far as it can be told from here.

use std::fmt;
use std::net::IpAddr;

/// The addresses and ports of all hops up to a server, itself included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place(Vec<(String, u16)>);

impl Place {
    /// A server that is reached directly. One of several names is as good as another, so that
    /// it is better given by what they stand for: see [`Place::of`].
    pub(super) fn direct(address: &str, port: u16) -> Self {
        Self(vec![(address.to_owned(), port)])
    }

    /// A server that is reached directly, by what its name stands for: whichever of several
    /// addresses comes first, it is the same one.
    pub(super) fn of(addresses: impl IntoIterator<Item = IpAddr>, port: u16) -> Option<Self> {
        let least = addresses.into_iter().map(|address| address.to_canonical()).min()?;
        Some(Self::direct(&least.to_string(), port))
    }

    /// A server that is reached through this one. What its address stands for there only the
    /// other end knows.
    pub(super) fn then(&self, address: &str, port: u16) -> Self {
        let mut hops = self.0.clone();
        hops.push((address.to_ascii_lowercase(), port));
        Self(hops)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.last() {
            Some((address, port)) => write!(f, "{address} port {port}"),
            None => f.write_str("no host"),
        }
    }
}
