//! The finalizer: while it is there, the object cannot go before its host is clean.
//!
//! Both patches test the UID first: the object of that name may be another one by the time
//! the patch arrives, and its finalizer is not ours to touch. A command is never started in
//! the same pass that adds the finalizer, only once a version that shows it was seen.

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::fault::{Failure, bounded};
use crate::api::RemoteCommand;

/// The finalizer's name.
pub const NAME: &str = "remotecommand.dev/cleanup";

/// Whether the object carries the finalizer.
pub fn is_on(object: &RemoteCommand) -> bool {
    object.finalizers().iter().any(|name| name == NAME)
}

/// Adds the finalizer.
///
/// # Errors
/// [`Failure`]; whatever it is, the next version of the object shows whether it is there.
pub async fn add(client: Client, object: &RemoteCommand) -> Result<(), Failure> {
    if is_on(object) {
        return Ok(());
    }
    let value = if object.metadata.finalizers.is_some() {
        json!({"op": "add", "path": "/metadata/finalizers/-", "value": NAME})
    } else {
        json!({"op": "add", "path": "/metadata/finalizers", "value": [NAME]})
    };
    patch(client, object, value).await
}

/// Removes the finalizer from exactly this version of the object. Gone already counts as done.
///
/// # Errors
/// [`Failure`]; after a refusal or a conflict, look at the object anew.
pub async fn remove(client: Client, object: &RemoteCommand) -> Result<(), Failure> {
    let Some(place) = object.finalizers().iter().position(|name| name == NAME) else {
        return Ok(());
    };
    let removal = json!({"op": "remove", "path": format!("/metadata/finalizers/{place}")});
    match patch(client, object, removal).await {
        Err(Failure::Missing) => Ok(()),
        other => other,
    }
}

/// One change of the finalizers, on the condition that the object is the one that was read.
async fn patch(client: Client, object: &RemoteCommand, change: Value) -> Result<(), Failure> {
    let tests = [
        json!({"op": "test", "path": "/metadata/uid", "value": object.metadata.uid}),
        json!({
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": object.metadata.resource_version,
        }),
        change,
    ];
    let operations = serde_json::from_value(Value::Array(tests.into())).map_err(unreadable)?;
    let namespace = object.namespace().unwrap_or_default();
    let api = Api::<RemoteCommand>::namespaced(client, &namespace);
    let name = object.name_any();
    let patch = Patch::Json::<()>(operations);
    bounded(api.patch_metadata(&name, &PatchParams::default(), &patch)).await.map(drop)
}

fn unreadable(error: serde_json::Error) -> Failure {
    Failure::Refused(error.to_string())
}
