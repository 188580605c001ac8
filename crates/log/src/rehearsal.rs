//! What tests of the whole program ask of it: to end at a named point, as if the power had gone, and to begin another
//! segment early.
//!
//! Only builds with debug assertions do what they are asked; in a release build nothing of this is left.

/// Bytes after which a segment is full, unless a test asks for fewer by `PTR_SEGMENT_BYTES`.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The points at which the process can be told to end, by `PTR_CRASH_AT=NAME` for the first time it comes past, or
/// `NAME:N` for the Nth. In the order of the data's way.
pub const CRASH_POINTS: [&str; 29] = [
    // The log: a block is about to be written; is written; is synced; the index knows.
    "append",
    "appended",
    "fsync",
    "fsynced",
    "index",
    "indexed",
    // The log: the next segment; the sealed form is there, and has taken the open one's place.
    "rotate",
    "rotated",
    "seal",
    "sealed",
    // The log: opened after a crash, what was torn is cut, and the index does not know yet.
    "recover",
    "recovered",
    // The listener tells the server how far the log is durable.
    "confirm",
    "confirmed",
    // A checkpoint has a position, and is in the catalog.
    "checkpoint",
    "checkpointed",
    // A move is in the catalog as begun; is over; is in the catalog as ended.
    "move",
    "moved",
    "concluded",
    // Replay has sent everything and is about to write the position and commit; has committed.
    "apply",
    "applied",
    // A move by keyframe: the copy is made; nobody can connect to the old database; the new one is in its place.
    "copied",
    "swap",
    "swapped",
    // A keyframe: copied and marked unfinished; at its position; closed; marked; and a spare of it.
    "keyframe-begun",
    "keyframe-built",
    "keyframe-closed",
    "keyframe-made",
    "spare-made",
];

/// The points of a history that comes to begin later, where the process can be told to end too. In their order.
pub const BEGINNING_POINTS: [&str; 7] = [
    // The new base image is on disk; is a database that holds what it should; is the one that counts.
    "base-taken",
    "base-accepted",
    "base-begun",
    // The log: about to begin there; says so; the index begins there too; the segments before are gone.
    "trim",
    "trim-begun",
    "trim-indexed",
    "trimmed",
];

/// Ends the process here if a test told it to: at once, without a word to anybody and without writing anything.
#[inline]
pub fn crash_point(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

pub(crate) fn segment_bytes() -> u64 {
    #[cfg(debug_assertions)]
    if let Some(bytes) = std::env::var("PTR_SEGMENT_BYTES").ok().and_then(|text| text.parse().ok()) {
        return bytes;
    }
    SEGMENT_BYTES
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    use super::{BEGINNING_POINTS, CRASH_POINTS};

    /// Where to end, and how often the process still comes past before.
    struct Armed {
        name: String,
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let wanted = std::env::var("PTR_CRASH_AT").ok()?;
        let (name, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        let times = times.parse().expect("PTR_CRASH_AT is NAME or NAME:N");
        let is_known = CRASH_POINTS.iter().chain(&BEGINNING_POINTS).any(|known| *known == name);
        assert!(is_known, "PTR_CRASH_AT={name}: there is no such point");
        Some(Armed { name: name.to_owned(), left: AtomicU64::new(times) })
    });

    pub(super) fn pass(name: &'static str) {
        let is_known = || CRASH_POINTS.iter().chain(&BEGINNING_POINTS).any(|known| *known == name);
        debug_assert!(is_known(), "{name} is not in the list of points");
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.name == name) else { return };
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            eprintln!("ended at {name}, as PTR_CRASH_AT says");
            std::process::abort();
        }
    }
}
