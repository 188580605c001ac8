//! A way to a server that can be cut before any message of its clients.
//!
//! It passes bytes on and counts what clients send, as messages of PostgreSQL's protocol. When it is told to cut, the
//! message that is one too many does not arrive, every connection ends, and new ones are refused until it heals: what
//! the server sees is a client that died at that very message, what the client sees is a server that died.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

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
    /// Messages that may still pass.
    left: AtomicU64,
    is_cut: watch::Sender<bool>,
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
        let gate = Arc::new(Gate { left: AtomicU64::new(UNLIMITED), is_cut: watch::Sender::new(false) });
        let task = tokio::spawn(accept(listener, server, Arc::clone(&gate)));
        Self { port, gate, task }
    }

    /// Where clients connect, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets so many more messages pass.
    pub fn cut_after(&self, messages: u64) {
        self.gate.left.store(messages, Ordering::SeqCst);
    }

    /// Lets everything pass again; whether it had been cut.
    pub fn heal(&self) -> bool {
        self.gate.left.store(UNLIMITED, Ordering::SeqCst);
        self.gate.is_cut.send_replace(false)
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
    /// Whether one more message may pass. The first that may not cuts everything.
    fn pass(&self) -> bool {
        let passes = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if passes.is_err() {
            self.is_cut.send_replace(true);
        }
        passes.is_ok()
    }
}

async fn accept(listener: TcpListener, server: u16, gate: Arc<Gate>) {
    while let Ok((client, _)) = listener.accept().await {
        if !*gate.is_cut.borrow() {
            tokio::spawn(connect(client, server, Arc::clone(&gate)));
        }
    }
}

/// Errors end the connection; both sides see that.
async fn connect(client: TcpStream, server: u16, gate: Arc<Gate>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    // As a socket of PostgreSQL's: nothing waits for more to come.
    let delays = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut is_cut = gate.is_cut.subscribe();
    let forth = async {
        delays?;
        while !startup(&mut from_client, &mut to_server, &gate).await? {}
        loop {
            let kind = from_client.read_u8().await?;
            message(&mut from_client, &mut to_server, &gate, Some(kind)).await?;
        }
    };
    let forth = async {
        let _: std::io::Result<()> = forth.await;
    };
    tokio::select! {
        () = forth => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        _ = is_cut.wait_for(|is_cut| *is_cut) => {}
    }
}

type From = tokio::net::tcp::OwnedReadHalf;
type To = tokio::net::tcp::OwnedWriteHalf;

/// Passes a packet on that has no type; whether it was the last of them.
async fn startup(from: &mut From, to: &mut To, gate: &Gate) -> std::io::Result<bool> {
    let body = message(from, to, gate, None).await?;
    let code = body.first_chunk().map(|code| u32::from_be_bytes(*code));
    Ok(!code.is_some_and(|code| ENCRYPTION_REQUESTS.contains(&code)))
}

/// Passes one message on: its type, its length, which counts itself, and its body.
async fn message(from: &mut From, to: &mut To, gate: &Gate, kind: Option<u8>) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut body = vec![0; usize::try_from(length).expect("32 bits fit").saturating_sub(4)];
    from.read_exact(&mut body).await?;
    if !gate.pass() {
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    let mut whole: Vec<u8> = kind.into_iter().collect();
    whole.extend(length.to_be_bytes());
    whole.extend(&body);
    to.write_all(&whole).await?;
    Ok(body)
}
