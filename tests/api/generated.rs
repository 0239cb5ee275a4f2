//! `crds/` holds what the types say.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use remote_command::api::crd;

#[test]
fn the_files_in_crds_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    let mut expected = BTreeSet::new();
    for definition in crd::all() {
        let name = crd::file_name(&definition);
        let found = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        let current = found == crd::yaml(&definition).unwrap();
        assert!(current, "crds/{name} is not what the types say: run `make generate`");
        expected.insert(name);
    }
    let found: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected, "crds/ holds a file that no type stands for");
}

#[test]
fn a_file_reads_back_as_its_definition() {
    for definition in crd::all() {
        let text = crd::yaml(&definition).unwrap();
        let read: CustomResourceDefinition = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), serde_json::to_value(definition).unwrap());
    }
}

#[test]
fn a_definition_without_our_version_or_with_a_lower_one_is_older() {
    for mut definition in crd::all() {
        assert!(!crd::is_older(&definition));
        let annotations = definition.metadata.annotations.as_mut().unwrap();
        let lower = (crd::SCHEMA_VERSION - 1).to_string();
        annotations.insert(crd::SCHEMA_VERSION_ANNOTATION.to_owned(), lower);
        assert!(crd::is_older(&definition));
        definition.metadata.annotations = None;
        assert!(crd::is_older(&definition));
    }
}

#[test]
fn every_field_is_described_bounded_and_never_nullable() {
    let mut offences = Vec::new();
    for definition in crd::all() {
        for version in &definition.spec.versions {
            let root = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            look(&definition.spec.names.kind, root, &mut offences);
        }
    }
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

fn look(path: &str, schema: &JSONSchemaProps, offences: &mut Vec<String>) {
    let mut when = |offends: bool, what: &str| {
        if offends {
            offences.push(format!("{path} {what}"));
        }
    };
    let kind = schema.type_.as_deref().unwrap_or_default();
    let open = schema.enum_.is_none() && schema.format.as_deref() != Some("date-time");
    when(!path.ends_with("[]") && schema.description.is_none(), "has no description");
    let lines = schema.description.as_deref().unwrap_or_default().replace("\n\n", "");
    when(lines.contains('\n'), "has line breaks within a paragraph of its description");
    when(schema.nullable.is_some(), "is nullable");
    when(kind == "string" && open && schema.max_length.is_none(), "has no maxLength");
    when(kind == "array" && schema.max_items.is_none(), "has no maxItems");
    let format = schema.format.as_deref();
    let known = format.is_some_and(|name| ["int32", "int64"].contains(&name));
    when(kind == "integer" && !known, "is neither int32 nor int64");
    for (name, field) in schema.properties.iter().flatten() {
        look(&format!("{path}.{name}"), field, offences);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(item)) = &schema.items {
        look(&format!("{path}[]"), item, offences);
    }
}
