//! Backups by `pg_dump`, each with a file beside it that says what it is and what it held.
//!
//! [`create`]: snapshot -> which position of the log it shows (`ptr_replay::snapshot`) -> digest of every table
//! ([`contents`]) -> `pg_dump` of the same snapshot -> metadata ([`store`]). [`restore`]: into a new database that
//! takes the old one's place only when it is whole. [`verify`]: into a scratch database whose contents are
//! compared with the digests. Both are made under a lock of their own ([`scratch`]).
//!
//! Invariants: a backup that is listed as complete is whole on disk; a restore that fails leaves the old database
//! as it was.

mod contents;
mod create;
mod program;
mod restore;
mod scratch;
mod store;
mod verify;

pub(crate) use create::server_version;
pub(crate) use program::run as run_program;
pub(crate) use scratch::{is_scratch, take_over as take_over_scratch};
pub(crate) use store::Backups;
