//! The operator's output log: one JSON object per record, one record per line.
//!
//! ```json
//! {"kind":"output","time":"2026-01-02T03:04:05.678901Z","namespace":"default","name":"hello",
//!  "uid":"...","run":1,"attempt":1,"host":"db-1","stream":"stdout","offset":0,"text":"hello"}
//! ```
//! `partial` marks a piece of a long line whose rest follows, `unterminated` a last line
//! without newline. `text` of a record that is not UTF-8 is lossy, and `base64` has its exact
//! bytes. Kind `outputGap` says that `bytes` from `offset` could not be had, kind
//! `outputOmitted` that they are left out because the attempt has used up its share of the log,
//! and kind `outputTruncated` that the host kept nothing from `offset`: the limit was reached.

use std::borrow::Cow;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::line::{End, Record};
use crate::host::Stream;

/// What is the same in every record of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub run: i32,
    pub attempt: i32,
    /// The RemoteHost's name, or the address of an inline host.
    pub host: String,
    /// True for the output of a Verifiable command's check.
    #[serde(skip_serializing_if = "is_false")]
    pub verify: bool,
}

#[derive(Serialize)]
struct Written<'a> {
    kind: &'static str,
    time: jiff::Timestamp,
    #[serde(flatten)]
    head: &'a Head,
    stream: &'static str,
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    partial: bool,
    #[serde(skip_serializing_if = "is_false")]
    unterminated: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Appends `record` to `out` as one line of JSON.
pub fn append(out: &mut Vec<u8>, head: &Head, stream: Stream, record: Record<'_>) {
    let (kind, offset, bytes) = match record {
        Record::Line(line) => ("output", line.offset, None),
        Record::Gap { offset, bytes } => ("outputGap", offset, Some(bytes)),
        Record::Omitted { offset, bytes } => ("outputOmitted", offset, Some(bytes)),
        Record::Truncated { offset } => ("outputTruncated", offset, None),
    };
    let line = if let Record::Line(line) = record { Some(line) } else { None };
    let text = line.map(|line| String::from_utf8_lossy(line.bytes));
    let lossy = matches!(text, Some(Cow::Owned(_)));
    let written = Written {
        kind,
        time: jiff::Timestamp::now(),
        head,
        stream: stream.name(),
        offset,
        base64: line.filter(|_| lossy).map(|line| STANDARD.encode(line.bytes)),
        text,
        bytes,
        partial: line.is_some_and(|line| line.end == End::Partial),
        unterminated: line.is_some_and(|line| line.end == End::Unterminated),
    };
    // Strings and integers always serialise, and a Vec takes everything.
    let _ = serde_json::to_writer(&mut *out, &written);
    let _ = out.write_all(b"\n");
}

#[cfg(test)]
mod tests {
    use super::{Head, append};
    use crate::host::Stream;
    use crate::output::line::{End, Line, Record};

    fn written(record: Record<'_>) -> serde_json::Value {
        let head = Head {
            namespace: "default".into(),
            name: "hello".into(),
            uid: "u".into(),
            run: 1,
            attempt: 2,
            host: "db-1".into(),
            verify: false,
        };
        let mut out = Vec::new();
        append(&mut out, &head, Stream::Stderr, record);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1, "one line per record");
        let mut value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(value.as_object_mut().unwrap().remove("time").is_some());
        value
    }

    #[test]
    fn a_line_says_whose_it_is_and_where_it_was() {
        let line = Line { offset: 7, bytes: b"a \"b\"", end: End::Newline };
        let expected = serde_json::json!({
            "kind": "output", "namespace": "default", "name": "hello", "uid": "u", "run": 1,
            "attempt": 2, "host": "db-1", "stream": "stderr", "offset": 7, "text": "a \"b\"",
        });
        assert_eq!(written(Record::Line(line)), expected);
    }

    #[test]
    fn bytes_that_are_no_text_can_be_had_back_exactly() {
        let line = Line { offset: 0, bytes: b"a\xff\n", end: End::Partial };
        let value = written(Record::Line(line));
        assert_eq!(value["text"], "a\u{fffd}\n");
        assert_eq!(value["base64"], "Yf8K");
        assert_eq!(value["partial"], true);
    }

    #[test]
    fn what_is_missing_is_told_in_records_of_their_own_kind() {
        let gap = written(Record::Gap { offset: 3, bytes: 9 });
        assert_eq!((&gap["kind"], &gap["bytes"]), (&"outputGap".into(), &9.into()));
        let omitted = written(Record::Omitted { offset: 3, bytes: 9 });
        assert_eq!((&omitted["kind"], &omitted["bytes"]), (&"outputOmitted".into(), &9.into()));
        assert_eq!(written(Record::Truncated { offset: 3 })["kind"], "outputTruncated");
    }
}
