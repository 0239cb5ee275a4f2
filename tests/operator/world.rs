//! A namespace of a real control plane, a real sshd, a link between them that can be cut, and
//! the operator as users run it, with the rights of `deploy/rbac.yaml` and no others.

mod operators;

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use remote_command::api::{RemoteCommand, RemoteHost};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::link::Link;
use crate::support::place::Place;
use crate::support::plane::ControlPlane;
use crate::support::processes;
use crate::support::program::Running;
use crate::support::sshd::{Kind, Options, Sshd};
use crate::support::{programs, until};

/// How long anything may take that is expected to happen.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A control plane of this test's own, to be killed, or the one that all share.
pub enum Plane {
    Own(Box<ControlPlane>),
    Shared(&'static ControlPlane),
}

impl std::ops::Deref for Plane {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        match self {
            Self::Own(plane) => plane,
            Self::Shared(plane) => plane,
        }
    }
}

impl Plane {
    pub async fn own() -> Self {
        let plane = ControlPlane::start().await.unwrap();
        install(&plane).await;
        Self::Own(Box::new(plane))
    }

    pub async fn shared() -> Self {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let plane = ControlPlane::shared().await.unwrap();
        INSTALLED.get_or_init(async || install(plane).await).await;
        Self::Shared(plane)
    }
}

async fn install(plane: &ControlPlane) {
    plane.apply_crds().await.unwrap();
    // With the policies in force the operator's own writes have to pass them.
    for file in [rbac(), programs::root().join("deploy/policies.yaml")] {
        plane.kubectl(&["apply", "-f", &file.display().to_string()]).await.unwrap();
    }
}

fn rbac() -> PathBuf {
    programs::root().join("deploy/rbac.yaml")
}

/// Gives the operator its rights on the Lease in this namespace, as it has them in its own.
async fn allow_leases(client: &kube::Client, namespace: &str) {
    let text = fs::read_to_string(rbac()).unwrap();
    let documents = text.split("\n---\n");
    let of_kind = |kind: &str| documents.clone().find(|d| d.contains(&format!("\nkind: {kind}\n")));
    let mut role: Role = serde_saphyr::from_str(of_kind("Role").unwrap()).unwrap();
    role.metadata.namespace = None;
    let mut binding: RoleBinding = serde_saphyr::from_str(of_kind("RoleBinding").unwrap()).unwrap();
    binding.metadata.namespace = None;
    let parameters = PatchParams::apply("world");
    let roles = Api::<Role>::namespaced(client.clone(), namespace);
    let name = role.metadata.name.clone().unwrap();
    roles.patch(&name, &parameters, &Patch::Apply(&role)).await.unwrap();
    let bindings = Api::<RoleBinding>::namespaced(client.clone(), namespace);
    bindings.patch(&name, &parameters, &Patch::Apply(&binding)).await.unwrap();
}

// In the order in which they end.
pub struct World {
    operators: Mutex<Vec<Running>>,
    pub link: Link,
    pub sshd: Sshd,
    pub namespace: String,
    pub client: kube::Client,
    pub plane: Plane,
    place: Place,
}

impl World {
    /// Everything there, a RemoteHost `local` among it, and one operator that has begun.
    pub async fn new() -> Self {
        let world = Self::without_operator(Plane::shared().await).await;
        world.declare_host("local").await;
        world.start_operator();
        world
    }

    pub async fn without_operator(plane: Plane) -> Self {
        let sshd = Sshd::start(Options::default()).unwrap();
        let link = Link::start(sshd.port()).await.unwrap();
        let namespace = plane.namespace("operator").await.unwrap();
        let client = plane.client().await.unwrap();
        allow_leases(&client, &namespace).await;
        let place = Place::new("operator").unwrap();
        let operators = Mutex::new(Vec::new());
        let world = Self { operators, link, sshd, namespace, client, plane, place };
        world.declare_secret().await;
        world
    }

