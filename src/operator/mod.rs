//! Effects towards Kubernetes: watch, reconcile, supervise, write.
//!
//! One operator leads at a time ([`lease`]). While it does, a loop looks at every object that
//! changes ([`reconcile`]) and keeps one [`supervisor`] for each ([`registry`]); they decide
//! and act, and hand what is to be stored to the one [`writer`]. What decides is `core`; what
//! acts on machines is `host`.

mod adding;
mod admission;
mod asking;
mod bucket;
mod closing;
mod config;
mod context;
mod denial;
mod disputes;
mod events;
pub mod fault;
mod finalizer;
mod following;
mod health;
mod hearing;
mod host_check;
mod host_status;
mod host_use;
mod hosts;
mod identity;
mod lease;
mod ledger;
mod lookup;
mod memory;
mod news;
mod put;
mod reconcile;
mod registry;
mod schema;
mod stage;
mod supervisor;
mod ttl;
mod watch;
mod wishes;
mod writer;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::Api;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use config::Config;

use crate::api::{RemoteCommand, RemoteHost};
use crate::host::hosts::Hosts;
use crate::host::networks::Denied;
use crate::output;
use crate::output::mark::Marks;
use admission::Admission;
use asking::Words;
use closing::Swept;
use context::Context;
use disputes::Disputes;
use events::Announcer;
use following::Output;
use health::Health;
use identity::Identity;
use lease::{Leadership, Terms};
use reconcile::Reconciler;
use writer::Writer;

/// How long supervisors may finish their turn, and the writer its writes, at the end.
const FINISH_LIMIT: Duration = Duration::from_secs(5);

