//! The stage as it is kept in `.status.stage`.
//!
//! It is one text, with the few numbers beside it that the rules of the schema read. Those that
//! former versions wrote, field by field, are read as well.

use serde_json::Value;

use crate::api::{RemoteCommand, StageRecord};
use crate::core::outcome::Outcome;
use crate::core::plan::HoldKind;
use crate::core::stage::{Attempt, Place, Stage, WaitingOn};

/// The stored stage cannot be understood: a newer operator may have written it. Nothing may
/// be done with its object then.
#[derive(Debug, thiserror::Error)]
#[error("the stage in the object's status cannot be read")]
pub struct Unreadable(#[from] serde_json::Error);

/// The stage that an object shows; a fresh one if it shows none.
///
/// # Errors
/// [`Unreadable`].
pub fn read(object: &RemoteCommand) -> Result<Stage, Unreadable> {
    match shown(object) {
        Some(record) => Ok(parse(record)?),
        None => Ok(Stage::default()),
    }
}

fn parse(record: &StageRecord) -> Result<Stage, serde_json::Error> {
    let fields = match &record.record {
        Some(text) => serde_json::from_str::<Value>(text)?,
        None => serde_json::to_value(StageRecord { over: None, ..record.clone() })?,
    };
    let mut stage: Stage = serde_json::from_value(with_numbers(fields, record))?;
    // Whoever raised it has to be outbid.
    stage.revision = record.revision;
    Ok(stage)
}

/// The text with the numbers that are kept beside it.
fn with_numbers(mut fields: Value, record: &StageRecord) -> Value {
    if let (Value::Object(fields), Some(_)) = (&mut fields, &record.record) {
        fields.insert("version".to_owned(), record.version.into());
        fields.insert("revision".to_owned(), record.revision.into());
        fields.insert("run".to_owned(), record.run.unwrap_or_default().into());
        fields.insert("attempt".to_owned(), record.attempt.unwrap_or_default().into());
    }
    fields
}

/// The stage as it is stored.
///
/// # Errors
/// Never for a stage that `decide` made.
pub fn record(stage: &Stage) -> Result<StageRecord, serde_json::Error> {
    let mut value = serde_json::to_value(stage)?;
    strip_nulls(&mut value);
    if let Value::Object(fields) = &mut value {
        for beside in ["version", "revision", "run", "attempt"] {
            fields.remove(beside);
        }
    }
    Ok(StageRecord {
        version: i32::try_from(stage.version).unwrap_or(i32::MAX),
        revision: stage.revision,
        over: Some(is_over(stage)),
        run: Some(stage.run),
        attempt: Some(stage.attempt),
        record: Some(value.to_string()),
        ..StageRecord::default()
    })
}

/// Whether the run has ended in a way that is known, so that its outcome is final.
pub fn is_over(stage: &Stage) -> bool {
    stage.outcome.as_ref().is_some_and(|outcome| !Outcome::is_unknown(outcome))
}

/// Whether two records are of the same stage, whichever version wrote them.
pub fn is_same(one: Option<&StageRecord>, other: Option<&StageRecord>) -> bool {
    one == other
        || one.zip(other).is_some_and(|(one, other)| {
            let stages = parse(one).ok().zip(parse(other).ok());
            stages.is_some_and(|(one, other)| one == other)
        })
}

/// The stage as an object shows it.
pub fn shown(object: &RemoteCommand) -> Option<&StageRecord> {
    object.status.as_ref()?.stage.as_ref()
}

/// Whether an attempt of the object may be alive on a host.
pub fn is_live(object: &RemoteCommand) -> bool {
    read(object).is_ok_and(|stage| live(&stage).is_some())
}

/// The attempt that may be alive, of a run that has not ended.
pub fn live(stage: &Stage) -> Option<&Attempt> {
    let current = stage.current.as_ref()?;
    let ended = matches!(current.place, Place::Ended(_)) || stage.outcome.is_some();
    (!ended).then_some(current)
}

/// What kind of thing the next launch was last found to wait for.
pub fn hold(stage: &Stage) -> Option<HoldKind> {
    match stage.waiting.as_ref().map(|waiting| &waiting.on) {
        Some(WaitingOn::Hold(kind, _)) => Some(*kind),
        Some(WaitingOn::Fault(_) | WaitingOn::HostChanged) | None => None,
    }
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod sizes;
#[cfg(test)]
mod tests {
    use super::*;

    fn stored(stage: StageRecord) -> RemoteCommand {
        let mut object: RemoteCommand = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a"},
            "spec": {"hostRef": {"name": "db-1"}, "command": ["true"]}, "status": {},
        }))
        .unwrap();
        object.status.as_mut().unwrap().stage = Some(stage);
        object
    }

    #[test]
    fn a_stage_comes_back_as_it_was_stored() {
        let stage = Stage { revision: 3, run: 1, ..Stage::default() };
        let record = record(&stage).unwrap();
        assert_eq!((record.version, record.revision, record.over), (1, 3, Some(false)));
        let value = serde_json::to_value(&record).unwrap();
        let again: StageRecord = serde_json::from_value(value).unwrap();
        assert_eq!(read(&stored(again)).unwrap(), stage);
    }

    /// Guards objects that were there before the record became one text.
    #[test]
    fn a_stage_of_a_former_operator_is_read_field_by_field_and_is_the_same_one() {
        let stage = Stage { revision: 3, run: 1, entries: 2, ..Stage::default() };
        let former: StageRecord =
            serde_json::from_value(serde_json::to_value(&stage).unwrap()).unwrap();
        assert_eq!((former.over, &former.record), (None, &None));
        assert!(is_same(Some(&former), Some(&record(&stage).unwrap())));
        assert_eq!(read(&stored(former)).unwrap(), stage);
    }

    #[test]
    fn a_revision_that_somebody_raised_is_gone_on_from() {
        let stage = Stage { revision: 3, run: 1, ..Stage::default() };
        let raised = StageRecord { revision: 7, ..record(&stage).unwrap() };
        assert_eq!(read(&stored(raised)).unwrap(), Stage { revision: 7, ..stage });
    }

    #[test]
    fn only_an_end_that_is_known_is_over() {
        let ended = |ending| {
            let time = jiff::Timestamp::UNIX_EPOCH;
            let (message, evidence, exit_code, signal) = (String::new(), None, None, None);
            let outcome = Outcome { ending, message, time, evidence, exit_code, signal };
            let stage = Stage { outcome: Some(outcome), ..Stage::default() };
            record(&stage).unwrap().over
        };
        use crate::core::outcome::{Doubt, Ending, Failure, Success};
        assert_eq!(ended(Ending::Succeeded(Success::Completed)), Some(true));
        assert_eq!(ended(Ending::Failed(Failure::Cancelled)), Some(true));
        assert_eq!(ended(Ending::Unknown(Doubt::Unreachable)), Some(false));
    }

    #[test]
    fn a_stage_of_a_newer_operator_is_not_guessed_at() {
        let newer = serde_json::json!({"version": 2, "revision": 1, "run": 1, "attempt": 0});
        assert!(serde_json::from_value::<Stage>(newer).is_err());
    }
}
