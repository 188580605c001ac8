//! From what a user wrote to a position.

use ptr_model::{Anchor, Lsn, Position, PositionExpression, Timestamp, Xid};

use super::Log;
use crate::{LogError, index::IndexReader};

/// Why an expression names no position of this log.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// What it names is before the log's beginning or after its head.
    #[error(
        "{expression} is outside the log, which goes from {first} to {last}{}; the nearest position in it is {nearest}",
        since(*removed_at)
    )]
    OutOfRange {
        /// What was written.
        expression: String,
        /// Where the log begins.
        first: Position,
        /// The head.
        last: Position,
        /// The end of the log that is nearer.
        nearest: Position,
        /// When `gc` removed what lay before `first`, if it did.
        removed_at: Option<Timestamp>,
    },
    /// No checkpoint has that name or id.
    #[error("there is no checkpoint {name:?}; `checkpoint list` shows those there are")]
    UnknownCheckpoint {
        /// What was written.
        name: String,
    },
    /// A checkpoint's position is not one of this log.
    #[error(
        "checkpoint {name:?} is at {position}, which is no position of this log: it was made for another one"
    )]
    ForeignCheckpoint {
        /// The checkpoint.
        name: String,
        /// Its position.
        position: Position,
    },
    /// No transaction of the log has that id.
    #[error(
        "no transaction of the log has the id {xid}: it changed nothing, was rolled back, or is not captured"
    )]
    UnknownXid {
        /// The id.
        xid: Xid,
    },
    /// `@` was written where no session is meant.
    #[error(
        "{expression} is counted from a session's position, and no session is given; name one with --session"
    )]
    NoSession {
        /// What was written.
        expression: String,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What is said of a log whose oldest part was removed.
fn since(removed_at: Option<Timestamp>) -> String {
    removed_at.map(|at| format!(" (what was before was removed by gc at {at})")).unwrap_or_default()
}

/// Where something is in relation to the log.
enum Found {
    At(Position),
    Before,
    After,
    UnknownXid(Xid),
}

impl Log {
    /// The position that an expression names. `checkpoints` gives the position of a checkpoint by name or id;
    /// CREATION and MIGRATION are known without it, but may be given by it.
    ///
    /// # Errors
    /// [`ResolveError`], with what can be reached instead.
    pub fn resolve(
        &self,
        expression: &PositionExpression,
        anchor: Anchor,
        checkpoints: &dyn Fn(&str) -> Option<Position>,
    ) -> Result<Position, ResolveError> {
        if let PositionExpression::Checkpoint(name) = expression {
            return self.resolve_checkpoint(name, checkpoints);
        }
        let no_session = || ResolveError::NoSession { expression: expression.to_string() };
        let session = match expression {
            PositionExpression::Session(_) => anchor.session_ordinal.ok_or_else(no_session)?,
            _ => 0,
        };
        let (found, first, head, beginning) = self.inner.index.with(|index| {
            // Before the head: one that is read later holds everything that was covered by then.
            let covered = index.covered()?;
            let (head, beginning) = (index.head()?, index.beginning()?);
            let first = index.start()?;
            let found = match *expression {
                PositionExpression::Head | PositionExpression::Checkpoint(_) => Found::At(head),
                PositionExpression::Session(steps) => at_ordinal(index, head, session, steps)?,
                PositionExpression::Lsn(lsn) => at_lsn(index, head, covered, lsn)?,
                PositionExpression::Entry(entry) => at_entry(index, head, entry)?,
                PositionExpression::Xid(xid) => at_xid(index, xid)?,
                PositionExpression::Time(time) => self.at_time(index, time, anchor.now)?,
                PositionExpression::Ago(microseconds) => {
                    let time = Timestamp(anchor.now.0.saturating_sub(microseconds));
                    self.at_time(index, time, anchor.now)?
                }
            };
            Ok((found, first, head, beginning))
        })?;
        let outside = |nearest| ResolveError::OutOfRange {
            expression: expression.to_string(),
            first,
            last: head,
            nearest,
            removed_at: beginning.map(|beginning| beginning.removed_at),
        };
        match found {
            Found::At(position) => Ok(position),
            Found::Before => Err(outside(first)),
            Found::After => Err(outside(head)),
            Found::UnknownXid(xid) => Err(ResolveError::UnknownXid { xid }),
        }
    }

    fn resolve_checkpoint(
        &self,
        name: &str,
        checkpoints: &dyn Fn(&str) -> Option<Position>,
    ) -> Result<Position, ResolveError> {
        let position = match checkpoints(name) {
            Some(position) => position,
            None if name.eq_ignore_ascii_case("CREATION") => self.creation(),
            None if name.eq_ignore_ascii_case("MIGRATION") => self.migration_position(&[])?,
            None => return Err(ResolveError::UnknownCheckpoint { name: name.to_owned() }),
        };
        if self.contains(position)? {
            return Ok(position);
        }
        Err(ResolveError::ForeignCheckpoint { name: name.to_owned(), position })
    }

    /// Whether a position, in all three of its numbers, is one of this log.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn contains(&self, position: Position) -> Result<bool, LogError> {
        Ok(self.inner.index.with(|index| index.position_at(position.ordinal))? == Some(position))
    }

    /// After the last transaction, in log order, that committed at or before `time`.
    fn at_time(&self, index: &IndexReader<'_>, time: Timestamp, now: Timestamp) -> rusqlite::Result<Found> {
        // What will have happened by a time to come is not known, unless the primary's clock is already there.
        if time > now && index.latest_time()?.is_none_or(|latest| time > latest) {
            return Ok(Found::After);
        }
        match index.last_by_time(time)? {
            Some(last) => Ok(index.position_at(last + 1)?.map_or(Found::After, Found::At)),
            None => {
                let begun = index.beginning()?.map(|beginning| beginning.committed_at);
                let is_after = time >= begun.unwrap_or(self.identity().created_at);
                Ok(if is_after { Found::At(index.start()?) } else { Found::Before })
            }
        }
    }
}

