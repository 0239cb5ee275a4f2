//! Who may use which hosts: `deploy/policies.yaml`, tried with users of few rights.

use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::desk::{COMMAND, Desk, HOST, merged, yaml};
use crate::support::programs;

const LIMIT: Duration = Duration::from_secs(30);

/// A namespace in which users have rights of their own.
struct Place {
    commands: Desk,
    hosts: Api<DynamicObject>,
}

impl Place {
    async fn new() -> Self {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        let commands = Desk::commands().await;
        let hosts = of_kind(&commands, "RemoteHost").await;
        INSTALLED.get_or_init(async || install(&commands).await).await;
        Self { commands, hosts }
    }

    /// A user with these verbs on these hosts (none named: all), who may write both kinds.
    async fn user(&self, name: &str, verbs: &[&str], names: &[&str]) -> User {
        let user = format!("{name}-{}", self.commands.namespace);
        let group = "remotecommand.dev";
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": user, "namespace": self.commands.namespace},
            "rules": [
                {"apiGroups": [group], "resources": ["remotecommands", "remotehosts"],
                 "verbs": ["get", "create", "update", "patch", "delete"]},
                {"apiGroups": [group], "resources": ["remotehosts"], "verbs": verbs,
                 "resourceNames": names},
            ],
        });
        let mut role = role;
        if verbs.is_empty() {
            role["rules"].as_array_mut().unwrap().pop();
        }
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": user, "namespace": self.commands.namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        for object in [role, binding] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), object.to_string()).unwrap();
            let path = file.path().display().to_string();
            self.commands.plane.kubectl(&["apply", "-f", &path]).await.unwrap();
        }
        let client = self.commands.plane.client_of(&user, "").await.unwrap();
        let api = |kind: &str| {
            let kind = kube::api::GroupVersionKind::gvk(group, "v1alpha1", kind);
            let resource = ApiResource::from_gvk(&kind);
            Api::namespaced_with(client.clone(), &self.commands.namespace, &resource)
        };
        let user = User { commands: api("RemoteCommand"), hosts: api("RemoteHost") };
        user.is_known(verbs.contains(&"use") && names.is_empty()).await;
        user
    }
}

/// Of one kind in the namespace of `desk`.
async fn of_kind(desk: &Desk, kind: &str) -> Api<DynamicObject> {
    let kind = kube::api::GroupVersionKind::gvk("remotecommand.dev", "v1alpha1", kind);
    let client = desk.plane.client().await.unwrap();
    Api::namespaced_with(client, &desk.namespace, &ApiResource::from_gvk(&kind))
}

/// Installs the policies and waits until they are in force.
async fn install(desk: &Desk) {
    let path = programs::root().join("deploy/policies.yaml").display().to_string();
    desk.plane.kubectl(&["apply", "-f", &path]).await.unwrap();
}

struct User {
    commands: Api<DynamicObject>,
    hosts: Api<DynamicObject>,
}

impl User {
    /// Waits until rights and policies are in force: what nobody but the cluster's masters may
    /// use is refused by the policy, and not for want of rights.
    async fn is_known(&self, may_use_all: bool) {
        let nobodys = json!({"name": "nobody-may-use-this"});
        let command = command("probe", json!({"hostRef": nobodys}));
        let host = host("probe", json!({"viaRef": nobodys}));
        let known = async {
            for (api, object) in [(&self.commands, &command), (&self.hosts, &host)] {
                loop {
                    match self.create(api, object, true).await {
                        Err(refused) if refused.contains("verb \"use\"") => break,
                        Ok(()) if may_use_all => break,
                        _ => tokio::time::sleep(Duration::from_millis(100)).await,
                    }
                }
            }
        };
        tokio::time::timeout(LIMIT, known).await.expect("the policies are in force");
    }

    async fn create(
        &self,
        api: &Api<DynamicObject>,
        object: &Value,
        dry_run: bool,
    ) -> Result<(), String> {
        let object = serde_json::from_value(object.clone()).unwrap();
        let parameters = PostParams { dry_run, ..PostParams::default() };
        api.create(&parameters, &object).await.map(drop).map_err(|e| e.to_string())
    }

