//! What the SSH library reports, in our own words. The only place that reads its errors.
//!
//! A fault says how reaching the machine failed. It never says anything about a command.

use std::io;

use russh::client::DisconnectReason;
use russh::{ChannelOpenFailure, Disconnect, Error};

use super::socket::{Greeting, UNADMITTED};
use crate::core::fault::{Cause, Fault, Ours, Standing, Transient};
use crate::core::foreign::foreign;

/// Where in a connection's life something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Handshake,
    Authenticate,
    Channel,
    /// An established connection, whatever it was doing.
    Link,
}

/// The fault of a library error that surfaced at `stage`.
pub(super) fn classify(error: &Error, stage: Stage) -> Fault {
    let cause: Cause = match error {
        Error::NoCommonAlgo { .. } | Error::KexInit | Error::Kex | Error::UnknownAlgo => {
            Standing::NoCommonAlgorithm.into()
        }
        Error::UnknownKey => Standing::HostKeyUnknown.into(),
        Error::WrongServerSig | Error::KeyChanged { .. } => Standing::HostKeyMismatch.into(),
        Error::NoAuthMethod | Error::UnsupportedAuthMethod => {
            Standing::AuthenticationRejected.into()
        }
        Error::CouldNotReadKey | Error::Keys(_) => match stage {
            Stage::Authenticate => Standing::CredentialsInvalid.into(),
            Stage::Handshake | Stage::Channel | Stage::Link => Ours::ProtocolError.into(),
        },
        Error::ChannelOpenFailure(_) => Transient::ChannelRefused.into(),
        Error::RequestDenied => Standing::HostUnusable.into(),
        Error::IO(error) => io_cause(error.kind(), stage),
        Error::Disconnect
        | Error::HUP
        | Error::KeepaliveTimeout
        | Error::InactivityTimeout
        | Error::SendError
        | Error::RecvError
        | Error::Join(_) => lost(stage),
        Error::ConnectionTimeout | Error::Elapsed(_) => Transient::HandshakeTimeout.into(),
        Error::Pending | Error::NoHomeDir | Error::InvalidConfig(_) => Ours::LibraryLimit.into(),
        Error::Version
        | Error::PacketAuth
        | Error::Inconsistent
        | Error::NotAuthenticated
        | Error::IndexOutOfBounds
        | Error::PacketSize(_)
        | Error::WrongChannel
        | Error::DecryptionError
        | Error::Utf8(_)
        | Error::StrictKeyExchangeViolation { .. }
        | Error::Signature(_)
        | Error::SshKey(_)
        | Error::SshEncoding(_) => Ours::ProtocolError.into(),
    };
    Fault::new(cause, describe(error))
}

/// Words of ours where the library's own would puzzle.
fn describe(error: &Error) -> String {
    match error {
        Error::Disconnect | Error::HUP | Error::SendError | Error::RecvError => {
            "the server closed the connection".to_owned()
        }
        Error::KeepaliveTimeout => "the server stopped answering keepalives".to_owned(),
        Error::IO(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server closed the connection".to_owned()
        }
        Error::IO(error) if error.kind() == io::ErrorKind::TimedOut => {
            "the connection stopped moving".to_owned()
        }
        Error::IO(error) if error.get_ref().is_some_and(|why| why.is::<Excess>()) => {
            error.to_string()
        }
        Error::IO(error) => format!("the connection broke: {}", foreign(&error.to_string())),
        Error::Pending => {
            "the library's limit of data during a key exchange was reached".to_owned()
        }
        Error::ChannelOpenFailure(reason) => refusal(reason),
        // The lists of algorithms in it are the server's.
        other => foreign(&other.to_string()),
    }
}

/// The fault of a channel the server refused; `None` when the connection itself failed.
pub(super) fn not_opened(error: &Error) -> Option<Fault> {
    match error {
        Error::ChannelOpenFailure(_) => Some(classify(error, Stage::Channel)),
        _ => None,
    }
}

fn refusal(reason: &ChannelOpenFailure) -> String {
    let words = match reason {
        ChannelOpenFailure::AdministrativelyProhibited => "administratively prohibited",
        ChannelOpenFailure::ConnectFailed => "connect failed",
        ChannelOpenFailure::UnknownChannelType => "unknown channel type",
        ChannelOpenFailure::ResourceShortage => "resource shortage",
        ChannelOpenFailure::Other { reason, .. } => &foreign(reason),
    };
    format!("the server refused a channel: {words}")
}

fn lost(stage: Stage) -> Cause {
    match stage {
        Stage::Handshake => Transient::HostUnreachable.into(),
        Stage::Authenticate | Stage::Channel | Stage::Link => Transient::ConnectionLost.into(),
    }
}

