//! The slots of each host: how many attempts may be in flight to one (scheme, host, port).
//!
//! A destination whose host has no free slot waits here, without a worker. An attempt holds its slot until it ends, but
//! for [`SLOT_HELD`] at most: an attempt without an answer by then is slow, and must not block others at the host.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use tidings_model::clock::Millis;
use tidings_model::id::DestinationNo;

use crate::outlet::Host;
use crate::ring::{AppNo, Ring};

/// How long an attempt holds its slot at most, in milliseconds.
const SLOT_HELD: Millis = 1_000;

/// A slot at a host, identified by the attempt that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostSlot {
    host: Host,
    attempt: u64,
}

#[derive(Default)]
struct HostSlots {
    /// Until when each attempt holds its slot. The first to expire is in front.
    held: VecDeque<(Millis, u64)>,
    /// Slots reserved for destinations that have waited and are in the dispatcher's rings now.
    reserved: usize,
    /// Destinations that wait for a slot.
    waiting: Ring,
    /// Whether `Hosts::wake_at` has an entry for the host.
    is_wake_set: bool,
}

pub(crate) struct Hosts {
    per_host: usize,
    slots: HashMap<Host, HostSlots>,
    /// Numbers the attempts.
    attempts: u64,
    /// When to look at hosts that have waiting destinations.
    wake_at: BinaryHeap<Reverse<(Millis, Host)>>,
}

impl Hosts {
    pub(crate) fn new(per_host: usize) -> Self {
        Self { per_host: per_host.max(1), slots: HashMap::new(), attempts: 0, wake_at: BinaryHeap::new() }
    }

    /// Whether a destination may take a slot now. `reserved`: one is reserved for it. If it may not, it waits until
    /// [`Hosts::next`] returns it.
    pub(crate) fn has_slot(
        &mut self,
        host: Host,
        reserved: bool,
        app: AppNo,
        destination: DestinationNo,
        now: Millis,
    ) -> bool {
        let slots = self.slots.entry(host).or_default();
        slots.release_expired(now);
        if reserved || slots.held.len() + slots.reserved < self.per_host {
            return true;
        }
        slots.waiting.push(app, destination);
        self.set_wake(host);
        false
    }

    /// Takes a slot that [`Hosts::has_slot`] granted.
    pub(crate) fn take(&mut self, host: Host, reserved: bool, now: Millis) -> HostSlot {
        self.attempts += 1;
        let slot = HostSlot { host, attempt: self.attempts };
        let slots = self.slots.entry(host).or_default();
        slots.reserved = slots.reserved.saturating_sub(usize::from(reserved));
        slots.held.push_back((now + SLOT_HELD, slot.attempt));
        if !slots.waiting.is_empty() {
            self.set_wake(host);
        }
        slot
    }

    /// Releases a reserved slot that is not needed.
    pub(crate) fn unreserve(&mut self, host: Host) {
        if let Some(slots) = self.slots.get_mut(&host) {
            slots.reserved = slots.reserved.saturating_sub(1);
        }
    }

    /// Releases an attempt's slot, unless it has expired. Returns the host.
    pub(crate) fn end(&mut self, slot: HostSlot) -> Host {
        if let Some(slots) = self.slots.get_mut(&slot.host)
            && let Some(at) = slots.held.iter().position(|(_, attempt)| *attempt == slot.attempt)
        {
            slots.held.remove(at);
        }
        slot.host
    }

    /// The next destination that waits for a slot at the host, if a slot is free. The slot is reserved for it.
    pub(crate) fn next(&mut self, host: Host, now: Millis) -> Option<DestinationNo> {
        let slots = self.slots.get_mut(&host)?;
        if slots.waiting.is_empty() {
            return None;
        }
        slots.release_expired(now);
        if slots.held.len() + slots.reserved >= self.per_host {
            self.set_wake(host);
            return None;
        }
        slots.reserved += 1;
        slots.waiting.pop(|_| true)
    }

    /// Sets a wake-up for the time at which the first slot expires, if a destination waits.
    fn set_wake(&mut self, host: Host) {
        if let Some(slots) = self.slots.get_mut(&host)
            && !slots.is_wake_set
            && !slots.waiting.is_empty()
            && let Some((until, _)) = slots.held.front()
        {
            slots.is_wake_set = true;
            self.wake_at.push(Reverse((*until, host)));
        }
    }

    /// Takes a host whose wake-up time has passed.
    pub(crate) fn due(&mut self, now: Millis) -> Option<Host> {
        let Reverse((at, host)) = *self.wake_at.peek()?;
        if at > now {
            return None;
        }
        self.wake_at.pop();
        if let Some(slots) = self.slots.get_mut(&host) {
            slots.is_wake_set = false;
        }
        Some(host)
    }

    /// The next wake-up time.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.wake_at.peek().map(|Reverse((at, _))| *at)
    }

    /// Drops hosts without held or reserved slots and without waiting destinations.
    pub(crate) fn forget_idle(&mut self, now: Millis) {
        self.slots.retain(|_, slots| {
            slots.release_expired(now);
            !slots.held.is_empty() || slots.reserved > 0 || !slots.waiting.is_empty()
        });
    }
}

impl HostSlots {
    fn release_expired(&mut self, now: Millis) {
        while self.held.front().is_some_and(|(until, _)| *until <= now) {
            self.held.pop_front();
        }
    }
}
