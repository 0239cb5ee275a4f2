//! The documents of files: what takes the place of a cluster's objects.
//!
//! Everything is checked when it is read, and all that is wrong is told at once, with file and
//! line. Not here: what the objects ask for ([`crate::api`]).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::CustomResourceExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::schema::{self, Problem};
use super::yaml::{self, Content, Node};
use crate::api::{self, RemoteCommand, RemoteHost};
use crate::core::connection::Connection;
use crate::host::{Lookup, LookupError, SecretValues};

/// The namespace of documents that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What stdin is called where a file is named.
const STDIN: &str = "stdin";

/// Namespace and name.
pub type Key = (String, String);

/// Everything the files said.
#[derive(Debug, Default)]
pub struct Documents {
    commands: Vec<Written>,
    hosts: BTreeMap<Key, RemoteHost>,
    secrets: BTreeMap<Key, SecretValues>,
    config_maps: BTreeMap<Key, BTreeMap<String, Kept>>,
}

/// A command and where it is written.
#[derive(Clone, Debug)]
pub struct Written {
    pub key: Key,
    pub command: RemoteCommand,
    /// `FILE:LINE` of its spec.
    pub place: String,
    /// Absolute path of the file, or `stdin`.
    pub file: String,
}

/// A value of a ConfigMap, and whether it stands in its `binaryData`.
#[derive(Clone, Debug)]
struct Kept {
    bytes: Vec<u8>,
    is_binary: bool,
}

/// What is wrong with the files: one sentence per line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadInput(Vec<String>);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl From<String> for BadInput {
    fn from(sentence: String) -> Self {
        Self(vec![sentence])
    }
}

impl Written {
    /// What is wrong with it, at its place.
    pub fn wrong(&self, what: &dyn fmt::Display) -> BadInput {
        BadInput(vec![format!("{}: RemoteCommand {}: {what}", self.place, self.key.1)])
    }
}

