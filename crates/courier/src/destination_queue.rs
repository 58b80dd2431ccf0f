//! One destination's queue: what is ready for it, and how much of that may be under way.
//!
//! Fresh deliveries and those that come again wait in two queues and take turns, so retries never starve fresh events
//! and a flood of fresh events never starves retries. The window of attempts under way shrinks by half when the
//! destination is in trouble and grows back by one with each success, so one that hangs or is overloaded soon has few
//! left to hang with.

use std::collections::VecDeque;
use std::time::Duration;

use tidings_model::clock::Millis;

use crate::health::{AttemptHealth, DestinationHealth};
use crate::outlet::{DestinationPolicy, Host};
use crate::queued_delivery::QueuedDelivery;
use crate::ring::AppNo;

/// Fresh deliveries that get a turn for each that comes again.
const FRESH_TURNS: u32 = 3;
/// The most deliveries held for one destination, unless it is fast: then as many as it ends in so many seconds. What is
/// not held has to be written to the store, and read from it again.
const MAX_WAITING: usize = 1_024;
const HELD_SECONDS: usize = 4;
/// A destination with a rate limit holds at most this many seconds' worth of deliveries in memory.
const HELD_SECONDS_OF_RATE: usize = 10;
/// The first pause after a destination asked for one, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A bucket of tokens is full again after so long.
const RATE_WINDOW: Millis = 1_000;

/// How many attempts end in a second.
#[derive(Default)]
struct Pace {
    since: Millis,
    counted: usize,
    per_second: usize,
}

impl Pace {
    const WINDOW: Millis = 1_000;

    fn count(&mut self, now: Millis) {
        let passed = now - self.since;
        if passed >= Self::WINDOW {
            self.per_second = self.counted * Self::WINDOW as usize / passed as usize;
            (self.since, self.counted) = (now, 0);
        }
        self.counted += 1;
    }
}

#[derive(Default)]
pub(crate) struct DestinationQueue {
    fresh: VecDeque<QueuedDelivery>,
    again: VecDeque<QueuedDelivery>,
    turn: u32,
    /// Attempts under way.
    pub(crate) running: u32,
    pace: Pace,
    /// How many may be; `None` until something went wrong.
    window: Option<u32>,
    /// Nothing is attempted before this steady time.
    pub(crate) paused_until: Millis,
    pause: Duration,
    /// Token bucket: what may be sent now, in thousandths, and when that was reckoned.
    tokens: u64,
    reckoned_at: Millis,
    /// Its last attempt got no answer.
    pub(crate) failing: bool,
    /// It has answered before.
    pub(crate) answered: bool,
    /// Whose it is, once it has had a delivery.
    pub(crate) app: Option<AppNo>,
    /// A slot at this host is kept for it.
    pub(crate) reserved: Option<Host>,
    /// The store has more for it than was fetched.
    pub(crate) more: bool,
    /// It waits for a turn in the dispatcher, or for a slot at its host.
    pub(crate) listed: bool,
}

impl DestinationQueue {
    /// The queue of a destination that has answered before, or not as far as is known.
    pub(crate) fn of(answered: bool) -> Self {
        Self { answered, ..Self::default() }
    }

    /// Takes a delivery in. Lanes' next ones go to the front, where their predecessor was.
    pub(crate) fn push(&mut self, item: QueuedDelivery, fresh: bool, front: bool) {
        let waiting = if fresh { &mut self.fresh } else { &mut self.again };
        if front { waiting.push_front(item) } else { waiting.push_back(item) }
    }

    /// Hands out the next delivery.
    pub(crate) fn pop(&mut self) -> Option<QueuedDelivery> {
        self.turn = self.turn.wrapping_add(1);
        let again_first = self.turn.is_multiple_of(FRESH_TURNS + 1);
        if again_first {
            self.again.pop_front().or_else(|| self.fresh.pop_front())
        } else {
            self.fresh.pop_front().or_else(|| self.again.pop_front())
        }
    }

    /// Puts back what was handed out and could not be attempted.
    pub(crate) fn put_back(&mut self, item: QueuedDelivery) {
        self.again.push_front(item);
    }

