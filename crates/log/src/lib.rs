//! The durable history: segments, recovery, transaction index, catalog of checkpoints and sessions.
//!
//! A log is the captured history of one database, in a folder of its own. One [`Writer`] appends whole
//! transactions in commit order; any number of [`Log`]s, in any process, read what is durable. The [`Catalog`]
//! keeps what people made of that history: checkpoints, sessions, moves.
//!
//! `docs/log-format.md` specifies the segments byte by byte, with the argument why a crash at any moment loses
//! nothing that was acknowledged.

mod beginning;
mod catalog;
mod disk;
mod error;
mod format;
mod hole;
mod identity;
mod index;
mod lock;
mod log;
mod recovery;
mod rehearsal;
mod segment;
mod table_name;
mod writer;

pub use beginning::Beginning;
pub use catalog::{
    Catalog, CatalogError, Checkpoint, CheckpointKind, Conclusion, Condition, DEFAULT_SESSION, Decision,
    DecisionId, DecisionKind, MeasuredRate, Move, MoveId, MoveOutcome, MoveStep, NewCheckpoint, NewMove,
    NewSession, SequenceSample, Session,
};
pub use disk::{Disk, DiskFile, SystemDisk, create_private_folder, sync_way_to};
pub use error::{Damage, LogError};
pub use format::FormatError;
pub use hole::Hole;
pub use identity::{LogIdentity, create};
pub use log::{
    Axis, Bucket, CheckReport, Direction, Entry, EntryPage, EntryQuery, Extent, Item, Log, LogStatistics,
    Outline, PartReader, Reader, ResolveError, TransactionQuery,
};
pub use recovery::{Coverage, Recovery};
pub use rehearsal::{BEGINNING_POINTS, CRASH_POINTS, crash_point};
pub use table_name::{TableName, TableNameError};
pub use writer::{Begun, Committed, Writer, WriterOptions};
