//! Messages of `pgoutput` to changes of transactions.
//!
//! Third step of capture: decode -> **assemble** -> listener. A state machine without clock, disk or network:
//! it remembers relations and type names, gives each change its relation, tells our own messages from the
//! user's, and leaves out transactions that the log already holds.
//!
//! Invariants: steps come as `Begin Change+ Commit`, never nested; a transaction in which nothing happened
//! gives only [`Step::Passed`]. One assembler serves one connection: the server announces every relation again
//! on the next.

mod brackets;
mod inferred;
mod relations;
mod type_names;

use std::sync::Arc;

use bytes::Bytes;
use ptr_model::{
    Change, Lsn, MarkerToken, Message, OUR_SCHEMA, Oid, Origin, Relation, ReplicaIdentity, SchemaChange,
    Timestamp, TransactionHeader, Tuple, Xid,
};

use crate::{
    ddl::{Derivation, Reading, SchemaEvents, Secret, SignatureError},
    decode::{PgOutput, RelationMessage},
    undescribed::Undescribed,
};
use brackets::Brackets;
use relations::Relations;

/// What the log is to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// A transaction begins. Its `end_lsn` is not known yet and reads as its `commit_lsn`.
    Begin(TransactionHeader),
    /// The transaction did this.
    Change(Change),
    /// The transaction ends.
    Commit {
        /// Just past its commit record.
        end_lsn: Lsn,
    },
    /// A transaction without anything for the log, or one that the log already holds, ended here.
    Passed {
        /// Just past its commit record.
        end_lsn: Lsn,
    },
    /// A marker came round. Its position is the end of the last transaction that was committed before.
    Marker {
        /// Which.
        token: MarkerToken,
        /// Just past its message in the WAL.
        lsn: Lsn,
    },
}

/// A message that does not follow from those before it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AssembleError {
    /// A message came inside a transaction that belongs outside, or the other way round.
    #[error("the server sent {message} {place}, which the replication protocol rules out")]
    OutOfPlace {
        /// What came.
        message: &'static str,
        /// Where.
        place: &'static str,
    },
    /// A change of a relation that was not announced.
    #[error("the server sent a change of a relation with oid {oid} that it had not announced")]
    UnknownRelation {
        /// The relation.
        oid: Oid,
    },
    /// A row with more or fewer columns than its relation.
    #[error("the server sent a row of {relation} with {found} columns, where {expected} were announced")]
    ColumnCount {
        /// Schema and name.
        relation: String,
        /// How many the relation has.
        expected: usize,
        /// How many came.
        found: usize,
    },
}

/// Puts the messages of one connection together.
#[derive(Debug)]
pub struct Assembler {
    relations: Relations,
    schema_events: SchemaEvents,
    state: State,
    skip_before: Lsn,
    ignored: IgnoredMessages,
    /// Whether no event triggers tell schema changes, so that announcements have to.
    infers: bool,
    /// Statements of this transaction that make tables before their event says so.
    brackets: Brackets,
}

/// What outlives a connection.
#[derive(Debug, Default)]
pub struct Memory {
    /// Tables, the newest of each: what is announced is compared with it where no event triggers tell schema changes.
    pub relations: Vec<Arc<Relation>>,
    /// How far events have come in the strings that clients sent.
    pub derivation: Derivation,
}

/// Messages with our prefix that were not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IgnoredMessages {
    /// How many.
    pub count: u64,
    /// Why the last one was not.
    pub last: Option<SignatureError>,
}

#[derive(Debug)]
enum State {
    /// Between transactions.
    Idle,
    /// In a transaction that has brought nothing for the log so far.
    Opened(TransactionHeader),
    /// In a transaction that the log has begun.
    Begun { xid: Xid },
    /// In a transaction that the log already holds.
    Skipping,
}

impl Assembler {
    /// Begins on a new connection. `log_end` is the end of the last transaction that the log holds: what commits
    /// before it is a repetition. `secret` is that of the event triggers, if there are any.
    #[must_use]
    pub fn new(log_end: Lsn, secret: Option<Secret>) -> Self {
        Self {
            relations: Relations::default(),
            infers: secret.is_none(),
            schema_events: SchemaEvents::new(secret),
            state: State::Idle,
            skip_before: log_end,
            ignored: IgnoredMessages::default(),
            brackets: Brackets::default(),
        }
    }

    /// The end of the last transaction that was passed on, or that the log held already.
    #[must_use]
    pub fn log_end(&self) -> Lsn {
        self.skip_before
    }

    /// Whether no transaction is open, so that everything sent so far is complete.
    #[must_use]
    pub fn is_between_transactions(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// Whether the log has begun a transaction that did not end.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        matches!(self.state, State::Begun { .. })
    }

    /// Messages with our prefix that were not believed.
    #[must_use]
    pub fn ignored(&self) -> IgnoredMessages {
        self.ignored
    }

