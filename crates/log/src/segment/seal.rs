//! Sealing: a segment that is full is rewritten with larger, better compressed blocks and a directory of them.
//!
//! The sealed form is written beside the open one, made durable, and given its name; a crash leaves either
//! the one or the other. Record sections are joined, never altered, so logical offsets stay what they were.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
};

use ptr_model::Position;

use super::{Depth, Fault, Scanner, SegmentFile, sealing_path};
use crate::{
    LogError,
    disk::{Disk, DiskFile},
    format::{
        BlockEncoder, BlockFacts, BlockPlace, Compression, Footer, Form, FormatError, RelationId,
        RelationMap, SegmentHeader, decode_payload,
    },
    identity::LogIdentity,
    rehearsal::crash_point,
};

/// Blocks are joined until their records reach this many bytes.
const MERGED_BYTES: usize = 512 << 10;

/// Seals one segment. Nothing happens to one that is sealed already.
pub(crate) fn seal(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    first_ordinal: u64,
    identity: &LogIdentity,
    stop: &AtomicBool,
) -> Result<(), LogError> {
    let source = SegmentFile::open(disk, directory, first_ordinal, identity)?;
    if source.header().form == Form::Sealed {
        return Ok(());
    }
    let end = last_position(&source)?;
    let path = sealing_path(directory, first_ordinal);
    let file = disk.create(&path).map_err(LogError::file("create", &path))?;
    match rewrite(&source, &path, file, end, stop) {
        Ok(true) => {
            crash_point("seal");
            disk.rename(&path, source.path()).map_err(LogError::file("replace", source.path()))?;
            crash_point("sealed");
            Ok(())
        }
        Ok(false) => disk.remove(&path).map_err(LogError::file("remove", &path)),
        Err(error) => {
            // The first error counts; what is left is removed at the next start at the latest.
            let _ = disk.remove(&path);
            Err(error)
        }
    }
}

fn rewrite(
    source: &SegmentFile,
    path: &Path,
    file: Box<dyn DiskFile>,
    end: Position,
    stop: &AtomicBool,
) -> Result<bool, LogError> {
    let mut sealed = SealedFile::begin(path.to_owned(), file, source.header())?;
    let complete = copy_blocks(source, &mut sealed, stop)?;
    if complete {
        sealed.finish(end)?;
    }
    Ok(complete)
}

/// The position after the last transaction; also proves that every record can be read before the only copy of
/// it goes away.
fn last_position(source: &SegmentFile) -> Result<Position, LogError> {
    let mut scanner = Scanner::new(source, Depth::Glance)?;
    while scanner.next_transaction().map_err(|fault| scanner_error(source, fault))?.is_some() {}
    scanner.finish().map_err(|fault| scanner_error(source, fault))?;
    Ok(scanner.settled().position)
}

fn scanner_error(source: &SegmentFile, fault: Fault) -> LogError {
    fault.into_error(source.path(), (source.header().start.ordinal, None))
}

/// Joins the blocks of `source`; `false` where it was told to stop.
fn copy_blocks(source: &SegmentFile, sealed: &mut SealedFile, stop: &AtomicBool) -> Result<bool, LogError> {
    let lost = (source.header().start.ordinal, None);
    let mut walker = source.walk()?;
    let mut payload = Vec::new();
    while let Some(block) = walker.next_block().map_err(|fault| fault.into_error(source.path(), lost))? {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let damaged =
            |problem: FormatError| Fault::at(block.file_offset)(problem).into_error(source.path(), lost);
        decode_payload(&block.header, block.stored, &mut payload).map_err(damaged)?;
        let (section, records) = payload.split_at(block.header.relation_bytes as usize);
        let definitions = RelationMap::definitions(section).map_err(damaged)?;
        sealed.add(block.header.facts, &definitions, records)?;
    }
    Ok(true)
}

/// The sealed form while it is written.
struct SealedFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    seed: u32,
    file_end: u64,
    logical_end: u64,
    places: Vec<BlockPlace>,
    encoder: BlockEncoder,
    /// What begins the block that is being gathered, and its last part's end.
    facts: Option<BlockFacts>,
    definitions: BTreeMap<RelationId, Vec<u8>>,
    records: Vec<u8>,
}

