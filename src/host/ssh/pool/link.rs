//! A pool as a way to run lines, for whoever knows nothing of SSH.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::{EVENTS, INPUTS, Pool};
use crate::core::fault::Fault;
use crate::host::ssh::outlet::Outlet;
use crate::host::{ExecChannel, Recall, Transport};

/// [`Pool`] as a way to run lines.
pub(crate) struct Link(pub(crate) Arc<Pool>);

#[async_trait]
impl Transport for Link {
    async fn open(&self, line: &str) -> Result<ExecChannel, Fault> {
        let started =
            self.0.start(line, &Recall::new()).await.map_err(|unopened| unopened.fault)?;
        let (input, inputs) = mpsc::channel(INPUTS);
        let (events, received) = mpsc::channel(EVENTS);
        started.pump(inputs, Outlet::queue(events));
        Ok(ExecChannel { input, events: received })
    }

    fn renew(&self) -> bool {
        self.0.renew()
    }

    fn is_full(&self) -> bool {
        self.0.is_full()
    }
}
