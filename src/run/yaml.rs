//! YAML documents as trees that know the line of everything in them.
//!
//! Only the shape; what a document means is said in [`super::documents`].

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A value and the line it begins on.
#[derive(Clone, Debug)]
pub struct Node {
    /// From 1.
    pub line: u64,
    pub content: Content,
}

/// What is at a place in a document.
#[derive(Clone, Debug)]
pub enum Content {
    /// Null, a boolean, a number or a string.
    Scalar(Value),
    List(Vec<Node>),
    /// In the order written, each with the line of its key.
    Map(Vec<Field>),
}

/// A field of a map.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    /// Line of the name.
    pub line: u64,
    pub value: Node,
}

/// The text is no YAML.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotYaml(String);

/// Reads all documents of `text`; empty ones are left out.
///
/// # Errors
/// [`NotYaml`], with the place.
pub fn read(text: &str) -> Result<Vec<Node>, NotYaml> {
    let documents: Vec<Spanned<Content>> =
        serde_saphyr::from_multiple(text).map_err(|error| NotYaml(error.to_string()))?;
    let nodes = documents.into_iter().map(Node::from);
    Ok(nodes.filter(|node| !node.is_null()).collect())
}

impl Node {
    /// The field of this name, when this is a map that has it and it is not null.
    pub fn field(&self, name: &str) -> Option<&Node> {
        let Content::Map(fields) = &self.content else { return None };
        let found = fields.iter().find(|field| field.name == name);
        found.map(|field| &field.value).filter(|value| !value.is_null())
    }

    /// The text, when this is a string.
    pub fn text(&self) -> Option<&str> {
        if let Content::Scalar(Value::String(text)) = &self.content { Some(text) } else { None }
    }

    /// True for null and for nothing at all, which mean the same.
    pub fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    /// The same without lines. Fields that are null are left out, as the API server does.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(fields) => {
                let set = fields.iter().filter(|field| !field.value.is_null());
                Value::Object(
                    set.map(|f| (f.name.clone(), f.value.to_json())).collect::<Map<_, _>>(),
                )
            }
        }
    }
}

impl From<Spanned<Content>> for Node {
    fn from(spanned: Spanned<Content>) -> Self {
        Self { line: spanned.referenced.line(), content: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyContent)
    }
}

struct AnyContent;

impl<'de> Visitor<'de> for AnyContent {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Content, D::Error> {
        Content::deserialize(from)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Content::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Content>>()? {
            items.push(item.into());
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<Spanned<String>, Spanned<Content>>()? {
            let line = name.referenced.line();
            fields.push(Field { name: name.value, line, value: value.into() });
        }
        Ok(Content::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn everything_knows_its_line() {
        let documents =
            read("a: 1\nb:\n  c: [x,\n    z]\n---\n# nothing\n---\nd: |\n  t\n").unwrap();
        assert_eq!(documents.len(), 2);
        let list = documents[0].field("b").unwrap().field("c").unwrap();
        assert_eq!(list.to_json(), serde_json::json!(["x", "z"]));
        let super::Content::List(items) = &list.content else { panic!("a list") };
        assert_eq!((list.line, items[1].line), (3, 4));
        assert_eq!(documents[1].field("d").unwrap().text(), Some("t\n"));
        let super::Content::Map(fields) = &documents[1].content else { panic!("a map") };
        assert_eq!(fields[0].line, 8);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let error = read("a: 1\nb: [\n").unwrap_err().to_string();
        assert!(error.contains("line"), "{error}");
        assert!(read("a: 1\na: 2\n").unwrap_err().to_string().contains("duplicate"));
    }

    #[test]
    fn nothing_and_null_mean_the_same() {
        let documents = read("a:\nb: null\nc: {d: ~}\n").unwrap();
        assert_eq!(documents[0].to_json(), serde_json::json!({"c": {}}));
    }
}