    pub fn commands(&self) -> Api<RemoteCommand> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn hosts(&self) -> Api<RemoteHost> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn declare_secret(&self) {
        let key = self.sshd.private_key(Kind::Ed25519).unwrap();
        self.secret("ssh", &[("ssh-privatekey", &key)]).await;
    }

    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        secret.string_data = Some(values.collect());
        api.create(&PostParams::default(), &secret).await.unwrap();
    }

    pub async fn declare_host(&self, name: &str) {
        self.declare_host_with(name, json!({})).await;
    }

    /// The spec of a host that is reached over the link.
    pub fn host_spec(&self) -> Value {
        let port = self.link.port();
        let known = self.sshd.recipe().known_hosts_line(Kind::Ed25519, port).unwrap();
        json!({
            "address": "127.0.0.1",
            "port": port,
            "user": self.sshd.user(),
            "hostKeys": {"knownHosts": known},
            "credentials": {"secretRef": {"name": "ssh"}},
        })
    }

    /// A host that is reached over the link, with these fields beside.
    pub async fn declare_host_with(&self, name: &str, fields: Value) {
        let mut spec = self.host_spec();
        for (field, value) in fields.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let object = json!({
            "apiVersion": "remotecommand.dev/v1alpha1", "kind": "RemoteHost",
            "metadata": {"name": name}, "spec": spec,
        });
        let object: RemoteHost = serde_json::from_value(object).unwrap();
        self.hosts().create(&PostParams::default(), &object).await.unwrap();
    }

    /// The texts of the output log, in the order in which all operators wrote them.
    pub fn logged(&self, name: &str) -> Vec<String> {
        let text = |record: &Value| record["text"].as_str().unwrap().to_owned();
        self.records(name).iter().map(text).collect()
    }

    /// The same without those that came again, as they may after a crash.
    pub fn delivered(&self, name: &str) -> Vec<String> {
        let mut told = HashSet::new();
        let mut records = self.records(name);
        records.retain(|record| {
            let of = ["run", "attempt", "stream", "offset", "text"];
            told.insert(of.map(|key| record[key].to_string()))
        });
        records.iter().map(|record| record["text"].as_str().unwrap().to_owned()).collect()
    }

    /// The records of output of a command, in the order they were written.
    pub fn records(&self, name: &str) -> Vec<Value> {
        let count = self.operators.lock().unwrap().len();
        let logs = (0..count).map(|n| fs::read_to_string(self.log(n)).unwrap_or_default());
        let lines: Vec<String> =
            logs.flat_map(|log| log.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let records = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter(|record| record["kind"] == "output" && record["name"] == name).collect()
    }

    /// Creates a command on host `local` with these fields of its spec.
    pub async fn command(&self, name: &str, fields: Value) -> RemoteCommand {
        let mut spec = fields;
        if spec.get("hostRef").is_none() && spec.get("host").is_none() {
            spec["hostRef"] = json!({"name": "local"});
        }
        let object = json!({
            "apiVersion": "remotecommand.dev/v1alpha1", "kind": "RemoteCommand",
            "metadata": {"name": name}, "spec": spec,
        });
        let object: RemoteCommand = serde_json::from_value(object).unwrap();
        self.commands().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Changes the spec.
    pub async fn patch(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.commands().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Every version of the object from `first` on, until one is as wanted: that one is the
    /// last.
    pub async fn versions(
        &self,
        first: &RemoteCommand,
        holds: impl Fn(&RemoteCommand) -> bool,
    ) -> Vec<RemoteCommand> {
        let name = first.metadata.name.clone().unwrap();
        let selector = WatchParams::default().fields(&format!("metadata.name={name}"));
        let version = first.metadata.resource_version.clone().unwrap();
        let commands = self.commands();
        let mut events = commands.watch(&selector, &version).await.unwrap().boxed();
        let mut versions = Vec::new();
        let watched = tokio::time::timeout(LIMIT, async {
            while let Some(event) = events.try_next().await.unwrap() {
                if let WatchEvent::Modified(object) = event {
                    let last = holds(&object);
                    versions.push(object);
                    if last {
                        return;
                    }
                }
            }
        });
        if watched.await.is_err() {
            let words: Vec<_> = versions.iter().map(word).collect();
            panic!("{name} was {words:?}\n{}", self.last_words());
        }
        versions
    }

    pub async fn delete(&self, name: &str) {
        self.commands().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn is_gone(&self, name: &str) {
        let gone = until(LIMIT, "the object is gone", async || {
            matches!(self.commands().get_opt(name).await, Ok(None))
        });
        if let Err(failure) = gone.await {
            let last = self.commands().get_opt(name).await.ok().flatten();
            let status = last.map(|object| serde_json::to_string_pretty(&object.status).unwrap());
            panic!("{failure}\n{}\n{}", status.unwrap_or_default(), self.last_words());
        }
    }

    /// Waits until the object's phase and reason are these.
    pub async fn shows(&self, name: &str, phase: &str, reason: &str) -> RemoteCommand {
        let what = format!("{name} is {phase}/{reason}");
        self.until(name, &what, |object| word(object) == format!("{phase}/{reason}")).await
    }

    /// Waits until the object's status says that its command was seen alive. Phase and reason
    /// say Running before the launch, too: that is saved first.
    pub async fn runs(&self, name: &str) -> RemoteCommand {
        let what = format!("{name} was seen running");
        let evidence = |object: &RemoteCommand| object.status.as_ref()?.evidence.clone();
        self.until(name, &what, |object| evidence(object).as_deref() == Some("StillRunning")).await
    }

    /// Waits until the object is as wanted.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        holds: impl Fn(&RemoteCommand) -> bool,
    ) -> RemoteCommand {
        let mut last = None;
        let waited = until(LIMIT, what, async || {
            last = self.commands().get_opt(name).await.ok().flatten();
            last.as_ref().is_some_and(&holds)
        });
        if let Err(failure) = waited.await {
            let shown = last.map(|object| serde_json::to_string_pretty(&object.status).unwrap());
            panic!("{failure}\n{}\n{}", shown.unwrap_or_default(), self.last_words());
        }
        last.unwrap()
    }

    /// Waits for anything else.
    pub async fn reaches(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        if let Err(failure) = until(LIMIT, what, holds).await {
            panic!("{failure}\n{}", self.last_words());
        }
    }

    fn last_words(&self) -> String {
        let operators = self.operators.lock().unwrap();
        let words = operators.iter().enumerate().map(|(number, running)| {
            format!("operator {number}:\n{}", running.program().last_words())
        });
        words.collect::<Vec<_>>().join("\n")
    }

    /// Reason and note of the Events about an object.
    pub async fn events(&self, name: &str) -> Vec<(String, String)> {
        let api = Api::<Event>::namespaced(self.client.clone(), &self.namespace);
        let all = api.list(&ListParams::default()).await.unwrap();
        let about = all.into_iter().filter(|event| {
            let regarding = event.regarding.as_ref().and_then(|object| object.name.as_deref());
            regarding == Some(name)
        });
        about.map(|e| (e.reason.unwrap_or_default(), e.note.unwrap_or_default())).collect()
    }

    /// Waits for an Event about an object with this reason; gives its note.
    pub async fn tells(&self, name: &str, reason: &str) -> String {
        let mut found = None;
        self.reaches(&format!("an Event {reason} about {name}"), async || {
            found = self.events(name).await.into_iter().find(|(told, _)| told == reason);
            found.is_some()
        })
        .await;
        found.unwrap().1
    }

    /// How many of the `sleep 1000` that commands started are alive on the host.
    pub fn sleepers(&self) -> usize {
        let commands = self.sshd.commands();
        let asleep = |pid| processes::command_line(pid).trim() == "sleep 1000";
        commands.iter().filter(|process| asleep(process.pid)).count()
    }

    /// Where the host keeps output of commands.
    pub fn kept_output(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.sshd.state()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if ["out", "err"].iter().any(|name| path.ends_with(name)) {
                    found.push(path);
                }
            }
        }
        found
    }

    pub async fn config_map(&self, name: &str, key: &str, value: &str) {
        self.create_map(json!({"metadata": {"name": name}, "data": {key: value}})).await;
    }

    pub async fn binary_config_map(&self, name: &str, key: &str, value: &[u8]) {
        let value = ByteString(value.to_vec());
        self.create_map(json!({"metadata": {"name": name}, "binaryData": {key: value}})).await;
    }

    async fn create_map(&self, map: Value) {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let map: ConfigMap = serde_json::from_value(map).unwrap();
        api.create(&PostParams::default(), &map).await.unwrap();
    }

    /// Changes the spec of a host.
    pub async fn patch_host(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.hosts().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn delete_secret(&self, name: &str) {
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until the host's condition Ready has this value and reason.
    pub async fn host_shows(&self, name: &str, value: &str, reason: &str) -> RemoteHost {
        let wanted = (value.to_owned(), reason.to_owned());
        let mut last = None;
        self.reaches(&format!("host {name} is {wanted:?}"), async || {
            last = self.hosts().get_opt(name).await.ok().flatten();
            last.as_ref().is_some_and(|host| host_condition(host, "Ready") == wanted)
        })
        .await;
        last.unwrap()
    }

    /// Gives a host the right keys.
    pub async fn mend_host_keys(&self, name: &str) {
        let port = self.link.port();
        let known = self.sshd.recipe().known_hosts_line(Kind::Ed25519, port).unwrap();
        let keys = json!({"knownHosts": known, "fingerprints": null});
        self.patch_host(name, json!({"hostKeys": keys})).await;
    }

    /// A file beside the host's records, for commands to write to.
    pub fn file(&self, name: &str) -> PathBuf {
        self.sshd.directory().join(name)
    }

    /// The lines that commands have written to such a file.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// `Phase/Reason`.
pub fn word(object: &RemoteCommand) -> String {
    let Some(status) = &object.status else { return String::new() };
    format!("{}/{}", status.phase.as_str(), status.reason.as_deref().unwrap_or_default())
}

/// The value of a condition.
pub fn condition(object: &RemoteCommand, name: &str) -> String {
    let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut found = conditions.filter(|condition| condition.type_ == name);
    found.next().map(|condition| condition.status.clone()).unwrap_or_default()
}

/// The value and reason of a host's condition.
pub fn host_condition(host: &RemoteHost, name: &str) -> (String, String) {
    let conditions = host.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut found = conditions.filter(|condition| condition.type_ == name);
    found.next().map(|c| (c.status.clone(), c.reason.clone())).unwrap_or_default()
}
