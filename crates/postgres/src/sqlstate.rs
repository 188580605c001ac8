//! SQLSTATE codes by the names this project uses.
//!
//! Errors are told apart by SQLSTATE and never by message text, which `lc_messages` translates and
//! major versions reword. Codes: PostgreSQL manual, appendix A.

pub use tokio_postgres::error::SqlState;

/// Whether the server refused the login itself: authentication (class 28), an unknown database,
/// or no right to connect to it.
pub fn refuses_login(state: &SqlState) -> bool {
    state.code().starts_with("28")
        || *state == SqlState::UNDEFINED_DATABASE
        || *state == SqlState::INSUFFICIENT_PRIVILEGE
}

/// Whether trying again later, with nothing changed by the user, may succeed: the server starts or
/// stops, has no free connection slot, or lost the connection.
pub fn is_transient(state: &SqlState) -> bool {
    state.code().starts_with("08")
        || [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
        ]
        .contains(state)
}
