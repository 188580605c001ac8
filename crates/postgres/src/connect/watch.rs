//! Notices that a connection leads nowhere any more, though nobody ended it: a firewall, a tunnel or a proxy has forgotten
//! it, or the way is gone. The kernel cannot know what lies behind a proxy, and PostgreSQL's protocol has no sign of life
//! while a statement runs; so after a while without a byte, the server is asked over another connection what the session
//! is doing. One that works is waited for, however long; so is one to which bytes come, however slowly: what we sent may
//! lie in buffers on the way. One that waits for us, while we wait for it, is ended, so that its locks are let go; so is one
//! that the server does not have. A server that cannot be reached is given up.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_postgres::{Row, types::ToSql};

use super::{ConnectError, log_in_unwatched};
use crate::dsn::{DEFAULT_CONNECT_TIMEOUT, Dsn};
use crate::settings::SessionSettings;

/// So many `connect_timeout`s without a byte, and the server is asked.
const QUIET: u32 = 3;

/// So many answers in a row that speak against a connection, and it is given up.
const DOUBTS: u32 = 2;

/// So many times in a row without an answer: a server that has too much to do lets others wait, and works all the same.
const UNANSWERED: u32 = 5;

/// Bytes a second that a way carries at least. What was sent may lie in buffers on it, and a statement that is still coming
/// looks to the server like none.
const SLOWEST: u64 = 2_000;

/// For so long at most what was sent is thought to be on its way.
const ON_THE_WAY: Duration = Duration::from_secs(10 * 60);

/// For how long a session is looked for that was left behind on a server that could not be reached.
const LEFT_BEHIND: Duration = Duration::from_secs(15 * 60);

/// A session as the server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) pid: i32,
    /// When it began, in seconds: process ids are used again.
    pub(super) began: String,
}

/// What passes over a connection.
#[derive(Debug)]
pub(super) struct Traffic(Mutex<Passed>);

#[derive(Debug)]
struct Passed {
    last: Instant,
    /// Messages of each side. Ours have a type from the login on.
    sent: Messages,
    received: Messages,
    is_logged_in: bool,
    /// How many `ReadyForQuery` are owed: one for each `Query` and `Sync`, but for one that COPY overlooks.
    owed: i64,
    /// Bytes that were sent since all was answered.
    unanswered: u64,
    /// Whether the server takes a COPY from us, which may come as slowly as it likes.
    is_copying: bool,
    /// Whether bytes of the server are waited for; else whoever asked does not take what came.
    is_awaiting: bool,
    /// Whether what is to be sent does not go.
    is_blocked: bool,
}

impl Default for Traffic {
    fn default() -> Self {
        Self(Mutex::new(Passed {
            last: Instant::now(),
            sent: Messages::default(),
            received: Messages::default(),
            is_logged_in: false,
            owed: 0,
            unanswered: 0,
            is_copying: false,
            is_awaiting: false,
            is_blocked: false,
        }))
    }
}

impl Traffic {
    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing has come; it is waited for.
    pub(super) fn awaits(&self) {
        self.passed().is_awaiting = true;
    }

    /// The server sent this.
    pub(super) fn came(&self, bytes: &[u8]) {
        let passed = &mut *self.passed();
        (passed.last, passed.is_awaiting) = (Instant::now(), false);
        let Passed { received, is_logged_in, owed, is_copying, .. } = passed;
        received.each(bytes, |kind| match kind {
            b'Z' if !*is_logged_in => *is_logged_in = true,
            b'Z' => *owed -= 1,
            // The `Sync` behind the `Execute` that began it is overlooked.
            b'G' => (*is_copying, *owed) = (true, *owed - 1),
            b'C' | b'E' => *is_copying = false,
            _ => {}
        });
        if passed.owed <= 0 && !passed.is_copying {
            passed.unanswered = 0;
        }
    }

    /// The process id that whoever let us in gave at the login, by which a statement would be cancelled.
    pub(super) fn announced(&self) -> Option<i32> {
        <[u8; 4]>::try_from(self.passed().received.announced.as_slice()).ok().map(i32::from_be_bytes)
    }

    /// This was sent.
    pub(super) fn went(&self, bytes: &[u8]) {
        let passed = &mut *self.passed();
        (passed.last, passed.is_blocked) = (Instant::now(), false);
        passed.unanswered += bytes.len() as u64;
        let Passed { sent, is_logged_in, owed, is_copying, .. } = passed;
        if *is_logged_in {
            sent.each(bytes, |kind| match kind {
                b'Q' | b'S' => *owed += 1,
                b'c' | b'f' => *is_copying = false,
                _ => {}
            });
        }
    }

    /// The network takes nothing at present.
    pub(super) fn is_blocked(&self) {
        self.passed().is_blocked = true;
    }

