//! Every field of the two kinds and of a log record is in its document.

use remote_command::api::crd;
use remote_command::host::Stream;
use remote_command::output::line::{End, Line, Record};
use remote_command::output::log::{self, Head};
use serde_json::Value;

use super::{page, spans};

/// What has fields of its own that are told elsewhere: Kubernetes' conditions, the operator's
/// record, and in a command the fields of a RemoteHost.
const TOLD_ELSEWHERE: [&str; 4] =
    ["status.conditions", "status.stage", "spec.host", "spec.hostRef"];

fn collect(path: &str, schema: &Value, found: &mut Vec<String>) {
    let fields = schema.get("properties").and_then(Value::as_object);
    for (name, inner) in fields.into_iter().flatten() {
        let path = format!("{path}.{name}");
        if !TOLD_ELSEWHERE.contains(&path.as_str()) {
            collect(&path, inner, found);
        }
        found.push(path);
    }
    if let Some(items) = schema.get("items") {
        collect(path, items, found);
    }
}

/// The fields that stand in no `backticks`, alone or in a path.
fn missing(name: &str, fields: Vec<String>) -> Vec<String> {
    let word =
        |text: &str, field: &str| text.split(|c: char| !c.is_alphanumeric()).any(|w| w == field);
    let spans = spans(name);
    let told = |path: &String| {
        let field = path.rsplit('.').next().unwrap_or_default();
        spans.iter().any(|span| word(span, field))
    };
    fields.into_iter().filter(|path| !told(path)).collect()
}

#[test]
fn every_field_of_spec_and_status_is_in_its_document() {
    for definition in crd::all() {
        let name = format!("docs/{}.md", definition.spec.names.kind.to_lowercase());
        let definition = serde_json::to_value(&definition).unwrap();
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties";
        let mut fields = Vec::new();
        for part in ["spec", "status"] {
            collect(part, definition.pointer(&format!("{schema}/{part}")).unwrap(), &mut fields);
        }
        assert!(fields.len() > 20, "{fields:?}");
        assert_eq!(missing(&name, fields), Vec::<String>::new(), "not in {name}");
    }
}

#[test]
fn every_field_of_a_log_record_is_in_the_document() {
    let head = Head {
        namespace: "default".into(),
        name: "hello".into(),
        uid: "u".into(),
        run: 1,
        attempt: 1,
        host: "db-1".into(),
        verify: true,
    };
    let line = |end| Record::Line(Line { offset: 0, bytes: b"\xff", end });
    let gap = Record::Gap { offset: 0, bytes: 1 };
    let truncated = Record::Truncated { offset: 0 };
    let mut fields = Vec::new();
    for record in [line(End::Partial), line(End::Unterminated), gap, truncated] {
        let mut text = Vec::new();
        log::append(&mut text, &head, Stream::Stdout, record);
        let written: Value = serde_json::from_slice(&text).unwrap();
        fields.extend(written.as_object().unwrap().keys().cloned());
        fields.push(written["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(missing("docs/remotecommand.md", fields), Vec::<String>::new());
}

/// A person reads the code in a shell, and looks it up.
#[test]
fn the_exit_codes_of_the_help_and_of_the_document_are_the_same() {
    let help = remote_command::run::exit::EXIT_CODES_HELP;
    let text = page("docs/remotecommand.md");
    for code in help.split(|c: char| !c.is_ascii_digit()).filter(|code| code.len() == 3) {
        assert!(text.contains(code), "{code} is not in the document");
    }
}
