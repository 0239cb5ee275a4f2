//! By a paused clock, and against a server that keeps one Lease as the API server does.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::*;

fn candidate(identity: &str) -> Leadership {
    candidate_in(std::path::Path::new("/nowhere"), identity)
}

fn candidate_in(directory: &std::path::Path, identity: &str) -> Leadership {
    candidate_at("http://127.0.0.1:1", directory, identity)
}

fn candidate_at(server: &str, directory: &std::path::Path, identity: &str) -> Leadership {
    let config = kube::Config::new(server.parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let terms = Terms {
        name: "lease".to_owned(),
        identity: identity.to_owned(),
        note: directory.join("term"),
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_secs(2),
    };
    Leadership::new(Api::namespaced(client, "default"), terms)
}

fn held_by(holder: &str) -> Lease {
    // The renew time lies in the future of this clock: it must not matter.
    let renewed = Timestamp::from_second(4_000_000_000).unwrap();
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        lease_transitions: Some(7),
        renew_time: Some(MicroTime(renewed)),
        ..LeaseSpec::default()
    };
    let metadata = ObjectMeta { uid: Some("u".to_owned()), ..ObjectMeta::default() };
    Lease { metadata, spec: Some(spec) }
}

#[tokio::test(start_paused = true)]
async fn a_lease_runs_out_by_the_local_clock_alone() {
    let mut candidate = candidate("b");
    assert_eq!(candidate.standing(&held_by("a")), Standing::Taken);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(candidate.standing(&held_by("a")), Standing::Taken);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(candidate.standing(&held_by("a")), Standing::Free);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_starts_the_wait_again() {
    let mut candidate = candidate("b");
    assert_eq!(candidate.standing(&held_by("a")), Standing::Taken);
    tokio::time::advance(Duration::from_secs(14)).await;
    let mut renewed = held_by("a");
    let later = MicroTime(Timestamp::from_second(4_000_000_002).unwrap());
    renewed.spec.as_mut().unwrap().renew_time = Some(later);
    assert_eq!(candidate.standing(&renewed), Standing::Taken);
    tokio::time::advance(Duration::from_secs(14)).await;
    assert_eq!(candidate.standing(&renewed), Standing::Taken);
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_and_a_term_of_our_former_life_are_free_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut former = candidate_in(directory.path(), "b");
    assert_eq!(former.standing(&held_by("")), Standing::Free);
    assert!(former.keep(Ok(held_by("b"))).unwrap());
    let mut restarted = candidate_in(directory.path(), "b");
    assert_eq!(restarted.standing(&held_by("b")), Standing::Free);
    let mut taken_over = held_by("b");
    taken_over.spec.as_mut().unwrap().lease_transitions = Some(8);
    assert_eq!(restarted.standing(&taken_over), Standing::Taken, "by a namesake, meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_lease_held_by_a_namesake_must_run_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut namesake = candidate_in(directory.path(), "b");
    assert_eq!(namesake.standing(&held_by("b")), Standing::Taken);
    tokio::time::advance(Duration::from_secs(15)).await;
    assert_eq!(namesake.standing(&held_by("b")), Standing::Free);
}

#[tokio::test(start_paused = true)]
async fn each_term_has_its_own_number() {
    let candidate = candidate("b");
    let first = candidate.term(None);
    let second = candidate.term(Some(&first));
    assert_eq!(first.lease_transitions, Some(1));
    assert_eq!(second.lease_transitions, Some(2));
}

/// Keeps one Lease as the API server does: a change of another version than the stored one is
/// refused.
async fn serve(State(kept): State<Arc<Mutex<Value>>>, method: Method, body: Bytes) -> Response {
    let mut lease = kept.lock().unwrap();
    if method == Method::PATCH {
        let patch: Value = serde_json::from_slice(&body).unwrap();
        if patch["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                                "message": "modified", "reason": "Conflict", "code": 409});
            return (StatusCode::CONFLICT, status.to_string()).into_response();
        }
        change(&mut lease, &patch["spec"]);
    }
    lease.to_string().into_response()
}

/// Makes a new version of the Lease, with these fields of its spec.
fn change(lease: &mut Value, fields: &Value) {
    let version: u64 = lease["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    lease["metadata"]["resourceVersion"] = json!((version + 1).to_string());
    for (name, value) in fields.as_object().unwrap() {
        lease["spec"][name] = value.clone();
    }
}

/// A holder of its Lease, and the Lease as it is kept.
async fn holder(directory: &std::path::Path) -> (Leadership, Arc<Mutex<Value>>) {
    let mut lease = held_by("");
    lease.metadata.resource_version = Some("5".to_owned());
    let kept = Arc::new(Mutex::new(serde_json::to_value(lease).unwrap()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().fallback(serve).with_state(Arc::clone(&kept));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let mut holder = candidate_at(&uri, directory, "b");
    assert!(holder.try_acquire().await.unwrap());
    assert_eq!(kept.lock().unwrap()["spec"]["holderIdentity"], "b");
    (holder, kept)
}

/// A holder that is asked to end drops the renewal under way, which may be stored all the same.
#[tokio::test]
async fn a_lease_is_released_although_a_renewal_was_under_way() {
    let directory = tempfile::tempdir().unwrap();
    let (mut holder, kept) = holder(directory.path()).await;
    change(&mut kept.lock().unwrap(), &json!({"renewTime": "2026-01-01T00:00:00.000000Z"}));
    holder.release().await;
    assert_eq!(kept.lock().unwrap()["spec"]["holderIdentity"], Value::Null);
}

#[tokio::test]
async fn a_lease_in_other_hands_is_not_released() {
    let directory = tempfile::tempdir().unwrap();
    let (mut holder, kept) = holder(directory.path()).await;
    change(&mut kept.lock().unwrap(), &json!({"holderIdentity": "c", "leaseTransitions": 9}));
    let theirs = kept.lock().unwrap().clone();
    holder.release().await;
    assert_eq!(*kept.lock().unwrap(), theirs);
}
