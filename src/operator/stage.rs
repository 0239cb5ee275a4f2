//! The stage as it is kept in `.status.stage`.

use serde_json::Value;

use crate::api::{RemoteCommand, StageRecord};
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
        Some(record) => Ok(serde_json::from_value(serde_json::to_value(record)?)?),
        None => Ok(Stage::default()),
    }
}

/// The stage as it is stored, without nulls.
///
/// # Errors
/// Never for a stage that `decide` made.
pub fn record(stage: &Stage) -> Result<StageRecord, serde_json::Error> {
    let mut value = serde_json::to_value(stage)?;
    strip_nulls(&mut value);
    serde_json::from_value(value)
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
mod tests {
    use super::*;

    #[test]
    fn a_stage_comes_back_as_it_was_stored() {
        let stage = Stage { revision: 3, run: 1, ..Stage::default() };
        let record = record(&stage).unwrap();
        assert_eq!((record.version, record.revision), (1, 3));
        let value = serde_json::to_value(&record).unwrap();
        assert_eq!(serde_json::from_value::<Stage>(value).unwrap(), stage);
    }

    #[test]
    fn a_stage_of_a_newer_operator_is_not_guessed_at() {
        let newer = serde_json::json!({"version": 2, "revision": 1, "run": 1, "attempt": 0});
        assert!(serde_json::from_value::<Stage>(newer).is_err());
    }
}