impl Documents {
    /// Reads all documents of `files`; `-` is stdin.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn read<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<Self, BadInput> {
        let mut documents = Self::default();
        let mut wrong = Vec::new();
        for file in files {
            let shown = if is_stdin(file) { STDIN.to_owned() } else { file.display().to_string() };
            match text_of(file) {
                Ok(text) => documents.add(&shown, &text, &mut wrong),
                Err(error) => wrong.push(format!("{shown}: cannot be read: {error}")),
            }
        }
        if wrong.is_empty() && documents.commands.is_empty() {
            wrong.push("there is no RemoteCommand in these files: nothing to run".to_owned());
        }
        if wrong.is_empty() { Ok(documents) } else { Err(BadInput(wrong)) }
    }

    /// The commands, in the order of the files.
    pub fn commands(&self) -> &[Written] {
        &self.commands
    }

    /// How the host of a command is reached.
    ///
    /// # Errors
    /// A host that is not in the files, a circle of jump hosts, or a host that is invalid.
    pub fn connection(&self, written: &Written) -> Result<Connection, BadInput> {
        let (namespace, _) = &written.key;
        let resolve = |name: &str| self.hosts.get(&(namespace.clone(), name.to_owned())).cloned();
        let connection = api::connection::connection_of(&written.command, &resolve);
        let connection = connection.map_err(|error| written.wrong(&error))?;
        for hop in &connection.hops {
            let missing = |what: &LookupError| written.wrong(what);
            if !self.secrets.contains_key(&(namespace.clone(), hop.credentials.clone())) {
                return Err(missing(&LookupError::SecretNotFound(hop.credentials.clone())));
            }
            if let Some((name, key)) = &hop.host_keys.config_map {
                let map = self.config_maps.get(&(namespace.clone(), name.clone()));
                if !map.is_some_and(|map| map.contains_key(key)) {
                    let (name, key) = (name.clone(), key.clone());
                    return Err(missing(&LookupError::ConfigMapNotFound(name, key)));
                }
            }
        }
        Ok(connection)
    }

    fn add(&mut self, file: &str, text: &str, wrong: &mut Vec<String>) {
        let nodes = match yaml::read(text) {
            Ok(nodes) => nodes,
            Err(error) => return wrong.push(format!("{file}: {error}")),
        };
        for node in nodes {
            if let Err(problems) = self.add_document(file, &node) {
                wrong.extend(problems.iter().map(|problem| sentence(file, problem)));
            }
        }
    }

    fn add_document(&mut self, file: &str, node: &Node) -> Result<(), Vec<Problem>> {
        let word = |name: &str| node.field(name).and_then(Node::text).unwrap_or_default();
        match (word("apiVersion"), word("kind")) {
            ("remotecommand.dev/v1alpha1", "RemoteCommand") => {
                let command: RemoteCommand = object(node, &custom(&RemoteCommand::crd()))?;
                let line = node.field("spec").map_or(node.line, |spec| spec.line);
                let (key, place) = (key(node), format!("{file}:{line}"));
                let written = Written { key, command, place, file: absolute(file) };
                let twice = self.commands.iter().any(|other| other.key == written.key);
                self.commands.push(written);
                once(node, twice)
            }
            ("remotecommand.dev/v1alpha1", "RemoteHost") => {
                let host: RemoteHost = object(node, &custom(&RemoteHost::crd()))?;
                let within = api::pace::check_host(&host.spec);
                within.map_err(|error| vec![problem(node, "spec", error.to_string())])?;
                once(node, self.hosts.insert(key(node), host).is_some())
            }
            ("v1", "Secret") => {
                check(node, &secret_schema())?;
                once(node, self.secrets.insert(key(node), secret_values(node)?).is_some())
            }
            ("v1", "ConfigMap") => {
                check(node, &config_map_schema())?;
                once(node, self.config_maps.insert(key(node), config_map_values(node)?).is_some())
            }
            (version, kind) => Err(vec![problem(
                node,
                "",
                format!(
                    "a document of kind {kind:?} and apiVersion {version:?} is not understood; \
                     known are RemoteCommand and RemoteHost of remotecommand.dev/v1alpha1, and \
                     Secret and ConfigMap of v1"
                ),
            )]),
        }
    }
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn text_of(file: &Path) -> io::Result<String> {
    if !is_stdin(file) {
        return fs::read_to_string(file);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// The path that leads to `file` from wherever this is read later.
fn absolute(file: &str) -> String {
    let path = if file == STDIN { None } else { std::path::absolute(file).ok() };
    path.map_or_else(|| file.to_owned(), |path| path.display().to_string())
}

fn sentence(file: &str, problem: &Problem) -> String {
    let Problem { line, path, message } = problem;
    let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
    format!("{file}:{line}: {path}{message}")
}

fn problem(node: &Node, path: &str, message: impl Into<String>) -> Problem {
    Problem { line: node.line, path: path.to_owned(), message: message.into() }
}

/// Namespace and name of a checked document.
fn key(node: &Node) -> Key {
    let word = |name: &str| node.field("metadata").and_then(|m| m.field(name)?.text());
    let namespace = word("namespace").unwrap_or(DEFAULT_NAMESPACE);
    (namespace.to_owned(), word("name").unwrap_or_default().to_owned())
}

fn once(node: &Node, twice: bool) -> Result<(), Vec<Problem>> {
    let (namespace, name) = key(node);
    let message = || format!("{namespace}/{name} of this kind is there twice");
    if twice { Err(vec![problem(node, "metadata.name", message())]) } else { Ok(()) }
}

fn check(node: &Node, schema: &Value) -> Result<(), Vec<Problem>> {
    let mut problems = schema::check(schema, node);
    let (namespace, name) = key(node);
    for (field, word) in [("metadata.namespace", namespace), ("metadata.name", name)] {
        // Files are named after them, among others.
        if !word.is_empty() && !is_object_name(&word) {
            let message = "a name has lower-case letters, digits, '-' and '.', and begins and \
                           ends with a letter or digit";
            problems.push(problem(node, field, message));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Whether `name` can name an object (RFC 1123 subdomain).
fn is_object_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(inner)
    })
}

/// The document as an object of its type.
fn object<T: DeserializeOwned>(node: &Node, schema: &Value) -> Result<T, Vec<Problem>> {
    check(node, schema)?;
    serde_json::from_value(node.to_json()).map_err(|e| vec![problem(node, "", e.to_string())])
}

/// The schema of a whole document of a custom resource: its definition says nothing about the
/// fields that all objects have, and a status in a file is nobody's business.
pub(super) fn custom(definition: &impl serde::Serialize) -> Value {
    let definition = serde_json::to_value(definition).unwrap_or_default();
    let found = definition.pointer("/spec/versions/0/schema/openAPIV3Schema");
    let mut schema = found.cloned().unwrap_or_default();
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields.extend(fields_of_every_object(LABEL));
        fields.insert("status".to_owned(), json!({}));
    }
    require_metadata(schema)
}

fn secret_schema() -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    core(json!({
        "data": texts, "stringData": texts,
        "type": {"type": "string"}, "immutable": {"type": "boolean"},
    }))
}

