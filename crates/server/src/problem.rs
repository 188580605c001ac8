//! Errors as users meet them: RFC 9457 problem details, with the code that the exit status also comes from.
//!
//! Every error of every part becomes a [`Problem`] exactly once, at the edge ([`crate::service::ServiceError`]).

use std::collections::BTreeMap;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// What kind of error it is. One code, one HTTP status, one exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request or command is not well formed.
    Usage,
    /// A token is needed.
    Unauthorized,
    /// The request comes from where none is accepted.
    Forbidden,
    /// What was named does not exist.
    NotFound,
    /// The position is not in the log.
    PositionOutOfRange,
    /// Something that must hold first does not.
    Precondition,
    /// A server does not answer or refuses the login.
    Unreachable,
    /// What is stored is not what was written.
    Integrity,
    /// Anything else.
    Failed,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Usage,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::PositionOutOfRange,
        Self::Precondition,
        Self::Unreachable,
        Self::Integrity,
        Self::Failed,
    ];

    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::PositionOutOfRange => "position_out_of_range",
            Self::Precondition => "precondition",
            Self::Unreachable => "unreachable",
            Self::Integrity => "integrity",
            Self::Failed => "failed",
        }
    }

    /// Its HTTP status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Usage => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::PositionOutOfRange => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Precondition => StatusCode::CONFLICT,
            Self::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Integrity | Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Its exit status on the command line.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound | Self::PositionOutOfRange => 3,
            Self::Precondition => 4,
            Self::Unreachable | Self::Unauthorized | Self::Forbidden => 5,
            Self::Integrity => 6,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Usage => "The request is not well formed",
            Self::Unauthorized => "A token is needed",
            Self::Forbidden => "The request is not accepted from there",
            Self::NotFound => "Not found",
            Self::PositionOutOfRange => "The position is not in the log",
            Self::Precondition => "Something must hold first",
            Self::Unreachable => "A server cannot be reached",
            Self::Integrity => "Stored data is damaged",
            Self::Failed => "It failed",
        }
    }
}

/// An error as it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem for ever; relative, because there is nothing to fetch.
    pub r#type: Box<str>,
    /// The kind of problem, for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The kind of problem, for programs.
    pub code: Code,
    /// What is wrong, and where.
    pub detail: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What only this kind of problem has: `range` of a position, `sqlstate` of a server's error.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Problem {
    /// A problem of that kind.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:postgres-test-replay:problem:{}", code.name()).into(),
            title: code.title().to_owned(),
            status: code.status().as_u16(),
            code,
            detail: detail.into(),
            hint: None,
            extra: BTreeMap::new(),
        }
    }

    /// The same with another HTTP status of the same kind, such as 405 or 413.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status.as_u16();
        self
    }

    /// The same with what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The exit status on the command line.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.code.exit_code()
    }
}

/// The media type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if self.code == Code::Unauthorized {
            let bearer = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_statuses_and_exits_are_as_documented() {
        let table: Vec<_> = Code::ALL.map(|c| (c.name(), c.status().as_u16(), c.exit_code())).to_vec();
        assert_eq!(
            table,
            [
                ("usage", 400, 2),
                ("unauthorized", 401, 5),
                ("forbidden", 403, 5),
                ("not_found", 404, 3),
                ("position_out_of_range", 422, 3),
                ("precondition", 409, 4),
                ("unreachable", 503, 5),
                ("integrity", 500, 6),
                ("failed", 500, 1),
            ]
        );
    }

    #[test]
    fn extra_fields_stand_beside_the_standard_ones() {
        let problem = Problem::new(Code::PositionOutOfRange, "d").with_hint("h").with("range", Value::Null);
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["code"], "position_out_of_range");
        assert_eq!(json["status"], 422);
        assert!(json.as_object().unwrap().contains_key("range"));
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
    }
}
