//! Inputs for the bodies of the fuzz targets, where no fuzzer makes them: they look like something, and are the same
//! each time.

/// Runs a body with inputs of the words, put together at random with other bytes among them.
pub(crate) fn fuzz(body: fn(&[u8]), inputs: u64, words: &[&[u8]]) {
    for seed in 0..inputs {
        let mut dice = Dice(seed);
        let mut input = Vec::new();
        for _ in 0..dice.below(24) {
            match dice.below(8) {
                0 => input.push(dice.below(256) as u8),
                _ => input.extend_from_slice(words[dice.below(words.len())]),
            }
        }
        body(&input);
    }
}

/// SplitMix64, by Sebastiano Vigna: good enough to throw.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }
}
