//! What a slot holds, by SQL: the same messages as the stream's, many times faster, while nobody streams.
//!
//! The server's side of a stream writes each message by itself; `pg_logical_slot_peek_binary_changes` decodes all of
//! it first and hands it over in one go. It confirms nothing: what was not kept comes again. COPY brings the messages
//! as bytes, one at a time, so nothing gathers here; on the server they gather in memory or in a temporary file.

use bytes::{Buf, Bytes};
use ptr_model::Lsn;
use ptr_postgres::{ServerError, quote_literal};

use super::{
    ReplicationConnection, TransportError, plugin_options,
    wire::{Frame, Wire, server_error, unexpected},
};

const COPY_OUT_RESPONSE: u8 = b'H';
const COPY_DATA: u8 = b'd';
const NOTICE_RESPONSE: u8 = b'N';
const READY_FOR_QUERY: u8 = b'Z';
/// What the answer has beside: CopyDone, CommandComplete, ParameterStatus.
const PASSED_OVER: &[u8] = b"cCS";

/// Signature, flags and the length of no extension (manual, COPY, "Binary Format").
const FILE_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Int16 number of fields, Int32 length of the only one.
const ROW_HEADER_BYTES: usize = 6;
/// Instead of a number of fields: no more rows.
const FILE_TRAILER: i16 = -1;

/// Beyond this the server is to refuse rather than fill its disk, where the role may ask for that. In kB.
const TEMPORARY_FILES: u32 = 8 << 20;

/// Something that the server sent while a slot is read.
#[derive(Clone, PartialEq, Debug)]
pub enum Peeked {
    /// One message of the output plugin, sharing the read buffer's memory.
    Message(Bytes),
    /// A warning. PostgreSQL 18 says by one (SQLSTATE 55000) that it has nothing of a missing publication.
    Warning(ServerError),
    /// That was all; the connection takes commands again.
    End,
}

/// A slot being read. The connection is of use again after [`Peeked::End`], or where the server refused.
#[derive(Debug)]
pub struct Peek<'a> {
    wire: &'a mut Wire,
    /// The file's header comes with the first row.
    header_due: bool,
    refusal: Option<TransportError>,
}

impl ReplicationConnection {
    /// Makes the session fit to peek: temporary files have a limit, and the server notices soon when we are gone, so
    /// that the slot is free again.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn prepare_to_peek(&mut self) -> Result<(), TransportError> {
        let settings = format!(
            "SELECT pg_catalog.set_config(name, '{TEMPORARY_FILES}', false)
               FROM pg_catalog.pg_settings
              WHERE name = 'temp_file_limit' AND setting::bigint NOT BETWEEN 0 AND {TEMPORARY_FILES}
                AND (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"
        );
        self.query(&settings).await?;
        match self.query("SET client_connection_check_interval = '1s'").await {
            // Not every system can notice; the slot then stays in use until the server has decoded the chunk.
            Ok(_) | Err(TransportError::Server { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads what a slot holds of the transactions whose commit record begins before `upto`, which must be flushed
    /// already. The server answers when it has decoded all of it.
    ///
    /// # Errors
    /// [`TransportError::Io`] where the connection is broken; what the server refuses comes from [`Peek::next`].
    pub async fn peek(
        &mut self,
        slot: &str,
        publication: &str,
        upto: Lsn,
    ) -> Result<Peek<'_>, TransportError> {
        let options: Vec<String> = plugin_options(publication)
            .iter()
            .map(|(name, value)| format!("{}, {}", quote_literal(name), quote_literal(value)))
            .collect();
        let command = format!(
            "COPY (SELECT data FROM pg_catalog.pg_logical_slot_peek_binary_changes({}, '{upto}', NULL, {})) \
             TO STDOUT (FORMAT binary)",
            quote_literal(slot),
            options.join(", "),
        );
        self.wire.query(&command).await?;
        Ok(Peek { wire: &mut self.wire, header_due: true, refusal: None })
    }

    /// Lets the server forget what committed before `upto`, as a confirmation in the stream does.
    ///
    /// # Errors
    /// [`TransportError::Server`] where the slot is gone or in use.
    pub async fn advance(&mut self, slot: &str, upto: Lsn) -> Result<(), TransportError> {
        let slot = quote_literal(slot);
        self.query(&format!("SELECT pg_catalog.pg_replication_slot_advance({slot}, '{upto}')")).await?;
        Ok(())
    }
}

impl Peek<'_> {
    /// The next message; waits for it. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`TransportError::Server`] where the server refused, after which the connection takes commands again.
    pub async fn next(&mut self) -> Result<Peeked, TransportError> {
        loop {
            let frame = self.wire.frame().await?;
            match frame.kind {
                COPY_DATA => {
                    if let Some(message) = self.row(&frame)? {
                        return Ok(Peeked::Message(message));
                    }
                }
                READY_FOR_QUERY => return self.refusal.take().map_or(Ok(Peeked::End), Err),
                NOTICE_RESPONSE => return self.warning(&frame),
                COPY_OUT_RESPONSE => {}
                kind if PASSED_OVER.contains(&kind) => {}
                _ => match self.wire.parse(&frame) {
                    // The server goes on to ReadyForQuery after an error.
                    Err(error @ TransportError::Server { .. }) => self.refusal = Some(error),
                    Err(error) => return Err(error),
                    Ok(_) => return Err(unexpected(&frame)),
                },
            }
        }
    }

    /// The server sends one row a message, the first behind the file's header, and the trailer alone.
    fn row(&mut self, frame: &Frame) -> Result<Option<Bytes>, TransportError> {
        let mut row = frame.payload.clone();
        if std::mem::take(&mut self.header_due) {
            if !row.starts_with(FILE_HEADER) {
                return Err(unexpected(frame));
            }
            row.advance(FILE_HEADER.len());
        }
        if row.len() < ROW_HEADER_BYTES {
            let is_trailer = row.try_get_i16().is_ok_and(|fields| fields == FILE_TRAILER) && row.is_empty();
            return if is_trailer { Ok(None) } else { Err(unexpected(frame)) };
        }
        let (fields, length) = (row.get_i16(), row.get_i32());
        match usize::try_from(length) {
            Ok(length) if fields == 1 && length == row.len() => Ok(Some(row)),
            _ => Err(unexpected(frame)),
        }
    }

    fn warning(&self, frame: &Frame) -> Result<Peeked, TransportError> {
        let postgres_protocol::message::backend::Message::NoticeResponse(body) = self.wire.parse(frame)?
        else {
            return Err(unexpected(frame));
        };
        Ok(Peeked::Warning(server_error(&mut body.fields())?))
    }
}
