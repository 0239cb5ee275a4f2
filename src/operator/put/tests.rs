//! Against a server that keeps one object as the API server does, and can be told to go wrong.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};

use super::*;
use crate::api::Phase;
use crate::operator::registry::Key;
use crate::operator::writer::Urgency;

/// What goes wrong with a PUT.
enum Mishap {
    Answers(u16, &'static str),
    /// For each PUT from here on whose body has this text.
    RefusesWords(&'static str),
    LosesAnswer,
    DropsStage,
}

struct Server {
    object: Mutex<Value>,
    mishaps: Mutex<VecDeque<Mishap>>,
    calls: Mutex<Vec<Method>>,
}

fn failure(code: u16, message: &str) -> Response {
    let reason = if code == 409 { "Conflict" } else { "Invalid" };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                        "message": message, "reason": reason, "code": code});
    (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response()
}

async fn serve(State(server): State<Arc<Server>>, method: Method, body: Bytes) -> Response {
    server.calls.lock().unwrap().push(method.clone());
    let mut object = server.object.lock().unwrap();
    if method == Method::GET {
        return object.to_string().into_response();
    }
    let mut sent: Value = serde_json::from_slice(&body).unwrap();
    let mut mishaps = server.mishaps.lock().unwrap();
    let refuses = |m: &Mishap| matches!(m, Mishap::RefusesWords(_));
    let mishap = if mishaps.front().is_some_and(refuses) { None } else { mishaps.pop_front() };
    match (mishaps.front(), &mishap) {
        (Some(Mishap::RefusesWords(words)), None) if sent.to_string().contains(words) => {
            return failure(422, "not these words");
        }
        (_, Some(Mishap::Answers(code, message))) => return failure(*code, message),
        _ => {}
    }
    if sent["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
        return failure(409, "the object has been modified");
    }
    if matches!(mishap, Some(Mishap::DropsStage)) {
        sent["status"].as_object_mut().unwrap().remove("stage");
    }
    let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    object["status"] = sent["status"].clone();
    if matches!(mishap, Some(Mishap::LosesAnswer)) {
        let lost = stream::once(async { Err::<Bytes, _>(std::io::Error::other("lost")) });
        return Body::from_stream(lost).into_response();
    }
    object.to_string().into_response()
}

impl Server {
    /// Keeps an object at version 5 with a stage of revision 3.
    async fn start(mishaps: impl Into<VecDeque<Mishap>>) -> (Arc<Self>, Client) {
        let object = serde_json::to_value(&*object("5", 3)).unwrap();
        let server = Arc::new(Self {
            object: Mutex::new(object),
            mishaps: Mutex::new(mishaps.into()),
            calls: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(serve).with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let mut config = kube::Config::new(uri.parse().unwrap());
        config.default_retry = false;
        (server, Client::try_from(config).unwrap())
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(ToString::to_string).collect()
    }

    fn stage(&self) -> Value {
        self.object.lock().unwrap()["status"]["stage"].clone()
    }
}

fn record(revision: i64) -> StageRecord {
    let stage = json!({"version": 1, "revision": revision, "run": 1, "attempt": 0});
    serde_json::from_value(stage).unwrap()
}

fn object(version: &str, revision: i64) -> Arc<RemoteCommand> {
    let object = json!({
        "apiVersion": "remotecommand.dev/v1alpha1", "kind": "RemoteCommand",
        "metadata": {"namespace": "ns", "name": "a", "uid": "a", "resourceVersion": version},
        "spec": {"hostRef": {"name": "db-1"}, "command": ["true"]},
        "status": {"stage": record(revision)},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// Goes on from the stage that the server keeps, with output.
fn request(base: Arc<RemoteCommand>) -> Request {
    let mut status = RemoteCommandStatus { stage: Some(record(4)), ..Default::default() };
    let mut output = crate::api::OutputStatus::default();
    output.stdout.tail = Some("some words".to_owned());
    status.output = Some(output);
    Request {
        key: Key { uid: "a".to_owned(), namespace: "ns".to_owned(), name: "a".to_owned() },
        base,
        before: Some(record(3)),
        status,
        urgency: Urgency::Stage,
    }
}

#[tokio::test]
async fn a_version_that_shows_the_stage_is_written_without_reading() {
    let (server, client) = Server::start([]).await;
    let answer = put(client, &request(object("5", 3)), None, false).await;
    let Answer::Written(known) = answer else { panic!("{answer:?}") };
    assert_eq!(known.resource_version, "6");
    assert_eq!(server.calls(), ["PUT"]);
}

#[tokio::test]
async fn after_a_conflict_over_something_else_it_is_read_and_written_again() {
    let (server, client) = Server::start([]).await;
    let answer = put(client, &request(object("4", 3)), None, false).await;
    assert!(matches!(answer, Answer::Written(_)), "{answer:?}");
    assert_eq!(server.calls(), ["PUT", "GET", "PUT"]);
}

#[tokio::test]
async fn another_stage_of_the_same_or_a_later_revision_is_somebody_elses() {
    let (server, client) = Server::start([]).await;
    *server.object.lock().unwrap() = serde_json::to_value(&*object("9", 4)).unwrap();
    server.object.lock().unwrap()["status"]["stage"]["run"] = json!(2);
    let answer = put(client, &request(object("5", 3)), None, false).await;
    assert!(matches!(answer, Answer::Overtaken(_)), "{answer:?}");
    assert_eq!(server.calls(), ["PUT", "GET"]);
}

#[tokio::test]
async fn what_we_wrote_last_is_no_base_for_a_stage_that_was_decided_from_another() {
    let (server, client) = Server::start([]).await;
    let status = RemoteCommandStatus { stage: Some(record(2)), ..Default::default() };
    let known = Known { resource_version: "5".to_owned(), status, displaced: Vec::new() };
    let answer = put(client, &request(object("1", 2)), Some(known), false).await;
    assert!(matches!(answer, Answer::Written(_)), "{answer:?}");
    assert_eq!(server.calls(), ["GET", "PUT"], "it is read before it is written");
}

#[tokio::test]
async fn an_answer_lost_after_storing_is_found_by_reading_and_nothing_is_written_twice() {
    let (server, client) = Server::start([Mishap::LosesAnswer]).await;
    let request = request(object("5", 3));
    let answer = put(client.clone(), &request, None, false).await;
    assert!(matches!(answer, Answer::Uncertain(Failure::Doubtful(_))), "{answer:?}");
    let answer = put(client, &request, None, true).await;
    let Answer::Written(known) = answer else { panic!("{answer:?}") };
    assert_eq!(known.resource_version, "6");
    assert_eq!(server.calls(), ["PUT", "GET"]);
}

#[tokio::test]
async fn a_busy_server_has_refused_nothing() {
    let (_server, client) = Server::start([Mishap::Answers(429, "too many requests")]).await;
    let answer = put(client, &request(object("5", 3)), None, false).await;
    assert!(matches!(answer, Answer::Uncertain(Failure::Busy)), "{answer:?}");
}

#[tokio::test]
async fn a_refusal_is_an_answer_once_the_newest_version_was_tried() {
    let (server, client) = Server::start([Mishap::RefusesWords("revision")]).await;
    let answer = put(client, &request(object("5", 3)), None, false).await;
    let Answer::Refused(why) = answer else { panic!("{answer:?}") };
    assert!(why.contains("not these words"), "{why}");
    assert_eq!(server.calls(), ["PUT", "GET", "PUT", "PUT", "PUT"], "whole, shorter, bare");
}

#[tokio::test]
async fn tails_are_done_without_where_the_status_is_refused_with_them() {
    let (server, client) = Server::start([Mishap::RefusesWords("some words")]).await;
    let answer = put(client, &request(object("5", 3)), None, false).await;
    let Answer::Written(known) = answer else { panic!("{answer:?}") };
    assert_eq!(known.status.output.unwrap().stdout.tail, None);
    assert_eq!(server.stage()["revision"], 4);
}

#[tokio::test]
async fn what_can_be_done_without_does_not_keep_the_outcome_from_being_stored() {
    let (server, client) = Server::start([Mishap::RefusesWords("leftRunning")]).await;
    let mut request = request(object("5", 3));
    request.status.left_running = Some(Vec::new());
    request.status.reason = Some("Completed".to_owned());
    let answer = put(client, &request, None, false).await;
    let Answer::Written(known) = answer else { panic!("{answer:?}") };
    assert_eq!((known.status.left_running, known.status.output), (None, None));
    assert_eq!(known.status.reason.as_deref(), Some("Completed"));
    assert_eq!(server.stage()["revision"], 4);
}

/// As a forged status is that a save came before: it is said although nobody was looking.
#[tokio::test]
async fn what_somebody_had_written_over_ours_is_told_when_a_save_replaces_it() {
    let (server, client) = Server::start([]).await;
    let stored = object("5", 3);
    let status = RemoteCommandStatus { phase: Phase::Running, ..stored.status.clone().unwrap() };
    server.object.lock().unwrap()["status"]["phase"] = json!("Succeeded");
    let known = Known { resource_version: "4".to_owned(), status, displaced: Vec::new() };
    let answer = put(client, &request(object("4", 3)), Some(known), false).await;
    let Answer::Written(known) = answer else { panic!("{answer:?}") };
    assert_eq!(known.displaced, ["phase"]);
}

/// Guards objects of former versions: their stage stays theirs until it changes.
#[tokio::test]
async fn a_stage_in_the_words_of_a_former_version_is_the_same_stage() {
    let (server, client) = Server::start([]).await;
    let mut request = request(object("5", 3));
    let stage = serde_json::to_value(record(3)).unwrap();
    let stage: crate::core::stage::Stage = serde_json::from_value(stage).unwrap();
    request.before = Some(crate::operator::stage::record(&stage).unwrap());
    let answer = put(client.clone(), &request, None, false).await;
    assert!(matches!(answer, Answer::Written(_)), "{answer:?}");
    assert_eq!(server.calls(), ["PUT"]);
}

#[tokio::test]
async fn what_does_not_get_through_to_an_object_that_can_be_read_is_told_apart() {
    let broken = || Mishap::Answers(500, "failed calling webhook");
    let (_server, client) = Server::start([broken(), broken()]).await;
    let request = request(object("5", 3));
    let answer = put(client.clone(), &request, None, false).await;
    assert!(matches!(answer, Answer::Uncertain(_)), "{answer:?}");
    let answer = put(client, &request, None, true).await;
    assert!(matches!(answer, Answer::Unstored(_)), "{answer:?}");
}

#[tokio::test]
async fn a_stage_that_was_dropped_is_no_success_and_nobody_elses_stage() {
    let drops = || Mishap::DropsStage;
    let (server, client) = Server::start([drops(), drops(), drops()]).await;
    let request = request(object("5", 3));
    for _ in 0..2 {
        let answer = put(client.clone(), &request, None, false).await;
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
        assert_eq!(server.stage(), Value::Null);
    }
    let answer = put(client, &request, None, false).await;
    assert!(matches!(answer, Answer::Written(_)), "{answer:?}");
    assert_eq!(server.stage()["revision"], 4, "it goes on from what we know, not from nothing");
}
