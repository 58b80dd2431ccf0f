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
pub(crate) struct Rate {
    pub(crate) count: u32,
    pub(crate) per: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// What is left, in tokens times the milliseconds of `per`, so that refilling is exact.
    level: i64,
    at: Millis,
}

/// A bucket for each key.
#[derive(Debug)]
pub(crate) struct Throttle<K> {
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash> Throttle<K> {
    pub(crate) fn new() -> Self {
        Self { buckets: Mutex::default() }
    }

    /// Takes a token at steady time `now`, or says how many seconds later there will be one.
    pub(crate) fn take(&self, key: K, rate: Rate, now: Millis) -> Result<(), u64> {
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
        if bucket.level < per {
            let millis = (per - bucket.level).div_euclid(count) + 1;
            return Err(u64::try_from(millis).unwrap_or(1_000).div_ceil(1_000));
        }
        bucket.level -= per;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: D02
    #[test]
    fn a_bucket_gives_its_count_and_refills_with_time() {
        let throttle = Throttle::new();
        let rate = Rate { count: 10, per: Duration::from_secs(60) };
        for _ in 0..10 {
            assert_eq!(throttle.take("a", rate, 1_000), Ok(()));
        }
        assert_eq!(throttle.take("a", rate, 1_000), Err(7));
        assert_eq!(throttle.take("b", rate, 1_000), Ok(()), "another key has its own bucket");
        assert_eq!(throttle.take("a", rate, 7_000), Ok(()));
        assert!(throttle.take("a", rate, 7_000).is_err());
        assert!(throttle.take("a", rate, 0).is_err(), "a clock that goes back fills nothing");
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let throttle = Throttle::new();
        let rate = Rate { count: 1, per: Duration::from_secs(1) };
        for key in 0..=MAX_BUCKETS {
            assert_eq!(throttle.take(key, rate, 0), Ok(()));
        }
        assert_eq!(throttle.take(usize::MAX, rate, 2_000), Ok(()));
        assert_eq!(throttle.buckets.lock().len(), 1);
    }
}
