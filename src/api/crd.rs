//! The custom resource definitions: what the derived schema cannot say is added here.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::{CustomResourceExt, ResourceExt};
use serde_json::json;

use super::{RemoteCommand, RemoteHost};

/// Grows with every change of a definition that this program relies on.
pub const SCHEMA_VERSION: u32 = 3;

/// The annotation of a definition that holds its [`SCHEMA_VERSION`].
pub const SCHEMA_VERSION_ANNOTATION: &str = "remotecommand.dev/schema-version";

/// Both definitions, as they are installed.
pub fn all() -> Vec<CustomResourceDefinition> {
    let now = json!({
        "observedGeneration": super::status::unseen(),
        "conditions": [{
            "type": "Reconciling",
            "status": "True",
            "reason": "Pending",
            "message": "not yet seen by the operator",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }],
    });
    let mut command = now.clone();
    if let Some(status) = command.as_object_mut() {
        status.insert("phase".to_owned(), json!("Pending"));
    }
    vec![
        finished(RemoteCommand::crd(), command, "What to run, where, and within which bounds."),
        finished(RemoteHost::crd(), now, "How the machine is reached."),
    ]
}

/// One definition as the text of a file, ready for `kubectl apply`.
///
/// # Errors
/// Never, for the definitions of [`all`].
pub fn yaml(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    let body = serde_saphyr::to_string(definition)?;
    Ok(format!("# Generated from src/api by `make generate`; do not edit.\n---\n{body}"))
}

/// The name of a definition's file: `remotecommand.dev_remotecommands.yaml`.
pub fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural)
}

/// Whether a definition found in a cluster is older than this program, and would silently drop
/// fields that it writes.
pub fn is_older(found: &CustomResourceDefinition) -> bool {
    let version = found.annotations().get(SCHEMA_VERSION_ANNOTATION);
    version.and_then(|text| text.parse::<u32>().ok()).is_none_or(|found| found < SCHEMA_VERSION)
}

fn finished(
    mut definition: CustomResourceDefinition,
    status: serde_json::Value,
    spec: &str,
) -> CustomResourceDefinition {
    definition
        .annotations_mut()
        .insert(SCHEMA_VERSION_ANNOTATION.to_owned(), SCHEMA_VERSION.to_string());
    let roots = definition.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    for root in roots.filter_map(|schema| schema.open_api_v3_schema.as_mut()) {
        tidy(root);
        let Some(fields) = root.properties.as_mut() else { continue };
        if let Some(schema) = fields.get_mut("spec") {
            schema.description = Some(spec.to_owned());
        }
        if let Some(schema) = fields.get_mut("status") {
            schema.description = Some("What is known. Written by the operator only.".to_owned());
            schema.default = Some(JSON(status.clone()));
        }
    }
    definition
}

/// Nothing is nullable: a null that a user writes would be kept, and have an owner. Texts of
/// several lines become one, and Kubernetes' own types get descriptions of our length.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.description = schema.description.as_deref().map(unwrapped);
    for (name, field) in schema.properties.iter_mut().flatten() {
        if name == "conditions" {
            conditions(field);
        }
        if field.format.as_deref() == Some("date-time") && field.description.is_none() {
            field.description = Some("Point in time (RFC 3339).".to_owned());
        }
        tidy(field);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = schema.items.as_mut() {
        tidy(item);
    }
}

/// Paragraphs without the source's line breaks.
fn unwrapped(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// Describes and bounds a condition's fields as Kubernetes does for its own kinds.
fn conditions(list: &mut JSONSchemaProps) {
    let Some(JSONSchemaPropsOrArray::Schema(item)) = list.items.as_mut() else { return };
    item.description = Some("One aspect of the state.".to_owned());
    let fields = [
        ("type", 64, "Name of the aspect."),
        ("status", 8, "True, False or Unknown."),
        ("reason", 64, "Why, in one word."),
        ("message", 4096, "Why, in a sentence."),
        ("lastTransitionTime", 0, "When status last changed."),
        ("observedGeneration", 0, "The generation of the spec that this was said of."),
    ];
    for (name, longest, description) in fields {
        let Some(field) = item.properties.as_mut().and_then(|all| all.get_mut(name)) else {
            continue;
        };
        field.description = Some(description.to_owned());
        field.max_length = (longest > 0).then_some(longest);
        if name == "status" {
            field.enum_ = Some(["True", "False", "Unknown"].map(|word| JSON(json!(word))).into());
        }
    }
}
