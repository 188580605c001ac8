//! PostgreSQL to log: logical replication, decoding, schema events, source set-up.
//!
//! The way of the data: [`transport`] (bytes of the replication protocol) -> [`decode`] (messages of `pgoutput`)
//! -> [`assemble`] (changes of transactions; schema events by [`ddl`]) -> [`listener`] (append to the log, fsync,
//! confirm; [`undescribed`] asks the primary about a table that no event told of). `source` prepares the primary for this and takes its base image, `doctor` looks for what stands
//! in the way.
//!
//! `decode`, `assemble` and `ddl` are pure: no clock, disk or network.

pub mod assemble;
pub mod ddl;
pub mod decode;
pub mod doctor;
pub mod limits;
pub mod listener;
pub mod sequences;
pub mod source;
pub mod transport;
pub mod undescribed;