    /// Takes the next message and adds what follows from it to `steps`. `sent_at` is the server's clock when it
    /// sent the message, the only time there is for a message outside transactions.
    ///
    /// # Errors
    /// [`AssembleError`] where the server broke the protocol; the connection is then of no more use.
    pub fn take(
        &mut self,
        message: PgOutput,
        sent_at: Timestamp,
        steps: &mut Vec<Step>,
    ) -> Result<(), AssembleError> {
        match message {
            PgOutput::Begin { final_lsn, commit_time, xid } => self.begin(final_lsn, commit_time, xid),
            PgOutput::Commit { end_lsn, .. } => self.commit(end_lsn, steps),
            PgOutput::Origin { commit_lsn, name } => self.origin(commit_lsn, name),
            PgOutput::Relation(relation) => {
                self.announced(relation, steps);
                Ok(())
            }
            PgOutput::Type { oid, schema, name } => {
                self.relations.announce_type(oid, &schema, &name);
                Ok(())
            }
            PgOutput::Message { transactional, lsn, prefix, content } => {
                self.message(LogicalMessage { transactional, lsn, prefix, content }, sent_at, steps)
            }
            row => self.row(row, steps),
        }
    }

    /// The table of an announcement that no event seems to have told of. Whoever has a connection asks the primary
    /// ([`crate::undescribed::look_up`]) and gives what it says to [`Assembler::describe`], then takes the message.
    #[must_use]
    pub fn undescribed(&self, message: &PgOutput) -> Option<Undescribed> {
        let PgOutput::Relation(relation) = message else { return None };
        let xid = match &self.state {
            State::Opened(header) => header.xid,
            State::Begun { xid } => *xid,
            State::Idle | State::Skipping => return None,
        };
        let is_settled = relation.replica_identity != ReplicaIdentity::Default;
        if self.infers || is_settled || self.brackets.are_open() {
            return None;
        }
        Some(Undescribed { relation: relation.clone(), xid })
    }

    /// A table was made that no event told of.
    pub fn describe(&mut self, made: SchemaChange, steps: &mut Vec<Step>) {
        self.push(Change::Schema(Box::new(made)), steps);
    }

    /// Goes on with what the connection before left.
    pub fn recall(&mut self, memory: Memory) {
        self.relations.recall(memory.relations);
        self.schema_events.recall(memory.derivation);
    }

    /// What the next connection needs; this one has ended, and a transaction that did not will come again.
    pub fn memory(&mut self) -> Memory {
        let is_open = !self.is_between_transactions();
        Memory { relations: self.relations.known().collect(), derivation: self.schema_events.memory(is_open) }
    }

    fn announced(&mut self, message: RelationMessage, steps: &mut Vec<Step>) {
        let Some((old, new)) = self.relations.announce(message) else { return };
        if self.infers {
            inferred::between(&old, &new).into_iter().for_each(|change| self.push(change, steps));
        }
    }

    fn begin(&mut self, commit_lsn: Lsn, commit_time: Timestamp, xid: Xid) -> Result<(), AssembleError> {
        if !self.is_between_transactions() {
            return Err(AssembleError::OutOfPlace { message: "a Begin", place: "inside a transaction" });
        }
        self.schema_events.begin();
        self.brackets = Brackets::default();
        let header = TransactionHeader { xid, commit_lsn, end_lsn: commit_lsn, commit_time, origin: None };
        // A commit record that begins before the end of the last one we hold is one that we hold.
        self.state = if commit_lsn < self.skip_before { State::Skipping } else { State::Opened(header) };
        Ok(())
    }

