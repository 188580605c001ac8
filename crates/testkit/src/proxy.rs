//! A way to a server that can be cut before any message of its clients or of the server, held up, slow, or left half-open.
//!
//! It passes bytes on and counts messages of PostgreSQL's protocol, of clients and of the server each for itself. When
//! it is told to cut, the message that is one too many does not arrive, every connection ends, and new ones are refused
//! until it heals: what the server sees is a client that died at that very message, what the client sees is a server
//! that died. Held up, nothing passes and nothing ends. A connection that was left half-open takes what is sent and never
//! says anything again, as when a firewall has forgotten it; new ones pass.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use ptr_postgres::Dsn;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// The way. Dropping it ends all connections over it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    gate: Arc<Gate>,
    task: JoinHandle<()>,
}

/// What all connections share.
#[derive(Debug)]
struct Gate {
    /// The server's port.
    server: AtomicU16,
    /// Messages of clients that may still pass.
    left: AtomicU64,
    /// Messages of the server that may still pass.
    answers: AtomicU64,
    /// Whether what runs out leaves the connections half-open, and does not cut them.
    silences: AtomicBool,
    /// Bytes a second of each connection in each direction; 0 without limit.
    rate: AtomicU64,
    is_cut: watch::Sender<bool>,
    is_held: watch::Sender<bool>,
    /// Connections that began before this many others are half-open.
    silenced: watch::Sender<u64>,
    /// Connections so far.
    begun: AtomicU64,
}

/// So many that they never run out.
const UNLIMITED: u64 = u64::MAX / 2;

/// `SSLRequest` and `GSSENCRequest`: a packet without a type follows once more ("SSLRequest (F)" of the manual's
/// "Message Formats").
const ENCRYPTION_REQUESTS: [u32; 2] = [80_877_103, 80_877_104];

impl Proxy {
    /// A way to the server at this port of 127.0.0.1, without limit at first.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let gate = Arc::new(Gate {
            server: AtomicU16::new(server),
            left: AtomicU64::new(UNLIMITED),
            answers: AtomicU64::new(UNLIMITED),
            silences: AtomicBool::new(false),
            rate: AtomicU64::new(0),
            is_cut: watch::Sender::new(false),
            is_held: watch::Sender::new(false),
            silenced: watch::Sender::new(0),
            begun: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&gate)));
        Self { port, gate, task }
    }

    /// Where clients connect, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same database, by this way.
    ///
    /// # Panics
    /// When it is not on the server that this leads to.
    pub fn lead(&self, dsn: &Dsn) -> Dsn {
        let (uri, server) = (dsn.to_uri_with_password(), self.gate.server.load(Ordering::SeqCst));
        let proxied = uri.replace(&format!(":{server}/"), &format!(":{}/", self.port));
        assert_ne!(uri, proxied, "the way leads to port {server}");
        Dsn::parse(&proxied, &|_| None).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Leads new connections to another port: a server that started again may have one.
    pub fn lead_to(&self, server: u16) {
        self.gate.server.store(server, Ordering::SeqCst);
    }

    /// Whether it is cut.
    pub fn is_cut(&self) -> bool {
        *self.gate.is_cut.borrow()
    }

    /// Lets so many more messages of clients pass.
    pub fn cut_after(&self, messages: u64) {
        self.gate.left.store(messages, Ordering::SeqCst);
    }

    /// Lets so many more messages of the server pass.
    pub fn cut_after_answers(&self, messages: u64) {
        self.gate.answers.store(messages, Ordering::SeqCst);
    }

    /// Ends all connections; new ones are refused until it heals.
    pub fn cut(&self) {
        self.gate.is_cut.send_replace(true);
    }

    /// Holds everything up: nothing passes, and nothing ends, until it heals.
    pub fn hold_up(&self) {
        self.gate.is_held.send_replace(true);
    }

    /// Lets so many bytes a second pass, of each connection in each direction, until it heals.
    pub fn slow_to(&self, bytes: u64) {
        self.gate.rate.store(bytes, Ordering::SeqCst);
    }

    /// Leaves the connections that there are half-open, for good: they take what is sent, and nothing comes back.
    pub fn silence(&self) {
        self.gate.silenced.send_replace(self.gate.begun.load(Ordering::SeqCst));
    }

    /// Lets so many more messages of clients pass, and leaves the connections that there are then half-open; new ones pass.
    pub fn silence_after(&self, messages: u64) {
        self.gate.silences.store(true, Ordering::SeqCst);
        self.gate.left.store(messages, Ordering::SeqCst);
    }

    /// Lets everything pass again, except over what was silenced; whether it had been cut.
    pub fn heal(&self) -> bool {
        self.gate.silences.store(false, Ordering::SeqCst);
        self.gate.rate.store(0, Ordering::SeqCst);
        self.gate.left.store(UNLIMITED, Ordering::SeqCst);
        self.gate.answers.store(UNLIMITED, Ordering::SeqCst);
        self.gate.is_held.send_replace(false);
        self.gate.is_cut.send_replace(false)
    }

    /// How many connections were left half-open so far.
    pub fn silenced(&self) -> u64 {
        *self.gate.silenced.borrow()
    }

    /// Messages that may still pass before the cut; `None` without a limit.
    pub fn left(&self) -> Option<u64> {
        Some(self.gate.left.load(Ordering::SeqCst)).filter(|left| *left < UNLIMITED / 2)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.gate.is_cut.send_replace(true);
    }
}

