//! The RemoteHost `local` and its Secret `local-ssh`: how the operator gets to the
//! playground's sshd.

use std::process::Command;

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::sshd::{Kind, Recipe};
use crate::support::{Result, plane};

/// The objects of one of the project's kinds, in one namespace.
pub fn objects(client: &kube::Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

pub fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("remotecommand.dev", "v1alpha1", kind))
}

/// Applies both to the namespace; the host is reached at `port` on loopback.
pub async fn declare(
    plane: &plane::Recipe,
    sshd: &Recipe,
    namespace: &str,
    port: u16,
) -> Result<()> {
    let client = plane.client().await?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "local-ssh"},
        "type": "kubernetes.io/ssh-auth",
        "stringData": {"ssh-privatekey": sshd.private_key(Kind::Ed25519)?},
    });
    let secrets = ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&());
    apply(Api::namespaced_with(client.clone(), namespace, &secrets), "local-ssh", secret).await?;
    let host = json!({
        "apiVersion": "remotecommand.dev/v1alpha1",
        "kind": "RemoteHost",
        "metadata": {"name": "local"},
        "spec": {
            "address": "127.0.0.1",
            "port": port,
            "user": current_user()?,
            "hostKeys": {"knownHosts": sshd.known_hosts_line(Kind::Ed25519, port)?},
            "credentials": {"secretRef": {"name": "local-ssh"}},
        },
    });
    apply(objects(&client, "RemoteHost", namespace), "local", host).await
}

async fn apply(api: Api<DynamicObject>, name: &str, object: Value) -> Result<()> {
    let params = PatchParams::apply("playground").force();
    api.patch(name, &params, &Patch::Apply(object)).await?;
    Ok(())
}

fn current_user() -> Result<String> {
    let output = Command::new("id").arg("-un").output()?;
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}
