//! A timing wheel: the timer of an idle session is one entry here.
//!
//! Times are rounded up to quarter seconds. A time further ahead than the wheel's 64 seconds goes as far ahead as the
//! wheel reaches; the owner of a due timer checks whether its time has really come, and enters it again if not. An
//! entry is never removed early: the owner remembers the slot of its current entry, and ignores any other.

use tidings_model::clock::Millis;

/// Milliseconds of a slot.
const TICK: Millis = 250;
const SLOTS: usize = 256;

/// The session that a timer wakes: its slot in the shard, and which tenant of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timer {
    pub(crate) slot: u32,
    pub(crate) life: u32,
}

/// The slot of the wheel that holds a session's current entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerSlot(u8);

#[derive(Debug)]
pub(crate) struct Wheel {
    slots: Box<[Vec<Timer>]>,
    /// The last tick whose entries have been handed out.
    passed: i64,
    entries: usize,
}

impl Wheel {
    pub(crate) fn new(now: Millis) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), passed: now.div_euclid(TICK), entries: 0 }
    }

    fn tick(&self, at: Millis) -> i64 {
        let tick = at.div_euclid(TICK).saturating_add(i64::from(at.rem_euclid(TICK) != 0));
        tick.clamp(self.passed + 1, self.passed + SLOTS as i64)
    }

    /// Whether an entry for this time would come round before this slot does.
    pub(crate) fn is_before(&self, at: Millis, timer_slot: TimerSlot) -> bool {
        let ahead = |tick: i64| (tick - self.passed - 1).rem_euclid(SLOTS as i64);
        ahead(self.tick(at)) < ahead(i64::from(timer_slot.0))
    }

    /// Enters a timer for this time, or for as far ahead as the wheel reaches.
    pub(crate) fn enter(&mut self, timer: Timer, at: Millis) -> TimerSlot {
        // The remainder is less than 256.
        let timer_slot = self.tick(at).rem_euclid(SLOTS as i64) as u8;
        self.slots[usize::from(timer_slot)].push(timer);
        self.entries += 1;
        TimerSlot(timer_slot)
    }

    /// Moves all entries whose time has come to `due`.
    pub(crate) fn advance(&mut self, now: Millis, due: &mut Vec<(Timer, TimerSlot)>) {
        let now = now.div_euclid(TICK);
        // After a long sleep each slot is emptied once.
        let first = (self.passed + 1).max(now - (SLOTS as i64 - 1));
        for tick in first..=now {
            let timer_slot = tick.rem_euclid(SLOTS as i64) as u8;
            let entries = &mut self.slots[usize::from(timer_slot)];
            self.entries -= entries.len();
            due.extend(entries.drain(..).map(|timer| (timer, TimerSlot(timer_slot))));
            if entries.capacity() > 1_024 {
                *entries = Vec::new();
            }
        }
        self.passed = self.passed.max(now);
    }

    /// How long there is until [`Wheel::advance`] may have something to do; `None` without any timer. It is never more
    /// than a tick, so that a clock that a test moves is noticed.
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
        due.into_iter().map(|(timer, _)| timer.slot).collect()
    }

    #[test]
    fn nobody_is_due_early_and_nobody_more_than_a_tick_late() {
        let mut wheel = Wheel::new(1_000);
        assert_eq!(wheel.rest(1_000), None);
        for (slot, at) in [(1, 1_001), (2, 1_250), (3, 1_251), (4, 900), (5, 60_000)] {
            wheel.enter(Timer { slot, life: 0 }, at);
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
        let timer_slot = wheel.enter(Timer { slot: 1, life: 0 }, 3_600_000);
        assert!(wheel.is_before(63_000, timer_slot));
        assert!(!wheel.is_before(3_600_001, timer_slot), "both are as far ahead as the wheel reaches");
        assert_eq!(due(&mut wheel, 63_999), [0; 0]);
        assert_eq!(due(&mut wheel, 64_000), [1]);
    }

    #[test]
    fn after_a_long_sleep_everybody_is_due_once() {
        let mut wheel = Wheel::new(0);
        for slot in 0..100 {
            wheel.enter(Timer { slot, life: 0 }, Millis::from(slot) * 600);
        }
        assert_eq!(due(&mut wheel, 10_000_000).len(), 100);
        assert_eq!(due(&mut wheel, 10_000_250).len(), 0);
        let timer_slot = wheel.enter(Timer { slot: 7, life: 0 }, 10_001_000);
        assert!(wheel.is_before(10_000_500, timer_slot) && !wheel.is_before(10_001_000, timer_slot));
        assert_eq!(due(&mut wheel, 10_001_000), [7]);
    }
}