    /// How long something is being waited for without a byte, once what was sent must have arrived.
    fn silence(&self) -> Option<Duration> {
        let passed = self.passed();
        let is_owed = passed.is_awaiting && passed.owed > 0 && !passed.is_copying;
        let (elapsed, on_the_way) =
            (passed.last.elapsed(), Duration::from_secs(passed.unanswered / SLOWEST).min(ON_THE_WAY));
        ((is_owed || passed.is_blocked) && elapsed >= on_the_way).then_some(elapsed)
    }
}

/// Finds messages in bytes that come in pieces: a type, a length that counts itself, and a body.
#[derive(Debug, Default)]
struct Messages {
    header: Vec<u8>,
    left: usize,
    /// The process id of `BackendKeyData`, the first four bytes of its body.
    announced: Vec<u8>,
    is_key: bool,
}

impl Messages {
    /// Calls with the type of each message whose header is complete now.
    fn each(&mut self, mut bytes: &[u8], mut visit: impl FnMut(u8)) {
        while !bytes.is_empty() {
            let body = self.left.min(bytes.len());
            if self.is_key {
                let missing = 4_usize.saturating_sub(self.announced.len());
                self.announced.extend_from_slice(&bytes[..body.min(missing)]);
            }
            (self.left, bytes) = (self.left - body, &bytes[body..]);
            let header = (5 - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..header]);
            bytes = &bytes[header..];
            if let [kind, length @ ..] = self.header.as_slice()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                visit(*kind);
                self.is_key = *kind == b'K';
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(0).saturating_sub(4);
                self.header.clear();
            }
        }
    }
}

/// What another connection says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// It works, or nothing can be told.
    Works,
    /// It waits for us, and has come so far.
    Waits(String),
    /// The server does not have it.
    Gone,
    /// Nobody answers there.
    Unreachable,
}

/// Returns when the connection is to be given up, with the reason.
pub(super) async fn until_lost(dsn: Dsn, backend: Backend, traffic: Arc<Traffic>) -> String {
    let unit = dsn.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT);
    let (mut doubts, mut before) = (0, None);
    loop {
        tokio::time::sleep(unit).await;
        let Some(silence) = traffic.silence().filter(|silence| *silence >= unit * QUIET) else {
            doubts = 0;
            continue;
        };
        let found = look(&dsn, &backend).await;
        let moves =
            matches!(&found, Found::Waits(_)) && before.as_ref().is_some_and(|before| *before != found);
        before = Some(found.clone());
        // An answer that came meanwhile is worth more.
        if found == Found::Works || moves || traffic.silence().is_none_or(|now| now < silence) {
            doubts = 0;
            // Not more often than that: each costs the server a connection.
            tokio::time::sleep(unit * QUIET).await;
            continue;
        }
        doubts += 1;
        if doubts < if found == Found::Unreachable { UNANSWERED } else { DOUBTS } {
            continue;
        }
        let (host, seconds) =
            (dsn.hosts().first().map(ToString::to_string).unwrap_or_default(), silence.as_secs());
        if found == Found::Unreachable {
            tokio::spawn(end_left_behind(dsn, backend));
            return format!("nothing came from {host} for {seconds} s, and it cannot be reached");
        }
        end(&dsn, &backend).await;
        return format!(
            "nothing came from {host} for {seconds} s, though it answers others: the connection leads nowhere any more"
        );
    }
}

/// How far a session `a` of `pg_stat_activity` has come: another text once it has begun something, or once something came
/// to it in COPY. What else comes in one message is not counted by the server.
pub(crate) const MARK: &str = "concat_ws('/', a.state_change, a.query_start,
    (SELECT concat_ws('/', p.bytes_processed, p.tuples_processed)
       FROM pg_catalog.pg_stat_progress_copy p WHERE p.pid = a.pid))";

async fn look(dsn: &Dsn, backend: &Backend) -> Found {
    let sql = format!(
        "SELECT coalesce(state LIKE 'idle%' OR wait_event_type = 'Client', false), {MARK}
         FROM pg_catalog.pg_stat_activity a WHERE pid = $1 AND EXTRACT(epoch FROM backend_start)::text = $2"
    );
    match ask(dsn, &sql, &[&backend.pid, &backend.began]).await {
        Ok(Some(row)) if row.get(0) => Found::Waits(row.get(1)),
        Ok(Some(_)) => Found::Works,
        Ok(None) => Found::Gone,
        Err(
            ConnectError::Unreachable { .. } | ConnectError::Timeout { .. } | ConnectError::Protocol { .. },
        ) => Found::Unreachable,
        // It answers, and does not let us look.
        Err(error) => {
            tracing::debug!("what session {} does cannot be asked: {error}", backend.pid);
            Found::Works
        }
    }
}

async fn end(dsn: &Dsn, backend: &Backend) {
    let sql = "SELECT pg_catalog.pg_terminate_backend(pid)
               FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND EXTRACT(epoch FROM backend_start)::text = $2";
    if let Err(error) = ask(dsn, sql, &[&backend.pid, &backend.began]).await {
        tracing::warn!("session {} of the server cannot be ended: {error}", backend.pid);
    }
}

