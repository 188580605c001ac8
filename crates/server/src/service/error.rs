//! Every error of every part, sorted once into the problem that users meet.

use std::{io, path::PathBuf};

use ptr_capture::{listener::ListenError, source::SourceError};
use ptr_log::{CatalogError, LogError, ResolveError};
use ptr_model::{ExpressionError, Position};
use ptr_postgres::{ClusterError, ConnectError, ProgramsError, ServerError, sqlstate::SqlState};
use ptr_replay::{
    BaseError, NavigateError, ReplayError, SessionError, cursor::CursorError, resync::ContentsError,
    snapshot::SnapshotError, stop::passes, verify::VerifyError,
};

use crate::{
    problem::{Code, Problem},
    resource::{decision::StopAnswer, position::PositionAnswer, status::FindingAnswer},
    serve::TlsFileError,
    service::decisions::commands,
};

/// Why an operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The request makes no sense by itself.
    #[error("{detail}")]
    Usage {
        /// What is wrong.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// What was named does not exist.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// The name or id.
        name: String,
        /// What to do.
        hint: String,
    },
    /// Something must hold first.
    #[error("{detail}")]
    Precondition {
        /// What does not hold.
        detail: String,
        /// What to do.
        hint: String,
    },
    /// A session is moved by one process at a time.
    #[error("another process is moving this session")]
    MovedElsewhere,
    /// The API's certificate.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// The checks before the start found what must be mended first.
    #[error("{}", list(.0))]
    NotReady(Vec<FindingAnswer>),
    /// A position that does not read as one.
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    /// A position that the log does not have.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A server that cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement of ours that a server refused, or a connection that broke.
    #[error("{}", describe(.0))]
    Server(#[from] tokio_postgres::Error),
    /// An embedded server.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// PostgreSQL's programs.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// Set-up or teardown of the primary.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Replay.
    #[error(transparent)]
    Navigate(#[from] NavigateError),
    /// Replay of a session that cannot go on.
    #[error("{detail}")]
    Stopped {
        /// What is wrong, and where.
        detail: String,
        /// Whether log and replica do not agree.
        mismatch: bool,
        /// The session.
        session: String,
        /// The same, field by field, with what can be done.
        answer: Box<StopAnswer>,
    },
    /// Capture that cannot go on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The base image on the output server.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// A comparison with the primary.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A snapshot of the primary.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A table taken from the primary.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// A session's database.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A file of ours.
    #[error("cannot {operation} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program that failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it printed last.
        output: String,
    },
    /// Something inside us.
    #[error("{detail}")]
    Broken {
        /// What.
        detail: String,
    },
}

/// Every finding with its fix, a line each.
fn list(findings: &[FindingAnswer]) -> String {
    let lines = findings.iter().map(|finding| {
        let FindingAnswer { title, meaning, fix, .. } = finding;
        format!("\n- {title}: {meaning}\n  {fix}")
    });
    format!("nothing was started, because this must be mended first:{}", lines.collect::<String>())
}

fn describe(error: &tokio_postgres::Error) -> String {
    ServerError::of(error).map_or_else(|| error.to_string(), |error| error.to_string())
}

impl ServiceError {
    pub(crate) fn usage(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { detail: detail.into(), hint: hint.into() }
    }

    pub(crate) fn precondition(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Precondition { detail: detail.into(), hint: hint.into() }
    }

