//! The bodies of the fuzz targets, with inputs that look like something and are the same each time.

#[path = "../../../fuzz/bodies/matcher.rs"]
mod matcher;

/// Runs a body with inputs of the words, put together at random with other bytes among them.
fn fuzz(body: fn(&[u8]), inputs: u64, words: &[&str]) {
    for seed in 0..inputs {
        let mut dice = Dice(seed);
        let mut input = Vec::new();
        for _ in 0..dice.below(32) {
            match dice.below(16) {
                0 => input.push(dice.below(128) as u8),
                _ => input.extend_from_slice(words[dice.below(words.len())].as_bytes()),
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

// covers: G023
#[test]
fn matches_and_documents() {
    let words = [
        "{\"a\":",
        "{\"b\":",
        "{\"is\":",
        "{\"in\":[",
        "{\"not\":",
        "{\"all\":[",
        "{\"any\":[",
        "{\"any\":true}",
        "{\"like\":\"",
        "{\"gt\":",
        "{\"exists\":false}",
        "{\"contains\":",
        "{\"starts_with\":\"",
        "{\"$op\":\"update\"",
        "\\\\w+\"",
        "^a",
        "\"a\"",
        "\"\\u0061\"",
        "1",
        "1.0",
        "1e99999999999999999999",
        "null",
        "true",
        "[",
        "]",
        "}",
        "}}",
        "]}}",
        "]}}\n",
        ",",
        "}\n",
        "}}\n",
        "\n",
        "\"2027-01-01T00:00:00Z\"",
        ",\"b\":",
        "\"",
        "{\"a\":{\"eq\":",
        "{}",
    ];
    fuzz(matcher::run, 60_000, &words);
    // Right ones, broken in one place each.
    let right = "{\"a\":{\"any\":[{\"in\":[1,\"x\"]},{\"like\":\"^x\"},{\"not\":{\"gte\":2}}]},\"$op\":\"update\"}\n{\"a\":[1,{\"b\":\"x\\n\"}]}";
    for at in 0..right.len() {
        for byte in [b'"', b'\\', b'{', b'}', b'[', b']', b',', b'0', b'$', b'.', b'\n', b' '] {
            let mut input = right.as_bytes().to_vec();
            input[at] = byte;
            matcher::run(&input);
        }
        matcher::run(&right.as_bytes()[..at]);
    }
}
