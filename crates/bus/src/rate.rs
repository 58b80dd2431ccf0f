//! A token bucket, for rate limits.

use std::time::Duration;

use tidings_model::clock::Millis;

/// A rate: `count` events in the time `per`. The burst is `count` events too.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// The number of events; 0 counts as 1.
    pub count: u32,
    /// The period.
    pub per: Duration,
}

impl Rate {
    /// This many events per second.
    pub const fn per_second(count: u32) -> Self {
        Self { count, per: Duration::from_secs(1) }
    }

    fn count(self) -> i64 {
        i64::from(self.count.max(1))
    }

    fn per(self) -> i64 {
        self.per.as_millis() as i64
    }

    fn burst(self) -> i64 {
        self.count().saturating_mul(self.per())
    }
}

/// A token bucket. It begins full.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// The tokens that were taken and not refilled yet, times the milliseconds of [`Rate::per`], so that refilling is
    /// exact.
    missing: i64,
    at: Millis,
}

impl Bucket {
    /// Takes this many tokens at steady time `now`, at most the burst.
    ///
    /// # Errors
    /// The number of milliseconds until there are enough tokens.
    pub fn take(&mut self, tokens: u32, rate: Rate, now: Millis) -> Result<(), u64> {
        *self = Self { missing: self.missing(rate, now), at: now };
        let wanted = i64::from(tokens).min(rate.count()).saturating_mul(rate.per());
        let lacking = self.missing.saturating_add(wanted).saturating_sub(rate.burst());
        if lacking > 0 {
            return Err((lacking.div_euclid(rate.count()) + 1).unsigned_abs());
        }
        self.missing += wanted;
        Ok(())
    }

    /// Puts one token back.
    pub(crate) fn give_back(&mut self, rate: Rate) {
        self.missing = self.missing.saturating_sub(rate.per()).max(0);
    }

    /// Whether it is full again at steady time `now`.
    pub(crate) fn is_full(&self, rate: Rate, now: Millis) -> bool {
        self.missing(rate, now) == 0
    }

    /// The missing tokens at `now`. A clock that goes back refills nothing.
    fn missing(&self, rate: Rate, now: Millis) -> i64 {
        let passed = now.saturating_sub(self.at).max(0);
        self.missing.saturating_sub(passed.saturating_mul(rate.count())).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: D02
    #[test]
    fn a_bucket_gives_its_count_and_refills_with_time() {
        let mut bucket = Bucket::default();
        let rate = Rate::per_second(10);
        let now = 1_795_255_000_000;
        let taken = |bucket: &mut Bucket, now| (0..100).take_while(|_| bucket.take(1, rate, now).is_ok()).count();
        assert_eq!(taken(&mut bucket, now), 10);
        assert_eq!(taken(&mut bucket, now + 99), 0);
        assert_eq!(taken(&mut bucket, now + 100), 1);
        assert_eq!(taken(&mut bucket, now + 450), 3);
        assert_eq!(taken(&mut bucket, now), 0, "time that goes back fills nothing");
        assert_eq!(taken(&mut bucket, now + 60_000), 10);
    }

    #[test]
    fn who_has_to_wait_is_told_how_long() {
        let mut bucket = Bucket::default();
        let rate = Rate { count: 10, per: Duration::from_secs(60) };
        assert_eq!(bucket.take(10, rate, 0), Ok(()));
        let wait = bucket.take(1, rate, 0).unwrap_err();
        assert!(bucket.take(1, rate, wait as Millis - 2).is_err());
        assert_eq!(bucket.take(1, rate, wait as Millis), Ok(()));
    }

    #[test]
    fn several_tokens_are_taken_together_or_not_at_all() {
        let mut bucket = Bucket::default();
        let rate = Rate::per_second(10);
        assert_eq!(bucket.take(7, rate, 0), Ok(()));
        assert_eq!(bucket.take(4, rate, 0), Err(101));
        assert_eq!(bucket.take(3, rate, 0), Ok(()));
        assert_eq!(bucket.take(11, rate, 1_000), Ok(()), "more than there can be is all there is");
        assert!(bucket.take(1, rate, 1_000).is_err());
    }
}
