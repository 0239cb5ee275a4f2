//! From hosts to a connection: the chain of jump hosts, with every default filled in.

use super::command::RemoteCommand;
use super::host::{RemoteHost, RemoteHostSpec};
use super::invalid::{self, InvalidSpec, rule};
use super::limits::Timeouts;
use super::pace::{keep_alive_interval, stage_limit};
use super::plan::{Place, place};
use super::sentences;
use crate::core::connection::{Connection, Hop, HopTimeouts, HostKeys, KeepAlive};
use crate::core::plan::{Hold, HoldKind};

/// Why the way to a host cannot be described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViaError {
    #[error("RemoteHost {0:?} does not exist in this namespace")]
    NotFound(String),
    /// The names of RemoteHosts, the first one again at the end.
    #[error("the jump hosts of spec.viaRef go in a circle: {}", .0.join(" \u{2192} "))]
    Cycle(Vec<String>),
    #[error("{host:?}: {source}")]
    Invalid { host: String, source: InvalidSpec },
}

impl ViaError {
    /// What keeps the next launch waiting.
    pub fn hold(&self) -> Hold {
        let (kind, reason) = match self {
            Self::NotFound(_) => (HoldKind::Missing, "HostNotFound"),
            Self::Cycle(_) => (HoldKind::Invalid, "ViaCycle"),
            Self::Invalid { .. } => (HoldKind::Invalid, "InvalidSpec"),
        };
        Hold { kind, reason: reason.to_owned(), message: self.to_string() }
    }
}

impl InvalidSpec {
    /// What keeps the next launch waiting.
    pub fn hold(&self) -> Hold {
        let (reason, message) = ("InvalidSpec".to_owned(), self.to_string());
        Hold { kind: HoldKind::Invalid, reason, message }
    }
}

/// Looks up a RemoteHost of the namespace by name.
pub type Resolve<'a> = &'a dyn Fn(&str) -> Option<RemoteHost>;

/// How a command's host is reached, with the command's own limits for the target.
///
/// # Errors
/// When its host or one on the way does not exist, the way is a circle, or a host is invalid.
pub fn connection_of(
    command: &RemoteCommand,
    resolve: Resolve<'_>,
) -> Result<Connection, ViaError> {
    let invalid = |source| ViaError::Invalid { host: "spec".to_owned(), source };
    let mut connection = match place(&command.spec).map_err(invalid)? {
        Place::Inline(host) => connection(host, &host.address, resolve)?,
        Place::Named(name) => {
            let host = resolve(name).ok_or_else(|| ViaError::NotFound(name.to_owned()))?;
            connection(&host.spec, name, resolve)?
        }
    };
    if let Some(target) = connection.hops.last_mut() {
        override_timeouts(&mut target.timeouts, &command.spec.timeouts).map_err(invalid)?;
    }
    Ok(connection)
}

/// How a host is reached. `name` is for messages.
///
/// # Errors
/// When one on the way does not exist, the way is a circle, or a host is invalid.
pub fn connection(
    host: &RemoteHostSpec,
    name: &str,
    resolve: Resolve<'_>,
) -> Result<Connection, ViaError> {
    let invalid = |host: &str, source| ViaError::Invalid { host: host.to_owned(), source };
    let sessions = "spec.sessionsPerConnection";
    let sessions = invalid::number(sessions, host.sessions_per_connection, 1..=1000);
    let mut hops = vec![hop(host, name).map_err(|source| invalid(name, source))?];
    // A circle comes back to a host that was jumped over, be the target part of it or not.
    let mut passed: Vec<String> = Vec::new();
    let mut next = host.via_ref.clone();
    while let Some(via) = next {
        if let Some(at) = passed.iter().position(|earlier| *earlier == via.name) {
            return Err(ViaError::Cycle(circle(passed.split_off(at), name)));
        }
        passed.push(via.name.clone());
        let jump = resolve(&via.name).ok_or_else(|| ViaError::NotFound(via.name.clone()))?;
        hops.push(hop(&jump.spec, &via.name).map_err(|source| invalid(&via.name, source))?);
        next = jump.spec.via_ref;
    }
    hops.reverse();
    Ok(Connection {
        hops,
        state_directory: host.state_directory.clone(),
        sessions: sessions.map_err(|source| invalid(name, source))?,
    })
}

/// A circle as it is told: from the host whose way it is, where that is part of it.
fn circle(mut names: Vec<String>, from: &str) -> Vec<String> {
    let at = names.iter().position(|name| name == from).unwrap_or_default();
    names.rotate_left(at);
    names.extend(names.first().cloned());
    names
}

/// What the definitions' pattern for an address lets through, nearly: it is for where no API
/// server has looked.
fn is_address(text: &str) -> bool {
    let foreign = |c: char| c.is_whitespace() || matches!(c, '@' | '[' | ']' | '/');
    // One colon is a port's; an IPv6 address has two at least.
    let colons = text.matches(':').count();
    !text.is_empty() && !text.starts_with('-') && !text.contains(foreign) && colons != 1
}

fn hop(host: &RemoteHostSpec, name: &str) -> Result<Hop, InvalidSpec> {
    let keys = &host.host_keys;
    let fingerprints = keys.fingerprints.clone().unwrap_or_default();
    let known = keys.known_hosts.is_some() || keys.config_map_key_ref.is_some();
    rule(known || !fingerprints.is_empty(), sentences::SOME_HOST_KEY)?;
    rule(is_address(&host.address), sentences::ADDRESS)?;
    rule(!host.user.is_empty() && !host.user.starts_with('-'), sentences::USER)?;
    let directory = host.state_directory.as_deref();
    rule(directory.is_none_or(|path| path.starts_with('/')), sentences::STATE_DIRECTORY)?;
    let port = invalid::number("spec.port", host.port, 1..=65_535)?;
    Ok(Hop {
        name: name.to_owned(),
        address: host.address.clone(),
        port: u16::try_from(port).unwrap_or_default(),
        user: host.user.clone(),
        host_keys: HostKeys {
            known_hosts: keys.known_hosts.clone(),
            config_map: keys.config_map_key_ref.clone().map(|at| (at.name, at.key)),
            fingerprints,
        },
        credentials: host.credentials.secret_ref.name.clone(),
        timeouts: HopTimeouts {
            connect: stage_limit("spec.timeouts.connect", &host.timeouts.connect)?,
            handshake: stage_limit("spec.timeouts.handshake", &host.timeouts.handshake)?,
            authenticate: stage_limit("spec.timeouts.authenticate", &host.timeouts.authenticate)?,
        },
        keep_alive: KeepAlive {
            interval: keep_alive_interval(&host.keep_alive.interval)?,
            missed: invalid::number("spec.keepAlive.missed", host.keep_alive.missed, 1..=100)?,
        },
    })
}

fn override_timeouts(target: &mut HopTimeouts, own: &Timeouts) -> Result<(), InvalidSpec> {
    if let Some(connect) = &own.connect {
        target.connect = stage_limit("spec.timeouts.connect", connect)?;
    }
    if let Some(handshake) = &own.handshake {
        target.handshake = stage_limit("spec.timeouts.handshake", handshake)?;
    }
    if let Some(authenticate) = &own.authenticate {
        target.authenticate = stage_limit("spec.timeouts.authenticate", authenticate)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
