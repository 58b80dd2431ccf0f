//! The places of each host: how many attempts may be under way to one (scheme, host, port).
//!
//! A destination whose host has no place left waits here, and no worker with it. An attempt holds its place until it ends,
//! and for [`HOLDS`] at most: who has not answered by then is slow, and does not keep the others from the host.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use tidings_model::clock::Millis;
use tidings_model::id::DestinationNo;

use crate::outlet::Host;
use crate::ring::{AppNo, Ring};

/// How long an attempt holds its place, in milliseconds.
const HOLDS: Millis = 1_000;

/// A place at a host: the attempt that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    host: Host,
    attempt: u64,
}

#[derive(Default)]
struct Places {
    /// Until when each attempt holds its place, the first to let go in front.
    held: VecDeque<(Millis, u64)>,
    /// Places that are kept for destinations that have waited and will have their turn.
    reserved: usize,
    waiting: Ring,
    /// A time to look at it is noted.
    is_noted: bool,
}

pub(crate) struct Hosts {
    per_host: usize,
    places: HashMap<Host, Places>,
    attempts: u64,
    /// When to look at hosts that somebody waits for.
    wake_at: BinaryHeap<Reverse<(Millis, Host)>>,
}

impl Hosts {
    pub(crate) fn new(per_host: usize) -> Self {
        Self { per_host: per_host.max(1), places: HashMap::new(), attempts: 0, wake_at: BinaryHeap::new() }
    }

    /// Whether a destination may have a place now: `reserved` when one is kept for it. If not, it waits, and
    /// [`Hosts::next`] names it in its turn.
    pub(crate) fn has_place(
        &mut self,
        host: Host,
        reserved: bool,
        app: AppNo,
        destination: DestinationNo,
        now: Millis,
    ) -> bool {
        let places = self.places.entry(host).or_default();
        places.let_go(now);
        if reserved || places.held.len() + places.reserved < self.per_host {
            return true;
        }
        places.waiting.push(app, destination);
        self.note(host);
        false
    }

    /// Takes a place that [`Hosts::has_place`] granted.
    pub(crate) fn take(&mut self, host: Host, reserved: bool, now: Millis) -> Place {
        self.attempts += 1;
        let place = Place { host, attempt: self.attempts };
        let places = self.places.entry(host).or_default();
        places.reserved = places.reserved.saturating_sub(usize::from(reserved));
        places.held.push_back((now + HOLDS, place.attempt));
        if !places.waiting.is_empty() {
            self.note(host);
        }
        place
    }

    /// Gives back a place that was kept and is not needed.
    pub(crate) fn forgo(&mut self, host: Host) {
        if let Some(places) = self.places.get_mut(&host) {
            places.reserved = places.reserved.saturating_sub(1);
        }
    }

    /// Ends the hold of an attempt, if it still has one; answers its host.
    pub(crate) fn end(&mut self, place: Place) -> Host {
        if let Some(places) = self.places.get_mut(&place.host)
            && let Some(at) = places.held.iter().position(|(_, attempt)| *attempt == place.attempt)
        {
            places.held.remove(at);
        }
        place.host
    }

    /// The next that waits for a place at the host, if there is one; the place is kept for it.
    pub(crate) fn next(&mut self, host: Host, now: Millis) -> Option<DestinationNo> {
        let places = self.places.get_mut(&host)?;
        if places.waiting.is_empty() {
            return None;
        }
        places.let_go(now);
        if places.held.len() + places.reserved >= self.per_host {
            self.note(host);
            return None;
        }
        places.reserved += 1;
        places.waiting.pop(|_| true)
    }

    /// Notes when the first place is let go of, if somebody waits for it.
    fn note(&mut self, host: Host) {
        if let Some(places) = self.places.get_mut(&host)
            && !places.is_noted
            && !places.waiting.is_empty()
            && let Some((until, _)) = places.held.front()
        {
            places.is_noted = true;
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
        if let Some(places) = self.places.get_mut(&host) {
            places.is_noted = false;
        }
        Some(host)
    }

    /// When a host has to be looked at next.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.wake_at.peek().map(|Reverse((at, _))| *at)
    }

    /// Forgets hosts of which nothing is worth keeping.
    pub(crate) fn forget_idle(&mut self, now: Millis) {
        self.places.retain(|_, places| {
            places.let_go(now);
            !places.held.is_empty() || places.reserved > 0 || !places.waiting.is_empty()
        });
    }
}

impl Places {
    fn let_go(&mut self, now: Millis) {
        while self.held.front().is_some_and(|(until, _)| *until <= now) {
            self.held.pop_front();
        }
    }
}