    pub(crate) fn not_found(what: &'static str, name: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::NotFound { what, name: name.into(), hint: hint.into() }
    }

    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// Whether trying to move a session again later, with nothing changed by the user, may succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::MovedElsewhere => true,
            Self::Navigate(error) => error.is_transient(),
            Self::Session(error) => error.is_transient(),
            Self::Stopped { answer, .. } => answer.sqlstate.as_deref().is_some_and(passes),
            Self::Log(error) => error.is_transient(),
            Self::Catalog(error) => {
                matches!(error, CatalogError::Database { .. } | CatalogError::File { .. })
            }
            Self::File { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// As users meet it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let detail = self.to_string();
        match self {
            Self::Usage { hint, .. } => Problem::new(Code::Usage, detail).with_hint(hint),
            Self::NotFound { hint, .. } => Problem::new(Code::NotFound, detail).with_hint(hint),
            Self::Precondition { hint, .. } => Problem::new(Code::Precondition, detail).with_hint(hint),
            Self::MovedElsewhere => Problem::new(Code::Precondition, detail)
                .with_hint("wait until it is done; GET /api/moves shows it"),
            Self::Tls(error) => Problem::new(Code::Precondition, detail).with_hint(error.hint()),
            Self::NotReady(findings) => not_ready(findings, detail),
            Self::Expression(_) => Problem::new(Code::Usage, detail),
            Self::Resolve(error) => resolve_problem(error, detail),
            Self::Log(error) => log_problem(error, detail),
            Self::Catalog(error) => catalog_problem(error, detail),
            Self::Connect(error) => connect_problem(error, detail),
            Self::Server(error) => {
                with_state(server_problem(error, detail), error.code().map(|code| code.code()))
            }
            Self::Cluster(_) => Problem::new(Code::Unreachable, detail)
                .with_hint("the server's own log, named above or in embedded/, says more"),
            Self::Programs(_) => Problem::new(Code::Precondition, detail),
            Self::Source(error) => source_problem(error, detail),
            Self::Navigate(NavigateError::Replay(error)) => replay_problem(error, detail),
            Self::Stopped { mismatch, session, answer, .. } => {
                stop_problem(*mismatch, session, answer, detail)
            }
            Self::Navigate(NavigateError::Session(error)) | Self::Session(error) => {
                session_problem(error, detail)
            }
            Self::Navigate(NavigateError::NoWay(_)) => Problem::new(Code::Precondition, detail)
                .with_hint("postgres-test-replay keyframe list shows those there are; navigate makes the first one again"),
            Self::Listen(_) => Problem::new(Code::Precondition, detail)
                .with_hint("run postgres-test-replay doctor, which looks for what stands in the way"),
            Self::Base(error) => base_problem(error, detail),
            Self::Verify(VerifyError::Snapshot(SnapshotError::Connect(error)))
            | Self::Verify(VerifyError::Connect(error))
            | Self::Snapshot(SnapshotError::Connect(error)) => connect_problem(error, detail),
            Self::Verify(VerifyError::Database(error))
            | Self::Snapshot(SnapshotError::Database(error))
            | Self::Contents(ContentsError::Database(error)) => {
                with_state(server_problem(&error.source, detail), error.sqlstate())
            }
            Self::Contents(_) => Problem::new(Code::Failed, detail),
            Self::Snapshot(SnapshotError::Unreadable(_)) => Problem::new(Code::Failed, detail),
            Self::Verify(_) => Problem::new(Code::Failed, detail),
            Self::File { .. } => Problem::new(Code::Failed, detail)
                .with_hint("check that the folder is there, writable, and that its disk has space"),
            Self::Program { .. } => Problem::new(Code::Failed, detail),
            Self::Broken { .. } => {
                Problem::new(Code::Failed, detail).with_hint("this is an error of ours; please report it")
            }
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        error.problem()
    }
}

fn not_ready(findings: &[FindingAnswer], detail: String) -> Problem {
    let problem = Problem::new(Code::Precondition, detail)
        .with("findings", serde_json::to_value(findings).unwrap_or_default());
    // What needs consent is told by its own finding.
    let mended = findings.iter().filter(|finding| finding.fixable && finding.code != "leftover_slot");
    let fixable: Vec<&str> = mended.map(|finding| finding.code.as_str()).collect();
    if fixable.is_empty() {
        return problem;
    }
    problem.with_hint(format!("postgres-test-replay doctor --fix mends {}", fixable.join(", ")))
}

fn resolve_problem(error: &ResolveError, detail: String) -> Problem {
    match error {
        ResolveError::OutOfRange { first, last, nearest, .. } => {
            out_of_range(detail, *first, *last, *nearest)
        }
        ResolveError::UnknownCheckpoint { .. } => Problem::new(Code::NotFound, detail)
            .with_hint("other forms of a position are head, @-1, an LSN, entry:42, xid:812, 5m ago"),
        ResolveError::ForeignCheckpoint { .. } => Problem::new(Code::Precondition, detail)
            .with_hint("name a position of this log, or look at the history it was made in: log, show, diff and session create take --database"),
        ResolveError::UnknownXid { .. } => {
            Problem::new(Code::NotFound, detail).with_hint("log shows the transactions that there are")
        }
        ResolveError::Log(error) => log_problem(error, detail),
        _ => Problem::new(Code::Usage, detail),
    }
}

/// The answer to a position outside the log: what can be reached, and what is nearest.
pub(super) fn out_of_range(detail: String, first: Position, last: Position, nearest: Position) -> Problem {
    let position = |position: Position| serde_json::json!(PositionAnswer::from(position));
    Problem::new(Code::PositionOutOfRange, detail)
        .with_hint(format!(
            "navigate head, or to the nearest ({}), or to another position in that range",
            nearest.lsn
        ))
        .with("range", serde_json::json!({"first": position(first), "last": position(last)}))
        .with("nearest", position(nearest))
}

fn log_problem(error: &LogError, detail: String) -> Problem {
    match error {
        LogError::Damaged(_) => Problem::new(Code::Integrity, detail),
        LogError::Locked { .. } | LogError::Refused(_) => Problem::new(Code::Precondition, detail),
        _ => Problem::new(Code::Failed, detail),
    }
}

fn catalog_problem(error: &CatalogError, detail: String) -> Problem {
    match error {
        CatalogError::NotFound { .. } => Problem::new(Code::NotFound, detail),
        CatalogError::NameTaken { .. }
        | CatalogError::Fixed { .. }
        | CatalogError::TargetTaken { .. }
        | CatalogError::Active { .. } => Problem::new(Code::Precondition, detail),
        CatalogError::Name(_) | CatalogError::SessionName { .. } => Problem::new(Code::Usage, detail),
        _ => Problem::new(Code::Failed, detail),
    }
}

fn connect_problem(error: &ConnectError, detail: String) -> Problem {
    let state = error.server_error().map(|error| error.sqlstate.code().to_owned());
    with_state(Problem::new(Code::Unreachable, detail).with_hint(error.hint()), state.as_deref())
}

fn server_problem(error: &tokio_postgres::Error, detail: String) -> Problem {
    if error.is_closed() {
        return Problem::new(Code::Unreachable, detail)
            .with_hint(
                "the connection ended, or led nowhere any more; try again when the server can be reached: what was under \
                 way is done whole or not at all, and a session goes on from where it is",
            );
    }
    let problem = Problem::new(Code::Failed, detail);
    match ServerError::of(error) {
        // One transaction of the primary's is one here, and may lock more tables than this server has room for.
        Some(said) if said.sqlstate == SqlState::OUT_OF_MEMORY && said.message.contains("shared memory") => {
            problem
                .with_hint("set max_locks_per_transaction of that server higher, restart it, and ask again")
        }
        _ => problem,
    }
}

fn source_problem(error: &SourceError, detail: String) -> Problem {
    match error {
        SourceError::Connect(error) => connect_problem(error, detail),
        SourceError::NotReady(findings) => {
            let findings = serde_json::to_value(findings).unwrap_or_default();
            Problem::new(Code::Precondition, detail)
                .with_hint("run postgres-test-replay doctor for each finding with its fix")
                .with("findings", findings)
        }
        SourceError::NotOurs { .. } | SourceError::Locked { .. } | SourceError::Programs(_) => {
            Problem::new(Code::Precondition, detail)
        }
        SourceError::Broken { .. } => Problem::new(Code::Integrity, detail),
        _ => {
            let state = error.server_error().map(|error| error.sqlstate.code());
            with_state(Problem::new(Code::Failed, detail), state)
        }
    }
}

fn replay_problem(error: &ReplayError, detail: String) -> Problem {
    let problem = match error {
        ReplayError::Connect(error) => connect_problem(error, detail),
        ReplayError::Database(error) => server_problem(&error.source, detail),
        ReplayError::Log(error) => log_problem(error, detail),
        ReplayError::Mismatch(_) => Problem::new(Code::Integrity, detail),
        ReplayError::Stopped(stop) => {
            let problem = Problem::new(Code::Precondition, detail);
            problem.with("position", serde_json::json!(PositionAnswer::from(stop.position)))
        }
        ReplayError::Cancelled { at } => {
            let problem = Problem::new(Code::Precondition, detail);
            problem.with("position", serde_json::json!(PositionAnswer::from(*at)))
        }
        _ => Problem::new(Code::Failed, detail),
    };
    with_state(problem, error.sqlstate())
}

/// A mismatch is what was stored being other than what was written; else the log holds what cannot be replayed.
fn stop_problem(mismatch: bool, session: &str, answer: &StopAnswer, detail: String) -> Problem {
    let code = if mismatch { Code::Integrity } else { Code::Precondition };
    let problem = Problem::new(code, detail).with_hint(commands(answer)).with("session", session);
    let fields = serde_json::to_value(answer).unwrap_or_default();
    let fields = fields.as_object().cloned().unwrap_or_default();
    fields.into_iter().fold(problem, |problem, (name, value)| problem.with(&name, value))
}

fn session_problem(error: &SessionError, detail: String) -> Problem {
    match error {
        SessionError::Foreign { .. }
        | SessionError::Source { .. }
        | SessionError::InUse { .. }
        | SessionError::InTheWay { .. }
        | SessionError::NoSpare { .. }
        | SessionError::NoTemplate { .. } => Problem::new(Code::Precondition, detail),
        SessionError::Connect(error) => connect_problem(error, detail),
        SessionError::Cursor(CursorError::Damaged { .. }) => Problem::new(Code::Integrity, detail),
        SessionError::Cursor(CursorError::Database(error)) | SessionError::Database(error) => {
            with_state(server_problem(&error.source, detail), error.sqlstate())
        }
    }
}

fn base_problem(error: &BaseError, detail: String) -> Problem {
    match error {
        BaseError::Precondition { sqlstate, .. } => {
            with_state(Problem::new(Code::Precondition, detail), sqlstate.as_deref())
        }
        BaseError::Connect(error) => connect_problem(error, detail),
        BaseError::Database(error) => with_state(server_problem(&error.source, detail), error.sqlstate()),
        _ => Problem::new(Code::Failed, detail),
    }
}

fn with_state(problem: Problem, state: Option<&str>) -> Problem {
    match state {
        Some(state) => problem.with("sqlstate", state),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use ptr_model::Lsn;

    use super::*;

    fn position(ordinal: u64) -> Position {
        Position { ordinal, lsn: Lsn(ordinal << 8), entry_index: ordinal }
    }

    #[test]
    fn a_hint_says_what_to_do_and_not_again_what_is_wrong() {
        let error = ResolveError::OutOfRange {
            expression: "entry:99".into(),
            first: position(0),
            last: position(7),
            nearest: position(7),
            removed_at: None,
        };
        let problem = ServiceError::from(error).problem();
        assert!(problem.detail.contains("0/700"), "{}", problem.detail);
        assert_eq!(
            problem.hint.as_deref(),
            Some("navigate head, or to the nearest (0/700), or to another position in that range")
        );
        let taken = CatalogError::NameTaken { what: "checkpoint", name: "a".into() };
        assert_eq!(ServiceError::from(taken).problem().hint, None, "the message says it already");
    }

    #[test]
    fn a_checkpoint_of_another_log_is_a_precondition_that_does_not_hold() {
        let error = ResolveError::ForeignCheckpoint { name: "a".into(), position: position(1) };
        assert_eq!(ServiceError::from(error).problem().code, Code::Precondition);
    }
}
