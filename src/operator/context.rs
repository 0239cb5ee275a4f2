//! What all parts of a leading operator share.

use std::sync::Arc;

use kube::Client;
use kube::runtime::reflector::Store;
use tokio_util::sync::CancellationToken;

use super::admission::Admission;
use super::asking::Words;
use super::closing::Swept;
use super::disputes::Disputes;
use super::events::Announcer;
use super::following::Output;
use super::lookup::{Namespace, SecretLabel};
use super::writer::Writer;
use crate::api::RemoteHost;
use crate::host::hosts::Hosts;

/// Made anew for each term: nothing in it is older than the Lease that is held.
pub struct Context {
    /// Does not retry by itself.
    pub client: Client,
    pub writer: Writer,
    pub announcer: Announcer,
    pub hosts: Arc<Hosts>,
    pub remote_hosts: Store<RemoteHost>,
    pub admission: Arc<Admission>,
    pub output: Output,
    /// What Secrets have to carry to be read.
    pub secret_label: Option<SecretLabel>,
    pub swept: Swept,
    pub disputes: Disputes,
    pub words: Words,
    /// Cancelled when supervisors are to end.
    pub stop: CancellationToken,
}

impl Context {
    /// The Secrets and ConfigMaps of the namespace `name`, as far as they may be read.
    pub fn lookup(&self, name: &str) -> Namespace {
        Namespace::new(self.client.clone(), name, self.secret_label.clone())
    }
}
