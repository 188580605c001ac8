//! Inputs that nobody thought of: mutations of a small kept corpus, from a seed.
//!
//! No coverage is measured, so that any compiler will do. What a target accepts is mutated further, which gets it past
//! the first checks. A property that panics is printed with its input; an input that takes too long, or memory out of all
//! proportion, ends the process.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

use crate::Chance;

/// Inputs in a normal run.
const TRIES: u64 = 20_000;
/// The longest input.
const LONGEST: usize = 16 << 10;
/// Inputs that were accepted and are mutated further.
const POOL: usize = 200;
/// After so long one input hangs: time of the processor's, of which others may leave little. What waits for ever is ended by
/// whoever runs the tests.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked.
const PAUSE: Duration = Duration::from_secs(1);
/// Memory that the process may take beyond what it has at the beginning.
const MEMORY: u64 = 2 << 30;

/// The kept inputs of a target, in `crates/testkit/corpus`: one a line, or in parts that `\0\n` separates; `.hex` is
/// hexadecimal.
///
/// # Panics
/// When there are none.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let separator = if text.contains('\0') { "\0\n" } else { "\n" };
    let kept: Vec<Vec<u8>> = text
        .split(separator)
        .filter(|part| !part.is_empty())
        .map(|part| if name.ends_with(".hex") { from_hex(part) } else { part.as_bytes().to_owned() })
        .collect();
    assert!(!kept.is_empty(), "{} is empty", path.display());
    kept
}

fn from_hex(text: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(pair).collect()
}

/// Gives the property mutations of the corpus, and the corpus itself first. It answers whether it accepted the input, and
/// panics where something is wrong. `PTR_FUZZ_SECONDS` is for how long; else some thousand inputs are tried.
///
/// # Panics
/// As the property does, after the input was printed; and when nothing is ever accepted.
pub fn fuzz(target: &str, corpus: &[Vec<u8>], mut property: impl FnMut(&[u8]) -> bool) {
    let mut chance = Chance::seeded();
    let limit = std::env::var("PTR_FUZZ_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    let end = limit.map(|seconds: f64| Instant::now() + Duration::from_secs_f64(seconds));
    bound_memory();
    let watched = Watched::begin(target);
    let mut pool = corpus.to_vec();
    let (mut tried, mut accepted) = (0, 0_u64);
    loop {
        let is_over = end.map_or(tried >= TRIES, |end| Instant::now() >= end);
        if is_over && tried >= corpus.len() as u64 {
            break;
        }
        let kept = usize::try_from(tried).ok().and_then(|number| corpus.get(number)).cloned();
        let input = kept.unwrap_or_else(|| mutated(&mut chance, &pool));
        watched.look_at(Some(&input));
        match catch_unwind(AssertUnwindSafe(|| property(&input))) {
            Ok(true) => {
                accepted += 1;
                match pool.len() < POOL + corpus.len() {
                    true => pool.push(input),
                    false => {
                        let place = corpus.len() + chance.below(POOL);
                        pool[place] = input;
                    }
                }
            }
            Ok(false) => {}
            Err(panic) => {
                eprintln!("{target}: input {tried} is wrong: {}", shown(&input));
                resume_unwind(panic);
            }
        }
        tried += 1;
    }
    watched.look_at(None);
    println!("{target}: {tried} inputs, {accepted} of them accepted");
    assert!(accepted > 0, "{target} accepts nothing, not even what is kept");
}

fn shown(input: &[u8]) -> String {
    let hexadecimal: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{:?} = {hexadecimal}", String::from_utf8_lossy(input))
}

/// What would take all memory of the machine takes none, and ends this process.
fn bound_memory() {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else { return };
    let Some(pages) = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok()) else { return };
    let limit = Rlimit { current: Some(pages * 4096 + MEMORY), ..getrlimit(Resource::As) };
    setrlimit(Resource::As, limit).expect("a lower limit may always be set");
}

/// Sees when an input takes too long.
struct Watched(Arc<Mutex<Looked>>);

/// The input that is being looked at, and since when.
type Looked = Option<(Duration, Vec<u8>)>;

/// Time that the processor has spent on this process.
fn spent() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().expect("time is not negative")
}

impl Watched {
    fn begin(target: &str) -> Self {
        let watched = Arc::<Mutex<Looked>>::default();
        let (seen, target) = (Arc::downgrade(&watched), target.to_owned());
        std::thread::spawn(move || {
            while let Some(watched) = seen.upgrade() {
                if let Some((since, input)) = &*watched.lock().expect("nobody panics with it")
                    && spent().saturating_sub(*since) > PATIENCE
                {
                    eprintln!("{target} hangs: {}", shown(input));
                    std::process::abort();
                }
                drop(watched);
                std::thread::sleep(PAUSE);
            }
        });
        Self(watched)
    }

    fn look_at(&self, input: Option<&[u8]>) {
        *self.0.lock().expect("nobody panics with it") = input.map(|input| (spent(), input.to_owned()));
    }
}

/// One of the pool, altered a few times.
fn mutated(chance: &mut Chance, pool: &[Vec<u8>]) -> Vec<u8> {
    let mut input = chance.pick(pool).clone();
    for _ in 0..=chance.below(4) {
        alter(chance, &mut input, pool);
    }
    input.truncate(LONGEST);
    input
}

fn alter(chance: &mut Chance, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
    if input.is_empty() {
        input.extend(chance.pick(pool));
        return;
    }
    let at = chance.below(input.len());
    let length = 1 + chance.below((input.len() - at).min(32));
    match chance.below(10) {
        0 => input[at] ^= 1 << chance.below(8),
        1 => {
            input[at] =
                *chance.pick(&[0, 1, 0x7F, 0x80, 0xFF, b'\'', b'"', b'\\', b'$', b'/', b':', b'%', b'-'])
        }
        2 => input[at] = u8::try_from(chance.below(256)).expect("a byte"),
        3 => drop(input.drain(at..at + length)),
        4 => input.truncate(at),
        5 => {
            let again = input[at..at + length].to_vec();
            for _ in 0..=chance.below(3) {
                input.splice(at..at, again.iter().copied());
            }
        }
        6 | 7 => {
            // A piece of another.
            let other = chance.pick(pool);
            if !other.is_empty() {
                let from = chance.below(other.len());
                let piece = &other[from..from + 1 + chance.below(other.len() - from)];
                let until = if chance.one_in(2) { at } else { at + length };
                input.splice(at..until, piece.iter().copied());
            }
        }
        8 => {
            // A number at its limits, in the order of bytes of a network and of this machine.
            let number =
                *chance.pick(&[u32::MAX, 1 << 31, (1 << 31) - 1, 1 << 16, u32::from(u16::MAX), 1 << 24]);
            let bytes = if chance.one_in(2) { number.to_be_bytes() } else { number.to_le_bytes() };
            let until = (at + bytes.len()).min(input.len());
            input[at..until].copy_from_slice(&bytes[..until - at]);
        }
        _ => {
            // A number in digits.
            let number = *chance.pick(&[
                "0",
                "-1",
                "9223372036854775808",
                "18446744073709551616",
                "1e999",
                "99999999999999999999999",
            ]);
            input.splice(at..at + length, number.bytes());
        }
    }
}
