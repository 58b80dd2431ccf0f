//! A histogram of durations, in buckets of at most 1.6 % relative width.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Buckets for each power of two, as a power of two.
const FINENESS: u32 = 6;

/// The counts of durations.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// Counts a duration in nanoseconds.
    pub(crate) fn add(&mut self, ns: u64) {
        let bucket = bucket(ns);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(ns);
    }

    /// How many durations were counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The quantile of this share, in milliseconds.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0.0, |bucket| upper_end(bucket).min(self.max) as f64 / 1e6)
    }

    /// The usual quantiles, in milliseconds.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "count": self.total,
            "p50_ms": self.quantile_ms(0.5),
            "p99_ms": self.quantile_ms(0.99),
            "p999_ms": self.quantile_ms(0.999),
            "max_ms": self.max as f64 / 1e6,
        })
    }

    /// The usual quantiles as text.
    pub(crate) fn to_text(&self) -> String {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| ms(self.quantile_ms(share)));
        format!("p50 {p50}, p99 {p99}, p999 {p999} ms")
    }
}

/// Milliseconds with as many digits as are significant.
pub(crate) fn ms(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

fn bucket(ns: u64) -> usize {
    let magnitude = 63 - (ns | 1).leading_zeros();
    if magnitude < FINENESS {
        return ns as usize;
    }
    let shift = magnitude - FINENESS;
    (((shift + 1) as usize) << FINENESS) + ((ns >> shift) as usize - (1 << FINENESS))
}

fn upper_end(bucket: usize) -> u64 {
    let (row, column) = ((bucket >> FINENESS) as u32, (bucket & ((1 << FINENESS) - 1)) as u64);
    if row == 0 { column } else { (((1 << FINENESS) + column + 1) << (row - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_its_bucket() {
        for ns in (0..200_000).chain([u64::MAX / 3, 1 << 40, (1 << 40) - 1]) {
            let end = upper_end(bucket(ns));
            assert!(end >= ns && (end - ns) as f64 <= 0.016 * ns as f64, "{ns} ends at {end}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut histogram = Histogram::default();
        (1..=1_000).for_each(|n| histogram.add(n * 1_000_000));
        assert_eq!(histogram.total(), 1_000);
        assert!((histogram.quantile_ms(0.5) - 500.0).abs() < 10.0);
        assert!((histogram.quantile_ms(0.999) - 999.0).abs() < 17.0);
    }
}
