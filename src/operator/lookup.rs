//! Secrets and ConfigMaps, read by name at the moment of use and kept nowhere.
//!
//! There is no watch on Secrets: it would need the right to read them all.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::api::Api;
use zeroize::Zeroizing;

use super::fault::{Failure, bounded};
use crate::host::{Lookup, LookupError, SecretValues};

/// The Secrets and ConfigMaps of one namespace.
#[derive(Clone)]
pub struct Namespace {
    client: Client,
    name: String,
}

impl Namespace {
    /// Reads from the namespace `name`.
    pub fn new(client: Client, name: &str) -> Self {
        Self { client, name: name.to_owned() }
    }

    /// The version of a Secret, without its content; `None` when there is no such Secret.
    ///
    /// # Errors
    /// When it could not be asked for.
    pub async fn secret_version(&self, name: &str) -> Result<Option<String>, Failure> {
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.name);
        let found = bounded(api.get_metadata_opt(name)).await?;
        Ok(found.and_then(|secret| secret.metadata.resource_version))
    }

    /// The version of a ConfigMap; `None` when there is no such ConfigMap.
    ///
    /// # Errors
    /// When it could not be asked for.
    pub async fn config_map_version(&self, name: &str) -> Result<Option<String>, Failure> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.name);
        let found = bounded(api.get_metadata_opt(name)).await?;
        Ok(found.and_then(|map| map.metadata.resource_version))
    }

    /// The ConfigMap that is to have `key`.
    async fn whole_config_map(&self, name: &str, key: &str) -> Result<ConfigMap, LookupError> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.name);
        let found = bounded(api.get(name)).await;
        let what = || format!("config map {name:?}");
        found.map_err(|failure| why_not(failure, what(), || not_found(name, key)))
    }
}

#[async_trait]
impl Lookup for Namespace {
    async fn secret(&self, name: &str) -> Result<SecretValues, LookupError> {
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.name);
        let secret = bounded(api.get(name)).await.map_err(|failure| {
            let what = format!("secret {name:?}");
            why_not(failure, what, || LookupError::SecretNotFound(name.to_owned()))
        })?;
        let values = secret.data.unwrap_or_default();
        Ok(values.into_iter().map(|(key, value)| (key, Zeroizing::new(value.0))).collect())
    }

    async fn config_map(&self, name: &str, key: &str) -> Result<Vec<u8>, LookupError> {
        let map = self.whole_config_map(name, key).await?;
        let text = map.data.and_then(|mut values| values.remove(key)).map(String::into_bytes);
        let bytes = || map.binary_data.and_then(|mut values| values.remove(key));
        text.or_else(|| bytes().map(|value| value.0)).ok_or_else(|| not_found(name, key))
    }

    async fn config_map_text(&self, name: &str, key: &str) -> Result<Vec<u8>, LookupError> {
        let map = self.whole_config_map(name, key).await?;
        let text = map.data.and_then(|mut values| values.remove(key)).map(String::into_bytes);
        let is_binary = map.binary_data.is_some_and(|values| values.contains_key(key));
        let missing = || match is_binary {
            true => LookupError::Binary(name.to_owned(), key.to_owned()),
            false => not_found(name, key),
        };
        text.ok_or_else(missing)
    }
}

fn not_found(name: &str, key: &str) -> LookupError {
    LookupError::ConfigMapNotFound(name.to_owned(), key.to_owned())
}

/// A missing object, one that we may not read, or a source that could not be asked.
fn why_not(failure: Failure, what: String, missing: impl FnOnce() -> LookupError) -> LookupError {
    match failure {
        Failure::Missing => missing(),
        Failure::Refused(why) => LookupError::Denied(what, why),
        Failure::Conflict | Failure::Exists | Failure::Busy | Failure::Doubtful(_) => {
            LookupError::Unavailable(failure.to_string())
        }
    }
}
