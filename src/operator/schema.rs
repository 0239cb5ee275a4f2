//! Whether the cluster has our resource types, in the version this program writes.
//!
//! An older definition would silently drop the fields it does not know, and with them parts
//! of the write-ahead log. So nothing is begun before they are right.

use std::error::Error as _;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use kube::{Client, ResourceExt};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::fault::{Failure, bounded};
use crate::api::crd;

/// How long the definitions are waited for.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(2);

/// Why the operator does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error(
        "the cluster has no resource type {0}: install it with \
         `remote-command crds | kubectl apply --server-side -f -`"
    )]
    Missing(String),
    #[error(
        "the resource type {0} in the cluster is older than this program and would drop parts of \
         what it writes: update it with `remote-command crds | kubectl apply --server-side -f -`"
    )]
    Older(String),
    #[error("the resource type {0} is not served by the API server yet")]
    NotServed(String),
    #[error("the resource type {0} could not be looked at")]
    Unknown(String, #[source] Failure),
}

/// Waits until the cluster is fit: for a while when it is seen not to be, and for as long as it
/// takes while nobody can tell, because an API server that is down says nothing of it.
///
/// # Errors
/// What is wrong, once it has been so for two minutes.
pub async fn wait(client: Client) -> Result<(), Unfit> {
    let mut unfit_since = None;
    let mut told = None;
    loop {
        let Err(unfit) = look(client.clone()).await else { return Ok(()) };
        match &unfit {
            Unfit::Unknown(..) => unfit_since = None,
            Unfit::Missing(_) | Unfit::Older(_) | Unfit::NotServed(_) => {
                let since = *unfit_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= PATIENCE {
                    return Err(unfit);
                }
            }
        }
        if told.as_ref() != Some(&unfit) {
            let cause = unfit.source().map(ToString::to_string);
            warn!(cause, "waiting: {unfit}");
        }
        told = Some(unfit);
        sleep(PAUSE).await;
    }
}

async fn look(client: Client) -> Result<(), Unfit> {
    let api = Api::<CustomResourceDefinition>::all(client);
    for ours in crd::all() {
        let name = ours.name_any();
        let found = match bounded(api.get_opt(&name)).await {
            Ok(found) => found.ok_or_else(|| Unfit::Missing(name.clone()))?,
            Err(failure) => return Err(Unfit::Unknown(name, failure)),
        };
        if crd::is_older(&found) {
            return Err(Unfit::Older(name));
        }
        if !is_served(&found) {
            return Err(Unfit::NotServed(name));
        }
    }
    Ok(())
}

fn is_served(found: &CustomResourceDefinition) -> bool {
    let conditions = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_down_is_waited_for_however_long_that_takes() {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let waited = tokio::time::timeout(PATIENCE * 5, wait(client)).await;
        assert!(waited.is_err(), "{waited:?}");
    }
}
