//! Compares how an example ended with what its annotations promise.

use std::fmt::Write;

use crate::support::Result;

use super::example::Example;
use super::{Stage, faults};

pub struct Verdict {
    title: String,
    expected: String,
    came: String,
    /// What differs; empty when all agrees.
    complaints: Vec<String>,
}

impl Verdict {
    pub fn agrees(&self) -> bool {
        self.complaints.is_empty()
    }
}

/// `alive`: what of it was still alive when it had ended.
pub fn judge(stage: &Stage, example: &Example, ended: Result<String>, alive: &[String]) -> Verdict {
    let mut complaints = Vec::new();
    if !alive.is_empty() {
        complaints.push(format!("still alive: {}", alive.join(", ")));
    }
    let came = match ended {
        Ok(came) => {
            if came != example.expected {
                complaints.push("another end".to_owned());
            }
            came
        }
        Err(failure) => {
            complaints.push(failure.to_string());
            stage.board.last(example)
        }
    };
    let starts = faults::starts(stage, example);
    if let Some(wanted) = example.starts
        && starts != wanted
    {
        complaints.push(format!("started {starts} times instead of {wanted}"));
    }
    let missed = example.passes.iter().filter(|state| !stage.board.has_shown(example, state));
    complaints.extend(missed.map(|state| format!("never showed {state}")));
    complaints.extend(stage.board.complaint(example));
    complaints.extend(output_complaint(&stage.board.lines(example), example));
    let (title, expected) = (example.title.clone(), example.expected.clone());
    Verdict { title, expected, came, complaints }
}

/// `long` counts: each number once and in order, over the restart of the operator.
fn output_complaint(lines: &[String], example: &Example) -> Option<String> {
    let wanted = example.last_line.as_ref()?;
    if lines.last() != Some(wanted) {
        return Some(format!("its last line is {:?} instead of {wanted:?}", lines.last()));
    }
    let ticks: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("tick ")).collect();
    let counted = (1..).zip(&ticks).all(|(n, tick)| **tick == n.to_string());
    (!counted).then(|| format!("its lines are out of order: {}", ticks.join(" ")))
}

pub fn table(verdicts: &[Verdict]) -> String {
    let mut text = format!("{:<24} {:<26} {:<26} verdict\n", "example", "expected", "came");
    for v in verdicts {
        let verdict = if v.agrees() { "ok".to_owned() } else { v.complaints.join("; ") };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<24} {:<26} {:<26} {verdict}", v.title, v.expected, v.came);
    }
    text
}
