//! The vocabulary of the product: where something is in history ([`Lsn`], [`Position`]), what happened
//! ([`Change`], [`Transaction`]) and to what ([`Relation`], [`Tuple`]).
//!
//! Everything here is pure: no clock, disk or network. Every other crate speaks these words.

mod change;
mod expression;
mod ids;
mod lsn;
mod marker;
mod position;
mod redact;
mod relation;
mod schema_change;
mod sequence;
mod timestamp;
mod transaction;
mod tuple;

pub use change::{Change, Message, OldTuple, Operation, TruncateOptions};
pub use expression::{Anchor, ExpressionError, PositionExpression, check_checkpoint_name};
pub use ids::{CheckpointId, Oid, SessionId, Xid};
pub use lsn::{Lsn, LsnParseError};
pub use marker::MarkerToken;
pub use position::Position;
pub use redact::{redacted, redacted_output};
pub use relation::{Column, Relation, ReplicaIdentity};
pub use schema_change::{
    AffectedObject, DroppedObject, Environment, Gap, MissingValue, RelationRows, RoleDefinition,
    SchemaChange, Statement,
};
pub use sequence::SequenceState;
pub use timestamp::{Timestamp, TimestampParseError};
pub use transaction::{OperationCounts, Origin, Transaction, TransactionHeader, TransactionSummary};
pub use tuple::{Datum, Tuple};

/// The schema of ours, on the primary and in session databases, and the prefix of our logical messages.
pub const OUR_SCHEMA: &str = "postgres_test_replay";
