//! Messages on the stream: reads them into one large buffer and hands out slices of it.
//!
//! Every message is one byte of type and Int32 length, which counts itself (manual, "Message Formats").
//! Payloads share the buffer's memory; it is used again as soon as nobody holds a slice of it.

use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::{backend::Message, frontend};
use ptr_postgres::{PgStream, ServerError, SqlState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::TransportError;

/// How much is read at once, at most.
const READ_BYTES: usize = 256 * 1024;
/// Type byte and length.
const HEADER_BYTES: usize = 5;
/// No server makes a message beyond 1 GB; a larger length is not a message.
const LARGEST_MESSAGE: usize = 0x4000_0000;
/// `CopyBothResponse`, which `postgres-protocol` does not know.
const COPY_BOTH_RESPONSE: u8 = b'W';

/// A stream of messages, and the bytes read ahead from it.
#[derive(Debug)]
pub(super) struct Wire {
    stream: PgStream,
    read: BytesMut,
    write: BytesMut,
    /// What is being done, for errors.
    doing: String,
}

/// One message of the server.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) payload: Bytes,
}

impl Wire {
    pub(super) fn new(stream: PgStream) -> Self {
        let (read, write) = (BytesMut::with_capacity(READ_BYTES), BytesMut::new());
        Self { stream, read, write, doing: "the login".to_owned() }
    }

    /// Writes what `build` puts into the buffer.
    pub(super) async fn send<E: Into<TransportError>>(
        &mut self,
        build: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), TransportError> {
        self.write.clear();
        build(&mut self.write).map_err(Into::into)?;
        self.stream.write_all(&self.write).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Sends a command by the simple query protocol.
    pub(super) async fn query(&mut self, command: &str) -> Result<(), TransportError> {
        self.doing =
            command.split_inclusive(char::is_whitespace).take(2).collect::<String>().trim().to_owned();
        self.send(|buffer| frontend::query(command, buffer)).await
    }

    /// A message that is already in memory.
    pub(super) fn buffered(&mut self) -> Result<Option<Frame>, TransportError> {
        let Some(length) = self.message_bytes()? else { return Ok(None) };
        if self.read.len() < length {
            return Ok(None);
        }
        let mut message = self.read.split_to(length).freeze();
        let kind = message[0];
        message.advance(HEADER_BYTES);
        Ok(Some(Frame { kind, payload: message }))
    }

    /// Bytes of the next message with its header, once the header is in memory.
    fn message_bytes(&self) -> Result<Option<usize>, TransportError> {
        let Some(header) = self.read.get(..HEADER_BYTES) else { return Ok(None) };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        match usize::try_from(length) {
            Ok(length) if (4..=LARGEST_MESSAGE).contains(&length) => Ok(Some(length + 1)),
            _ => Err(TransportError::Protocol { what: format!("a message of {length} bytes") }),
        }
    }

    /// Reads once. Nothing is lost when the future is dropped.
    pub(super) async fn fill(&mut self) -> Result<(), TransportError> {
        let missing = self.message_bytes()?.map_or(0, |length| length.saturating_sub(self.read.len()));
        if self.read.capacity() - self.read.len() < READ_BYTES / 16 {
            self.read.reserve(missing.clamp(READ_BYTES, 64 * READ_BYTES));
        }
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(TransportError::Closed),
            _ => Ok(()),
        }
    }

    /// The next message; waits for it. Nothing is lost when the future is dropped.
    pub(super) async fn frame(&mut self) -> Result<Frame, TransportError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// The next message that `postgres-protocol` knows and that needs an answer: notices and parameters are
    /// passed over, an error is returned as one.
    pub(super) async fn message(&mut self) -> Result<Message, TransportError> {
        loop {
            let frame = self.frame().await?;
            match self.parse(&frame)? {
                Message::NoticeResponse(_)
                | Message::ParameterStatus(_)
                | Message::NotificationResponse(_) => {}
                message => return Ok(message),
            }
        }
    }

    pub(super) fn parse(&self, frame: &Frame) -> Result<Message, TransportError> {
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + frame.payload.len());
        let length = u32::try_from(frame.payload.len() + 4).expect("a message is below 1 GB");
        bytes.extend_from_slice(&[frame.kind]);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&frame.payload);
        match Message::parse(&mut bytes) {
            Ok(Some(Message::ErrorResponse(body))) => {
                let error = server_error(&mut body.fields())?;
                Err(TransportError::Server { doing: self.doing.clone(), error: Box::new(error) })
            }
            Ok(Some(message)) => Ok(message),
            Ok(None) | Err(_) => Err(unexpected(frame)),
        }
    }

    /// Waits for the answer that makes the connection a stream both ways.
    pub(super) async fn expect_copy_both(&mut self, doing: &str) -> Result<(), TransportError> {
        loop {
            let frame = self.frame().await?;
            if frame.kind == COPY_BOTH_RESPONSE {
                self.doing = "streaming".to_owned();
                return Ok(());
            }
            match self.parse(&frame)? {
                Message::NoticeResponse(_) | Message::ParameterStatus(_) => {}
                _ => {
                    return Err(TransportError::Protocol {
                        what: format!("{} at {doing}", kind(frame.kind)),
                    });
                }
            }
        }
    }

    /// Says goodbye; the server then ends the session at once.
    pub(super) async fn terminate(&mut self) -> Result<(), TransportError> {
        self.send(|buffer| {
            frontend::terminate(buffer);
            Ok::<_, std::io::Error>(())
        })
        .await?;
        self.stream.shutdown().await?;
        Ok(())
    }
}

/// An error for a message that has no place where it came.
pub(super) fn unexpected(frame: &Frame) -> TransportError {
    TransportError::Protocol { what: kind(frame.kind) }
}

fn kind(byte: u8) -> String {
    format!("a message of type '{}'", byte.escape_ascii())
}

/// The fields of an error or notice (manual, "Error and Notice Message Fields").
pub(super) fn server_error<'a>(
    fields: &mut impl FallibleIterator<
        Item = postgres_protocol::message::backend::ErrorField<'a>,
        Error = std::io::Error,
    >,
) -> Result<ServerError, TransportError> {
    let mut error = ServerError {
        sqlstate: SqlState::INTERNAL_ERROR,
        message: String::new(),
        detail: None,
        hint: None,
        context: None,
    };
    while let Some(field) = fields.next()? {
        let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => error.sqlstate = SqlState::from_code(&text),
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            b'W' => error.context = Some(text),
            _ => {}
        }
    }
    Ok(error)
}