    /// Empties the queue.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = QueuedDelivery> + '_ {
        self.fresh.drain(..).chain(self.again.drain(..)).flat_map(QueuedDelivery::apart)
    }

    /// How it stands.
    pub(crate) fn health(&self) -> DestinationHealth {
        match (self.failing, self.answered) {
            (true, _) => DestinationHealth::Failing,
            (false, true) => DestinationHealth::Healthy,
            (false, false) => DestinationHealth::Untried,
        }
    }

    /// Deliveries waiting, those of one lane that go together as one.
    pub(crate) fn waiting(&self) -> usize {
        self.fresh.len() + self.again.len()
    }

    /// Whether nothing about it is worth keeping: not even how much of its rate is used up.
    pub(crate) fn idle(&self, now: Millis) -> bool {
        self.waiting() == 0
            && self.running == 0
            && !self.listed
            && !self.more
            && self.window.is_none()
            && !self.failing
            && self.paused_until <= now
            && now - self.reckoned_at >= RATE_WINDOW
    }

    /// How many attempts may be under way.
    pub(crate) fn limit(&self, policy: DestinationPolicy, configured: u32) -> u32 {
        let limit = match policy {
            DestinationPolicy::Open { concurrency, .. } => concurrency.unwrap_or(configured).max(1),
            // One turn at a time finds out that there is nothing to send.
            DestinationPolicy::Disabled | DestinationPolicy::Gone => 1,
        };
        self.window.map_or(limit, |window| window.min(limit))
    }

    /// The most deliveries it may hold while its window is shrunk.
    fn window_capacity(&self) -> Option<usize> {
        self.window.map(|window| window as usize * 2)
    }

    /// Whether it has no room for more. Asks for the policy only where it matters: there may be thousands of queues.
    pub(crate) fn is_full(&self, policy: impl FnOnce() -> DestinationPolicy, configured: u32, now: Millis) -> bool {
        self.paused_until > now
            || match self.window_capacity() {
                Some(capacity) => self.waiting() >= capacity,
                None => self.waiting() >= HELD_SECONDS_OF_RATE && self.room(policy(), configured, now) == 0,
            }
    }

    /// How many more deliveries it may hold.
    pub(crate) fn room(&self, policy: DestinationPolicy, configured: u32, now: Millis) -> usize {
        if self.paused_until > now || policy == DestinationPolicy::Disabled {
            return 0;
        }
        let most = match (self.window_capacity(), policy) {
            (Some(capacity), _) => capacity,
            (None, DestinationPolicy::Open { rate: Some(rate), .. }) => {
                MAX_WAITING.min(HELD_SECONDS_OF_RATE * rate.max(1) as usize)
            }
            (None, DestinationPolicy::Open { .. }) => MAX_WAITING.max(self.pace.per_second * HELD_SECONDS),
            (None, _) => configured as usize,
        };
        most.saturating_sub(self.waiting())
    }

    /// Notes the end of an attempt.
    pub(crate) fn end(&mut self, now: Millis) {
        self.running = self.running.saturating_sub(1);
        self.pace.count(now);
    }

    /// Takes the right to send one; otherwise says when to come back.
    pub(crate) fn take_token(&mut self, policy: DestinationPolicy, now: Millis) -> Result<(), Millis> {
        if self.paused_until > now {
            return Err(self.paused_until);
        }
        let DestinationPolicy::Open { rate: Some(rate), .. } = policy else { return Ok(()) };
        const ONE: u64 = 1_000;
        let rate = u64::from(rate.max(1));
        let passed = now.saturating_sub(self.reckoned_at).max(0) as u64;
        // A bucket of one second's worth: `rate` tokens of a thousand, filled with `rate` a millisecond.
        self.tokens = self.tokens.saturating_add(passed.saturating_mul(rate)).min(rate * ONE);
        self.reckoned_at = now;
        if self.tokens < ONE {
            return Err(now + ((ONE - self.tokens).div_ceil(rate)).max(1) as Millis);
        }
        self.tokens -= ONE;
        Ok(())
    }

    /// Whether an attempt that went well would teach it nothing.
    pub(crate) fn is_healthy(&self) -> bool {
        self.answered && !self.failing && self.window.is_none() && self.pause.is_zero()
    }

    /// Learns from an attempt.
    pub(crate) fn learn(&mut self, health: AttemptHealth, limit: u32, now: Millis) {
        self.answered |= health != AttemptHealth::Failing;
        match health {
            AttemptHealth::Healthy => {
                self.failing = false;
                self.pause = Duration::ZERO;
                self.window = self.window.map(|window| window + 1).filter(|window| *window < limit);
            }
            AttemptHealth::Failing => {
                self.failing = true;
                self.shrink(limit);
            }
            AttemptHealth::SlowDown(asked) => {
                self.failing = false;
                self.shrink(limit);
                self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
                let pause = asked.unwrap_or(self.pause).clamp(self.pause, PAUSE.1);
                self.paused_until = self.paused_until.max(now + tidings_model::clock::millis(pause));
            }
        }
    }

    fn shrink(&mut self, limit: u32) {
        self.window = Some((self.window.unwrap_or(limit) / 2).max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: DestinationPolicy = DestinationPolicy::Open { concurrency: None, rate: None, host: None };

    #[test]
    fn a_fast_line_holds_what_it_ends_in_a_few_seconds() {
        let mut queue = DestinationQueue::default();
        for second in 0..3 {
            for n in 0..2_000 {
                queue.end(second * 1_000 + n / 2);
            }
        }
        assert_eq!(queue.room(OPEN, 10, 3_000), 2_000 * HELD_SECONDS);
        let limited = DestinationPolicy::Open { concurrency: None, rate: Some(5), host: None };
        assert_eq!(queue.room(limited, 10, 3_000), 50);
        // It was quick once: a minute later that counts no more.
        queue.end(63_000);
        assert_eq!(queue.room(OPEN, 10, 63_000), MAX_WAITING);
        queue.learn(AttemptHealth::Failing, 10, 63_000);
        assert_eq!(queue.room(OPEN, 10, 63_000), 10);
    }
}
