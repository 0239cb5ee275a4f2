//! What a failed call to the API server means for the caller.
//!
//! The one place where [`kube::Error`] is taken apart, by exhaustive match, and the one
//! place that bounds a call: the client has no read timeout of its own. What to do about
//! a failure is decided where the call is made.

use std::future::Future;
use std::time::Duration;

use kube::core::Status;

use crate::core::foreign::foreign;

/// How long one call to the API server may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Why a call did not give what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no such object (404).
    #[error("no such object")]
    Missing,
    /// Another version is stored, or the UID differs (409). Also the answer to a write of ours
    /// that was done although its first answer was lost.
    #[error("another version is stored")]
    Conflict,
    /// The name is taken (409 AlreadyExists).
    #[error("it exists already")]
    Exists,
    /// Refused for what it is: repeating it unchanged will not help (400, 401, 403, 405, 413,
    /// 422, and 500 for an object that is too large for etcd).
    #[error("refused: {0}")]
    Refused(String),
    /// Not done; may be tried again after a while (429).
    #[error("the API server is busy")]
    Busy,
    /// Nobody knows whether it was done: no answer in time, a lost connection, a server error.
    #[error("no certain answer: {0}")]
    Doubtful(String),
}

/// Makes one call, bounded by [`CALL_LIMIT`].
///
/// # Errors
/// [`Failure`]; running out of time is [`Failure::Doubtful`].
pub async fn bounded<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map_err(|error| classify(&error)),
        Err(_) => Err(Failure::Doubtful(format!("no answer within {} s", CALL_LIMIT.as_secs()))),
    }
}

/// What an error of the client means.
fn classify(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => classify_status(status),
        // The request may have been sent and carried out in each of these.
        kube::Error::HyperError(_)
        | kube::Error::Service(_)
        | kube::Error::FromUtf8(_)
        | kube::Error::LinesCodecMaxLineLengthExceeded
        | kube::Error::ReadEvents(_)
        | kube::Error::HttpError(_)
        | kube::Error::SerdeError(_)
        | kube::Error::Auth(_) => Failure::Doubtful(foreign(&chain(error))),
        // Nothing was sent: the client itself is not able to.
        kube::Error::ProxyProtocolUnsupported { .. }
        | kube::Error::ProxyProtocolDisabled { .. }
        | kube::Error::BuildRequest(_)
        | kube::Error::InferConfig(_)
        | kube::Error::Discovery(_)
        | kube::Error::RustlsTls(_)
        | kube::Error::TlsRequired
        | kube::Error::InferKubeconfig(_) => Failure::Refused(foreign(&chain(error))),
    }
}

/// What an answer of the API server means, by its code (RFC 9110, 15) and reason.
fn classify_status(status: &Status) -> Failure {
    if status.is_already_exists() {
        return Failure::Exists;
    }
    match status.code {
        404 | 410 => Failure::Missing,
        409 => Failure::Conflict,
        429 => Failure::Busy,
        400..=499 => Failure::Refused(foreign(&status.message)),
        // What etcd's client says of an object that is larger than etcd takes (1.5 MiB unless
        // configured); nothing was stored.
        500 if is_too_large(&status.message) => Failure::Refused(foreign(&status.message)),
        // 504 and 500 may come after the write has been stored.
        _ => Failure::Doubtful(format!("{} {}", status.code, foreign(&status.message))),
    }
}

fn is_too_large(message: &str) -> bool {
    message.contains("request is too large") || message.contains("message larger than max")
}

/// The error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = foreign(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = foreign(&error.to_string());
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, reason: &str) -> Failure {
        let status = Status::failure("text", reason).with_code(code).boxed();
        classify(&kube::Error::Api(status))
    }

    #[test]
    fn a_server_error_says_nothing_about_the_write() {
        for code in [500, 502, 503, 504] {
            assert!(matches!(answer(code, "Timeout"), Failure::Doubtful(_)), "{code}");
        }
    }

    #[test]
    fn conflicts_and_taken_names_are_told_apart() {
        assert_eq!(answer(409, "Conflict"), Failure::Conflict);
        assert_eq!(answer(409, "AlreadyExists"), Failure::Exists);
    }

    /// The server quotes what it refuses, and a webhook says what it likes.
    #[test]
    fn what_the_server_says_is_bounded() {
        for code in [422, 500] {
            let words = "x\n".repeat(100_000);
            let status = Status::failure(&words, "Invalid").with_code(code).boxed();
            let said = classify(&kube::Error::Api(status)).to_string();
            assert!(said.len() < 2000 && !said.contains('\n'), "{code}: {} bytes", said.len());
        }
    }

    #[test]
    fn a_refusal_is_not_doubt() {
        for code in [400, 401, 403, 405, 413, 422] {
            assert!(matches!(answer(code, "Invalid"), Failure::Refused(_)), "{code}");
        }
        assert_eq!(answer(404, "NotFound"), Failure::Missing);
        assert_eq!(answer(429, "TooManyRequests"), Failure::Busy);
    }

    #[test]
    fn an_object_that_is_too_large_for_etcd_is_refused_although_it_comes_as_a_server_error() {
        for text in [
            "etcdserver: request is too large",
            "rpc error: code = ResourceExhausted desc = trying to send message larger than max \
             (2171009 vs. 2097152)",
        ] {
            let status = Status::failure(text, "InternalError").with_code(500).boxed();
            let failure = classify(&kube::Error::Api(status));
            assert!(matches!(failure, Failure::Refused(_)), "{failure:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_doubt_after_ten_seconds() {
        let begun = tokio::time::Instant::now();
        let answer = bounded(std::future::pending::<Result<(), kube::Error>>()).await;
        assert!(matches!(answer, Err(Failure::Doubtful(_))));
        assert_eq!(begun.elapsed(), CALL_LIMIT);
    }
}
