//! Events: hints for people, never the record.
//!
//! They are published beside the work and their failures ignored, but for what was left behind
//! by an object that goes: there is nothing else to tell of that. They never hold a command's
//! words or output.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::fault::{Failure, bounded};

/// The API's limit.
const NOTE_BYTES: usize = 1024;
/// How often an Event that matters is tried, and the first pause; the others double.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Publishes Events about objects.
#[derive(Clone)]
pub struct Announcer {
    recorder: Arc<Recorder>,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// True for a Warning.
    pub warning: bool,
    /// One CamelCase word, at most 128 characters.
    pub reason: String,
    /// What the operator was doing, one CamelCase word.
    pub action: &'static str,
    pub note: String,
}

impl Announcer {
    /// Publishes as `identity`.
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter {
            controller: "remotecommand.dev/operator".to_owned(),
            instance: Some(identity.chars().take(128).collect()),
        };
        Self { recorder: Arc::new(Recorder::new(client, reporter)) }
    }

    /// Publishes without making the caller wait.
    pub fn tell(&self, about: ObjectReference, what: Announcement) {
        let announcer = self.clone();
        tokio::spawn(async move {
            if let Err(failure) = announcer.publish(&about, &what).await {
                debug!(%failure, reason = what.reason, "an event was not published");
            }
        });
    }

    /// Publishes what nothing else will tell once its object is gone: tries a few times, until
    /// it is published or it is certain that it cannot be.
    pub async fn tell_surely(&self, about: ObjectReference, what: Announcement) {
        let mut pause = FIRST_PAUSE;
        for _ in 0..TRIES {
            let failure = match self.publish(&about, &what).await {
                // Its name was made for it: a namesake is the same one, stored before.
                Ok(()) | Err(Failure::Exists) => return,
                // As in a namespace that is being deleted, where nothing can be created.
                Err(failure @ (Failure::Refused(_) | Failure::Missing)) => {
                    return warn!(%failure, reason = what.reason, "an event cannot be published");
                }
                Err(failure @ (Failure::Conflict | Failure::Busy | Failure::Doubtful(_))) => {
                    failure
                }
            };
            warn!(%failure, reason = what.reason, "an event was not published yet");
            sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
    }

    async fn publish(&self, about: &ObjectReference, what: &Announcement) -> Result<(), Failure> {
        let event = Event {
            type_: if what.warning { EventType::Warning } else { EventType::Normal },
            reason: what.reason.chars().take(128).collect(),
            note: Some(bounded_note(&what.note).to_owned()),
            action: what.action.to_owned(),
            secondary: None,
        };
        bounded(self.recorder.publish(&event, about)).await
    }
}

/// As much of a note as the API takes, in whole characters.
fn bounded_note(note: &str) -> &str {
    let end = (0..=NOTE_BYTES.min(note.len())).rev().find(|at| note.is_char_boundary(*at));
    end.and_then(|end| note.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_as_long_as_the_api_takes_and_ends_with_a_whole_character() {
        assert_eq!(bounded_note("short"), "short");
        assert_eq!(bounded_note(&"x".repeat(2000)).len(), 1024);
        let odd = format!("x{}", "ä".repeat(1000));
        assert_eq!(bounded_note(&odd).len(), 1023);
    }
}
