//! A duration as users write it: `30s`, `5m`, `1h30m`.
//!
//! The text is kept as written. Frozen fields are compared as text by the API server, so
//! `90s` must not come back as `1m30s`.

use std::borrow::Cow;
use std::time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The shape of a duration: the subset of Go's durations that Gateway API's GEP-2257 defines.
pub const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// The longest duration that is accepted: a year.
pub const MAX: time::Duration = time::Duration::from_secs(8760 * 3600);

const WHAT_TO_WRITE: &str = "a duration is written with the units h, m, s and ms, like 30s or \
                             1h30m; it is above 0 and at most 8760h";

/// A duration, kept as the text it was written as.
///
/// Any text can be held, so that one odd object cannot spoil a list of objects; the API server
/// lets only valid ones in, and [`Duration::get`] says when one is not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

/// The text is no duration, or one out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: {WHAT_TO_WRITE}")]
pub struct InvalidDuration(String);

impl Duration {
    /// A duration as written; checked by [`Duration::get`].
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How long it is.
    ///
    /// # Errors
    /// When the text is no duration, or is 0 or above [`MAX`].
    pub fn get(&self) -> Result<time::Duration, InvalidDuration> {
        milliseconds(&self.0)
            .map(time::Duration::from_millis)
            .filter(|long| !long.is_zero() && *long <= MAX)
            .ok_or_else(|| InvalidDuration(self.0.clone()))
    }
}

/// Reads `([0-9]{1,5}(h|m|s|ms)){1,4}`.
fn milliseconds(text: &str) -> Option<u64> {
    let (mut rest, mut total) = (text, 0_u64);
    for _ in 0..4 {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if !(1..=5).contains(&digits) {
            return None;
        }
        let (number, after) = rest.split_at_checked(digits)?;
        // "ms" first: "m" is its beginning.
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        let (unit, each) = units.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        total += number.parse::<u64>().ok()? * each;
        rest = after.strip_prefix(unit)?;
        if rest.is_empty() {
            return Some(total);
        }
    }
    None
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let rule = format!(
            "self.matches('{PATTERN}') && duration(self) > duration('0s') \
             && duration(self) <= duration('8760h')"
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

    fn seconds(text: &str) -> Option<f64> {
        Duration::new(text).get().ok().map(|long| long.as_secs_f64())
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("30s", 30.0),
            ("1h30m", 5400.0),
            ("250ms", 0.25),
            ("1m1ms", 60.001),
            ("1h2m3s4ms", 3723.004),
            ("1s1s", 2.0),
            ("8760h", 31_536_000.0),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "0",
            "0s",
            "0h0m",
            "30",
            "1d",
            "1.5h",
            "-5s",
            " 5s",
            "5s ",
            "5",
            "s",
            "5sec",
            "123456s",
            "8761h",
            "8760h1ms",
            "1h1h1h1h1h",
            "1µs",
            "1H",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn the_text_comes_back_as_it_was_written() {
        let written = serde_json::json!("90s");
        let duration: Duration = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(duration).unwrap(), written);
    }
}