    fn commit(&mut self, end_lsn: Lsn, steps: &mut Vec<Step>) -> Result<(), AssembleError> {
        let step = match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => return Err(outside("a Commit")),
            State::Begun { .. } => Step::Commit { end_lsn },
            State::Opened(_) | State::Skipping => Step::Passed { end_lsn },
        };
        self.skip_before = self.skip_before.max(end_lsn);
        steps.push(step);
        Ok(())
    }

    fn origin(&mut self, commit_lsn: Lsn, name: String) -> Result<(), AssembleError> {
        match &mut self.state {
            State::Opened(header) => header.origin = Some(Origin { name, commit_lsn }),
            State::Skipping => {}
            State::Begun { .. } => {
                return Err(AssembleError::OutOfPlace {
                    message: "an Origin",
                    place: "after the first change",
                });
            }
            State::Idle => return Err(outside("an Origin")),
        }
        Ok(())
    }

    fn row(&mut self, message: PgOutput, steps: &mut Vec<Step>) -> Result<(), AssembleError> {
        if matches!(self.state, State::Idle) {
            return Err(outside("a change"));
        }
        let change = self.change(message)?;
        self.push(change, steps);
        Ok(())
    }

    fn change(&self, message: PgOutput) -> Result<Change, AssembleError> {
        Ok(match message {
            PgOutput::Insert { relation, new } => {
                Change::Insert { relation: self.relation_of(relation, &new)?, new }
            }
            PgOutput::Update { relation, old, new } => {
                Change::Update { relation: self.relation_of(relation, &new)?, old, new }
            }
            PgOutput::Delete { relation, old } => {
                Change::Delete { relation: self.relations.get(relation)?, old }
            }
            PgOutput::Truncate { relations, options } => {
                let relations = relations.into_iter().map(|oid| self.relations.get(oid));
                Change::Truncate { relations: relations.collect::<Result<_, _>>()?, options }
            }
            _ => unreachable!("take handles every other message"),
        })
    }

    /// The relation of a row, which must fit it.
    fn relation_of(&self, oid: Oid, row: &Tuple) -> Result<Arc<Relation>, AssembleError> {
        let relation = self.relations.get(oid)?;
        if relation.columns.len() == row.0.len() {
            return Ok(relation);
        }
        Err(AssembleError::ColumnCount {
            relation: format!("{}.{}", relation.schema, relation.name),
            expected: relation.columns.len(),
            found: row.0.len(),
        })
    }

    /// Adds a change, and before the first one the transaction's begin.
    fn push(&mut self, change: Change, steps: &mut Vec<Step>) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Opened(header) => {
                self.state = State::Begun { xid: header.xid };
                steps.push(Step::Begin(header));
            }
            state => self.state = state,
        }
        if self.has_begun() {
            steps.push(Step::Change(change));
        }
    }

    fn message(
        &mut self,
        message: LogicalMessage,
        sent_at: Timestamp,
        steps: &mut Vec<Step>,
    ) -> Result<(), AssembleError> {
        let xid = match (&self.state, message.transactional) {
            (State::Idle, true) => return Err(outside("a transactional message")),
            (State::Idle, false) => {
                self.lone_message(message, sent_at, steps);
                return Ok(());
            }
            (_, false) => {
                let (message, place) = ("a non-transactional message", "inside a transaction");
                return Err(AssembleError::OutOfPlace { message, place });
            }
            (State::Opened(header), true) => header.xid,
            (State::Begun { xid }, true) => *xid,
            (State::Skipping, true) => return Ok(()),
        };
        if message.prefix != OUR_SCHEMA {
            self.push(Change::Message(message.into()), steps);
        } else if let Some(token) = MarkerToken::from_content(&message.content) {
            steps.push(Step::Marker { token, lsn: message.lsn });
        } else if !message.content.is_empty() {
            // An empty one only keeps the LSN of ours below that of the next row (`send` in `sql/seal.sql`).
            match self.schema_events.read(&message.content, xid) {
                Reading::Change(change) => {
                    self.brackets.see(&change);
                    self.push(change, steps);
                }
                Reading::Remembered => {}
                Reading::Forged(error) => self.ignore(error),
            }
        }
        Ok(())
    }

    /// A message outside transactions stands for one of its own, with xid 0. Its LSN is just past its WAL record
    /// (`buf->endptr` in `logicalmsg_decode`), so it is the end of what the log holds then, and a message at that
    /// very LSN is a repetition.
    fn lone_message(&mut self, message: LogicalMessage, sent_at: Timestamp, steps: &mut Vec<Step>) {
        let end_lsn = message.lsn;
        if end_lsn <= self.skip_before {
            steps.push(Step::Passed { end_lsn });
        } else if message.prefix != OUR_SCHEMA {
            let (commit_lsn, commit_time) = (end_lsn, sent_at);
            let header = TransactionHeader { xid: Xid(0), commit_lsn, end_lsn, commit_time, origin: None };
            steps.push(Step::Begin(header));
            steps.push(Step::Change(Change::Message(message.into())));
            steps.push(Step::Commit { end_lsn });
        } else if let Some(token) = MarkerToken::from_content(&message.content) {
            steps.push(Step::Marker { token, lsn: end_lsn });
            steps.push(Step::Passed { end_lsn });
        } else {
            self.ignore(SignatureError::Missing);
            steps.push(Step::Passed { end_lsn });
        }
        self.skip_before = self.skip_before.max(end_lsn);
    }

    fn ignore(&mut self, error: SignatureError) {
        self.ignored.count += 1;
        self.ignored.last = Some(error);
    }
}

struct LogicalMessage {
    transactional: bool,
    lsn: Lsn,
    prefix: String,
    content: Bytes,
}

impl From<LogicalMessage> for Message {
    fn from(message: LogicalMessage) -> Self {
        let LogicalMessage { transactional, prefix, content, .. } = message;
        Self { prefix, content, transactional }
    }
}

fn outside(message: &'static str) -> AssembleError {
    AssembleError::OutOfPlace { message, place: "outside a transaction" }
}

#[cfg(test)]
mod tests;
