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

/// How many fresh deliveries are handed out for each that was read from the store.
const FRESH_PER_STORED: u32 = 3;
/// The most deliveries held for one destination, unless it is faster than this in [`HELD_SECONDS`]. A delivery that is
/// not held has to be written to the store, and read from it again.
const MAX_WAITING: usize = 1_024;
/// A fast destination holds as many deliveries as it finishes in this many seconds.
const HELD_SECONDS: usize = 4;
/// A destination with a rate limit holds at most this many seconds' worth of deliveries in memory.
const HELD_SECONDS_OF_RATE: usize = 10;
/// The first pause after a destination asked for one, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long an empty token bucket takes to fill, in milliseconds.
const RATE_WINDOW: Millis = 1_000;

/// How many attempts end in a second.
#[derive(Default)]
struct Throughput {
    since: Millis,
    counted: usize,
    per_second: usize,
}

impl Throughput {
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
    /// Deliveries handed over by a publish.
    fresh: VecDeque<QueuedDelivery>,
    /// Deliveries read from the store, and those put back.
    stored: VecDeque<QueuedDelivery>,
    /// Counts the deliveries handed out, to alternate between the two.
    popped: u32,
    /// Attempts in flight.
    pub(crate) running: u32,
    throughput: Throughput,
    /// How many attempts may be in flight; `None` while no failure has shrunk it.
    window: Option<u32>,
    /// Nothing is attempted before this steady time.
    pub(crate) paused_until: Millis,
    /// The length of the last pause; zero after a healthy attempt.
    pause: Duration,
    /// Token bucket: how many requests may be sent now, in thousandths.
    tokens: u64,
    /// When `tokens` was last computed.
    refilled_at: Millis,
    /// Its last attempt got no answer.
    pub(crate) failing: bool,
    /// It has answered before.
    pub(crate) answered: bool,
    /// The app that the destination belongs to; known from the first delivery on.
    pub(crate) app: Option<AppNo>,
    /// The host at which a slot is reserved for it.
    pub(crate) reserved: Option<Host>,
    /// The store has more deliveries for it than were claimed.
    pub(crate) more: bool,
    /// It waits in a ring of the dispatcher, or for a slot at its host.
    pub(crate) listed: bool,
}

impl DestinationQueue {
    /// The queue of a destination. `answered`: it is known to have answered before.
    pub(crate) fn of(answered: bool) -> Self {
        Self { answered, ..Self::default() }
    }

    /// Queues a delivery. The next one of a lane goes to the front, where its predecessor was.
    pub(crate) fn push(&mut self, item: QueuedDelivery, fresh: bool, front: bool) {
        let waiting = if fresh { &mut self.fresh } else { &mut self.stored };
        if front { waiting.push_front(item) } else { waiting.push_back(item) }
    }

    /// Takes the next delivery out.
    pub(crate) fn pop(&mut self) -> Option<QueuedDelivery> {
        self.popped = self.popped.wrapping_add(1);
        let stored_first = self.popped.is_multiple_of(FRESH_PER_STORED + 1);
        if stored_first {
            self.stored.pop_front().or_else(|| self.fresh.pop_front())
        } else {
            self.fresh.pop_front().or_else(|| self.stored.pop_front())
        }
    }

    /// Puts back a delivery that was taken out and could not be attempted.
    pub(crate) fn put_back(&mut self, item: QueuedDelivery) {
        self.stored.push_front(item);
    }

    /// Empties the queue.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = QueuedDelivery> + '_ {
        self.fresh.drain(..).chain(self.stored.drain(..)).flat_map(QueuedDelivery::ungroup)
    }

    /// Which ring of the dispatcher it belongs to.
    pub(crate) fn health(&self) -> DestinationHealth {
        match (self.failing, self.answered) {
            (true, _) => DestinationHealth::Failing,
            (false, true) => DestinationHealth::Healthy,
            (false, false) => DestinationHealth::Untried,
        }
    }

    /// How many deliveries wait. Those of a lane that go in one request count as one.
    pub(crate) fn waiting(&self) -> usize {
        self.fresh.len() + self.stored.len()
    }

    /// Whether it can be dropped: it is empty, and has no state worth keeping, not even a partly used rate.
    pub(crate) fn idle(&self, now: Millis) -> bool {
        self.waiting() == 0
            && self.running == 0
            && !self.listed
            && !self.more
            && self.window.is_none()
            && !self.failing
            && self.paused_until <= now
            && now - self.refilled_at >= RATE_WINDOW
    }

    /// How many attempts may be in flight.
    pub(crate) fn limit(&self, policy: DestinationPolicy, configured: u32) -> u32 {
        let limit = match policy {
            DestinationPolicy::Open { concurrency, .. } => concurrency.unwrap_or(configured).max(1),
            // One dispatch at a time is enough to find out that there is nothing to send.
            DestinationPolicy::Disabled | DestinationPolicy::Gone => 1,
        };
        self.window.map_or(limit, |window| window.min(limit))
    }

    /// The most deliveries it may hold while its window is shrunk.
    fn window_capacity(&self) -> Option<usize> {
        self.window.map(|window| window as usize * 2)
    }

    /// Whether it has no room for more. Calls `policy` only if it matters: there may be thousands of queues.
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
            (None, DestinationPolicy::Open { .. }) => MAX_WAITING.max(self.throughput.per_second * HELD_SECONDS),
            (None, _) => configured as usize,
        };
        most.saturating_sub(self.waiting())
    }

    /// Counts the end of an attempt.
    pub(crate) fn end(&mut self, now: Millis) {
        self.running = self.running.saturating_sub(1);
        self.throughput.count(now);
    }

    /// Takes a token for one request. The error is the time from which to try again.
    pub(crate) fn take_token(&mut self, policy: DestinationPolicy, now: Millis) -> Result<(), Millis> {
        if self.paused_until > now {
            return Err(self.paused_until);
        }
        let DestinationPolicy::Open { rate: Some(rate), .. } = policy else { return Ok(()) };
        const ONE: u64 = 1_000;
        let rate = u64::from(rate.max(1));
        let passed = now.saturating_sub(self.refilled_at).max(0) as u64;
        // The bucket holds one second's worth. In thousandths of a token: capacity `rate * ONE`, refilled by `rate`
        // each millisecond.
        self.tokens = self.tokens.saturating_add(passed.saturating_mul(rate)).min(rate * ONE);
        self.refilled_at = now;
        if self.tokens < ONE {
            return Err(now + ((ONE - self.tokens).div_ceil(rate)).max(1) as Millis);
        }
        self.tokens -= ONE;
        Ok(())
    }

    /// Whether a healthy attempt would change nothing.
    pub(crate) fn is_healthy(&self) -> bool {
        self.answered && !self.failing && self.window.is_none() && self.pause.is_zero()
    }

    /// Updates window, pause and health after an attempt: a failure halves the window, a healthy attempt adds one.
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
