//! A namespace of the shared control plane, and objects written as YAML.

use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams,
};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use crate::support::plane::ControlPlane;

pub const COMMAND: &str = r#"
apiVersion: remotecommand.dev/v1alpha1
kind: RemoteCommand
metadata: {name: c}
spec:
  hostRef: {name: db-1}
  command: ["systemctl", "restart", "postgresql"]
"#;

pub const HOST: &str = r#"
apiVersion: remotecommand.dev/v1alpha1
kind: RemoteHost
metadata: {name: h}
spec:
  address: db-1.example.internal
  user: deploy
  hostKeys: {fingerprints: ["SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]}
  credentials: {secretRef: {name: deploy-ssh}}
"#;

pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// RFC 7386: what a merge patch does to an object; a null takes the field away.
pub fn merged(mut object: Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else { return patch.clone() };
    if !object.is_object() {
        object = Value::Object(Map::new());
    }
    let fields = object.as_object_mut().unwrap();
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            let before = fields.remove(name).unwrap_or(Value::Null);
            fields.insert(name.clone(), merged(before, change));
        }
    }
    object
}

/// A place to try objects of one kind.
pub struct Desk {
    pub api: Api<DynamicObject>,
    pub namespace: String,
    pub plane: &'static ControlPlane,
    base: Value,
}

impl Desk {
    pub async fn commands() -> Self {
        Self::new(COMMAND).await
    }

    pub async fn hosts() -> Self {
        Self::new(HOST).await
    }

    async fn new(base: &str) -> Self {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let plane = ControlPlane::shared().await.unwrap();
        INSTALLED.get_or_init(async || plane.apply_crds().await.unwrap()).await;
        let namespace = plane.namespace("api").await.unwrap();
        let base = yaml(base);
        let kind = base["kind"].as_str().unwrap();
        let kind = GroupVersionKind::gvk("remotecommand.dev", "v1alpha1", kind);
        let resource = ApiResource::from_gvk(&kind);
        let api = Api::namespaced_with(plane.client().await.unwrap(), &namespace, &resource);
        Self { api, namespace, plane, base }
    }

    /// The base with this patch.
    pub fn object(&self, patch: &str) -> Value {
        merged(self.base.clone(), &yaml(patch))
    }

    /// Creates the base with this patch.
    pub async fn create(&self, patch: &str) -> Result<Value, String> {
        self.post(&self.object(patch), false).await
    }

    /// Whether the base with this patch could be created.
    pub async fn try_create(&self, patch: &str) -> Result<Value, String> {
        self.post(&self.object(patch), true).await
    }

    pub async fn post(&self, object: &Value, dry_run: bool) -> Result<Value, String> {
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let params = PostParams { dry_run, field_manager: None };
        answer(self.api.create(&params, &object).await)
    }

    pub async fn merge(&self, name: &str, patch: &str) -> Result<Value, String> {
        let patch = Patch::Merge(yaml(patch));
        answer(self.api.patch(name, &PatchParams::default(), &patch).await)
    }

    pub async fn try_merge(&self, name: &str, patch: &str) -> Result<Value, String> {
        let (patch, params) = (Patch::Merge(yaml(patch)), PatchParams::default().dry_run());
        answer(self.api.patch(name, &params, &patch).await)
    }

    /// Merges into the status.
    pub async fn status(&self, name: &str, patch: &str) -> Result<Value, String> {
        let patch = Patch::Merge(serde_json::json!({ "status": yaml(patch) }));
        answer(self.api.patch_status(name, &PatchParams::default(), &patch).await)
    }

    pub async fn try_status(&self, name: &str, patch: &str) -> Result<Value, String> {
        let patch = Patch::Merge(serde_json::json!({ "status": yaml(patch) }));
        let params = PatchParams::default().dry_run();
        answer(self.api.patch_status(name, &params, &patch).await)
    }

    /// Replaces the whole object.
    pub async fn put(&self, object: &Value) -> Result<Value, String> {
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let name = object.metadata.name.clone().unwrap();
        answer(self.api.replace(&name, &PostParams::default(), &object).await)
    }

    pub async fn get(&self, name: &str) -> Value {
        answer(self.api.get(name).await).unwrap()
    }

    pub async fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        let mut all = vec!["--namespace", self.namespace.as_str()];
        all.extend(args);
        self.plane.kubectl(&all).await.map_err(|e| e.to_string())
    }
}

/// The object, or the server's words.
fn answer(answer: kube::Result<DynamicObject>) -> Result<Value, String> {
    match answer {
        Ok(object) => Ok(serde_json::to_value(object).unwrap()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(other) => panic!("the API server could not be asked: {other}"),
    }
}

/// Collects what did not come as expected, so that one run shows all of it.
#[derive(Default)]
pub struct Verdicts(Vec<String>);

impl Verdicts {
    /// `expected` is a part of the server's words; empty: accepted.
    pub fn compare(&mut self, what: &str, answer: Result<Value, String>, expected: &str) {
        match answer {
            Ok(_) if expected.is_empty() => {}
            Ok(_) => self.0.push(format!("{what}\n  accepted, but expected: {expected}")),
            Err(words) if expected.is_empty() => {
                self.0.push(format!("{what}\n  refused: {words}"));
            }
            Err(words) if words.contains(expected) => {}
            Err(words) => {
                self.0.push(format!("{what}\n  refused with: {words}\n  expected:     {expected}"));
            }
        }
    }

    pub fn check(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.0.push(what.into());
        }
    }

    pub fn conclude(self) {
        assert!(self.0.is_empty(), "\n{}\n", self.0.join("\n"));
    }
}
