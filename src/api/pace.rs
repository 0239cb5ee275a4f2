//! Bounds of durations that would hurt others if they could be anything: how long a host is
//! connected to, and how often it is asked.
//!
//! The API server refuses what is out of bounds in what is new or changed. What was stored before
//! there were bounds can still be changed otherwise and deleted; it is carried out with the bound
//! in its place. `remote-command run` refuses it: a file is written for it now.

use std::time;

use kube::core::{Message, Rule};

use super::command::RemoteCommandSpec;
use super::duration::{Duration, PATTERN};
use super::host::RemoteHostSpec;
use super::invalid::{InvalidSpec, duration};
use crate::core::connection::LONGEST_STAGE;

/// What a duration may be, and the words for it.
pub(super) struct Bounds {
    least: time::Duration,
    most: time::Duration,
    /// CEL: true for a duration `self` within them.
    rule: &'static str,
    sentence: &'static str,
}

/// Of connecting, handshake and authentication.
const STAGE: Bounds = Bounds {
    least: time::Duration::ZERO,
    most: LONGEST_STAGE,
    rule: "duration(self) <= duration('5m')",
    sentence: "connect, handshake and authenticate are at most 5m each",
};

/// Between two questions whether a connection is alive.
const KEEP_ALIVE: Bounds = Bounds {
    least: time::Duration::from_secs(1),
    most: time::Duration::from_secs(600),
    rule: "duration(self) >= duration('1s') && duration(self) <= duration('10m')",
    sentence: "keepAlive.interval is at least 1s and at most 10m",
};

/// Between two tries.
const PAUSE: Bounds = Bounds {
    least: time::Duration::from_millis(100),
    most: super::duration::MAX,
    rule: "duration(self) >= duration('100ms')",
    sentence: "initial and max of retry.backoff are at least 100ms",
};

pub fn stage() -> Rule {
    STAGE.rule()
}

pub fn keep_alive() -> Rule {
    KEEP_ALIVE.rule()
}

pub fn pause() -> Rule {
    PAUSE.rule()
}

impl Bounds {
    /// What is no duration at all has a sentence of its own.
    fn rule(&self) -> Rule {
        let rule = format!(
            "(oldSelf.hasValue() && oldSelf.value() == self) || !self.matches('{PATTERN}') \
             || ({})",
            self.rule
        );
        let message = Message::Message(self.sentence.to_owned());
        Rule::new(rule).message(message).optional_old_self(true)
    }

    fn clamped(
        &self,
        field: &'static str,
        written: &Duration,
    ) -> Result<time::Duration, InvalidSpec> {
        Ok(duration(field, written)?.clamp(self.least, self.most))
    }

    fn holds(&self, field: &'static str, written: &Duration) -> Result<(), InvalidSpec> {
        let long = duration(field, written)?;
        if (self.least..=self.most).contains(&long) {
            return Ok(());
        }
        let found = written.as_str().to_owned();
        Err(InvalidSpec::OutOfBounds { field, found, sentence: self.sentence })
    }
}

/// How long a stage of making a connection may last: the bound for what is stored beyond it.
pub(super) fn stage_limit(
    field: &'static str,
    written: &Duration,
) -> Result<time::Duration, InvalidSpec> {
    STAGE.clamped(field, written)
}

/// The pause between two questions: the nearest bound for what is stored beyond one.
pub(super) fn keep_alive_interval(written: &Duration) -> Result<time::Duration, InvalidSpec> {
    KEEP_ALIVE.clamped("spec.keepAlive.interval", written)
}

/// The pause between two tries: the least for what is stored below it.
pub(super) fn backoff(
    field: &'static str,
    written: &Duration,
) -> Result<time::Duration, InvalidSpec> {
    PAUSE.clamped(field, written)
}

/// Whether the API server would let this command in, as far as its durations go.
///
/// # Errors
/// The first that is out of bounds, with the sentence that the API server says.
pub fn check(spec: &RemoteCommandSpec) -> Result<(), InvalidSpec> {
    let timeouts = &spec.timeouts;
    let stages = [
        ("spec.timeouts.connect", &timeouts.connect),
        ("spec.timeouts.handshake", &timeouts.handshake),
        ("spec.timeouts.authenticate", &timeouts.authenticate),
    ];
    for (field, written) in stages {
        written.iter().try_for_each(|written| STAGE.holds(field, written))?;
    }
    let backoff = &spec.retry.backoff;
    PAUSE.holds("spec.retry.backoff.initial", &backoff.initial)?;
    PAUSE.holds("spec.retry.backoff.max", &backoff.max)?;
    spec.host.as_ref().map_or(Ok(()), check_host)
}

/// The same for a host.
///
/// # Errors
/// As for [`check`].
pub fn check_host(spec: &RemoteHostSpec) -> Result<(), InvalidSpec> {
    let timeouts = &spec.timeouts;
    STAGE.holds("spec.timeouts.connect", &timeouts.connect)?;
    STAGE.holds("spec.timeouts.handshake", &timeouts.handshake)?;
    STAGE.holds("spec.timeouts.authenticate", &timeouts.authenticate)?;
    KEEP_ALIVE.holds("spec.keepAlive.interval", &spec.keep_alive.interval)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn host(fields: &Value) -> RemoteHostSpec {
        let mut spec = json!({
            "address": "a", "user": "u", "hostKeys": {"knownHosts": "x"},
            "credentials": {"secretRef": {"name": "s"}},
        });
        for (name, value) in fields.as_object().unwrap() {
            spec[name] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_with_the_sentence_of_the_api_server() {
        for (fields, within) in [
            (json!({}), true),
            (json!({"timeouts": {"connect": "5m", "handshake": "300s"}}), true),
            (json!({"timeouts": {"connect": "5m1ms"}}), false),
            (json!({"timeouts": {"handshake": "8760h"}}), false),
            (json!({"timeouts": {"authenticate": "6m"}}), false),
            (json!({"keepAlive": {"interval": "1s"}}), true),
            (json!({"keepAlive": {"interval": "999ms"}}), false),
            (json!({"keepAlive": {"interval": "11m"}}), false),
        ] {
            assert_eq!(check_host(&host(&fields)).is_ok(), within, "{fields}");
        }
        let refused = check_host(&host(&json!({"timeouts": {"connect": "1h"}}))).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "spec.timeouts.connect is \"1h\": connect, handshake and authenticate are at most 5m \
             each"
        );
    }

    #[test]
    fn what_was_stored_out_of_bounds_is_carried_out_with_the_bound() {
        let long = stage_limit("spec.timeouts.connect", &Duration::new("8760h"));
        assert_eq!(long.unwrap(), LONGEST_STAGE);
        let short = keep_alive_interval(&Duration::new("1ms"));
        assert_eq!(short.unwrap(), time::Duration::from_secs(1));
        let soon = backoff("spec.retry.backoff.initial", &Duration::new("1ms"));
        assert_eq!(soon.unwrap(), time::Duration::from_millis(100));
        assert!(backoff("spec.retry.backoff.initial", &Duration::new("soon")).is_err());
    }
}