fn config_map_schema() -> Value {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    core(json!({"data": texts, "binaryData": texts, "immutable": {"type": "boolean"}}))
}

fn core(mut fields: Value) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        fields.extend(fields_of_every_object(SUBDOMAIN));
    }
    require_metadata(json!({"type": "object", "properties": fields}))
}

fn require_metadata(mut schema: Value) -> Value {
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.push(json!("metadata"));
    } else if let Some(schema) = schema.as_object_mut() {
        schema.insert("required".to_owned(), json!(["metadata"]));
    }
    schema
}

/// Longest name of a namespace, and of both our kinds by their own rule (RFC 1123 label).
const LABEL: u8 = 63;

/// Longest name of other objects (RFC 1123 subdomain).
const SUBDOMAIN: u8 = 253;

/// The fields of every object (`ObjectMeta` of the Kubernetes API). What a server sets is
/// accepted, so that the output of `kubectl get -o yaml` can be run as it is.
fn fields_of_every_object(longest_name: u8) -> serde_json::Map<String, Value> {
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let name = |longest: u8| json!({"type": "string", "minLength": 1, "maxLength": longest});
    let fields = json!({
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object", "required": ["name"], "properties": {
            "name": name(longest_name), "namespace": name(LABEL), "labels": texts, "annotations": texts,
            "uid": {}, "resourceVersion": {}, "generation": {}, "creationTimestamp": {},
            "deletionTimestamp": {}, "deletionGracePeriodSeconds": {}, "finalizers": {},
            "ownerReferences": {}, "managedFields": {}, "selfLink": {},
        }},
    });
    fields.as_object().cloned().unwrap_or_default()
}

/// The entries of a map of strings.
fn texts<'a>(node: &'a Node, field: &str) -> impl Iterator<Item = (String, String)> + use<'a> {
    let fields = match node.field(field).map(|node| &node.content) {
        Some(Content::Map(fields)) => fields.as_slice(),
        _ => &[],
    };
    let entries = fields.iter().filter_map(|field| Some((&field.name, field.value.text()?)));
    entries.map(|(name, text)| (name.clone(), text.to_owned()))
}

/// What a field of base64 holds; plain text would go into the field `plain`.
fn decoded(
    node: &Node,
    [field, name]: [&str; 2],
    encoded: &str,
    plain: &str,
) -> Result<Vec<u8>, Vec<Problem>> {
    STANDARD.decode(encoded.trim_end()).map_err(|_| {
        let message = format!("is not base64; plain text goes into {plain}");
        vec![problem(node, &format!("{field}.{name}"), message)]
    })
}

/// A ConfigMap's values: `data` as it is, `binaryData` in base64. No key is in both.
fn config_map_values(node: &Node) -> Result<BTreeMap<String, Kept>, Vec<Problem>> {
    let kept = |text: String| Kept { bytes: text.into_bytes(), is_binary: false };
    let plain = texts(node, "data").map(|(name, text)| (name, kept(text)));
    let mut values: BTreeMap<_, _> = plain.collect();
    for (name, encoded) in texts(node, "binaryData") {
        let bytes = decoded(node, ["binaryData", &name], &encoded, "data")?;
        if values.insert(name.clone(), Kept { bytes, is_binary: true }).is_some() {
            let message = "is in data too";
            return Err(vec![problem(node, &format!("binaryData.{name}"), message)]);
        }
    }
    Ok(values)
}

