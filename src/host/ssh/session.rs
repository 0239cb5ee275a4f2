//! One authenticated connection: the library's handle, its end, and what it runs over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::Handle;
use russh::keys::Algorithm;
use russh::{Channel, ChannelStream, client};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::fault::not_opened;
use super::socket::Switch;
use crate::core::fault::{Fault, Transient};
use crate::host::HostFacts;

/// How long an orderly goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// The first known cause of a connection's end. The library tells it to the handler only.
#[derive(Debug, Default)]
pub(super) struct Ending {
    fault: OnceLock<Fault>,
    /// True when the fault is what the server itself said.
    said: AtomicBool,
    over: CancellationToken,
}

/// The key that a server showed.
#[derive(Debug)]
pub(super) struct Shown {
    /// `SHA256:...`
    pub(super) fingerprint: String,
    pub(super) kind: Algorithm,
}

impl Ending {
    /// Only the first one counts.
    pub(super) fn set(&self, fault: Fault) {
        let _ = self.fault.set(fault);
        self.over.cancel();
    }

    /// The same of a fault that the server itself told.
    pub(super) fn set_said(&self, fault: Fault) {
        self.said.store(!self.is_over(), Ordering::SeqCst);
        self.set(fault);
    }

    /// What the server gave as its reason to disconnect, if it did.
    pub(super) async fn said(&self) -> Option<Fault> {
        let fault = self.fault().await;
        self.said.load(Ordering::SeqCst).then_some(fault)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Waits for the end.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// The cause; waits a moment for it, as channels learn of an end before its cause is told.
    pub(super) async fn fault(&self) -> Fault {
        let _ = tokio::time::timeout(GOODBYE, self.over.cancelled()).await;
        self.fault.get().cloned().unwrap_or_else(|| {
            Fault::new(Transient::ConnectionLost, "the connection ended without a word")
        })
    }
}

/// An authenticated connection, with the jump hosts it runs over. Dropping it ends it at once.
pub(super) struct Session {
    pub(super) handle: Handle<Client>,
    pub(super) ending: Arc<Ending>,
    pub(super) switch: Arc<Switch>,
    /// `SSH-2.0-...`
    pub(super) server_version: String,
    /// `SHA256:...`
    pub(super) host_key: String,
    /// The jump host it runs over.
    pub(super) below: Option<Box<Session>>,
}

impl Session {
    /// What the server said of itself.
    pub(super) fn facts(&self) -> HostFacts {
        HostFacts {
            server_version: self.server_version.clone(),
            host_key_fingerprint: self.host_key.clone(),
        }
    }

    /// The same for each machine on the way, in dialling order.
    pub(super) fn facts_on_the_way(&self) -> Vec<HostFacts> {
        let mut facts = self.below.as_ref().map_or_else(Vec::new, |jump| jump.facts_on_the_way());
        facts.push(self.facts());
        facts
    }

    /// Opens a channel for one command.
    ///
    /// # Errors
    /// `ChannelRefused`, or the fault of the link. Not to be cancelled: the server would keep
    /// a channel that nobody closes.
    pub(super) async fn channel(&self) -> Result<Channel<client::Msg>, Fault> {
        match self.handle.channel_open_session().await {
            Ok(channel) => Ok(channel),
            Err(error) => match not_opened(&error) {
                Some(refused) => Err(refused),
                None => Err(self.ending.fault().await),
            },
        }
    }

    /// A TCP connection made by this jump host.
    ///
    /// # Errors
    /// `HostUnreachable` when it cannot reach the target, or the fault of the link.
    pub(super) async fn tunnel(
        &self,
        address: &str,
        port: u16,
    ) -> Result<ChannelStream<client::Msg>, Fault> {
        let opened =
            self.handle.channel_open_direct_tcpip(address, u32::from(port), "127.0.0.1", 0).await;
        match opened {
            Ok(channel) => Ok(channel.into_stream()),
            Err(error) => {
                let Some(refused) = not_opened(&error) else {
                    return Err(self.ending.fault().await);
                };
                let why = refused.message;
                let message = format!("the jump host cannot reach {address} port {port}: {why}");
                Err(Fault::new(Transient::HostUnreachable, message))
            }
        }
    }

    /// Says goodbye and ends the connection and those below it, within about a second each.
    pub(super) async fn close(&self) {
        let mut next = Some(self);
        while let Some(session) = next {
            let goodbye = async {
                let reason = russh::Disconnect::ByApplication;
                let _ = session.handle.disconnect(reason, "", "").await;
                session.ending.over().await;
            };
            let _ = tokio::time::timeout(GOODBYE, goodbye).await;
            session.switch.trip();
            next = session.below.as_deref();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.switch.trip();
    }
}