impl Gate {
    /// Whether one more message may pass. The first that may not cuts everything, or silences what there is.
    async fn pass(&self, left: &AtomicU64) -> bool {
        let passes = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if passes.is_err() && self.silences.swap(false, Ordering::SeqCst) {
            left.store(UNLIMITED, Ordering::SeqCst);
            self.silenced.send_replace(self.begun.load(Ordering::SeqCst));
            // Its connection is among them, and stops waiting for this.
            std::future::pending::<()>().await;
        }
        if passes.is_err() {
            self.is_cut.send_replace(true);
        }
        passes.is_ok()
    }

    /// Waits while everything is held up.
    async fn open(&self) {
        // It is there as long as this gate.
        let _ = self.is_held.subscribe().wait_for(|is_held| !is_held).await;
    }
}

async fn accept(listener: TcpListener, gate: Arc<Gate>) {
    while let Ok((client, _)) = listener.accept().await {
        if !*gate.is_cut.borrow() {
            let number = gate.begun.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(connect(client, number, Arc::clone(&gate)));
        }
    }
}

/// Errors end the connection; both sides see that.
async fn connect(client: TcpStream, number: u64, gate: Arc<Gate>) {
    let server = gate.server.load(Ordering::SeqCst);
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    // As a socket of PostgreSQL's: nothing waits for more to come.
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut is_cut, mut silenced) = (gate.is_cut.subscribe(), gate.silenced.subscribe());
    let passing = async {
        tokio::select! {
            biased;
            _ = is_cut.wait_for(|is_cut| *is_cut) => {}
            _ = forth(&mut from_client, &mut to_server, &gate) => {}
            _ = back(&mut from_server, &mut to_client, &gate) => {}
        }
    };
    // What came after it was silenced must not pass, though nobody looked in between.
    let is_silenced = tokio::select! {
        biased;
        silenced = silenced.wait_for(|silenced| number < *silenced) => silenced.is_ok(),
        () = passing => false,
    };
    if is_silenced {
        // Both ends stay as they are until whoever holds them gives up.
        let swallow = async |mut from: From| tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
        let _ = tokio::join!(swallow(from_client), swallow(from_server));
    }
}

type From = tokio::net::tcp::OwnedReadHalf;
type To = tokio::net::tcp::OwnedWriteHalf;

async fn forth(from: &mut From, to: &mut To, gate: &Gate) -> std::io::Result<()> {
    while !startup(from, to, gate).await? {}
    loop {
        let kind = from.read_u8().await?;
        message(from, to, gate, &gate.left, Some(kind)).await?;
    }
}

async fn back(from: &mut From, to: &mut To, gate: &Gate) -> std::io::Result<()> {
    let mut first = from.read_u8().await?;
    // The answer to a request for encryption is one byte; these servers have none to offer. A notice, which begins
    // alike, never comes first.
    while first == b'N' {
        gate.open().await;
        to.write_u8(first).await?;
        first = from.read_u8().await?;
    }
    loop {
        message(from, to, gate, &gate.answers, Some(first)).await?;
        first = from.read_u8().await?;
    }
}

/// Passes a packet on that has no type; whether it was the last of them.
async fn startup(from: &mut From, to: &mut To, gate: &Gate) -> std::io::Result<bool> {
    let body = message(from, to, gate, &gate.left, None).await?;
    let code = body.first_chunk().map(|code| u32::from_be_bytes(*code));
    Ok(!code.is_some_and(|code| ENCRYPTION_REQUESTS.contains(&code)))
}

/// Passes one message on: its type, its length, which counts itself, and its body.
async fn message(
    from: &mut From,
    to: &mut To,
    gate: &Gate,
    left: &AtomicU64,
    kind: Option<u8>,
) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut body = vec![0; usize::try_from(length).expect("32 bits fit").saturating_sub(4)];
    from.read_exact(&mut body).await?;
    gate.open().await;
    if !gate.pass(left).await {
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    let mut whole: Vec<u8> = kind.into_iter().collect();
    whole.extend(length.to_be_bytes());
    whole.extend(&body);
    write_slowly(to, gate, &whole).await?;
    Ok(body)
}

/// Writes in pieces of a twentieth of a second, as long as it is to be slow.
async fn write_slowly(to: &mut To, gate: &Gate, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let rate = gate.rate.load(Ordering::SeqCst);
        if rate == 0 {
            return to.write_all(bytes).await;
        }
        let most = usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1);
        let (piece, rest) = bytes.split_at(most.min(bytes.len()));
        to.write_all(piece).await?;
        tokio::time::sleep(Duration::from_micros(1_000_000 * piece.len() as u64 / rate)).await;
        bytes = rest;
    }
    Ok(())
}
