//! SSH: connections that are made within limits, shared by many commands, and known to end.
//!
//! What comes out of here is a [`super::Transport`], and faults in the words of
//! [`crate::core::fault`]; the library underneath shows nowhere else. Not here: what is run.

mod auth;
mod banner;
mod breaker;
mod budget;
mod client;
mod dial;
mod effort;
mod exec;
mod fault;
mod gate;
mod outlet;
mod pem;
mod place;
mod pool;
mod private_key;
mod progress;
mod pump;
mod resolve;
mod session;
mod socket;
mod trust;

use std::sync::Arc;

pub(crate) use pool::{Link, Pool};

use super::Lookup;
use super::contact::Noted;
use super::networks::Denied;
use crate::core::connection::Connection;

/// What all connections of this process share: manners towards hosts.
#[derive(Debug, Default)]
pub(crate) struct Dialer(Arc<dial::Etiquette>);

impl Dialer {
    /// With other bounds on the use of a connection's keys, in bytes: where we begin a key
    /// exchange, and from where on no new command is given to it.
    pub(crate) fn with_wear(rekey: usize, worn: u64) -> Self {
        let wear = dial::Wear { rekey, worn };
        Self(Arc::new(dial::Etiquette { wear, ..dial::Etiquette::default() }))
    }

    /// The same, but nothing in these networks is connected to.
    pub(crate) fn denying(self, denied: Denied) -> Self {
        Self(Arc::new(dial::Etiquette { denied, wear: self.0.wear, ..dial::Etiquette::default() }))
    }

    /// Somebody in this scope asks to offer again what the host of this name has refused.
    pub(crate) fn ask_again(&self, scope: &str, name: &str) {
        self.0.breaker.ask_again(scope, name);
    }

    /// The connections to one machine, for one namespace, the `scope`. Nothing is dialled yet;
    /// what comes of dialling is noted in `contact`.
    pub(crate) fn pool(
        &self,
        scope: &str,
        connection: Connection,
        lookup: Arc<dyn Lookup>,
        contact: Noted,
    ) -> Arc<Pool> {
        Pool::new(scope, connection, (lookup, contact), self.0.clone())
    }
}