impl SealedFile {
    fn begin(path: PathBuf, file: Box<dyn DiskFile>, open: &SegmentHeader) -> Result<Self, LogError> {
        let bytes = SegmentHeader { form: Form::Sealed, ..open.clone() }.encode();
        let (_, length, seed) = SegmentHeader::decode(&bytes)
            .map_err(|problem| Fault::at(0)(problem).into_error(&path, (open.start.ordinal, None)))?;
        file.write_at(0, &bytes).map_err(LogError::write(&path, bytes.len()))?;
        let encoder =
            BlockEncoder::new(Compression::Thorough).map_err(LogError::file("compress for", &path))?;
        Ok(Self {
            path,
            file,
            seed,
            file_end: length as u64,
            logical_end: 0,
            places: Vec::new(),
            encoder,
            facts: None,
            definitions: BTreeMap::new(),
            records: Vec::new(),
        })
    }

    fn add(
        &mut self,
        facts: BlockFacts,
        definitions: &[(RelationId, &[u8])],
        records: &[u8],
    ) -> Result<(), LogError> {
        // A block that is large by itself is not joined with what came before it: lengths stay below 2 GiB.
        if self.records.len() + records.len() > 2 * MERGED_BYTES {
            self.write_block()?;
        }
        let gathered = self.facts.get_or_insert(BlockFacts { synced: 0, ..facts });
        gathered.unfinished = facts.unfinished;
        for (id, definition) in definitions {
            self.definitions.entry(*id).or_insert_with(|| definition.to_vec());
        }
        self.records.extend_from_slice(records);
        if self.records.len() >= MERGED_BYTES { self.write_block() } else { Ok(()) }
    }

    fn write_block(&mut self) -> Result<(), LogError> {
        let Some(facts) = self.facts.take() else { return Ok(()) };
        let definitions = self.definitions.values().map(Vec::as_slice);
        let encoded = self.encoder.encode(self.seed, facts, definitions, &self.records);
        let (block, header) = encoded.map_err(LogError::file("encode for", &self.path))?;
        self.logical_end = header.logical_end();
        self.file.write_at(self.file_end, block).map_err(LogError::write(&self.path, block.len()))?;
        self.places.push(BlockPlace {
            file: self.file_end,
            logical: facts.logical,
            first_ordinal: facts.first_ordinal,
            first_entry: facts.first_entry,
        });
        self.file_end += block.len() as u64;
        self.definitions.clear();
        self.records.clear();
        self.records.shrink_to(4 * MERGED_BYTES);
        self.encoder.shrink(4 * MERGED_BYTES);
        Ok(())
    }

    fn finish(mut self, end: Position) -> Result<(), LogError> {
        self.write_block()?;
        let footer = Footer { end, logical_end: self.logical_end, blocks: self.places }.encode(self.seed);
        self.file.write_at(self.file_end, &footer).map_err(LogError::write(&self.path, footer.len()))?;
        self.file.sync().map_err(LogError::write(&self.path, footer.len()))
    }
}

/// The thread that seals while the writer appends.
pub(crate) struct Sealer {
    queue: Option<mpsc::Sender<u64>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Sealer {
    pub(crate) fn start(disk: Arc<dyn Disk>, directory: PathBuf, identity: LogIdentity) -> Self {
        let (queue, segments) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let work = move || {
            for first_ordinal in segments {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = seal(&disk, &directory, first_ordinal, &identity, &told) {
                    // The open form stays and is as good; the next opening of the log tries again.
                    tracing::error!(
                        first_ordinal,
                        error = &error as &dyn std::error::Error,
                        "cannot seal a segment"
                    );
                }
            }
        };
        Self { queue: Some(queue), stop, thread: Some(thread::spawn(work)) }
    }

    /// Seals a segment as soon as those before it are done.
    pub(crate) fn push(&self, first_ordinal: u64) {
        let queue = self.queue.as_ref().expect("the queue is there until the sealer is dropped");
        if queue.send(first_ordinal).is_err() {
            tracing::error!(
                first_ordinal,
                "the sealing thread is gone; the segment is sealed at the next start"
            );
        }
    }

    /// Waits until everything that was pushed is sealed.
    pub(crate) fn finish(mut self) {
        self.join();
    }

    fn join(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the sealing thread panicked; its segment is sealed at the next start");
        }
    }
}

impl Drop for Sealer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.join();
    }
}