fn io_cause(kind: io::ErrorKind, stage: Stage) -> Cause {
    match (kind, stage) {
        (io::ErrorKind::ConnectionRefused, _) => Transient::ConnectionRefused.into(),
        (io::ErrorKind::InvalidData, _) => Ours::ProtocolError.into(),
        (_, stage) => lost(stage),
    }
}

/// Why a TCP connection could not be made.
pub(super) fn connecting(error: &io::Error, to: &str) -> Fault {
    let cause = match error.kind() {
        io::ErrorKind::ConnectionRefused => Transient::ConnectionRefused,
        io::ErrorKind::TimedOut => Transient::ConnectTimeout,
        _ => Transient::HostUnreachable,
    };
    Fault::new(cause, format!("connecting to {to}: {}", foreign(&error.to_string())))
}

/// How servers turn clients away in plain text (OpenSSH sshd.c; the second since 9.8, for
/// penalties too).
const TURNED_AWAY: [&str; 2] = ["Exceeded MaxStartups", "Not allowed at this time"];

/// A handshake that failed, read together with what the server said before it. Servers turn
/// clients away in plain text, or by closing without a word. No other text is shown: whoever
/// answers without being an SSH server may be a service that our user is not to read.
pub(super) fn handshake(error: &Error, greeting: &Greeting) -> Fault {
    let said = greeting.text();
    if let Some(words) = TURNED_AWAY.iter().find(|words| said.contains(**words)) {
        return Fault::new(Transient::Throttled, format!("the server said: {words}"));
    }
    if greeting.version().is_none() && !said.trim().is_empty() {
        let message = "what answers is no SSH server: it sent something else than a version";
        return Fault::new(Ours::ProtocolError, message);
    }
    let fault = classify(error, Stage::Handshake);
    if greeting.version().is_none() && matches!(fault.cause, Cause::Transient(_)) {
        return Fault::new(fault.cause, "the server closed the connection before its banner");
    }
    fault
}

/// What stands before a reason that a server gave to disconnect.
pub(super) const DISCONNECTED: &str = "the server disconnected: ";

/// The end of an established connection, as told to the handler.
pub(super) fn ended(code: &Disconnect, message: &str) -> Fault {
    let cause: Cause = match code {
        Disconnect::TooManyConnections | Disconnect::HostNotAllowedToConnect => {
            Transient::Throttled.into()
        }
        Disconnect::NoMoreAuthMethodsAvailable | Disconnect::IllegalUserName => {
            Standing::AuthenticationRejected.into()
        }
        Disconnect::ProtocolError | Disconnect::MACError | Disconnect::CompressionError
            if message.contains("Too many authentication failures") =>
        {
            Standing::AuthenticationRejected.into()
        }
        Disconnect::KeyExchangeFailed => Standing::NoCommonAlgorithm.into(),
        Disconnect::ProtocolError
        | Disconnect::Reserved
        | Disconnect::MACError
        | Disconnect::CompressionError
        | Disconnect::ServiceNotAvailable
        | Disconnect::ProtocolVersionNotSupported
        | Disconnect::HostKeyNotVerifiable
        | Disconnect::ConnectionLost
        | Disconnect::ByApplication
        | Disconnect::AuthCancelledByUser => Transient::ConnectionLost.into(),
    };
    Fault::new(cause, format!("{DISCONNECTED}{}", foreign(message)))
}

/// What a connection's handler may fail with: the library's error, or a verdict of ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the ssh library failed")]
    Library(#[from] Error),
    #[error("the host key was not accepted")]
    Key(Fault),
    #[error(transparent)]
    Excess(#[from] Excess),
}

/// Of what a server sent more than a client has to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    #[error("the server opens channels that nobody asked for, again and again")]
    Channels,
    #[error("the server sends larger pieces of output than was agreed (RFC 4254, 5.2)")]
    Packet,
    #[error("the server sent more than {} KiB before it let us in", UNADMITTED / 1024)]
    Unadmitted,
}

impl Broken {
    pub(super) fn fault(&self, stage: Stage) -> Fault {
        match self {
            Self::Library(error) => classify(error, stage),
            Self::Key(fault) => fault.clone(),
            Self::Excess(excess) => Fault::new(Ours::ProtocolError, excess.to_string()),
        }
    }
}

/// The fault of a connection's end.
pub(super) fn disconnected(reason: &DisconnectReason<Broken>) -> Fault {
    match reason {
        DisconnectReason::ReceivedDisconnect(said) => ended(&said.reason_code, &said.message),
        DisconnectReason::Error(broken) => broken.fault(Stage::Link),
    }
}
