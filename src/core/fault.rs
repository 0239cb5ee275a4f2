//! Why the transport could not deliver an action, and of what kind that is.
//!
//! A fault says nothing about a command: it can never become its failure. The
//! kind is part of the type, because what follows depends on it alone.

use serde::{Deserialize, Serialize};

use super::foreign::printable;

/// The most characters of a fault's message: foreign text twice, and a sentence around it.
pub const FAULT_CHARS: usize = 800;

/// Why an action could not be delivered, or its answer not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fault {
    pub cause: Cause,
    /// What was being done and what came, for people. Never a secret. Foreign text in it went
    /// through [`foreign`](super::foreign::foreign).
    pub message: String,
}

/// The three kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// May pass by itself: back off with jitter, go on until the queue limit.
    Transient(Transient),
    /// Stays until somebody mends the host object, its Secret or the host.
    Standing(Standing),
    /// A bug or a limit of ours or of a library: count, log, reconnect.
    Ours(Ours),
}

/// Faults that may pass by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Transient {
    /// The address has no entry, or no name server answered.
    NameResolutionFailed,
    /// Nothing listens at the port (TCP reset).
    ConnectionRefused,
    /// No route, network down, connection reset before the banner.
    HostUnreachable,
    /// No connection within `timeouts.connect`.
    ConnectTimeout,
    /// No banner, or no end of the key exchange, within `timeouts.handshake` (RFC 4253).
    HandshakeTimeout,
    /// No verdict on a credential within `timeouts.authenticate` (RFC 4252).
    AuthenticationTimeout,
    /// The server turned us away for now (MaxStartups, penalties).
    Throttled,
    /// An established connection ended, or keepalive gave up on it.
    ConnectionLost,
    /// No channel could be opened (MaxSessions).
    ChannelRefused,
    /// The host has no more processes for this user (`ulimit -u`, `pids.max`; fork(2), EAGAIN).
    ProcessLimit,
    /// The far shell did not answer within the reply limit.
    ReplyTimeout,
    /// Another machine answers at this address than the attempt was launched on.
    WrongHost,
}

/// Faults that stay until somebody mends something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// No key is known for this host, so none is accepted.
    HostKeyUnknown,
    /// The server showed another key than the known ones.
    HostKeyMismatch,
    /// The key it showed is marked `@revoked` (sshd(8), known_hosts).
    HostKeyRevoked,
    /// The operator's own options or rights forbid it: the host's network, or a Secret.
    PolicyDenied,
    /// Every credential we have was refused.
    AuthenticationRejected,
    /// The Secret holds no key, or one that cannot be used.
    CredentialsInvalid,
    /// The server offers nothing that we use (RFC 4253, 7.1).
    NoCommonAlgorithm,
    /// No usable shell, state directory or tool on the host.
    HostUnusable,
    /// The account runs a fixed command instead of ours.
    ForcedCommand,
    /// sudo does not allow what `runAs` needs.
    RunAsRestricted,
    /// The host's shell cannot set one of the variables.
    EnvironmentRefused,
    /// Arguments and variables are together too much for the host (execve(2), E2BIG).
    ArgumentsTooLong,
}

/// Faults of this program or of its libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ours {
    /// The far side answered something the protocol does not allow.
    ProtocolError,
    /// The SSH library gave up although the link was fine.
    LibraryLimit,
}

impl Fault {
    /// A fault of the given cause with a message for people: one line, of [`FAULT_CHARS`] at
    /// most, whatever it is given.
    pub fn new(cause: impl Into<Cause>, message: impl AsRef<str>) -> Self {
        Self { cause: cause.into(), message: printable(message.as_ref(), FAULT_CHARS) }
    }

    /// The reason shown in status: one CamelCase word.
    pub fn reason(&self) -> &'static str {
        self.cause.reason()
    }
}

impl Cause {
    /// The reason shown in status: one CamelCase word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Transient(t) => t.reason(),
            Self::Standing(s) => s.reason(),
            Self::Ours(o) => o.reason(),
        }
    }
}

impl Standing {
    /// Whether it is the host's answer to a launch: it was reached, and can do other things.
    pub fn is_answer_to_launch(self) -> bool {
        match self {
            Self::EnvironmentRefused | Self::ArgumentsTooLong => true,
            Self::HostKeyUnknown
            | Self::HostKeyMismatch
            | Self::HostKeyRevoked
            | Self::PolicyDenied
            | Self::AuthenticationRejected
            | Self::CredentialsInvalid
            | Self::NoCommonAlgorithm
            | Self::HostUnusable
            | Self::ForcedCommand
            | Self::RunAsRestricted => false,
        }
    }
}

impl Transient {
    /// The reason shown in status: one CamelCase word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NameResolutionFailed => "NameResolutionFailed",
            Self::ConnectionRefused => "ConnectionRefused",
            Self::HostUnreachable => "HostUnreachable",
            Self::ConnectTimeout => "ConnectTimeout",
            Self::HandshakeTimeout => "HandshakeTimeout",
            Self::AuthenticationTimeout => "AuthenticationTimeout",
            Self::Throttled => "Throttled",
            Self::ConnectionLost => "ConnectionLost",
            Self::ChannelRefused => "ChannelRefused",
            Self::ProcessLimit => "ProcessLimit",
            Self::ReplyTimeout => "ReplyTimeout",
            Self::WrongHost => "WrongHost",
        }
    }
}

impl Standing {
    /// The reason shown in status: one CamelCase word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::HostKeyUnknown => "HostKeyUnknown",
            Self::HostKeyMismatch => "HostKeyMismatch",
            Self::HostKeyRevoked => "HostKeyRevoked",
            Self::PolicyDenied => "PolicyDenied",
            Self::AuthenticationRejected => "AuthenticationRejected",
            Self::CredentialsInvalid => "CredentialsInvalid",
            Self::NoCommonAlgorithm => "NoCommonAlgorithm",
            Self::HostUnusable => "HostUnusable",
            Self::ForcedCommand => "ForcedCommand",
            Self::RunAsRestricted => "RunAsRestricted",
            Self::EnvironmentRefused => "EnvironmentRefused",
            Self::ArgumentsTooLong => "ArgumentsTooLong",
        }
    }
}

impl Ours {
    /// The reason shown in status: one CamelCase word.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ProtocolError => "ProtocolError",
            Self::LibraryLimit => "LibraryLimit",
        }
    }
}

impl From<Transient> for Cause {
    fn from(t: Transient) -> Self {
        Self::Transient(t)
    }
}

impl From<Standing> for Cause {
    fn from(s: Standing) -> Self {
        Self::Standing(s)
    }
}

impl From<Ours> for Cause {
    fn from(o: Ours) -> Self {
        Self::Ours(o)
    }
}
