//! Events: hints for people, never the record.
//!
//! They are published beside the work and their failures ignored: in a namespace that is
//! being deleted nothing can be created, and an Event is worth no retry. They never hold a
//! command's words or output.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::debug;

use super::fault::bounded;

/// The API's limit is 1 kB; this leaves room for characters of several bytes.
const NOTE_CHARACTERS: usize = 250;

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
        let recorder = Arc::clone(&self.recorder);
        tokio::spawn(async move {
            let event = Event {
                type_: if what.warning { EventType::Warning } else { EventType::Normal },
                reason: what.reason.chars().take(128).collect(),
                note: Some(what.note.chars().take(NOTE_CHARACTERS).collect()),
                action: what.action.to_owned(),
                secondary: None,
            };
            if let Err(failure) = bounded(recorder.publish(&event, &about)).await {
                debug!(%failure, reason = event.reason, "an event was not published");
            }
        });
    }
}