/// A Secret's values: `data` in base64, `stringData` as it is, which wins.
fn secret_values(node: &Node) -> Result<SecretValues, Vec<Problem>> {
    let mut values = SecretValues::new();
    for (name, encoded) in texts(node, "data") {
        let encoded = Zeroizing::new(encoded);
        let bytes = decoded(node, ["data", &name], &encoded, "stringData")?;
        values.insert(name, Zeroizing::new(bytes));
    }
    for (name, text) in texts(node, "stringData") {
        values.insert(name, Zeroizing::new(text.into_bytes()));
    }
    Ok(values)
}

/// The Secrets and ConfigMaps of one namespace of the documents.
#[derive(Clone, Debug)]
pub struct Namespace {
    documents: Arc<Documents>,
    name: String,
}

impl Namespace {
    /// Looks up in the namespace `name`.
    pub fn new(documents: Arc<Documents>, name: &str) -> Self {
        Self { documents, name: name.to_owned() }
    }

    fn key(&self, name: &str) -> Key {
        (self.name.clone(), name.to_owned())
    }

    fn kept(&self, name: &str, key: &str) -> Result<&Kept, LookupError> {
        let found = self.documents.config_maps.get(&self.key(name));
        let missing = || LookupError::ConfigMapNotFound(name.to_owned(), key.to_owned());
        found.and_then(|values| values.get(key)).ok_or_else(missing)
    }
}

#[async_trait]
impl Lookup for Namespace {
    async fn secret(&self, name: &str) -> Result<SecretValues, LookupError> {
        let found = self.documents.secrets.get(&self.key(name)).cloned();
        found.ok_or_else(|| LookupError::SecretNotFound(name.to_owned()))
    }

    async fn config_map(&self, name: &str, key: &str) -> Result<Vec<u8>, LookupError> {
        Ok(self.kept(name, key)?.bytes.clone())
    }

