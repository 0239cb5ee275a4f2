//! Checks the shape of a document against the definition of its kind, with the line of what
//! is wrong: unknown fields, types, words and bounds.
//!
//! Not here: what fits together. The plan refuses what does not ([`crate::api::plan`]).

use serde_json::{Map, Value};

use super::yaml::{Content, Field, Node};

/// Something in a document that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: u64,
    /// `spec.command[0]`; empty for the document itself.
    pub path: String,
    /// What to write instead.
    pub message: String,
}

/// Checks `document` against an OpenAPI schema.
pub fn check(schema: &Value, document: &Node) -> Vec<Problem> {
    let mut problems = Vec::new();
    check_value(schema, document, "", &mut problems);
    problems
}

fn check_value(schema: &Value, node: &Node, path: &str, problems: &mut Vec<Problem>) {
    let anything = schema.as_object().is_none_or(Map::is_empty);
    if anything || node.is_null() || told(schema, "x-kubernetes-int-or-string") {
        return;
    }
    let mut refuse = |message: String| {
        problems.push(Problem { line: node.line, path: path.to_owned(), message });
    };
    let wanted = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    match (&node.content, wanted) {
        (Content::Map(fields), "object" | "") => check_fields(schema, node, fields, path, problems),
        (Content::List(items), "array") => {
            let bounds = [("minItems", "at least"), ("maxItems", "at most")];
            check_count(schema, bounds, items.len(), "item", &mut refuse);
            let inner = schema.get("items").unwrap_or(&Value::Null);
            for (at, item) in items.iter().enumerate() {
                check_value(inner, item, &format!("{path}[{at}]"), problems);
            }
        }
        (Content::Scalar(value), _) => check_scalar(schema, value, wanted, &mut refuse),
        (found, wanted) => refuse(format!("{} is wanted, not {}", article(wanted), kind(found))),
    }
}

fn check_scalar(schema: &Value, value: &Value, wanted: &str, refuse: &mut impl FnMut(String)) {
    match (value, wanted) {
        (_, "") | (Value::Bool(_), "boolean") | (Value::Number(_), "number") => {}
        (Value::String(text), "string") => check_text(schema, text, refuse),
        (Value::Number(number), "integer") if number.is_i64() => {
            check_number(schema, number.as_i64().unwrap_or_default(), refuse);
        }
        (Value::Bool(_) | Value::Number(_), "string") => {
            refuse(format!("a string is wanted: put {value} in quotes"));
        }
        (value, wanted) => refuse(format!("{} is wanted, not {value}", article(wanted))),
    }
}

fn check_text(schema: &Value, text: &str, refuse: &mut impl FnMut(String)) {
    let bounds = [("minLength", "at least"), ("maxLength", "at most")];
    check_count(schema, bounds, text.chars().count(), "character", refuse);
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.iter().any(|word| word.as_str() == Some(text))
    {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        refuse(format!("{text:?} is none of {}", words.join(", ")));
    }
}

fn check_number(schema: &Value, number: i64, refuse: &mut impl FnMut(String)) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^52")]
    let value = number as f64;
    if let Some(least) = bound("minimum").filter(|least| value < *least) {
        refuse(format!("{number} is too small: at least {least}"));
    }
    let most = bound("maximum").unwrap_or(match schema.get("format").and_then(Value::as_str) {
        Some("int32") => f64::from(i32::MAX),
        _ => f64::MAX,
    });
    if value > most {
        refuse(format!("{number} is too large: at most {most}"));
    }
}

fn check_count(
    schema: &Value,
    bounds: [(&str, &str); 2],
    count: usize,
    what: &str,
    refuse: &mut impl FnMut(String),
) {
    let [least, most] = bounds.map(|(name, _)| schema.get(name).and_then(Value::as_u64));
    let count = count as u64;
    let broken = match (least, most) {
        (Some(least), _) if count < least => Some((bounds[0].1, least)),
        (_, Some(most)) if count > most => Some((bounds[1].1, most)),
        _ => None,
    };
    if let Some((word, bound)) = broken {
        let plural = if bound == 1 { "" } else { "s" };
        refuse(format!("{word} {bound} {what}{plural} wanted, not {count}"));
    }
}

