//! The slots of each host: how many attempts may be under way to one (scheme, host, port).
//!
//! A destination whose host has no free slot waits here, without a worker. An attempt holds its slot until it ends, and
//! for [`SLOT_HELD`] at most: an attempt without an answer by then is slow, and must not keep the others from the host.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use tidings_model::clock::Millis;
use tidings_model::id::DestinationNo;

use crate::outlet::Host;
use crate::ring::{AppNo, Ring};

/// How long an attempt holds its slot, in milliseconds.
const SLOT_HELD: Millis = 1_000;

/// A slot at a host: the attempt that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostSlot {
    host: Host,
    attempt: u64,
}

#[derive(Default)]
struct HostSlots {
    /// Until when each attempt holds its slot, the first to become free in front.
    held: VecDeque<(Millis, u64)>,
    /// HostSlots that are kept for destinations that have waited and will have their turn.
    reserved: usize,
    waiting: Ring,
    /// `Hosts::wake_at` has a time for it.
    is_wake_set: bool,
}

pub(crate) struct Hosts {
    per_host: usize,
    slots: HashMap<Host, HostSlots>,
    attempts: u64,
    /// When to look at hosts that destinations wait for.
    wake_at: BinaryHeap<Reverse<(Millis, Host)>>,
}

impl Hosts {
    pub(crate) fn new(per_host: usize) -> Self {
        Self { per_host: per_host.max(1), slots: HashMap::new(), attempts: 0, wake_at: BinaryHeap::new() }
    }

    /// Whether a destination may have a slot now: `reserved` when one is kept for it. If not, it waits, and
    /// [`Hosts::next`] names it in its turn.
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

    /// Gives back a slot that was kept and is not needed.
    pub(crate) fn unreserve(&mut self, host: Host) {
        if let Some(slots) = self.slots.get_mut(&host) {
            slots.reserved = slots.reserved.saturating_sub(1);
        }
    }

    /// Ends the hold of an attempt, if it still has one; answers its host.
    pub(crate) fn end(&mut self, slot: HostSlot) -> Host {
        if let Some(slots) = self.slots.get_mut(&slot.host)
            && let Some(at) = slots.held.iter().position(|(_, attempt)| *attempt == slot.attempt)
        {
            slots.held.remove(at);
        }
        slot.host
    }

    /// The next that waits for a slot at the host, if there is one; the slot is kept for it.
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

    /// Sets a wake-up for when the first slot becomes free, if a destination waits for it.
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

    /// A host that has to be looked at now.
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

    /// When a host has to be looked at next.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.wake_at.peek().map(|Reverse((at, _))| *at)
    }

    /// Forgets hosts of which nothing is worth keeping.
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
