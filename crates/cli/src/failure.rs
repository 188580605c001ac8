//! Why a command did not do what it was asked: sorted once, here, into a kind, words, and an exit code.
//!
//! Problem details of the API, errors of the library and of the system all become a [`Failure`]; only `main`
//! prints it.

use std::{fmt::Display, io, process::ExitCode};

use ptr_server::{Code, Problem};
use serde_json::json;

use crate::output::{tell, tell_json};

/// The kinds of failure that scripts tell apart, by exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It was tried and did not work: 1.
    Failed,
    /// What was typed means nothing: 2.
    Usage,
    /// What was named does not exist, or lies outside the log: 3.
    NotFound,
    /// Something else has to hold or to be done first: 4.
    Precondition,
    /// A server did not answer, or refused the login: 5.
    Unreachable,
    /// What was found is not what was left: 6.
    Integrity,
    /// Ctrl-C: 130.
    Interrupted,
    /// Whoever read our output has enough, as in `log | head`: 0.
    ReaderGone,
}

impl Kind {
    fn exit_code(self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Precondition => 4,
            Self::Unreachable => 5,
            Self::Integrity => 6,
            Self::Interrupted => 130,
        }
    }

    /// The kind that another process of this program ended with.
    pub fn of_exit_code(code: i32) -> Self {
        let all = [
            Self::Usage,
            Self::NotFound,
            Self::Precondition,
            Self::Unreachable,
            Self::Integrity,
            Self::Interrupted,
        ];
        all.into_iter().find(|kind| i32::from(kind.exit_code()) == code).unwrap_or(Self::Failed)
    }

    fn of_problem(code: Code) -> Self {
        match code {
            Code::Usage => Self::Usage,
            Code::NotFound | Code::PositionOutOfRange => Self::NotFound,
            Code::Precondition => Self::Precondition,
            Code::Unreachable | Code::Unauthorized | Code::Forbidden => Self::Unreachable,
            Code::Integrity => Self::Integrity,
            Code::Failed => Self::Failed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ReaderGone => "reader_gone",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not_found",
            Self::Precondition => "precondition",
            Self::Unreachable => "unreachable",
            Self::Integrity => "integrity",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What is wrong, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    what: String,
    hint: Option<String>,
    /// The API's problem details, as they came.
    problem: Option<Box<Problem>>,
}

impl Failure {
    /// Of a kind, in a sentence that says what and where.
    pub fn new(kind: Kind, what: impl Display) -> Self {
        Self { kind, what: what.to_string(), hint: None, problem: None }
    }

    /// Whether what was named is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// Of what somebody ended by Ctrl-C: what it says, with the exit code for that and what can be done then, unless it
    /// says that itself.
    #[must_use]
    pub fn interrupted(self, hint: &str) -> Self {
        if self.kind != Kind::Precondition {
            return self;
        }
        let hint = self.hint.or_else(|| Some(hint.to_owned()));
        Self { kind: Kind::Interrupted, hint, problem: None, ..self }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// From an answer of the API that is no success.
    pub fn from_answer(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => problem.into(),
            Err(_) => {
                let kind = if status >= 502 { Kind::Unreachable } else { Kind::Failed };
                let text = String::from_utf8_lossy(body);
                Self::new(kind, format!("the API answered {status}: {}", text.trim()))
            }
        }
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.exit_code())
    }

    /// Tells it on stderr: as prose, or as one JSON line.
    pub fn report(&self, as_json: bool) {
        if self.kind == Kind::ReaderGone {
            return;
        }
        if as_json {
            let own = || json!({"code": self.kind.name(), "detail": self.what, "hint": self.hint});
            let problem = self.problem.as_ref().map_or_else(own, |problem| json!(problem));
            return tell_json(&problem.to_string());
        }
        tell(&format!("error: {}", self.what));
        if let Some(hint) = &self.hint {
            tell(&format!("  fix: {hint}"));
        }
    }
}

/// What the API, or the service itself, says is wrong.
impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            kind: Kind::of_problem(problem.code),
            what: problem.detail.clone(),
            hint: problem.hint.clone(),
            problem: Some(Box::new(problem)),
        }
    }
}

/// Writing the result failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::ReaderGone, error),
            _ => Self::new(Kind::Failed, format!("cannot write the result: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_api_ends_with_its_own_exit_code() {
        for code in Code::ALL {
            let problem = Problem::new(code, "d").with_hint("h");
            let body = serde_json::to_vec(&problem).unwrap();
            let failure = Failure::from_answer(code.status().as_u16(), &body);
            assert_eq!(failure.kind.exit_code(), code.exit_code());
            assert_eq!((failure.what.as_str(), failure.hint.as_deref()), ("d", Some("h")));
        }
    }

    #[test]
    fn an_answer_that_is_no_problem_document_is_shown_as_it_came() {
        let failure = Failure::from_answer(502, b"bad gateway\n");
        assert_eq!(
            (failure.kind, failure.what.as_str()),
            (Kind::Unreachable, "the API answered 502: bad gateway")
        );
    }
}