/// A session that nobody talks to any more keeps what it has locked until the server notices; so it is ended as soon as
/// the server can be reached.
async fn end_left_behind(dsn: Dsn, backend: Backend) {
    let unit = dsn.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT);
    let since = Instant::now();
    while since.elapsed() < LEFT_BEHIND {
        tokio::time::sleep(unit).await;
        match look(&dsn, &backend).await {
            Found::Unreachable => {}
            Found::Works => return,
            Found::Waits(_) | Found::Gone => return end(&dsn, &backend).await,
        }
    }
}

/// Asks over a connection of its own, in the time that a login may take.
pub(crate) async fn ask(
    dsn: &Dsn,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<Row>, ConnectError> {
    let unit = dsn.connect_timeout().unwrap_or(DEFAULT_CONNECT_TIMEOUT);
    // A session's own database may be closed to newcomers.
    let dsn = dsn.with_database("postgres");
    let host = dsn.hosts().first().expect("a DSN has at least one host");
    let settings = SessionSettings::named("postgres-test-replay");
    let asking = async {
        let connection = log_in_unwatched(&dsn, &settings).await?;
        let row = connection.query_opt(sql, parameters).await;
        row.map_err(|error| ConnectError::of_client(&dsn, host, error))
    };
    tokio::time::timeout(unit, asking)
        .await
        .unwrap_or_else(|_| Err(ConnectError::Timeout { host: host.to_string(), after: unit }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &[u8] = b"Z\0\0\0\x05I";
    const SYNC: &[u8] = b"S\0\0\0\x04";

    fn logged_in() -> Traffic {
        let traffic = Traffic::default();
        traffic.went(b"\0\0\0\x08\0\x03\0\0");
        traffic.came(b"R\0\0\0\x08\0\0\0\0");
        traffic.came(READY);
        traffic.awaits();
        traffic
    }

    #[test]
    fn only_an_answer_that_is_waited_for_is_missed() {
        let traffic = logged_in();
        assert_eq!(traffic.silence(), None, "nothing was asked");
        traffic.went(b"Q\0\0\0\x0dSELECT 1\0");
        assert!(traffic.silence().is_some(), "it was asked");
        traffic.came(b"C\0\0\0\x0dSELECT 1\0Z\0\0");
        traffic.came(b"\0\x05T");
        traffic.awaits();
        assert_eq!(traffic.silence(), None, "all is answered");
        traffic.went(b"Q\0\0\0\x0dSELECT 1\0");
        traffic.came(b"D\0\0\0\x0a\0\x01\0\0\0\0");
        assert_eq!(traffic.silence(), None, "what came is not taken yet");
        traffic.awaits();
        assert!(traffic.silence().is_some(), "an answer that stops half-way");
    }

    #[test]
    fn what_was_sent_is_given_time_to_arrive() {
        let traffic = logged_in();
        traffic.went(b"Q\0\x01\x00\x00");
        traffic.went(&[b' '; 65_532]);
        assert_eq!(traffic.silence(), None, "half a minute of a slow way");
        traffic.came(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I");
        traffic.went(b"Q\0\0\0\x0dSELECT 1\0");
        traffic.awaits();
        assert!(traffic.silence().is_some(), "what was answered has arrived");
    }

    #[test]
    fn the_process_that_is_announced_is_noted() {
        let traffic = Traffic::default();
        traffic.came(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0");
        assert_eq!(traffic.announced(), None);
        traffic.came(b"\x30\x39\x01\x02\x03\x04Z\0\0\0\x05I");
        assert_eq!(traffic.announced(), Some(12_345));
    }

    #[test]
    fn one_answer_of_two_is_not_both() {
        let traffic = logged_in();
        traffic.went(SYNC);
        traffic.went(SYNC);
        traffic.came(READY);
        traffic.awaits();
        assert!(traffic.silence().is_some());
        traffic.came(READY);
        traffic.awaits();
        assert_eq!(traffic.silence(), None);
    }

    #[test]
    fn a_copy_to_the_server_may_be_slow_as_long_as_it_goes() {
        let traffic = logged_in();
        traffic.went(SYNC);
        traffic.came(b"2\0\0\0\x04G\0\0\0\x07\0\0\0");
        traffic.awaits();
        assert_eq!(traffic.silence(), None, "the server waits for us");
        traffic.went(b"d\0\0\0\x06x\n");
        assert_eq!(traffic.silence(), None, "and for more");
        traffic.is_blocked();
        assert!(traffic.silence().is_some(), "what it is sent does not go");
        traffic.went(b"d\0\0\0\x06x\nc\0\0\0\x04S\0\0\0\x04");
        assert!(traffic.silence().is_some(), "it has all, and says nothing");
        traffic.came(b"C\0\0\0\x0bCOPY 2\0Z\0\0\0\x05I");
        traffic.awaits();
        assert_eq!(traffic.silence(), None, "all is answered");
    }
}
