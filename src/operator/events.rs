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
use crate::core::foreign::line;

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
            note: Some(bounded_note(&line(&what.note)).to_owned()),
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn a_note_is_as_long_as_the_api_takes_and_ends_with_a_whole_character() {
        assert_eq!(bounded_note("short"), "short");
        assert_eq!(bounded_note(&"x".repeat(2000)).len(), 1024);
        let odd = format!("x{}", "ä".repeat(1000));
        assert_eq!(bounded_note(&odd).len(), 1023);
    }

    /// A server that gives these answers to the Events it is sent, one after the other.
    async fn server(answers: &'static [u16]) -> (Announcer, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let answer = move |body: String| async move {
            let number = count.fetch_add(1, Ordering::SeqCst);
            let code = answers.get(number).copied().unwrap_or(201);
            let failure = format!(
                r#"{{"kind": "Status", "apiVersion": "v1", "metadata": {{}}, "status": "Failure",
                     "message": "no", "reason": "No", "code": {code}}}"#
            );
            let body = if code < 300 { body } else { failure };
            (StatusCode::from_u16(code).unwrap(), body)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(
            async move { axum::serve(listener, axum::Router::new().fallback(answer)).await },
        );
        let mut config = kube::Config::new(uri.parse().unwrap());
        config.default_retry = false;
        (Announcer::new(Client::try_from(config).unwrap(), "tests"), asked)
    }

    async fn told(answers: &'static [u16]) -> usize {
        let (announcer, asked) = server(answers).await;
        let about = ObjectReference {
            namespace: Some("ns".to_owned()),
            name: Some("a".to_owned()),
            uid: Some("a".to_owned()),
            ..ObjectReference::default()
        };
        let (reason, note) = ("Abandoned".to_owned(), "what stays".to_owned());
        let what = Announcement { warning: true, reason, action: "CleaningUp", note };
        announcer.tell_surely(about, what).await;
        asked.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn what_nothing_else_will_tell_is_told_again_until_it_is_heard() {
        assert_eq!(told(&[500, 429, 201]).await, 3);
    }

    #[tokio::test]
    async fn in_a_namespace_that_is_being_deleted_nothing_is_told_twice() {
        assert_eq!(told(&[403]).await, 1);
    }
}
