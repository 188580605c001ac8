//! A disk in memory that fails when it is told to, and that forgets at a crash what was not synced.
//!
//! As cruel as Linux: a sync that fails forgets what it did not write. It is still read, by whoever asks, until power is
//! lost, and the next sync succeeds without it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use ptr_log::{Disk, DiskFile};

/// `EIO` of errno.h, the same on Linux and macOS.
const EIO: i32 = 5;

/// What a write was, until it is synced.
#[derive(Clone, Debug)]
enum Pending {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// What every reader sees.
    seen: Vec<u8>,
    /// What a crash leaves for certain.
    durable: Vec<u8>,
    /// What a crash may leave, any part of it. Writes that a failed sync forgot are not in it, and not durable.
    pending: Vec<Pending>,
}

/// A name that was given, and is in memory only, because making it durable failed.
#[derive(Debug)]
struct ForgottenName {
    path: PathBuf,
    given_to: Arc<Mutex<Content>>,
    /// What is durable under that name.
    before: Option<Arc<Mutex<Content>>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    /// Files whose removal a crash may undo.
    removed: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    /// What a crash takes back, if no later operation gave the name anew.
    forgotten: Vec<ForgottenName>,
    operations: u64,
    /// Reads so far, and which of them fails; it alone, or it and all that follow.
    reads: u64,
    fail_read_at: Option<(u64, ReadFault)>,
    fail_at: Option<u64>,
    error: Option<io::ErrorKind>,
    crashed: bool,
}