/// An LSN inside a transaction means the position before it, so the last position at or before the LSN. Everything before
/// `covered` is in the log up to `head`.
fn at_lsn(index: &IndexReader<'_>, head: Position, covered: Lsn, lsn: Lsn) -> rusqlite::Result<Found> {
    if lsn < index.start()?.lsn {
        return Ok(Found::Before);
    }
    if lsn >= head.lsn {
        // What was received and held nothing for this log leaves the head where it was.
        return Ok(if lsn <= head.lsn.max(covered) { Found::At(head) } else { Found::After });
    }
    let ordinal = index.partition(head.ordinal, |transaction| transaction.header.end_lsn <= lsn)?;
    Ok(index.position_at(ordinal)?.map_or(Found::After, Found::At))
}

fn at_ordinal(index: &IndexReader<'_>, head: Position, session: u64, steps: i64) -> rusqlite::Result<Found> {
    match session.checked_add_signed(steps) {
        None if steps < 0 => Ok(Found::Before),
        Some(ordinal) if ordinal < index.start()?.ordinal => Ok(Found::Before),
        Some(ordinal) if ordinal <= head.ordinal => {
            Ok(index.position_at(ordinal)?.map_or(Found::After, Found::At))
        }
        _ => Ok(Found::After),
    }
}

/// An entry inside a transaction means the position before that transaction; the entry that is still to come,
/// the head.
fn at_entry(index: &IndexReader<'_>, head: Position, entry: u64) -> rusqlite::Result<Found> {
    if entry >= head.entry_index {
        return Ok(if entry == head.entry_index { Found::At(head) } else { Found::After });
    }
    if entry < index.start()?.entry_index {
        return Ok(Found::Before);
    }
    let ordinal = index.partition(head.ordinal, |transaction| transaction.end_entry() <= entry)?;
    Ok(index.position_at(ordinal)?.map_or(Found::After, Found::At))
}

fn at_xid(index: &IndexReader<'_>, xid: Xid) -> rusqlite::Result<Found> {
    // 0 is no transaction: logical messages that stand alone have it.
    let found = if xid == Xid(0) { None } else { index.transaction_of_xid(xid)? };
    Ok(found.map_or(Found::UnknownXid(xid), |transaction| Found::At(transaction.after())))
}
