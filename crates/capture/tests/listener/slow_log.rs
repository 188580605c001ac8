//! A log that takes its time with every change.

use std::{path::Path, thread, time::Duration};

use ptr_capture::listener::{Covered, TransactionLog};
use ptr_log::{Committed, LogError, LogIdentity, Writer, WriterOptions};
use ptr_model::{Change, Lsn, MarkerToken, Position, TransactionHeader};

pub struct SlowLog {
    writer: Writer,
    delay: Duration,
}

impl SlowLog {
    pub fn open(directory: &Path, delay: Duration) -> Result<Self, LogError> {
        Ok(Self { writer: Writer::open(directory, WriterOptions::default())?, delay })
    }
}

impl TransactionLog for SlowLog {
    fn identity(&self) -> &LogIdentity {
        self.writer.identity()
    }

    fn head(&self) -> Position {
        self.writer.head()
    }

    fn covered_before(&self) -> Covered {
        Covered::Until(self.writer.covered_lsn())
    }

    fn lacks_until(&self) -> Option<Lsn> {
        None
    }

    fn note_lack(&mut self, from: Lsn, until: Lsn) -> Result<(), LogError> {
        self.writer.note_hole(from, until)
    }

    fn begin(&mut self, header: &TransactionHeader) -> Result<(), LogError> {
        self.writer.begin(header).map(|_| ())
    }

    fn append(&mut self, change: &Change) -> Result<(), LogError> {
        // Not a wait for something: being slow is what this log is for.
        thread::sleep(self.delay);
        self.writer.append(change)
    }

    fn commit(&mut self, end_lsn: Lsn) -> Result<Option<Committed>, LogError> {
        self.writer.commit(end_lsn)
    }

    fn abort(&mut self) {
        self.writer.abort();
    }

    fn marker(&mut self, token: MarkerToken, lsn: Lsn) {
        self.writer.marker(token, lsn);
    }

    fn covered(&mut self, lsn: Lsn) {
        self.writer.covered(lsn);
    }

    fn pending_bytes(&self) -> usize {
        self.writer.pending_bytes()
    }

    fn flush(&mut self) -> Result<Position, LogError> {
        self.writer.flush()
    }

    fn close(self) -> Result<Position, LogError> {
        self.writer.close()
    }
}
