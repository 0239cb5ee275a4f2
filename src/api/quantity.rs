//! A number of bytes as users write it: `512Mi`, `1Gi`, `1000000`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

const PATTERN: &str = "^[0-9]{1,15}(Ki|Mi|Gi|Ti|k|M|G|T)?$";

/// The largest number of bytes that is accepted: 1 Ti.
const MAX: u64 = 1 << 40;

const WHAT_TO_WRITE: &str = "a size is a text with a whole number of bytes and one of the \
                             suffixes Ki, Mi, Gi, Ti, k, M, G and T or none, like 512Mi; it is \
                             above 0 and at most 1Ti";

/// A number of bytes, kept as the text it was written as.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(String);

/// The text is no size, or one out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: {WHAT_TO_WRITE}")]
pub struct InvalidQuantity(String);

impl Quantity {
    /// A size as written; checked by [`Quantity::bytes`].
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// How many bytes it is.
    ///
    /// # Errors
    /// When the text is no size, or is 0 or above 1 Ti.
    pub fn bytes(&self) -> Result<u64, InvalidQuantity> {
        bytes(&self.0)
            .filter(|bytes| (1..=MAX).contains(bytes))
            .ok_or_else(|| InvalidQuantity(self.0.clone()))
    }
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at_checked(digits)?;
    let each: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(each)
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let rule = format!(
            "self.matches('{PATTERN}') && quantity(self).isGreaterThan(quantity('0')) \
             && !quantity(self).isGreaterThan(quantity('1Ti'))"
        );
        json_schema!({
            "type": "string",
            "maxLength": 24,
            "pattern": PATTERN,
            "x-kubernetes-validations": [{ "rule": rule, "message": WHAT_TO_WRITE }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_reads_them() {
        for (text, expected) in
            [("1", 1), ("1k", 1000), ("1Ki", 1024), ("512Mi", 512 << 20), ("1Gi", 1 << 30)]
        {
            assert_eq!(Quantity::new(text).bytes(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in
            ["", "0", "0Gi", "2Ti", "1.5Gi", "-1", "1GB", "Gi", "1 Gi", "99999999999999999999"]
        {
            assert!(Quantity::new(text).bytes().is_err(), "{text}");
        }
    }
}
