//! A timing wheel: what an idle session owns of time is one entry here.
//!
//! Times are rounded up to quarter seconds. What lies further ahead than the wheel's 64 seconds is put as far ahead as it
//! reaches; whoever is due looks whether their time has really come, and enters again if not. An entry is never removed
//! early: it names the wheel's slot that it was put in, and one that its owner no longer counts with is ignored.

use tidings_model::clock::Millis;

/// Milliseconds of a slot.
const TICK: Millis = 250;
const SLOTS: usize = 256;

/// Someone who waits: a session's place in the shard, and which tenant of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) slot: u32,
    pub(crate) life: u32,
}

/// In which of the wheel's slots a session's entry is, the one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spoke(u8);

#[derive(Debug)]
pub(crate) struct Wheel {
    spokes: Box<[Vec<Waiting>]>,
    /// The last tick whose entries are due already.
    passed: i64,
    entries: usize,
}

impl Wheel {
    pub(crate) fn new(now: Millis) -> Self {
        Self { spokes: (0..SLOTS).map(|_| Vec::new()).collect(), passed: now.div_euclid(TICK), entries: 0 }
    }

    fn tick(&self, at: Millis) -> i64 {
        let tick = at.div_euclid(TICK).saturating_add(i64::from(at.rem_euclid(TICK) != 0));
        tick.clamp(self.passed + 1, self.passed + SLOTS as i64)
    }

    /// Whether an entry for this time would come round before this spoke does.
    pub(crate) fn is_before(&self, at: Millis, spoke: Spoke) -> bool {
        let ahead = |tick: i64| (tick - self.passed - 1).rem_euclid(SLOTS as i64);
        ahead(self.tick(at)) < ahead(i64::from(spoke.0))
    }

    /// Enters someone for this time, or for as far ahead as the wheel reaches.
    pub(crate) fn enter(&mut self, waiting: Waiting, at: Millis) -> Spoke {
        // The remainder is less than 256.
        let spoke = self.tick(at).rem_euclid(SLOTS as i64) as u8;
        self.spokes[usize::from(spoke)].push(waiting);
        self.entries += 1;
        Spoke(spoke)
    }

    /// Moves all entries whose time has come to `due`.
    pub(crate) fn advance(&mut self, now: Millis, due: &mut Vec<(Waiting, Spoke)>) {
        let now = now.div_euclid(TICK);
        // After a long sleep each spoke is emptied once.
        let first = (self.passed + 1).max(now - (SLOTS as i64 - 1));
        for tick in first..=now {
            let spoke = tick.rem_euclid(SLOTS as i64) as u8;
            let entries = &mut self.spokes[usize::from(spoke)];
            self.entries -= entries.len();
            due.extend(entries.drain(..).map(|waiting| (waiting, Spoke(spoke))));
            if entries.capacity() > 1_024 {
                *entries = Vec::new();
            }
        }
        self.passed = self.passed.max(now);
    }

    /// How long there is until [`Wheel::advance`] may have something to do; `None` while nobody waits. It is never more than
    /// a tick, so that a clock that a test moves is noticed.
    pub(crate) fn rest(&self, now: Millis) -> Option<u64> {
        let next = (now.div_euclid(TICK) + 1) * TICK;
        (self.entries > 0).then(|| u64::try_from(next - now).unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel, now: Millis) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(now, &mut due);
        due.into_iter().map(|(waiting, _)| waiting.slot).collect()
    }

    #[test]
    fn nobody_is_due_early_and_nobody_more_than_a_tick_late() {
        let mut wheel = Wheel::new(1_000);
        assert_eq!(wheel.rest(1_000), None);
        for (slot, at) in [(1, 1_001), (2, 1_250), (3, 1_251), (4, 900), (5, 60_000)] {
            wheel.enter(Waiting { slot, life: 0 }, at);
        }
        assert_eq!(wheel.rest(1_010), Some(240));
        assert_eq!(due(&mut wheel, 1_249), [0; 0]);
        assert_eq!(due(&mut wheel, 1_250), [1, 2, 4]);
        assert_eq!(due(&mut wheel, 1_499), [0; 0]);
        assert_eq!(due(&mut wheel, 1_500), [3]);
        assert_eq!(due(&mut wheel, 59_999), [0; 0]);
        assert_eq!(due(&mut wheel, 60_000), [5]);
        assert_eq!(wheel.rest(60_000), None);
    }

    #[test]
    fn what_is_far_ahead_comes_up_before_its_time_to_enter_again() {
        let mut wheel = Wheel::new(0);
        let spoke = wheel.enter(Waiting { slot: 1, life: 0 }, 3_600_000);
        assert!(wheel.is_before(63_000, spoke));
        assert!(!wheel.is_before(3_600_001, spoke), "both are as far ahead as the wheel reaches");
        assert_eq!(due(&mut wheel, 63_999), [0; 0]);
        assert_eq!(due(&mut wheel, 64_000), [1]);
    }

    #[test]
    fn after_a_long_sleep_everybody_is_due_once() {
        let mut wheel = Wheel::new(0);
        for slot in 0..100 {
            wheel.enter(Waiting { slot, life: 0 }, Millis::from(slot) * 600);
        }
        assert_eq!(due(&mut wheel, 10_000_000).len(), 100);
        assert_eq!(due(&mut wheel, 10_000_250).len(), 0);
        let spoke = wheel.enter(Waiting { slot: 7, life: 0 }, 10_001_000);
        assert!(wheel.is_before(10_000_500, spoke) && !wheel.is_before(10_001_000, spoke));
        assert_eq!(due(&mut wheel, 10_001_000), [7]);
    }
}
