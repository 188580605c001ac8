//! What the server sent, by SQL on a second slot, against what is in the log, encoded again byte by byte.

use ptr_log::{Item, Log};
use ptr_model::{Change, Datum, OldTuple, Relation, Tuple};

use super::setting::Setting;

/// A transaction: id, commit LSN, end LSN, and its changes as `pgoutput` writes them.
type Sent = (u32, u64, u64, Vec<Vec<u8>>);

pub async fn assert_log_is_stream(setting: &Setting) {
    let (sent, logged) = (sent(setting).await, logged(setting));
    for (at, (sent, logged)) in sent.iter().zip(&logged).enumerate() {
        assert_eq!(sent, logged, "transaction {at}");
    }
    assert_eq!(sent.len(), logged.len(), "number of transactions");
    assert!(!sent.is_empty(), "nothing was captured");
}

/// Only transactions with changes, our own messages left out.
async fn sent(setting: &Setting) -> Vec<Sent> {
    let settings = ptr_postgres::SessionSettings::canonical("oracle").to_sql();
    setting.client.batch_execute(&settings).await.unwrap();
    let rows = setting
        .client
        .query(
            "SELECT data FROM pg_logical_slot_peek_binary_changes('oracle', NULL, NULL, \
             'proto_version', '1', 'publication_names', 'app', 'messages', 'true')",
            &[],
        )
        .await
        .unwrap();
    let word = |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let mut transactions: Vec<Sent> = Vec::new();
    let mut open: Option<Sent> = None;
    for row in rows {
        let data: Vec<u8> = row.get(0);
        let is_ours = data[0] == b'M' && data[10..].starts_with(b"postgres_test_replay\0");
        match data[0] {
            b'B' => {
                let xid = u32::from_be_bytes(data[17..21].try_into().unwrap());
                open = Some((xid, word(&data, 1), 0, Vec::new()));
            }
            b'C' => {
                let mut transaction = open.take().unwrap();
                transaction.2 = word(&data, 10);
                transactions.push(transaction);
            }
            b'R' | b'Y' | b'O' => {}
            b'M' if is_ours => {}
            b'M' if data[1] == 0 => {
                let lsn = word(&data, 2);
                transactions.push((0, lsn, lsn, vec![without_lsn(data)]));
            }
            b'M' => open.as_mut().unwrap().3.push(without_lsn(data)),
            _ => open.as_mut().unwrap().3.push(data),
        }
    }
    transactions.retain(|transaction| !transaction.3.is_empty());
    transactions
}

/// The log does not keep where a message stands inside its transaction.
fn without_lsn(mut message: Vec<u8>) -> Vec<u8> {
    message.drain(2..10);
    message
}

fn logged(setting: &Setting) -> Vec<Sent> {
    let log = Log::open(&setting.log_directory).unwrap();
    let mut transactions = Vec::new();
    for item in log.read(0, log.head().unwrap().ordinal).unwrap() {
        match item.unwrap() {
            Item::Begin(outline) => {
                let header = &outline.header;
                transactions.push((header.xid.0, header.commit_lsn.0, header.end_lsn.0, Vec::new()));
            }
            // Not sent, but inferred: there are no event triggers here.
            Item::Change(Change::Gap(_)) => {}
            Item::Change(change) => transactions.last_mut().unwrap().3.push(encoded(&change)),
            Item::Commit => {}
        }
    }
    transactions
}

/// The relation of the log's last change.
pub fn last_relation(setting: &Setting) -> Relation {
    let log = Log::open(&setting.log_directory).unwrap();
    let items = log.read(0, log.head().unwrap().ordinal).unwrap();
    let changes = items.filter_map(|item| match item.unwrap() {
        Item::Change(change) => Some(change),
        _ => None,
    });
    Relation::clone(&changes.last().unwrap().relations()[0])
}

fn encoded(change: &Change) -> Vec<u8> {
    match change {
        Change::Insert { relation, new } => [head(b'I', relation), row(b'N', new)].concat(),
        Change::Update { relation, old, new } => {
            [head(b'U', relation), old_row(old), row(b'N', new)].concat()
        }
        Change::Delete { relation, old } => [head(b'D', relation), old_row(old)].concat(),
        Change::Truncate { relations, options } => {
            let count = u32::try_from(relations.len()).unwrap().to_be_bytes();
            let bits = u8::from(options.cascade) | u8::from(options.restart_identity) << 1;
            let oids = relations.iter().flat_map(|relation| relation.oid.0.to_be_bytes());
            [b'T'].into_iter().chain(count).chain([bits]).chain(oids).collect()
        }
        Change::Message(message) => {
            let length = u32::try_from(message.content.len()).unwrap().to_be_bytes();
            let head = [b'M', u8::from(message.transactional)];
            [&head[..], message.prefix.as_bytes(), &[0], &length, &message.content].concat()
        }
        other => panic!("{other:?} was not sent by pgoutput"),
    }
}

fn head(kind: u8, relation: &Relation) -> Vec<u8> {
    [&[kind][..], &relation.oid.0.to_be_bytes()].concat()
}

fn old_row(old: &OldTuple) -> Vec<u8> {
    match old {
        OldTuple::Full(tuple) => row(b'O', tuple),
        OldTuple::Key(tuple) => row(b'K', tuple),
        OldTuple::Unchanged => Vec::new(),
    }
}

fn row(kind: u8, tuple: &Tuple) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(u16::try_from(tuple.0.len()).unwrap().to_be_bytes());
    for datum in &tuple.0 {
        let (kind, value) = match datum {
            Datum::Null => (b'n', None),
            Datum::UnchangedToast => (b'u', None),
            Datum::Text(value) => (b't', Some(value)),
            Datum::Binary(value) => (b'b', Some(value)),
        };
        bytes.push(kind);
        if let Some(value) = value {
            bytes.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(value);
        }
    }
    bytes
}
