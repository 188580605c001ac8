//! The stream of changes, and the status that goes back.

use bytes::{Buf, BufMut, Bytes};
use postgres_protocol::message::{
    backend::Message,
    frontend::{self, CopyData},
};
use ptr_model::{Lsn, Timestamp};
use ptr_postgres::ServerError;

use super::{
    TransportError,
    wire::{Frame, Wire, server_error, unexpected},
};

const COPY_DATA: u8 = b'd';
const COPY_DONE: u8 = b'c';
const NOTICE_RESPONSE: u8 = b'N';
const PARAMETER_STATUS: u8 = b'S';

/// Something that the server sent while streaming (manual, "Streaming Replication Protocol").
#[derive(Clone, PartialEq, Debug)]
pub enum StreamMessage {
    /// `w`: XLogData, one message of the output plugin.
    Data {
        /// How far the server had decoded when it sent this.
        wal_end: Lsn,
        /// The server's clock then.
        sent_at: Timestamp,
        /// The plugin's bytes, sharing the read buffer's memory.
        payload: Bytes,
    },
    /// `k`: primary keepalive.
    Keepalive {
        /// How far the server has decoded: whatever committed before was sent.
        wal_end: Lsn,
        /// Whether it wants a status at once, lest it take us for dead.
        reply_requested: bool,
    },
    /// A warning. PostgreSQL 18 says by one (SQLSTATE 55000) that it streams nothing of a missing publication.
    Warning(ServerError),
    /// The server ends the stream, because it shuts down.
    End,
}

/// `r`: how far we are. The server keeps WAL from `flushed` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandbyStatus {
    /// Received.
    pub written: Lsn,
    /// On disk: the server may forget what is before.
    pub flushed: Lsn,
    /// Whether the server is to answer at once, by which a connection shows that it is alive.
    pub asks: bool,
}

/// A replication connection that streams.
#[derive(Debug)]
pub struct ReplicationStream {
    wire: Wire,
}

impl ReplicationStream {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire }
    }

    /// A message that is already in memory.
    ///
    /// # Errors
    /// As [`ReplicationStream::receive`].
    pub fn buffered(&mut self) -> Result<Option<StreamMessage>, TransportError> {
        while let Some(frame) = self.wire.buffered()? {
            if let Some(message) = self.message(frame)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// The next message; waits for it. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`TransportError`]; the stream is of no more use then.
    pub async fn receive(&mut self) -> Result<StreamMessage, TransportError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.wire.fill().await?;
        }
    }

    fn message(&self, frame: Frame) -> Result<Option<StreamMessage>, TransportError> {
        match frame.kind {
            COPY_DATA => data(frame).map(Some),
            COPY_DONE => Ok(Some(StreamMessage::End)),
            NOTICE_RESPONSE => self.warning(&frame),
            PARAMETER_STATUS => Ok(None),
            // An error comes back as one.
            _ => match self.wire.parse(&frame)? {
                Message::CommandComplete(_) | Message::ReadyForQuery(_) => Ok(Some(StreamMessage::End)),
                _ => Err(unexpected(&frame)),
            },
        }
    }

    fn warning(&self, frame: &Frame) -> Result<Option<StreamMessage>, TransportError> {
        let Message::NoticeResponse(body) = self.wire.parse(frame)? else { return Ok(None) };
        Ok(Some(StreamMessage::Warning(server_error(&mut body.fields())?)))
    }

    /// Tells the server how far we are.
    ///
    /// # Errors
    /// [`TransportError::Io`] where the connection is broken.
    pub async fn send_status(&mut self, status: StandbyStatus, now: Timestamp) -> Result<(), TransportError> {
        let mut message = [0_u8; 34];
        let mut fields = &mut message[..];
        fields.put_u8(b'r');
        fields.put_u64(status.written.0);
        fields.put_u64(status.flushed.0);
        // Applied: a server with synchronous_commit = remote_apply would wait for it.
        fields.put_u64(status.flushed.0);
        fields.put_i64(now.to_postgres());
        fields.put_u8(u8::from(status.asks));
        self.wire
            .send(|buffer| {
                CopyData::new(&message[..])?.write(buffer);
                Ok::<_, std::io::Error>(())
            })
            .await
    }

    /// Ends the stream and the session. What the server still has under way is not read.
    ///
    /// # Errors
    /// [`TransportError::Io`] where the connection is broken already.
    pub async fn close(mut self) -> Result<(), TransportError> {
        self.wire
            .send(|buffer| {
                frontend::copy_done(buffer);
                Ok::<_, std::io::Error>(())
            })
            .await?;
        self.wire.terminate().await
    }
}

/// XLogData: `w`, Int64 start, Int64 end, Int64 time, bytes. Keepalive: `k`, Int64 end, Int64 time, Byte1 reply.
fn data(frame: Frame) -> Result<StreamMessage, TransportError> {
    let mut payload = frame.payload.clone();
    let kind = payload.try_get_u8().map_err(|_| unexpected(&frame))?;
    match (kind, payload.len()) {
        (b'w', 24..) => {
            payload.advance(8);
            let wal_end = Lsn(payload.get_u64());
            let sent_at = Timestamp::from_postgres(payload.get_i64());
            Ok(StreamMessage::Data { wal_end, sent_at, payload })
        }
        (b'k', 17) => {
            let wal_end = Lsn(payload.get_u64());
            payload.advance(8);
            Ok(StreamMessage::Keepalive { wal_end, reply_requested: payload.get_u8() != 0 })
        }
        _ => Err(unexpected(&frame)),
    }
}