/// Why the operator ends, other than being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no way to the cluster is configured")]
    NoCluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Unfit(#[from] schema::Unfit),
    #[error(transparent)]
    NoIdentity(#[from] identity::NoIdentity),
    #[error("the state directory, the output, or the health address cannot be used")]
    Local(#[from] io::Error),
}

/// What outlives a term of leadership.
struct Operator {
    config: Config,
    /// Nobody else has it while this lives.
    identity: Identity,
    clients: Clients,
    output: Output,
    /// Cancelled when somebody asks the operator to end.
    stop: CancellationToken,
}

/// Two clients: watches may be retried by the library, writes must not be, because a write
/// that is repeated unseen conflicts with itself.
struct Clients {
    watches: Client,
    writes: Client,
    /// The API server's host, as it is configured.
    api_server: Option<String>,
}

/// Carries out RemoteCommands until SIGTERM or SIGINT. Commands on hosts live on.
///
/// # Errors
/// [`Error`]: what has to be mended before the operator can start.
pub async fn run(config: Config) -> Result<(), Error> {
    let stop = stop_on_signal()?;
    let identity = tokio::select! {
        taken = Identity::take(&config.state_directory, config.identity.as_deref()) => taken?,
        () = stop.cancelled() => return Ok(()),
    };
    let clients = clients(config.watch_timeout).await?;
    let health = Health::serve(config.listen).await?;
    tokio::select! {
        fit = schema::wait(clients.writes.clone()) => fit?,
        () = stop.cancelled() => return Ok(()),
    }
    let (mut stdout, stderr) = output::standard::standard_streams()?;
    stdout.end_torn_line()?;
    let output = Output {
        writer: output::writer::Writer::start(stdout, stderr)?,
        marks: Marks::open(&config.state_directory.join("output"))?,
        limits: config.log_limits(),
    };
    let spools = config.spools();
    if let Err(error) = spools.check() {
        warn!(
            directory = %spools.directory().display(), %error,
            "no output can be put by there: Direct commands that write much will be cut off"
        );
    }
    let operator = Operator { config, identity, clients, output, stop };
    operator.lead_in_turn(&health).await;
    Ok(())
}

impl Operator {
    /// Leads whenever the Lease can be had, until somebody asks to stop.
    async fn lead_in_turn(&self, health: &Health) {
        let mut leadership = self.leadership();
        loop {
            health.follows();
            tokio::select! {
                () = leadership.acquire() => {}
                () = self.stop.cancelled() => return,
            }
            health.leads();
            self.lead(&mut leadership).await;
            // Nothing is released when it was lost.
            leadership.release().await;
            if self.stop.is_cancelled() {
                return info!("ended as asked; commands on hosts live on");
            }
            warn!("not leading any more; waiting to lead again");
        }
    }

    /// Does the work while the Lease is ours and nobody asks to stop.
    async fn lead(&self, leadership: &mut Leadership) {
        let watches = &self.clients.watches;
        let (namespace, timeout) = (self.config.namespace.as_deref(), self.config.watch_timeout);
        let scope = watch::Scope { namespace, timeout };
        let commands = watch::watch::<RemoteCommand>(watches.clone(), &scope);
        let remote_hosts = watch::watch::<RemoteHost>(watches.clone(), &scope);
        let denied = &self.config.deny_network;
        let denied = denial::denied(denied, self.clients.api_server.as_deref()).await;
        let context = Arc::new(self.context(&remote_hosts, denied));
        let mut reconciler = Reconciler::new(Arc::clone(&context), commands.store.clone());
        let writer_ended = context.writer.ended();
        tokio::select! {
            () = reconciler.run(commands, remote_hosts) => {}
            () = leadership.hold() => {}
            () = writer_ended => error!("the status writer has ended; all work begins anew"),
            () = self.stop.cancelled() => {}
        }
        reconciler.finish(FINISH_LIMIT).await;
        if tokio::time::timeout(FINISH_LIMIT, context.writer.flush()).await.is_err() {
            warn!("some statuses were not written; the next operator makes them again");
        }
        context.hosts.shutdown().await;
    }

    fn context(&self, remote_hosts: &watch::Watched<RemoteHost>, denied: Denied) -> Context {
        let client = &self.clients.writes;
        let announcer = Announcer::new(client.clone(), self.identity.name());
        Context {
            client: client.clone(),
            writer: Writer::start(client.clone(), announcer.clone()),
            announcer,
            hosts: Arc::new(Hosts::new().spooling(self.config.spools()).denying(denied)),
            secret_label: self.config.secret_label.clone(),
            remote_hosts: remote_hosts.store.clone(),
            admission: Arc::new(Admission::default()),
            output: self.output.clone(),
            swept: Swept::default(),
            disputes: Disputes::default(),
            words: Words::default(),
            stop: CancellationToken::new(),
        }
    }

    fn leadership(&self) -> Leadership {
        let (config, client) = (&self.config, &self.clients.writes);
        let namespace = config.lease_namespace.clone().or_else(|| config.namespace.clone());
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let terms = Terms {
            name: config.lease_name.clone(),
            identity: self.identity.name().to_owned(),
            note: config.state_directory.join("term"),
            duration: config.lease_duration,
            renew_deadline: config.renew_deadline(),
            retry_period: config.retry_period,
        };
        Leadership::new(Api::<Lease>::namespaced(client.clone(), &namespace), terms)
    }
}

async fn clients(watch_timeout: Duration) -> Result<Clients, Error> {
    let mut config = kube::Config::infer().await.map_err(|error| Error::NoCluster(error.into()))?;
    let client = |config: kube::Config| -> Result<Client, Error> {
        Client::try_from(config).map_err(|error| Error::NoCluster(error.into()))
    };
    let api_server = config.cluster_url.host().map(str::to_owned);
    let mut careful = config.clone();
    careful.default_retry = false;
    // A list has no limit of its own, and a connection that is dead says nothing. The silence
    // counts from what was sent last, not from when the connection went idle.
    config.read_timeout = Some(watch_timeout + watch::MARGIN);
    config.reset_reader_on_write = true;
    Ok(Clients { watches: client(config)?, writes: client(careful)?, api_server })
}

/// Cancelled at the first SIGTERM or SIGINT.
fn stop_on_signal() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("asked to end");
        asked.cancel();
    });
    Ok(stop)
}