    async fn config_map_text(&self, name: &str, key: &str) -> Result<Vec<u8>, LookupError> {
        let kept = self.kept(name, key)?;
        let binary = || LookupError::Binary(name.to_owned(), key.to_owned());
        if kept.is_binary { Err(binary()) } else { Ok(kept.bytes.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Documents, Vec<String>> {
        let (mut documents, mut wrong) = (Documents::default(), Vec::new());
        documents.add("f.yaml", text, &mut wrong);
        if wrong.is_empty() { Ok(documents) } else { Err(wrong) }
    }

    const HEAD: &str = "apiVersion: remotecommand.dev/v1alpha1\nkind: RemoteCommand\n";

    #[tokio::test]
    async fn secrets_and_config_maps_are_found_by_name_in_their_namespace() {
        let documents = read(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n\
             data: {a: aGk=, b: aGk=}\nstringData: {b: there}\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: other}\n\
             data: {k: v}\nbinaryData: {b: /wA=}\n",
        )
        .unwrap();
        let documents = Arc::new(documents);
        let (here, other) =
            (Namespace::new(documents.clone(), "default"), Namespace::new(documents, "other"));
        let values = here.secret("s").await.unwrap();
        assert_eq!((values["a"].as_slice(), values["b"].as_slice()), (&b"hi"[..], &b"there"[..]));
        assert!(matches!(other.secret("s").await, Err(LookupError::SecretNotFound(_))));
        assert_eq!(other.config_map("m", "k").await.unwrap(), b"v");
        assert_eq!(other.config_map("m", "b").await.unwrap(), b"\xff\0");
        assert_eq!(other.config_map_text("m", "k").await.unwrap(), b"v");
        let binary = other.config_map_text("m", "b").await;
        assert!(matches!(binary, Err(LookupError::Binary(..))));
        let missing = other.config_map_text("m", "x").await;
        assert!(matches!(missing, Err(LookupError::ConfigMapNotFound(..))));
        assert!(here.config_map("m", "k").await.is_err());
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once_with_file_and_line() {
        let wrong = read(&format!(
            "{HEAD}metadata: {{name: a}}\nspec:\n  hostRef: {{name: h}}\n  comand: [x]\n---\n\
             {HEAD}metadata: {{nam: a}}\nspec: {{hostRef: {{name: h}}, command: [x]}}\n---\n\
             apiVersion: v1\nkind: Pod\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\ndata: {{a: 'no base64'}}\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\nbinaryData: {{a: '...'}}\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: t}}\ndata: {{a: b}}\n\
             binaryData: {{a: aGk=}}\n"
        ))
        .unwrap_err();
        let starts = [
            "f.yaml:6: spec.comand: unknown field; did you mean command?",
            "f.yaml:10: metadata.nam: unknown field; did you mean name?",
            "f.yaml:10: metadata.name: is required",
            "f.yaml:13: a document of kind \"Pod\" and apiVersion \"v1\" is not understood",
            "f.yaml:16: data.a: is not base64; plain text goes into stringData",
            "f.yaml:21: binaryData.a: is not base64; plain text goes into data",
            "f.yaml:26: binaryData.a: is in data too",
        ];
        assert_eq!(wrong.len(), starts.len(), "{wrong:#?}");
        for (sentence, start) in wrong.iter().zip(starts) {
            assert!(sentence.starts_with(start), "{sentence}");
        }
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in ["../a", "a/b", "A", ".a", "a-"] {
            let text = format!("{HEAD}metadata: {{name: '{name}'}}\nspec: {{script: x}}\n");
            let wrong = read(&text).unwrap_err();
            assert!(wrong[0].contains("metadata.name: a name has"), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_that_a_cluster_would_refuse_is_refused() {
        let named = |name: &str| {
            format!("{HEAD}metadata: {{name: {name}}}\nspec: {{hostRef: {{name: h}}, script: x}}\n")
        };
        read(&named(&"a".repeat(63))).unwrap();
        let wrong = read(&named(&"a".repeat(64))).unwrap_err();
        assert!(wrong[0].contains("metadata.name: at most 63 characters"), "{wrong:?}");
        let secret = "a".repeat(64);
        let secret = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {secret}}}\n");
        read(&secret).unwrap();
    }

    #[test]
    fn a_host_that_is_not_there_is_told_where_it_is_named() {
        let documents = read(&format!(
            "{HEAD}metadata: {{name: a}}\nspec: {{hostRef: {{name: h}}, script: x}}"
        ));
        let documents = documents.unwrap();
        let wrong = documents.connection(&documents.commands()[0]).unwrap_err().to_string();
        assert!(wrong.starts_with("f.yaml:4: RemoteCommand a: RemoteHost \"h\""), "{wrong}");
    }

    #[test]
    fn a_command_that_is_there_twice_is_refused() {
        let one =
            format!("{HEAD}metadata: {{name: a}}\nspec: {{hostRef: {{name: h}}, script: x}}\n");
        assert_eq!(read(&one).unwrap().commands().len(), 1);
        let wrong = read(&format!("{one}---\n{one}")).unwrap_err();
        assert!(wrong[0].contains("default/a of this kind is there twice"), "{wrong:?}");
    }

    #[test]
    fn a_resolution_can_be_written_into_a_file() {
        let text = format!(
            "{HEAD}metadata: {{name: a}}\nspec: {{hostRef: {{name: h}}, script: x, \
             resolution: {{run: 1, attempt: 1, as: Retry}}}}\n"
        );
        read(&text).unwrap();
    }

    #[test]
    fn what_a_cluster_printed_can_be_run_as_it_is() {
        let text = format!(
            "{HEAD}metadata: {{name: a, uid: u, generation: 2, managedFields: [{{manager: x}}]}}\n\
             spec: {{hostRef: {{name: h}}, script: x}}\nstatus: {{phase: Running}}\n"
        );
        read(&text).unwrap();
    }
}
