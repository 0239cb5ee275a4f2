//! The library's view of us: what we let a server do, and what it tells us.
//!
//! A client that runs commands needs nothing that a server begins by itself. The library
//! accepts every channel that a server opens unless it is told otherwise, and each costs
//! memory: all kinds are refused here, and whoever goes on opening them is left.

use std::sync::{Arc, OnceLock};

use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelId};

use super::banner::Banner;
use super::fault::{Broken, Excess, disconnected};
use super::session::{Ending, Shown};
use super::trust::{Trust, fingerprint};
use crate::core::fault::{Fault, Transient};

/// Channels that a server may try to open on one connection: one that was told no this often
/// does it on purpose.
const REFUSALS: u32 = 32;
/// Most bytes of one piece of output. We ask for 32 KiB (RFC 4254, 5.1); twice that is taken
/// from servers that count differently, and not the 256 KiB that the library would take.
pub(super) const LARGEST_PIECE: usize = 64 * 1024;

/// Checks the host key, refuses what nobody asked for, and learns why the connection ended.
#[derive(Debug)]
pub(super) struct Client {
    trust: Trust,
    shown: Arc<OnceLock<Shown>>,
    ending: Arc<Ending>,
    banner: Arc<Banner>,
    refused: u32,
}

impl Client {
    pub(super) fn new(
        trust: Trust,
        shown: Arc<OnceLock<Shown>>,
        ending: Arc<Ending>,
        banner: Arc<Banner>,
    ) -> Self {
        Self { trust, shown, ending, banner, refused: 0 }
    }

    /// Refuses a channel that the server opens. Dropping the reply is the refusal.
    fn refuse(&mut self, reply: ChannelOpenHandle) -> Result<(), Broken> {
        drop(reply);
        self.count_refusal()
    }

    fn count_refusal(&mut self) -> Result<(), Broken> {
        self.refused += 1;
        if self.refused > REFUSALS { Err(Broken::Excess(Excess::Channels)) } else { Ok(()) }
    }
}

impl Drop for Client {
    /// However the library's task ends, a panic included, the connection counts as ended.
    fn drop(&mut self) {
        self.ending.set(Fault::new(Transient::ConnectionLost, "the connection ended"));
    }
}

/// Whether a piece of output is of the size that was agreed on.
fn fits(bytes: &[u8]) -> Result<(), Broken> {
    if bytes.len() > LARGEST_PIECE { Err(Broken::Excess(Excess::Packet)) } else { Ok(()) }
}

impl Handler for Client {
    type Error = Broken;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Broken> {
        let (key, verdict) = match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => (key.clone(), self.trust.check(key)),
            PublicKeyOrCertificate::Certificate(certificate) => {
                let now = jiff::Timestamp::now().as_second();
                let now = u64::try_from(now).unwrap_or(0);
                let key = certificate.public_key().clone().into();
                (key, self.trust.check_certificate(certificate, now))
            }
        };
        let _ = self.shown.set(Shown { fingerprint: fingerprint(&key), kind: key.algorithm() });
        verdict.map(|()| true).map_err(Broken::Key)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), Broken> {
        self.banner.hear(banner);
        Ok(())
    }

    async fn data(&mut self, _: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Broken> {
        fits(data)
    }

    async fn extended_data(
        &mut self,
        _: ChannelId,
        _: u32,
        data: &[u8],
        _: &mut Session,
    ) -> Result<(), Broken> {
        fits(data)
    }

    /// Keys that are announced after the handshake (`hostkeys-00@openssh.com`) change nothing.
    async fn openssh_ext_host_keys_announced(
        &mut self,
        _: Vec<PublicKey>,
        _: &mut Session,
    ) -> Result<(), Broken> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Broken> {
        self.refuse(reply)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Broken> {
        self.refuse(reply)
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Broken> {
        self.refuse(reply)
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Broken> {
        self.refuse(reply)
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Broken> {
        self.refuse(reply)
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Broken> {
        self.refuse(reply)
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Broken> {
        self.refuse(reply)
    }

    /// The library refuses kinds that it does not know; they count all the same, but it does
    /// not ask here whether to end the connection.
    async fn should_accept_unknown_server_channel(&mut self, _: ChannelId, _: &str) -> bool {
        false
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Broken>) -> Result<(), Broken> {
        let fault = disconnected(&reason);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => {
                self.ending.set_said(fault);
                Ok(())
            }
            DisconnectReason::Error(broken) => {
                self.ending.set(fault);
                Err(broken)
            }
        }
    }
}
