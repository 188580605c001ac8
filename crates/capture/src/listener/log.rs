//! The log as the listener sees it.
//!
//! A trait, because the listener's promises are about logs that are slow or fail, which tests put in its place.

use ptr_log::{Committed, Coverage, LogError, LogIdentity, Writer};
use ptr_model::{Change, Lsn, MarkerToken, Position, TransactionHeader};

/// How far a log was given everything that committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Covered {
    /// So far.
    Until(Lsn),
    /// So far at least, and hardly further: the machine may have lost what was noted last.
    About(Lsn),
    /// It had to be repaired, and has forgotten.
    Unknown,
}

/// Where transactions go. Lives on one thread, and blocks.
pub trait TransactionLog: 'static {
    /// Whose history it holds.
    fn identity(&self) -> &LogIdentity;
    /// The end of the last durable transaction.
    fn head(&self) -> Position;
    /// How far everything that committed was given to it when it was opened.
    fn covered_before(&self) -> Covered;
    /// Where capture went on behind what the log was last found to lack.
    fn lacks_until(&self) -> Option<Lsn>;
    /// Notes durably that it is not given what committed from one LSN until another.
    ///
    /// # Errors
    /// Where that cannot be written.
    fn note_lack(&mut self, from: Lsn, until: Lsn) -> Result<(), LogError>;
    /// Begins a transaction. The header's `end_lsn` is not known yet.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn begin(&mut self, header: &TransactionHeader) -> Result<(), LogError>;
    /// Adds a change to the transaction.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn append(&mut self, change: &Change) -> Result<(), LogError>;
    /// Ends the transaction; `None` if there was nothing to keep in it.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn commit(&mut self, end_lsn: Lsn) -> Result<Option<Committed>, LogError>;
    /// Forgets the transaction that was begun, if one was.
    fn abort(&mut self);
    /// A marker came round after everything committed so far.
    fn marker(&mut self, token: MarkerToken, lsn: Lsn);
    /// Everything that committed before `lsn` was given to the log.
    fn covered(&mut self, lsn: Lsn);
    /// Bytes in memory that wait for a flush.
    fn pending_bytes(&self) -> usize;
    /// Makes everything committed so far durable.
    ///
    /// # Errors
    /// Where it cannot be; nothing may be confirmed then.
    fn flush(&mut self) -> Result<Position, LogError>;
    /// Flushes and finishes what goes on behind.
    ///
    /// # Errors
    /// As [`TransactionLog::flush`].
    fn close(self) -> Result<Position, LogError>;
}

impl TransactionLog for Writer {
    fn identity(&self) -> &LogIdentity {
        Self::identity(self)
    }

    fn head(&self) -> Position {
        Self::head(self)
    }

    fn covered_before(&self) -> Covered {
        match self.recovery().coverage {
            // Of what was cut nobody knows any more whether it was confirmed: the slot tells.
            Coverage::Known | Coverage::Cut => Covered::Until(self.covered_lsn()),
            Coverage::Doubtful => Covered::About(self.covered_lsn()),
            Coverage::Forgotten => Covered::Unknown,
        }
    }

    fn lacks_until(&self) -> Option<Lsn> {
        self.holes().last().map(|hole| hole.until)
    }

    fn note_lack(&mut self, from: Lsn, until: Lsn) -> Result<(), LogError> {
        self.note_hole(from, until)
    }

    fn begin(&mut self, header: &TransactionHeader) -> Result<(), LogError> {
        // A repetition is told by the log as well as by the assembler, and dropped there.
        Self::begin(self, header).map(|_| ())
    }

    fn append(&mut self, change: &Change) -> Result<(), LogError> {
        Self::append(self, change)
    }

    fn commit(&mut self, end_lsn: Lsn) -> Result<Option<Committed>, LogError> {
        Self::commit(self, end_lsn)
    }

    fn abort(&mut self) {
        Self::abort(self);
    }

    fn marker(&mut self, token: MarkerToken, lsn: Lsn) {
        Self::marker(self, token, lsn);
    }

    fn covered(&mut self, lsn: Lsn) {
        Self::covered(self, lsn);
    }

    fn pending_bytes(&self) -> usize {
        Self::pending_bytes(self)
    }

    fn flush(&mut self) -> Result<Position, LogError> {
        Self::flush(self)
    }

    fn close(self) -> Result<Position, LogError> {
        Self::close(self)
    }
}
