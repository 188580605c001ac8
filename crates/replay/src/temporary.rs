//! Temporary objects that a replay would have at a position.
//!
//! Replay has those of one process of the primary at a time, from the statement that makes the first to the next schema
//! change of another process, as far as the log shows it (`apply/schema.rs`). A base image has none. So where a history
//! is to begin, none may be needed that were made before.

use ptr_log::{Item, Log, LogError};
use ptr_model::{Change, Position, SchemaChange};

/// The process of the primary whose temporary objects, made before a position, a statement after it may need; `None`
/// where no replay would still have them there.
///
/// # Errors
/// The log cannot be read.
pub fn needed_at(log: &Log, at: Position) -> Result<Option<i32>, LogError> {
    let changing: Vec<u64> = log.schema_changing()?.into_iter().map(|(ordinal, _)| ordinal).collect();
    let behind = changing.partition_point(|ordinal| *ordinal < at.ordinal);
    let Some(owner) = owner(log, &changing[..behind])? else { return Ok(None) };
    for ordinal in &changing[behind..] {
        // Whoever makes the next schema change decides: another process has them discarded.
        if let Some(next) = statements(log, *ordinal)?.first() {
            return Ok(Some(owner).filter(|owner| *owner == next.pid));
        }
    }
    Ok(Some(owner))
}

/// The process that made the last schema changes, if one of those that it made in a row made something temporary.
fn owner(log: &Log, changing: &[u64]) -> Result<Option<i32>, LogError> {
    let mut last = None;
    for ordinal in changing.iter().rev() {
        for Ran { pid, makes } in statements(log, *ordinal)?.into_iter().rev() {
            if *last.get_or_insert(pid) != pid {
                return Ok(None);
            }
            if makes {
                return Ok(Some(pid));
            }
        }
    }
    Ok(None)
}

/// A statement that replay runs.
struct Ran {
    pid: i32,
    /// Whether it makes something temporary.
    makes: bool,
}

fn statements(log: &Log, ordinal: u64) -> Result<Vec<Ran>, LogError> {
    let mut ran = Vec::new();
    for item in log.read(ordinal, ordinal + 1)? {
        if let Item::Change(Change::Schema(change)) = item?
            && change.is_entry
            && change.event == "ddl_command_end"
        {
            ran.push(Ran::of(&change));
        }
    }
    Ok(ran)
}

impl Ran {
    fn of(change: &SchemaChange) -> Self {
        let makes = change.objects.iter().any(|object| object.schema.as_deref() == Some("pg_temp"));
        Self { pid: change.environment.backend_pid, makes }
    }
}