/// How a read fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// Once; the next time it succeeds.
    Once,
    /// From then on always.
    ForGood,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Operations that changed something so far.
    pub fn operations(&self) -> u64 {
        self.0.lock().unwrap().operations
    }

    /// From that operation on nothing reaches the disk, and every operation fails.
    pub fn crash_at(&self, operation: u64) {
        self.0.lock().unwrap().fail_at = Some(operation);
    }

    /// That operation alone fails, with this error.
    pub fn fail_once(&self, operation: u64, error: io::ErrorKind) {
        let mut state = self.0.lock().unwrap();
        (state.fail_at, state.error) = (Some(operation), Some(error));
    }

    /// Reads so far, of contents, lengths and names.
    pub fn reads(&self) -> u64 {
        self.0.lock().unwrap().reads
    }

    /// That read fails as one of a broken disk (EIO).
    pub fn fail_read(&self, read: u64, fault: ReadFault) {
        self.0.lock().unwrap().fail_read_at = Some((read, fault));
    }

    /// No failure is to come any more.
    pub fn heal(&self) {
        let mut state = self.0.lock().unwrap();
        (state.fail_at, state.error, state.fail_read_at) = (None, None, None);
    }

    fn read(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.reads += 1;
        let reads = state.reads;
        let fails = state.fail_read_at.is_some_and(|(at, fault)| match fault {
            ReadFault::Once => at == reads,
            ReadFault::ForGood => at <= reads,
        });
        if fails { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
    }

    /// The machine starts again: of what was not synced, `random` decides what is left.
    pub fn restart(&self, random: &mut Random) {
        let mut state = self.0.lock().unwrap();
        (state.crashed, state.fail_at, state.error) = (false, None, None);
        // In any order: each by itself may have come to the disk or not.
        for (path, content) in std::mem::take(&mut state.removed) {
            if random.below(2) == 0 {
                state.files.entry(path).or_insert(content);
            }
        }
        state.forget_names();
        for content in state.files.values() {
            content.lock().unwrap().crash(random);
        }
    }

    /// The machine starts again, and nothing is left of what was not synced.
    pub fn cut_power(&self) {
        let mut state = self.0.lock().unwrap();
        for (path, content) in std::mem::take(&mut state.removed) {
            state.files.entry(path).or_insert(content);
        }
        state.forget_names();
        for content in state.files.values() {
            let mut content = content.lock().unwrap();
            content.pending.clear();
            content.seen = content.durable.clone();
        }
    }

    /// Alters a file behind everybody's back, durably.
    pub fn alter(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let state = self.0.lock().unwrap();
        let mut content = state.files[path].lock().unwrap();
        change(&mut content.seen);
        content.durable = content.seen.clone();
        content.pending.clear();
    }

    /// Counts an operation that changes something; an error where it must not happen. The count at which the
    /// crash happens may be torn: then it is told to happen in part.
    fn operate(&self) -> io::Result<bool> {
        let mut state = self.0.lock().unwrap();
        if state.crashed {
            return Err(io::Error::other("the machine is off"));
        }
        state.operations += 1;
        if state.fail_at == Some(state.operations) {
            if let Some(kind) = state.error {
                state.fail_at = None;
                return Err(kind.into());
            }
            state.crashed = true;
            return Ok(true);
        }
        Ok(false)
    }

    fn is_off(&self) -> bool {
        self.0.lock().unwrap().crashed
    }

    fn find(&self, path: &Path) -> io::Result<Arc<Mutex<Content>>> {
        let found = self.0.lock().unwrap().files.get(path).cloned();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl State {
    /// The names that were never durable are as they were.
    fn forget_names(&mut self) {
        for ForgottenName { path, given_to, before } in std::mem::take(&mut self.forgotten).into_iter().rev()
        {
            if self.files.get(&path).is_some_and(|content| Arc::ptr_eq(content, &given_to)) {
                match before {
                    Some(content) => self.files.insert(path, content),
                    None => self.files.remove(&path),
                };
            }
        }
    }
}

fn off() -> io::Error {
    io::Error::other("the machine went off")
}

impl Content {
    fn apply(bytes: &mut Vec<u8>, pending: &Pending) {
        match pending {
            Pending::Write(offset, written) => {
                let start = usize::try_from(*offset).unwrap();
                let end = start + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(written);
            }
            Pending::Truncate(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
        }
    }

    fn change(&mut self, pending: Pending) {
        Self::apply(&mut self.seen, &pending);
        self.pending.push(pending);
    }

    fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            Self::apply(&mut self.durable, &pending);
        }
    }

    /// The pages are clean now, and nowhere but in memory. A new length is in the file system's journal.
    fn forget(&mut self) {
        self.pending.retain(|pending| matches!(pending, Pending::Truncate(_)));
    }

    /// Any of the pending operations may have reached the disk, a write also in part, in any order of pages.
    fn crash(&mut self, random: &mut Random) {
        let mut left = self.durable.clone();
        for pending in std::mem::take(&mut self.pending) {
            match (random.below(4), pending) {
                (0, _) => {}
                (1, Pending::Write(offset, bytes)) => {
                    let cut = random.below(bytes.len() as u64 + 1);
                    let part = bytes[..usize::try_from(cut).unwrap()].to_vec();
                    Self::apply(&mut left, &Pending::Write(offset, part));
                }
                (2, Pending::Write(offset, mut bytes)) => {
                    // The file grew, but some of its bytes never came.
                    let hole = usize::try_from(random.below(bytes.len() as u64 + 1)).unwrap();
                    bytes[..hole].fill(0);
                    Self::apply(&mut left, &Pending::Write(offset, bytes));
                }
                (_, pending) => Self::apply(&mut left, &pending),
            }
        }
        self.seen = left.clone();
        self.durable = left;
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if self.operate()? {
            return Err(off());
        }
        let content = Arc::<Mutex<Content>>::default();
        self.0.lock().unwrap().files.insert(path.to_owned(), Arc::clone(&content));
        Ok(Box::new(FaultyFile { disk: self.clone(), content }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.read()?;
        Ok(Box::new(FaultyFile { disk: self.clone(), content: self.find(path)? }))
    }

    /// A rename is atomic and durable when it returns; a crash happens before or after it.
    /// One that fails has either done nothing, or given a name that is in memory only.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let operated = self.operate();
        let mut state = self.0.lock().unwrap();
        let crashes = match operated {
            Ok(crashes) => crashes,
            Err(error) if state.crashed || state.operations.is_multiple_of(2) => return Err(error),
            Err(error) => {
                let given_to = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
                let before = state.files.insert(to.to_owned(), Arc::clone(&given_to));
                state.forgotten.push(ForgottenName { path: to.to_owned(), given_to, before });
                return Err(error);
            }
        };
        if !crashes || state.operations.is_multiple_of(2) {
            let content = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.files.insert(to.to_owned(), content);
            // It made the names of its directory durable.
            state.removed.retain(|path, _| path.parent() != to.parent());
        }
        if crashes { Err(off()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.operate()? {
            return Err(off());
        }
        let mut state = self.0.lock().unwrap();
        let content = state.files.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.removed.insert(path.to_owned(), content);
        Ok(())
    }

    fn sync_names(&self, directory: &Path) -> io::Result<()> {
        if self.operate()? {
            return Err(off());
        }
        self.0.lock().unwrap().removed.retain(|path, _| path.parent() != Some(directory));
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.read()?;
        let state = self.0.lock().unwrap();
        let inside = state.files.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }
}

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    content: Arc<Mutex<Content>>,
}

impl DiskFile for FaultyFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read()?;
        let content = self.content.lock().unwrap();
        let start = usize::try_from(offset).unwrap().min(content.seen.len());
        let count = buffer.len().min(content.seen.len() - start);
        buffer[..count].copy_from_slice(&content.seen[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let crashes = self.disk.operate()?;
        self.content.lock().unwrap().change(Pending::Write(offset, bytes.to_vec()));
        if crashes { Err(off()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.operate() {
            Ok(false) => {
                self.content.lock().unwrap().sync();
                Ok(())
            }
            Ok(true) => Err(off()),
            Err(error) => {
                if !self.disk.is_off() {
                    self.content.lock().unwrap().forget();
                }
                Err(error)
            }
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let crashes = self.disk.operate()?;
        self.content.lock().unwrap().change(Pending::Truncate(length));
        if crashes { Err(off()) } else { Ok(()) }
    }

    fn length(&self) -> io::Result<u64> {
        self.disk.read()?;
        Ok(self.content.lock().unwrap().seen.len() as u64)
    }
}

/// SplitMix64: small, and the same everywhere for the same seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
