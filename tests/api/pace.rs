//! Durations that would hurt others are refused, and what was stored before there were bounds can
//! still be changed otherwise, and deleted.

use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};

use crate::desk::{COMMAND, Desk, HOST, Verdicts, merged, yaml};
use crate::support::plane::ControlPlane;
use crate::support::{programs, until};

const STAGE: &str = "connect, handshake and authenticate are at most 5m each";
const KEEP_ALIVE: &str = "keepAlive.interval is at least 1s and at most 10m";
const PAUSE: &str = "initial and max of retry.backoff are at least 100ms";

const HOST_TABLE: &[(&str, &str)] = &[
    ("{timeouts: {connect: 5m, handshake: 300s, authenticate: 1ms}}", ""),
    ("{timeouts: {connect: 5m1ms}}", STAGE),
    ("{timeouts: {handshake: 8760h}}", STAGE),
    ("{timeouts: {authenticate: 6m}}", STAGE),
    ("{keepAlive: {interval: 1s}}", ""),
    ("{keepAlive: {interval: 10m}}", ""),
    ("{keepAlive: {interval: 999ms}}", KEEP_ALIVE),
    ("{keepAlive: {interval: 8760h}}", KEEP_ALIVE),
];

const COMMAND_TABLE: &[(&str, &str)] = &[
    ("{timeouts: {connect: 5m, handshake: 1s}}", ""),
    ("{timeouts: {connect: 301s}}", STAGE),
    ("{timeouts: {handshake: 1h}}", STAGE),
    ("{timeouts: {authenticate: 8760h}}", STAGE),
    ("{retry: {backoff: {initial: 100ms, max: 100ms}}}", ""),
    ("{retry: {backoff: {initial: 99ms}}}", PAUSE),
    ("{retry: {backoff: {initial: 1ms, max: 2ms}}}", PAUSE),
];

#[tokio::test]
async fn a_duration_that_would_hurt_others_is_refused() {
    let mut verdicts = Verdicts::default();
    let (hosts, commands) = (Desk::hosts().await, Desk::commands().await);
    for (spec, expected) in HOST_TABLE {
        let tried = hosts.try_create(&format!("{{spec: {spec}}}")).await;
        verdicts.compare(spec, tried, expected);
        let inline = merged(yaml(HOST)["spec"].clone(), &yaml(spec));
        let inline = json!({"spec": {"hostRef": null, "host": inline}}).to_string();
        verdicts.compare(&inline, commands.try_create(&inline).await, expected);
    }
    for (spec, expected) in COMMAND_TABLE {
        let tried = commands.try_create(&format!("{{spec: {spec}}}")).await;
        verdicts.compare(spec, tried, expected);
    }
    verdicts.conclude();
}

/// The definitions as they were without these bounds.
fn without_bounds(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Array(rules)) = fields.get_mut("x-kubernetes-validations") {
                let ours = |rule: &Value| {
                    let message = rule["message"].as_str().unwrap_or_default();
                    [STAGE, KEEP_ALIVE, PAUSE].contains(&message)
                };
                rules.retain(|rule| !ours(rule));
            }
            fields.values_mut().for_each(without_bounds);
        }
        Value::Array(items) => items.iter_mut().for_each(without_bounds),
        _ => {}
    }
}

struct Stored {
    api: Api<DynamicObject>,
    name: String,
}

impl Stored {
    async fn make(client: &kube::Client, namespace: &str, object: &Value) -> Self {
        let kind = object["kind"].as_str().unwrap();
        let kind = GroupVersionKind::gvk("remotecommand.dev", "v1alpha1", kind);
        let resource = ApiResource::from_gvk(&kind);
        let api = Api::namespaced_with(client.clone(), namespace, &resource);
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        Self { api, name: object.metadata.name.unwrap() }
    }

