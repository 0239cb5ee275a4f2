//! One stream of a command as the operator's log tells it: whether it came complete and in
//! order. After a crash of the operator records may come again, exactly as they were.

use std::collections::BTreeMap;

use serde_json::Value;

/// Run, attempt and offset of a record.
type At = (u64, u64, u64);

#[derive(Debug, Default)]
pub struct Stream {
    /// In the order in which they came.
    lines: Vec<String>,
    told: BTreeMap<At, String>,
    /// Where the next new record has to begin.
    next: At,
    complaint: Option<String>,
}

impl Stream {
    /// The lines in the order in which they came, over all attempts.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The first thing that was wrong.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Takes the next record of the log. True when it is new.
    pub fn take(&mut self, record: &Value) -> bool {
        let number = |key: &str| record.get(key).and_then(Value::as_u64).unwrap_or_default();
        let word = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default();
        let (run, attempt, offset) = (number("run"), number("attempt"), number("offset"));
        if word("kind") != "output" {
            self.complain(format!("{} at {offset}", word("kind")));
            return true;
        }
        let text = word("text");
        if let Some(before) = self.told.get(&(run, attempt, offset)) {
            if before != text {
                self.complain(format!("{text:?} came where {before:?} had been"));
            }
            return false;
        }
        let (last_run, last_attempt, _) = self.next;
        let begins = (run, attempt) > (last_run, last_attempt) && offset == 0;
        if !begins && (run, attempt, offset) != self.next {
            let (.., next) = self.next;
            self.complain(format!("{text:?} came at {offset} instead of {next}"));
        }
        let open = |key: &str| record.get(key).is_some();
        let newline = u64::from(!open("partial") && !open("unterminated"));
        self.next = (run, attempt, offset + text.len() as u64 + newline);
        self.told.insert((run, attempt, offset), text.to_owned());
        self.lines.push(text.to_owned());
        true
    }

    fn complain(&mut self, complaint: String) {
        self.complaint.get_or_insert(complaint);
    }
}
