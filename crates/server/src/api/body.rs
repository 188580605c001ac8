//! JSON bodies, whatever their content type: `curl -d` sends JSON as a form, and means JSON.

use std::time::Duration;

use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, Request},
    http::StatusCode,
};
use serde::de::DeserializeOwned;

use crate::problem::{Code, Problem};

/// The largest body that is read.
const LARGEST_BODY: usize = 1 << 20;

const ONE_OBJECT: &str = "send one JSON object, such as {\"name\": \"before migration\"}";

/// How long a client may take to send its body, all in all: an extension of the request where it is less than usual.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyTime(pub(crate) Duration);

impl Default for BodyTime {
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

/// A body read as JSON. No body at all reads as `{}`, so that requests without a required field need none.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let BodyTime(limit) = request.extensions().get().copied().unwrap_or_default();
        let reading = to_bytes(request.into_body(), LARGEST_BODY);
        let bytes = tokio::time::timeout(limit, reading)
            .await
            .map_err(|_| too_slow(limit))?
            .map_err(|_| too_large())?;
        read(&bytes).map(Self)
    }
}

fn read<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Problem> {
    let text = bytes.trim_ascii();
    let text = if text.is_empty() { b"{}".as_slice() } else { text };
    if text.starts_with(b"[") {
        // serde would take its elements for fields, in the order in which they happen to be declared.
        return Err(Problem::new(Code::Usage, "the body is an array, not an object").with_hint(ONE_OBJECT));
    }
    serde_json::from_slice(text).map_err(|error| malformed(&error))
}

fn malformed(error: &serde_json::Error) -> Problem {
    // serde_json says the position at the end of its message; it is also given as numbers.
    let text = error.to_string();
    let what = match error.classify() {
        serde_json::error::Category::Data => "the body does not fit",
        _ => "the body is not JSON",
    };
    let hint = if text.starts_with("unknown field") {
        "leave the field out, or write it as one of those named"
    } else if text.starts_with("missing field") {
        "add the field"
    } else {
        ONE_OBJECT
    };
    Problem::new(Code::Usage, format!("{what}: {text}"))
        .with_hint(hint)
        .with("line", error.line())
        .with("column", error.column())
}

fn too_large() -> Problem {
    Problem::new(Code::Usage, format!("the body is larger than {LARGEST_BODY} bytes or broke off"))
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
        .with_hint("send one JSON object of at most 1 MiB")
}

fn too_slow(limit: Duration) -> Problem {
    Problem::new(Code::Usage, format!("the body did not arrive within {} s", limit.as_secs()))
        .with_status(StatusCode::REQUEST_TIMEOUT)
        .with_hint("send the whole body at once")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{checkpoint::CreateCheckpoint, navigation::Step};

    fn problem(body: &'static str) -> Problem {
        read::<CreateCheckpoint>(&Bytes::from_static(body.as_bytes())).unwrap_err()
    }

    #[test]
    fn malformed_json_is_located() {
        let problem = problem("{\"name\": \"a\",\n  \"lsn\" 3}");
        assert_eq!(problem.status, 400);
        assert_eq!((problem.extra["line"].as_u64(), problem.extra["column"].as_u64()), (Some(2), Some(9)));
    }

    #[test]
    fn a_wrong_type_a_missing_and_an_unknown_field_are_named() {
        assert!(problem("{\"name\": 3}").detail.contains("expected a string"));
        let all = "[\"a\", \"\", null, null, null, false, null, null]";
        assert!(problem(all).detail.contains("an array, not an object"));
        assert!(problem("{}").detail.contains("missing field `name`"));
        let unknown = problem("{\"name\": \"a\", \"lns\": \"0/1\"}").detail;
        assert!(unknown.contains("unknown field `lns`") && unknown.contains("`lsn`"), "{unknown}");
    }

    #[test]
    fn no_body_is_an_empty_object() {
        assert_eq!(read::<Step>(&Bytes::new()).unwrap(), Step::default());
    }
}