    async fn merge(&self, patch: &Value) -> Result<Value, String> {
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        let patched = self.api.patch(&self.name, &parameters, &patch).await;
        let patched = patched.map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(patched).unwrap())
    }

    /// Changes everything about it but what is out of bounds, and takes it away.
    async fn leads_its_life(&self, other: &Value, verdicts: &mut Verdicts) {
        let name = &self.name;
        let label = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["example.com/a"]}});
        verdicts.compare(&format!("{name}: metadata"), self.merge(&label).await, "");
        verdicts.compare(&format!("{name}: another field"), self.merge(other).await, "");
        let status = json!({"status": {"observedGeneration": 2}});
        let status = Patch::Merge(status);
        let written = self.api.patch_status(name, &PatchParams::default(), &status).await;
        let written = written.map(|_| Value::Null).map_err(|error| error.to_string());
        verdicts.compare(&format!("{name}: status"), written, "");
        let whole = self.api.get(name).await.unwrap();
        let put = self.api.replace(name, &PostParams::default(), &whole).await;
        let put = put.map(|_| Value::Null).map_err(|error| error.to_string());
        verdicts.compare(&format!("{name}: the same again"), put, "");
        self.api.delete(name, &Default::default()).await.unwrap();
        let mut whole = self.api.get(name).await.unwrap();
        whole.metadata.finalizers = None;
        let put = self.api.replace(name, &PostParams::default(), &whole).await;
        let put = put.map(|_| Value::Null).map_err(|error| error.to_string());
        verdicts.compare(&format!("{name}: the finalizer goes"), put, "");
        let gone = self.api.get_opt(name).await.unwrap().is_none();
        verdicts.check(gone, format!("{name}: still there"));
    }
}

/// A host, a command with an inline host and one with limits of its own.
fn out_of_bounds() -> [Value; 3] {
    let absurd = json!({"timeouts": {"connect": "8760h", "handshake": "8760h"},
                        "keepAlive": {"interval": "1ms"}});
    let host = merged(yaml(HOST), &json!({"metadata": {"name": "h"}, "spec": absurd}));
    let inline = merged(
        yaml(COMMAND),
        &json!({"metadata": {"name": "inline"}, "spec": {"hostRef": null, "host": host["spec"]}}),
    );
    let own = json!({"metadata": {"name": "own"}, "spec": {
        "timeouts": {"handshake": "1h"}, "retry": {"backoff": {"initial": "1ms", "max": "1ms"}},
    }});
    let own = merged(yaml(COMMAND), &own);
    [host, inline, own]
}

#[tokio::test]
async fn what_was_stored_before_there_were_bounds_can_be_changed_otherwise_and_deleted() {
    let plane = ControlPlane::start().await.unwrap();
    plane.apply_crds().await.unwrap();
    let client = plane.client().await.unwrap();
    let crds: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
            "customresourcedefinitions",
        ),
    );
    for name in ["remotecommands", "remotehosts"] {
        let path = format!("crds/remotecommand.dev_{name}.yaml");
        let mut definition = yaml(&std::fs::read_to_string(programs::root().join(path)).unwrap());
        without_bounds(&mut definition);
        let patch = json!({"spec": {"versions": definition["spec"]["versions"]}});
        let name = format!("{name}.remotecommand.dev");
        crds.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
    let namespace = plane.namespace("bounds").await.unwrap();
    let [host, inline, own] = out_of_bounds();
    let mut stored = Vec::new();
    until(std::time::Duration::from_secs(30), "the old definitions are in force", async || {
        let tried = Api::<DynamicObject>::namespaced_with(
            client.clone(),
            &namespace,
            &ApiResource::from_gvk(&GroupVersionKind::gvk(
                "remotecommand.dev",
                "v1alpha1",
                "RemoteCommand",
            )),
        );
        let params = PostParams { dry_run: true, field_manager: None };
        tried.create(&params, &serde_json::from_value(inline.clone()).unwrap()).await.is_ok()
    })
    .await
    .unwrap();
    for object in [&host, &inline, &own] {
        stored.push(Stored::make(&client, &namespace, object).await);
    }
    plane.apply_crds().await.unwrap();
    let worse = json!({"spec": {"timeouts": {"handshake": "2h"}}});
    until(std::time::Duration::from_secs(30), "the bounds are in force", async || {
        stored[0].merge(&worse).await.is_err() && stored[2].merge(&worse).await.is_err()
    })
    .await
    .unwrap();
    let mut verdicts = Verdicts::default();
    verdicts.compare("another one out of bounds", stored[0].merge(&worse).await, STAGE);
    verdicts.compare("of a command", stored[2].merge(&worse).await, STAGE);
    let partly = json!({"spec": {"timeouts": {"connect": "10s"}}});
    verdicts.compare("one of two is mended", stored[0].merge(&partly).await, "");
    let of_host = json!({"spec": {"concurrency": 3}});
    let of_command = json!({"spec": {"cancel": true, "timeouts": {"queue": "2h"}}});
    for (stored, other) in stored.iter().zip([&of_host, &of_command, &of_command]) {
        stored.leads_its_life(other, &mut verdicts).await;
    }
    verdicts.conclude();
}
