//! `/livez`, `/readyz` and `/metrics`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tracing::warn;

use super::{watch, writer};

/// What is told about this operator.
#[derive(Clone, Debug)]
pub struct Health {
    started: Arc<AtomicBool>,
    leading: Arc<AtomicBool>,
}

impl Health {
    /// Answers at `address` from here on.
    ///
    /// # Errors
    /// When the address cannot be listened at.
    pub async fn serve(address: SocketAddr) -> io::Result<Self> {
        let health = Self { started: Arc::default(), leading: Arc::default() };
        let (ready, metrics) = (health.clone(), health.clone());
        let routes = Router::new()
            .route("/livez", get(|| async { "ok" }))
            .route("/readyz", get(move || async move { ready.readiness() }))
            .route("/metrics", get(move || async move { metrics.metrics() }));
        let listener = TcpListener::bind(address).await?;
        tokio::spawn(async move {
            if let Err(failure) = axum::serve(listener, routes).await {
                warn!(%failure, "health is not served any more");
            }
        });
        Ok(health)
    }

    /// Another operator may be leading; this one stands by.
    pub fn follows(&self) {
        self.started.store(true, Ordering::Relaxed);
        self.leading.store(false, Ordering::Relaxed);
    }

    /// This operator leads.
    pub fn leads(&self) {
        self.leading.store(true, Ordering::Relaxed);
    }

    fn readiness(&self) -> (StatusCode, &'static str) {
        let (started, leading) =
            (self.started.load(Ordering::Relaxed), self.leading.load(Ordering::Relaxed));
        match (started, leading) {
            (_, true) => (StatusCode::OK, "leading"),
            (true, false) => (StatusCode::OK, "standing by"),
            (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "the cluster is not fit yet"),
        }
    }

    /// In the Prometheus text format.
    fn metrics(&self) -> String {
        let leading = u8::from(self.leading.load(Ordering::Relaxed));
        let failures = watch::FAILURES.load(Ordering::Relaxed);
        let refusals = writer::REFUSALS.load(Ordering::Relaxed);
        format!(
            "# HELP remote_command_leading Whether this operator leads.\n\
             # TYPE remote_command_leading gauge\n\
             remote_command_leading {leading}\n\
             # HELP remote_command_watch_failures_total Watches that failed and were begun again.\n\
             # TYPE remote_command_watch_failures_total counter\n\
             remote_command_watch_failures_total {failures}\n\
             # HELP remote_command_status_refusals_total Statuses that the API server refused.\n\
             # TYPE remote_command_status_refusals_total counter\n\
             remote_command_status_refusals_total {refusals}\n"
        )
    }
}