fn check_fields(
    schema: &Value,
    node: &Node,
    fields: &[Field],
    path: &str,
    problems: &mut Vec<Problem>,
) {
    let empty = Map::new();
    let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
    let others = schema.get("additionalProperties").filter(|others| others.is_object());
    let open = known.is_empty() || told(schema, "x-kubernetes-preserve-unknown-fields");
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    for field in fields {
        let path = below(&field.name);
        match known.get(&field.name).or(others) {
            Some(inner) => check_value(inner, &field.value, &path, problems),
            None if open => {}
            None => {
                let message = unknown_field(&field.name, known);
                problems.push(Problem { line: field.line, path, message });
            }
        }
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str).filter(|name| node.field(name).is_none()) {
        let message = "is required".to_owned();
        problems.push(Problem { line: node.line, path: below(name), message });
    }
}

fn unknown_field(name: &str, known: &Map<String, Value>) -> String {
    let nearest = known.keys().map(|other| (distance(name, other), other)).min();
    match nearest {
        Some((far, other)) if far <= 1 + name.len() / 4 => {
            format!("unknown field; did you mean {other}?")
        }
        _ => {
            let known: Vec<&str> = known.keys().map(String::as_str).collect();
            format!("unknown field; known here: {}", known.join(", "))
        }
    }
}

/// Levenshtein's distance, case counting nothing.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        let mut next = vec![before];
        for (right, above) in b.iter().zip(row.iter().skip(1)) {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = *above;
            before = replaced.min(above + 1).min(before + 1);
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn told(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn article(kind: &str) -> &str {
    match kind {
        "array" => "a list",
        "object" | "" => "a map",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "string" => "a string",
        other => other,
    }
}

fn kind(content: &Content) -> &'static str {
    match content {
        Content::Map(_) => "a map",
        Content::List(_) => "a list",
        Content::Scalar(_) => "a single value",
    }
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::{Problem, check, distance};
    use crate::api::RemoteCommand;
    use crate::run::{documents, yaml};

    fn problems(spec: &str) -> Vec<Problem> {
        let head = "apiVersion: remotecommand.dev/v1alpha1\nkind: RemoteCommand\n\
                    metadata: {name: a}\nspec:\n  hostRef: {name: h}\n";
        let document = yaml::read(&format!("{head}{spec}")).unwrap().remove(0);
        check(&documents::custom(&RemoteCommand::crd()), &document)
    }

    /// The only problem, as it is shown.
    fn problem(spec: &str) -> String {
        let problems = problems(spec);
        assert_eq!(problems.len(), 1, "{problems:?}");
        format!("{}: {}: {}", problems[0].line, problems[0].path, problems[0].message)
    }

    #[test]
    fn what_is_fine_is_fine() {
        assert_eq!(problems("  command: [echo]\n  env:\n  - {name: A, value: b}\n"), []);
        assert_eq!(
            problems("  command: [a]\n  idempotency: Idempotent\n  retry: {limit: 3}\n"),
            []
        );
    }

    #[test]
    fn an_unknown_field_is_refused_with_its_place_and_the_likely_name() {
        assert_eq!(
            problem("  comand: [echo]\n  command: [echo]\n"),
            "6: spec.comand: unknown field; did you mean command?"
        );
        let text = problem("  command: [a]\n  timeouts:\n    forever: 1s\n");
        assert!(text.starts_with("8: spec.timeouts.forever: unknown field; known here:"), "{text}");
        let text = problem("  command: [a]\n  env:\n  - {name: A, valu: b, value: b}\n");
        assert_eq!(text, "8: spec.env[0].valu: unknown field; did you mean value?");
    }

    #[test]
    fn types_words_and_bounds_are_checked() {
        assert_eq!(problem("  command: echo\n"), "6: spec.command: a list is wanted, not \"echo\"");
        assert_eq!(
            problem("  command: [sleep, 5]\n"),
            "6: spec.command[1]: a string is wanted: put 5 in quotes"
        );
        assert_eq!(
            problem("  command: [a]\n  execution: Recorder\n"),
            "7: spec.execution: \"Recorder\" is none of Recorded, Direct"
        );
        assert_eq!(problem("  command: []\n"), "6: spec.command: at least 1 item wanted, not 0");
        assert!(problem("  command: [a]\n  retry: {limit: -1}\n").contains("too small"));
    }

    #[test]
    fn names_are_near_when_few_letters_differ() {
        assert_eq!(distance("comand", "command"), 1);
        assert_eq!(distance("hostref", "hostRef"), 0);
        assert_eq!(distance("", "abc"), 3);
    }
}
