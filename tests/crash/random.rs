//! Reproducible randomness: the seed is printed, and can be set.

use std::hash::{BuildHasher, RandomState};

/// A small generator (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// A generator with this seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator with a random seed.
    pub(crate) fn fresh() -> Self {
        Self(RandomState::new().hash_one("random"))
    }

    /// Seeded by the environment variable of this name, or else randomly. Prints the seed.
    pub(crate) fn seeded(variable: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "repeats a test; the server's configuration is not read here")]
        let given = std::env::var(variable).ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(variable));
        println!("seed {seed}: {variable}={seed} gives the same moments again");
        Self(seed)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
