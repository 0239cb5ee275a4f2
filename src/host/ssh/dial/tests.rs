//! Dialling that ends before anything is sent.

use super::*;
use crate::host::ssh::resolve::tests::hop;

/// Shows nothing: not labelled, and not allowed.
struct Barred;

#[async_trait::async_trait]
impl Lookup for Barred {
    async fn secret(&self, name: &str) -> Result<crate::host::SecretValues, LookupError> {
        Err(LookupError::Unlabelled(name.to_owned(), "use=ssh".to_owned()))
    }

    async fn config_map(&self, name: &str, _: &str) -> Result<Vec<u8>, LookupError> {
        Err(LookupError::Denied(name.to_owned(), "forbidden".to_owned()))
    }
}

#[tokio::test]
async fn what_may_not_be_read_any_more_is_denied_and_not_taken_for_invalid() {
    let mut hop = hop();
    let read = Credentials::read(&hop, &Barred).await;
    assert_eq!(read.map(drop).unwrap_err().cause, Standing::PolicyDenied.into());
    hop.host_keys.config_map = Some(("keys".to_owned(), "known_hosts".to_owned()));
    let known = known_keys(&hop, &Barred).await;
    assert_eq!(known.map(drop).unwrap_err().cause, Standing::PolicyDenied.into());
}
