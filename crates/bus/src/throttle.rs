//! Token buckets: how often something may happen, by key.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;
use tidings_model::clock::Millis;

/// Buckets that are full again are forgotten when there are more than so many.
const MAX_BUCKETS: usize = 10_000;

/// So many in so much time; as many may come at once.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// What is left, in tokens times the milliseconds of `per`, so that refilling is exact.
    level: i64,
    at: Millis,
}

/// A bucket for each key.
#[derive(Debug)]
pub struct Throttle<K> {
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K> Default for Throttle<K> {
    fn default() -> Self {
        Self { buckets: Mutex::default() }
    }
}

impl<K: Eq + Hash> Throttle<K> {
    /// Takes so many tokens at steady time `now`; never more than there can be at once.
    ///
    /// # Errors
    /// How many seconds later there will be as many.
    pub fn take(&self, key: K, tokens: u32, rate: Rate, now: Millis) -> Result<(), u64> {
        let (count, per) = (i64::from(rate.count.max(1)), rate.per.as_millis() as i64);
        let full = count.saturating_mul(per);
        let refilled = |bucket: &Bucket| {
            full.min(bucket.level.saturating_add(now.saturating_sub(bucket.at).max(0).saturating_mul(count)))
        };
        let mut buckets = self.buckets.lock();
        if buckets.len() > MAX_BUCKETS {
            buckets.retain(|_, bucket| refilled(bucket) < full);
        }
        let bucket = buckets.entry(key).or_insert(Bucket { level: full, at: now });
        bucket.level = refilled(bucket);
        bucket.at = now;
        let needed = i64::from(tokens).min(count).saturating_mul(per);
        if bucket.level < needed {
            let millis = (needed - bucket.level).div_euclid(count) + 1;
            return Err(u64::try_from(millis).unwrap_or(1_000).div_ceil(1_000));
        }
        bucket.level -= needed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: D02
    #[test]
    fn a_bucket_gives_its_count_and_refills_with_time() {
        let throttle = Throttle::default();
        let rate = Rate { count: 10, per: Duration::from_secs(60) };
        for _ in 0..10 {
            assert_eq!(throttle.take("a", 1, rate, 1_000), Ok(()));
        }
        assert_eq!(throttle.take("a", 1, rate, 1_000), Err(7));
        assert_eq!(throttle.take("b", 1, rate, 1_000), Ok(()), "another key has its own bucket");
        assert_eq!(throttle.take("a", 1, rate, 7_000), Ok(()));
        assert!(throttle.take("a", 1, rate, 7_000).is_err());
        assert!(throttle.take("a", 1, rate, 0).is_err(), "a clock that goes back fills nothing");
    }

    #[test]
    fn several_tokens_are_taken_together_or_not_at_all() {
        let throttle = Throttle::default();
        let rate = Rate { count: 10, per: Duration::from_secs(1) };
        assert_eq!(throttle.take("a", 7, rate, 0), Ok(()));
        assert_eq!(throttle.take("a", 4, rate, 0), Err(1));
        assert_eq!(throttle.take("a", 3, rate, 0), Ok(()));
        assert_eq!(throttle.take("a", 11, rate, 1_000), Ok(()), "more than there can be is all there is");
        assert!(throttle.take("a", 1, rate, 1_000).is_err());
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let throttle = Throttle::default();
        let rate = Rate { count: 1, per: Duration::from_secs(1) };
        for key in 0..=MAX_BUCKETS {
            assert_eq!(throttle.take(key, 1, rate, 0), Ok(()));
        }
        assert_eq!(throttle.take(usize::MAX, 1, rate, 2_000), Ok(()));
        assert_eq!(throttle.buckets.lock().len(), 1);
    }
}
