//! A token bucket: how often one session may do something.

use tidings_model::clock::Millis;

/// So many may come at once, and they come back at so many per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    pub(crate) per_second: u32,
}

/// What is left for one session. Begins full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    /// What is missing, in thousandths.
    missing: u64,
    at: Millis,
}

impl Bucket {
    pub(crate) const fn full() -> Self {
        Self { missing: 0, at: 0 }
    }

    /// Takes one at this steady time, if one is left.
    pub(crate) fn take(&mut self, rate: Rate, now: Millis) -> bool {
        let passed = u64::try_from(now.saturating_sub(self.at)).unwrap_or(0);
        let missing = self.missing.saturating_sub(passed.saturating_mul(u64::from(rate.per_second)));
        *self = Self { missing, at: now };
        let fits = missing + 1_000 <= u64::from(rate.burst) * 1_000;
        if fits {
            self.missing += 1_000;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_refills_with_time() {
        let mut bucket = Bucket::full();
        let rate = Rate { burst: 10, per_second: 10 };
        let now = 1_795_255_000_000;
        let taken = |bucket: &mut Bucket, now| (0..100).take_while(|_| bucket.take(rate, now)).count();
        assert_eq!(taken(&mut bucket, now), 10);
        assert_eq!(taken(&mut bucket, now + 99), 0);
        assert_eq!(taken(&mut bucket, now + 100), 1);
        assert_eq!(taken(&mut bucket, now + 450), 3);
        assert_eq!(taken(&mut bucket, now), 0, "time that goes back fills nothing");
        assert_eq!(taken(&mut bucket, now + 60_000), 10);
        assert!(!Bucket::full().take(Rate { burst: 0, per_second: 10 }, now));
    }
}
