//! Setting up the primary for capture, and taking everything away again.
//!
//! Before the stream: [`prepare()`] makes, in an order that loses nothing, what capture needs on the primary
//! (event triggers, replica identities, publication, slot) and takes the base image in the slot's snapshot.
//! [`teardown()`] removes it. [`crate::doctor`] looks first.
//!
//! Invariants: nothing is made that is not in the [`SourceRecord`] on disk before; nothing is removed that is
//! not ours; a set-up that broke off in the middle is undone by its record and begun again.

pub mod base;
mod catalog;
mod error;
mod exclusive;
mod facts;
mod history;
mod identity;
mod marker;
mod open_transactions;
mod options;
mod prepare;
mod progress;
mod publication;
mod record;
mod schema;
mod slot;
mod teardown;

pub use base::manifest::{DatabaseDescription, Manifest, MaterializedView, Relation as DumpedRelation};
pub use error::SourceError;
pub use facts::ServerFacts;
pub use identity::{IdentityException, NotedIdentity};
pub use marker::{emit_marker, emit_sequences_moved};
pub use options::{SourceOptions, slot_name};
pub use prepare::{PreparedSource, prepare};
pub use progress::{OpenTransaction, Progress, SetupEvent};
pub use record::{SchemaCapture, SourceRecord, Step};
pub use schema::event_trigger_names;
pub use teardown::{TeardownReport, TeardownStep, teardown};

pub(crate) use catalog::{Table, tables};
pub(crate) use error::Doing;
pub(crate) use identity::{due, due_of, set_full};
pub(crate) use open_transactions::writers;
pub(crate) use publication::exists as find_publication;
pub(crate) use schema::{is_there as schema_is_there, mark_as_ours};
pub(crate) use slot::{SlotState, drop as drop_slot, find as find_slot, looks_ours as slot_looks_ours};
