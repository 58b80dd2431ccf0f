//! Rate limits by key.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;
use tidings_model::clock::Millis;

use crate::rate::{Bucket, Rate};

/// Above this many buckets, those that are full again are dropped.
const MAX_BUCKETS: usize = 10_000;

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
    /// Takes this many tokens at steady time `now`, at most the burst.
    ///
    /// # Errors
    /// The number of seconds until there are enough tokens.
    pub fn take(&self, key: K, tokens: u32, rate: Rate, now: Millis) -> Result<(), u64> {
        let mut buckets = self.buckets.lock();
        if buckets.len() > MAX_BUCKETS {
            buckets.retain(|_, bucket| !bucket.is_full(rate, now));
        }
        buckets.entry(key).or_default().take(tokens, rate, now).map_err(|millis| millis.div_ceil(1_000))
    }

    /// Puts one token back that was taken.
    pub(crate) fn give_back(&self, key: &K, rate: Rate) {
        if let Some(bucket) = self.buckets.lock().get_mut(key) {
            bucket.give_back(rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_key_has_a_bucket_of_its_own() {
        let throttle = Throttle::default();
        let rate = Rate { count: 10, per: Duration::from_secs(60) };
        assert_eq!(throttle.take("a", 10, rate, 1_000), Ok(()));
        assert_eq!(throttle.take("a", 1, rate, 1_000), Err(7));
        assert_eq!(throttle.take("b", 1, rate, 1_000), Ok(()));
    }

    #[test]
    fn full_buckets_are_forgotten() {
        let throttle = Throttle::default();
        let rate = Rate::per_second(1);
        for key in 0..=MAX_BUCKETS {
            assert_eq!(throttle.take(key, 1, rate, 0), Ok(()));
        }
        assert_eq!(throttle.take(usize::MAX, 1, rate, 2_000), Ok(()));
        assert_eq!(throttle.buckets.lock().len(), 1);
    }
}
