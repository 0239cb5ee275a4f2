//! Secrets and ConfigMaps, read by name at the moment of use and kept nowhere.
//!
//! There is no watch on Secrets: it would need the right to read them all.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

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
    label: Option<SecretLabel>,
}

/// A label that Secrets have to carry to be read: `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretLabel {
    key: String,
    value: String,
}

/// A text that is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write KEY=VALUE as a Secret can carry it, for example remotecommand.dev/readable=true")]
pub struct NoLabel;

/// The longest name of a label, and the longest value; before a slash 253 characters more.
const LABEL_CHARS: usize = 63;

impl FromStr for SecretLabel {
    type Err = NoLabel;

    /// As Kubernetes allows them: what no Secret can carry would shut all of them out.
    fn from_str(text: &str) -> Result<Self, NoLabel> {
        let (key, value) = text.split_once('=').ok_or(NoLabel)?;
        let (prefix, name) = match key.split_once('/') {
            Some((prefix, name)) => (Some(prefix), name),
            None => (None, key),
        };
        let domain = |text: &str| {
            let inner = |part: &str| is_word(part, "-") && part == part.to_ascii_lowercase();
            text.len() <= 253 && text.split('.').all(inner)
        };
        let is_name = name.len() <= LABEL_CHARS && is_word(name, "-_.");
        let is_value = value.is_empty() || value.len() <= LABEL_CHARS && is_word(value, "-_.");
        if !is_name || !is_value || !prefix.is_none_or(domain) {
            return Err(NoLabel);
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Letters and digits, and `others` between them.
fn is_word(text: &str, others: &str) -> bool {
    let ends = |text: &str| text.ends_with(|c: char| c.is_ascii_alphanumeric());
    let within = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && ends(text) && text.chars().all(within)
}

impl fmt::Display for SecretLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl SecretLabel {
    /// # Errors
    /// The Secret does not carry it.
    fn check(
        &self,
        name: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Result<(), LookupError> {
        if labels.and_then(|labels| labels.get(&self.key)) == Some(&self.value) {
            return Ok(());
        }
        Err(LookupError::Unlabelled(name.to_owned(), self.to_string()))
    }
}

impl Namespace {
    /// Reads from the namespace `name`; of its Secrets only those that carry `label`.
    pub fn new(client: Client, name: &str, label: Option<SecretLabel>) -> Self {
        Self { client, name: name.to_owned(), label }
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
        let missing = |failure| {
            let what = format!("secret {name:?}");
            why_not(failure, what, || LookupError::SecretNotFound(name.to_owned()))
        };
        if let Some(label) = &self.label {
            // First without its content, which is not ours to read before.
            let found = bounded(api.get_metadata(name)).await.map_err(missing)?;
            label.check(name, found.metadata.labels.as_ref())?;
        }
        let secret = bounded(api.get(name)).await.map_err(missing)?;
        if let Some(label) = &self.label {
            // It may be another one by now, or have lost the label.
            label.check(name, secret.metadata.labels.as_ref())?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_secret_can_carry_is_taken_for_a_label() {
        for text in ["a=b", "remotecommand.dev/readable=true", "a=", "A_b.c-d=X_y.z-0"] {
            assert_eq!(text.parse::<SecretLabel>().map(|label| label.to_string()), Ok(text.into()));
        }
        let long = format!("{}=b", "a".repeat(64));
        for text in [
            "",
            "a",
            "=b",
            "a=b=c",
            "a b=c",
            "a=b c",
            "-a=b",
            "a/b/c=d",
            "A.dev/b=c",
            "/a=b",
            &long,
        ] {
            assert_eq!(text.parse::<SecretLabel>(), Err(NoLabel), "{text}");
        }
    }

    #[test]
    fn a_secret_carries_the_label_with_exactly_its_value() {
        let label: SecretLabel = "use=ssh".parse().unwrap();
        let labels = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert_eq!(label.check("s", Some(&labels("use", "ssh"))), Ok(()));
        for other in [None, Some(labels("use", "ssh2")), Some(labels("Use", "ssh"))] {
            let refused = label.check("s", other.as_ref()).unwrap_err().to_string();
            assert!(refused.contains("\"s\"") && refused.contains("use=ssh"), "{refused}");
        }
    }

    /// An API server that shows a Secret's metadata with some labels and the Secret itself with
    /// others, as when it changes in between; and whether its content was asked for.
    async fn served(metadata: &str, content: &str) -> (Result<SecretValues, LookupError>, bool) {
        let (metadata, content) = (metadata.to_owned(), content.to_owned());
        let (sender, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let answer = async move |headers: axum::http::HeaderMap| {
            let accept = headers.get("accept").and_then(|value| value.to_str().ok());
            let partial = accept.is_some_and(|accept| accept.contains("PartialObjectMetadata"));
            sender.send(partial).unwrap();
            let (kind, version, label) = match partial {
                true => ("PartialObjectMetadata", "meta.k8s.io/v1", metadata),
                false => ("Secret", "v1", content),
            };
            let object = serde_json::json!({
                "kind": kind, "apiVersion": version,
                "metadata": {"name": "s", "labels": {"use": label}}, "data": {"key": "eA=="},
            });
            ([("content-type", "application/json")], object.to_string())
        };
        let route = axum::routing::get(answer);
        let app = axum::Router::new().route("/api/v1/namespaces/ns/secrets/s", route);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        let label = "use=ssh".parse().unwrap();
        let namespace = Namespace::new(Client::try_from(config).unwrap(), "ns", Some(label));
        let found = namespace.secret("s").await;
        server.abort();
        let mut read = false;
        while let Ok(partial) = asked.try_recv() {
            read |= !partial;
        }
        (found, read)
    }

    #[tokio::test]
    async fn the_content_of_a_secret_without_the_label_is_not_even_asked_for() {
        let unlabelled = Err(LookupError::Unlabelled("s".to_owned(), "use=ssh".to_owned()));
        assert_eq!(served("other", "other").await, (unlabelled, false));
        let (found, read) = served("ssh", "ssh").await;
        assert!(read && found.unwrap().contains_key("key"));
    }

    #[tokio::test]
    async fn a_label_that_goes_between_two_looks_is_missed_at_the_second() {
        let (found, read) = served("ssh", "other").await;
        assert!(read && matches!(found, Err(LookupError::Unlabelled(..))), "{found:?}");
    }
}