    async fn command(&self, name: &str, spec: Value) -> Result<(), String> {
        self.create(&self.commands, &command(name, spec), false).await
    }

    async fn host(&self, name: &str, spec: Value) -> Result<(), String> {
        self.create(&self.hosts, &host(name, spec), false).await
    }

    async fn patch(
        &self,
        api: &Api<DynamicObject>,
        name: &str,
        patch: Value,
    ) -> Result<(), String> {
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(drop).map_err(|e| e.to_string())
    }
}

fn host(name: &str, spec: Value) -> Value {
    merged(yaml(HOST), &json!({"metadata": {"name": name}, "spec": spec}))
}

fn command(name: &str, spec: Value) -> Value {
    merged(yaml(COMMAND), &json!({"metadata": {"name": name}, "spec": spec}))
}

fn inline(fields: &Value) -> Value {
    json!({"hostRef": null, "host": merged(yaml(HOST)["spec"].clone(), fields)})
}

fn is_refused(result: Result<(), String>, by: &str) {
    let refused = result.expect_err("it was let through");
    assert!(refused.contains(by), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_verb_use_no_host_is_used() {
    let place = Place::new().await;
    let user = place.user("plain", &[], &[]).await;
    let refused = user.command("a", json!({"hostRef": {"name": "db-1"}})).await;
    let refused = refused.unwrap_err();
    assert!(refused.contains("may not use the RemoteHost \"db-1\""), "{refused}");
    assert!(refused.contains("Ask for the verb \"use\""), "{refused}");
    is_refused(user.command("b", inline(&json!({}))).await, "may not use inline hosts");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verb_use_is_for_the_hosts_that_it_names_and_for_none_inline() {
    let place = Place::new().await;
    let user = place.user("named", &["use"], &["db-1"]).await;
    user.command("a", json!({"hostRef": {"name": "db-1"}})).await.unwrap();
    is_refused(user.command("b", json!({"hostRef": {"name": "db-2"}})).await, "\"db-2\"");
    is_refused(user.command("c", inline(&json!({}))).await, "may not use inline hosts");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verb_inline_is_for_hosts_of_ones_own_but_not_for_what_they_go_through() {
    let place = Place::new().await;
    let user = place.user("inline", &["inline"], &[]).await;
    user.command("a", inline(&json!({}))).await.unwrap();
    is_refused(user.command("b", json!({"hostRef": {"name": "db-1"}})).await, "\"db-1\"");
    let through = inline(&json!({"viaRef": {"name": "bastion"}}));
    is_refused(user.command("c", through.clone()).await, "spec.host.viaRef");
    let both = place.user("both", &["inline", "use"], &[]).await;
    both.command("c", through).await.unwrap();
}

/// Guards finalizers, wishes and time limits of what somebody else created, and the way around
/// the policy by a change of host.
#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_the_host_as_it_is_passes_and_a_changed_host_does_not() {
    let place = Place::new().await;
    let user = place.user("later", &["use"], &["db-2"]).await;
    let on_change = json!({"runPolicy": "OnChange"});
    let made = serde_json::from_value(command("a", on_change)).unwrap();
    place.commands.api.create(&PostParams::default(), &made).await.unwrap();
    let commands = &user.commands;
    user.patch(commands, "a", json!({"metadata": {"finalizers": ["example.com/a"]}}))
        .await
        .unwrap();
    user.patch(commands, "a", json!({"metadata": {"finalizers": null}})).await.unwrap();
    user.patch(commands, "a", json!({"spec": {"cancel": true}})).await.unwrap();
    user.patch(commands, "a", json!({"spec": {"command": ["other"]}})).await.unwrap();
    user.patch(commands, "a", json!({"spec": {"hostRef": {"name": "db-2"}}})).await.unwrap();
    let back = user.patch(commands, "a", json!({"spec": {"hostRef": {"name": "db-1"}}})).await;
    is_refused(back, "\"db-1\"");
    let other = user.patch(commands, "a", json!({"spec": inline(&json!({}))})).await;
    is_refused(other, "may not use inline hosts");
    commands.delete("a", &kube::api::DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_goes_via_another_takes_the_verb_use_on_that() {
    let place = Place::new().await;
    let user = place.user("builder", &["use"], &["gate"]).await;
    user.host("a", json!({})).await.unwrap();
    user.host("b", json!({"viaRef": {"name": "gate"}})).await.unwrap();
    is_refused(user.host("c", json!({"viaRef": {"name": "bastion"}})).await, "\"bastion\"");
    let way = json!({"spec": {"viaRef": {"name": "bastion"}}});
    is_refused(user.patch(&user.hosts, "b", way).await, "spec.viaRef");
    user.patch(&user.hosts, "b", json!({"spec": {"port": 2222}})).await.unwrap();
    user.patch(&user.hosts, "b", json!({"spec": {"viaRef": null}})).await.unwrap();
    assert!(place.hosts.get("b").await.is_ok());
}

/// `deploy/policies.yaml` has the roles to give.
#[tokio::test(flavor = "multi_thread")]
async fn the_roles_that_are_shipped_let_use_what_they_say() {
    let place = Place::new().await;
    let user = place.user("bound", &[], &[]).await;
    let namespace = place.commands.namespace.as_str();
    let name = format!("--user=bound-{namespace}");
    let bind = async |role: &str| {
        let role = format!("--clusterrole={role}");
        let words = ["create", "rolebinding", "--namespace", namespace, &role, &name];
        place.commands.plane.kubectl(&[&words[..], &[&role[14..]]].concat()).await.unwrap();
    };
    let granted = async |name: &str, spec: Value| {
        let tried = async {
            while let Err(refused) = user.command(name, spec.clone()).await {
                assert!(refused.contains("Ask for the verb") || refused.contains("ask for"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(LIMIT, tried).await.expect("the role is in force");
    };
    bind("remote-command-host-user").await;
    granted("a", json!({})).await;
    is_refused(user.command("b", inline(&json!({}))).await, "may not use inline hosts");
    bind("remote-command-inline-host-user").await;
    granted("b", inline(&json!({}))).await;
}

/// As people meet it: rights by group or ServiceAccount, and kubectl's words.
#[tokio::test(flavor = "multi_thread")]
async fn groups_and_service_accounts_have_the_verbs_and_kubectl_shows_what_is_missing() {
    let place = Place::new().await;
    // The policies are in force.
    place.user("first", &[], &[]).await;
    let namespace = place.commands.namespace.as_str();
    let group = format!("team-{namespace}");
    let bot = format!("system:serviceaccount:{namespace}:bot");
    let (of_group, of_bot) =
        (format!("--group={group}"), format!("--serviceaccount={namespace}:bot"));
    for (name, subject) in [("group", &of_group), ("bot", &of_bot)] {
        let role = "--clusterrole=remote-command-host-user";
        let words = ["create", "rolebinding", name, "--namespace", namespace, role, subject];
        place.commands.plane.kubectl(&words).await.unwrap();
    }
    let apply = async |object: &Value, who: &[String]| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), object.to_string()).unwrap();
        let path = file.path().display().to_string();
        let words = ["apply", "--namespace", namespace, "-f", path.as_str()];
        let who = who.iter().map(String::as_str);
        let words: Vec<&str> = words.into_iter().chain(who).collect();
        place.commands.plane.kubectl(&words).await.map_err(|refused| refused.to_string())
    };
    let member = ["--as=ann".to_owned(), format!("--as-group={group}")];
    let account = [format!("--as={bot}")];
    for (name, who) in [("by-group", &member[..]), ("by-account", &account[..])] {
        let object = command(name, json!({}));
        let granted = async {
            while apply(&object, who).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(LIMIT, granted).await.expect("the binding is in force");
        let mut object = command("own", inline(&json!({})));
        object["spec"].as_object_mut().unwrap().remove("hostRef");
        let refused = apply(&object, who).await.unwrap_err();
        let asked = "Ask for the verb \"inline\"";
        let asked = refused.contains(asked) || refused.contains("ask for the verb \"inline\"");
        assert!(asked && refused.contains("(Forbidden)"), "{refused}");
    }
    // The same person without the group has no right at all.
    let refused = apply(&command("alone", json!({})), &member[..1]).await.unwrap_err();
    assert!(refused.contains("forbidden"), "{refused}");
}
