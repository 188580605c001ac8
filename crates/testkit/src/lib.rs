//! Development only: a PostgreSQL server, databases and a folder for each test, and oracles.
//!
//! [`TestServer`] is private to its test: own port, own folder, gone with the test even when that is
//! killed. [`DatabaseState`] says whether two databases are equal, by `pg_dump` and SQL alone.
//! [`wait_until`] waits for conditions, so that no test sleeps. [`Proxy`] cuts the way to a server at a chosen message,
//! [`Pooler`] puts a PgBouncer in it,
//! [`Certificates`] makes those of a TLS server, [`Chance`] is chance that can be repeated, [`fuzz()`] mutates a kept corpus with it,
//! [`HandwrittenLog`] is a log without a server, [`DiskFaults`] a disk under SQLite that fails.
//!
//! What fails here fails the test: functions panic with what is wrong and what to do next.

mod certificates;
mod chance;
mod disk_faults;
mod fuzz;
mod handwritten;
mod oracle;
mod pooler;
mod program;
mod proxy;
mod server;
mod versions;
mod wait;

pub use certificates::Certificates;
pub use chance::Chance;
pub use disk_faults::{DiskFault, DiskFaults, EIO, ENOSPC, FileOperation};
pub use fuzz::{corpus, fuzz};
pub use handwritten::{HandwrittenLog, HandwrittenTable};
pub use oracle::{DatabaseState, OUR_SCHEMA, SequenceState, TableState, assert_equal_states};
pub use pooler::Pooler;
pub use proxy::Proxy;
pub use server::{TestServer, TestServerOptions};
pub use versions::{ServerVersion, newest_program};
pub use wait::wait_until;

pub use ptr_postgres::cluster::ClusterRole;
