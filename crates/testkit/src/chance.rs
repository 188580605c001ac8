//! Chance that can be repeated.

/// A small generator, so that a failing run can be repeated from the seed it prints.
#[derive(Debug)]
pub struct Chance(pub u64);

/// With which all tests that use chance pass.
const KNOWN_SEED: u64 = 21;

impl Chance {
    /// The same in every run, so that none fails by chance; `PTR_TEST_SEED` is another seed, or `random` for any.
    ///
    /// # Panics
    /// When the variable holds anything else.
    pub fn seeded() -> Self {
        let seed = match std::env::var("PTR_TEST_SEED").as_deref() {
            Err(_) => KNOWN_SEED,
            Ok("random") => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                u64::from(now.expect("after 1970").subsec_nanos()) | 1
            }
            Ok(text) => text.parse().expect("PTR_TEST_SEED is a number or \"random\""),
        };
        println!("seed: PTR_TEST_SEED={seed}");
        Self(seed)
    }

    /// The next number, by SplitMix64.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 up to and without `bound`.
    ///
    /// # Panics
    /// When the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.number() % bound as u64).expect("below a usize")
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    ///
    /// # Panics
    /// When there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Puts them in another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
