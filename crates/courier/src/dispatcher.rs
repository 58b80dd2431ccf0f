//! The dispatcher: every destination's queue, and which of them sends its next request.
//!
//! A destination with something to send waits in one of three rings: healthy (it answered its last attempt), untried
//! (it has never answered) or failing (its last attempt got no answer). Each ring is round-robin by app.
//!
//! Untried and failing destinations together may use half of the permits, failing ones a quarter. So half of the
//! permits are left for healthy destinations, however many receivers hang. Of the untried and failing shares an app may
//! use as much as it leaves free, and of all permits three times as much. So an app that has just begun to send always
//! finds permits.
//!
//! A host has slots of its own ([`crate::hosts`]); a destination whose host has none free waits there.
//!
//! All of it is behind one mutex, held for a few map operations and never over I/O.

mod supply;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DestinationNo};

use crate::destination_queue::DestinationQueue;
use crate::health::{AttemptHealth, DestinationHealth};
use crate::hosts::{HostSlot, Hosts};
use crate::outlet::{DestinationPolicy, Host};
use crate::queued_delivery::QueuedDelivery;
use crate::ring::{AppNo, Ring};
use crate::settings::Settings;
use crate::usage::{Answered, TIMES_FREE, Usage};

/// The least time between the starts of two attempts to failing destinations, in milliseconds. Without it, receivers
/// that hang would all time out and be attempted again at the same moment, and would delay everything else.
const FAILING_INTERVAL: Millis = 1;

/// One request to make now. Its permit is released by [`Dispatcher::end`].
pub(crate) struct Dispatch {
    pub(crate) permit: DispatchPermit,
    /// The deliveries that the request carries; never empty.
    pub(crate) items: Vec<QueuedDelivery>,
}

/// What a dispatch occupies until it ends: one permit of its app and health, and a slot at its host.
#[derive(Clone, Copy)]
pub(crate) struct DispatchPermit {
    pub(crate) destination: DestinationNo,
    app: AppNo,
    health: DestinationHealth,
    slot: Option<HostSlot>,
}

fn queue_of<'q>(
    queues: &'q mut HashMap<DestinationNo, DestinationQueue>,
    answered: &Answered,
    no: DestinationNo,
) -> &'q mut DestinationQueue {
    queues.entry(no).or_insert_with(|| DestinationQueue::of(answered.has(no)))
}

/// The number of an app. A new app gets the next number.
fn number(numbers: &mut HashMap<AppId, AppNo>, by_app: &mut Vec<Usage>, app: &AppId) -> AppNo {
    if let Some(no) = numbers.get(app) {
        return *no;
    }
    let no = by_app.len() as AppNo;
    by_app.push(Usage::default());
    numbers.insert(app.clone(), no);
    no
}

pub(crate) struct Dispatcher {
    queues: HashMap<DestinationNo, DestinationQueue>,
    /// Destinations that have something due and are disabled, or served by another node.
    others: HashSet<DestinationNo>,
    answered: Answered,
    /// Destinations ready to send, by health.
    healthy: Ring,
    untried: Ring,
    failing: Ring,
    /// When the next attempt to a failing destination may start.
    next_failing: Millis,
    /// Whether a failing destination waits for that time.
    failing_waits: bool,
    /// Counts the destinations that `next` returned, so that each ring comes first at times and none starves.
    round: usize,
    hosts: Hosts,
    app_numbers: HashMap<AppId, AppNo>,
    /// Permits in use by each app, indexed by app number.
    by_app: Vec<Usage>,
    in_use: Usage,
    max_running: usize,
    configured: u32,
    /// When to look at a destination's queue again: it is paused, or waits for its rate.
    wake_at: BinaryHeap<Reverse<(Millis, DestinationNo)>>,
    /// When the scheduler means to wake up next.
    planned_wake: Millis,
    /// Destinations that run low while the store has more for them.
    low: HashSet<DestinationNo>,
    /// Deliveries to release to the store, with the time at which they are due.
    pub(crate) returns: Vec<(QueuedDelivery, Millis)>,
    pub(crate) stopped: bool,
}

impl Dispatcher {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            queues: HashMap::new(),
            others: HashSet::new(),
            answered: Answered::default(),
            healthy: Ring::default(),
            untried: Ring::default(),
            failing: Ring::default(),
            next_failing: 0,
            failing_waits: false,
            round: 0,
            hosts: Hosts::new(settings.per_host),
            app_numbers: HashMap::new(),
            by_app: Vec::new(),
            in_use: Usage::default(),
            max_running: settings.max_in_flight.max(2),
            configured: settings.concurrency.max(1),
            wake_at: BinaryHeap::new(),
            planned_wake: 0,
            low: HashSet::new(),
            returns: Vec::new(),
            stopped: false,
        }
    }

    pub(crate) fn running(&self) -> usize {
        self.in_use.all
    }

    fn queue(&mut self, destination: DestinationNo) -> &mut DestinationQueue {
        queue_of(&mut self.queues, &self.answered, destination)
    }

    /// How many more deliveries a destination may have in memory.
    pub(crate) fn room(&self, destination: DestinationNo, policy: DestinationPolicy, now: Millis) -> usize {
        if self.stopped {
            return 0;
        }
        self.queues.get(&destination).map_or(DestinationQueue::default().room(policy, self.configured, now), |queue| {
            queue.room(policy, self.configured, now)
        })
    }

    /// Queues a delivery, with those of its lane that go in the same request.
    pub(crate) fn push(&mut self, item: QueuedDelivery, fresh: bool, front: bool) {
        let destination = item.leased.key.destination;
        let queue = queue_of(&mut self.queues, &self.answered, destination);
        if queue.app.is_none() {
            queue.app = Some(number(&mut self.app_numbers, &mut self.by_app, &item.leased.key.app));
        }
        queue.push(item, fresh, front);
        self.list(destination);
    }

    /// Puts back deliveries that could not be attempted, and pauses their destination until a time.
    pub(crate) fn put_back(&mut self, destination: DestinationNo, items: Vec<QueuedDelivery>, until: Millis) {
        if self.stopped {
            self.returns.extend(items.into_iter().map(|item| (item, until)));
            return;
        }
        let queue = self.queue(destination);
        QueuedDelivery::group(items).into_iter().rev().for_each(|item| queue.put_back(item));
        queue.paused_until = queue.paused_until.max(until);
        self.wake_at.push(Reverse((until, destination)));
    }

    /// Puts a destination into the ring of its health, if it has something to send and is not in a ring yet.
    fn list(&mut self, destination: DestinationNo) {
        if let Some(queue) = self.queues.get_mut(&destination)
            && !queue.listed
            && queue.waiting() > 0
        {
            queue.listed = true;
            let Some(app) = queue.app else { return };
            match queue.health() {
                DestinationHealth::Healthy => self.healthy.push(app, destination),
                DestinationHealth::Untried => self.untried.push(app, destination),
                DestinationHealth::Failing => self.failing.push(app, destination),
            }
        }
    }

    /// The next destination of the rings whose share and app have permits left.
    fn next(&mut self, now: Millis) -> Option<DestinationNo> {
        use DestinationHealth::{Failing, Healthy, Untried};
        self.failing_waits = false;
        let (usage, by_app) = (self.in_use, &self.by_app);
        let half = self.max_running / 2;
        let free = self.max_running - usage.all;
        let unproven_free = half.saturating_sub(usage.unproven);
        let failing_free = half.div_ceil(2).saturating_sub(usage.failing);
        let of = |app: AppNo| by_app.get(app as usize).copied().unwrap_or_default();
        let may = |app| of(app).all < TIMES_FREE * free;
        let may_untried = |app| may(app) && of(app).unproven < unproven_free;
        let may_failing = |app| may_untried(app) && of(app).failing < failing_free;
        // Each ring comes first at times, so that none starves while another could use every permit.
        let order = match self.round % 4 {
            0 => [Untried, Failing, Healthy],
            2 => [Healthy, Untried, Failing],
            _ => [Healthy, Failing, Untried],
        };
        for health in order {
            let next = match health {
                Healthy => self.healthy.pop(may),
                Untried => self.untried.pop(may_untried),
                Failing if self.next_failing > now => {
                    self.failing_waits = !self.failing.is_empty();
                    None
                }
                Failing => self.failing.pop(may_failing).inspect(|_| self.next_failing = now + FAILING_INTERVAL),
            };
            if next.is_some() {
                self.round = self.round.wrapping_add(1);
                return next;
            }
        }
        None
    }

    /// The next request to make, if one may be made now.
    /// `batch` is the most deliveries that one request to a destination carries.
    pub(crate) fn start(
        &mut self,
        policy: impl Fn(DestinationNo) -> DestinationPolicy,
        batch: impl Fn(DestinationNo) -> usize,
        now: Millis,
    ) -> Option<Dispatch> {
        while !self.stopped && self.in_use.all < self.max_running {
            let destination = self.next(now)?;
            let Some(queue) = self.queues.get_mut(&destination) else { continue };
            queue.listed = false;
            let reserved = queue.reserved.take();
            let dispatch = self.begin(destination, reserved, &policy, &batch, now);
            if dispatch.is_some() {
                self.list(destination);
                return dispatch;
            }
            if let Some(host) = reserved {
                self.hosts.unreserve(host);
                self.admit(host, now);
            }
        }
        None
    }

    /// Dispatches a destination's next request, if its own limits allow it. `reserved`: a slot at this host is reserved
    /// for it.
    fn begin(
        &mut self,
        destination: DestinationNo,
        reserved: Option<Host>,
        policy: &impl Fn(DestinationNo) -> DestinationPolicy,
        batch: &impl Fn(DestinationNo) -> usize,
        now: Millis,
    ) -> Option<Dispatch> {
        let queue = self.queues.get_mut(&destination)?;
        let app = queue.app?;
        let policy = policy(destination);
        if policy == DestinationPolicy::Disabled {
            // The deliveries stay pending in the store, and are claimed again when the destination is enabled.
            self.returns.extend(queue.drain().map(|item| (item, now)));
            return None;
        }
        if queue.waiting() == 0 || queue.running >= queue.limit(policy, self.configured) {
            // It is listed again when one of its attempts ends.
            return None;
        }
        let host = if let DestinationPolicy::Open { host, .. } = policy { host } else { None };
        let is_kept = reserved.is_some() && reserved == host;
        if let Some(host) = host
            && !self.hosts.has_slot(host, is_kept, app, destination, now)
        {
            queue.listed = true;
            return None;
        }
        if let Err(at) = queue.take_token(policy, now) {
            self.wake_at.push(Reverse((at, destination)));
            return None;
        }
        let most = batch(destination).max(1);
        let mut first = queue.pop()?;
        let behind = std::mem::take(&mut first.behind);
        let mut items = vec![first];
        items.extend(behind);
        if items.len() > most {
            // The destination's batch size has shrunk since they were claimed. The rest waits in its lane in the store.
            self.returns.extend(items.drain(most..).map(|item| (item, now)));
        }
        while items.len() < most
            && let Some(next) = queue.pop()
        {
            if items.len() + 1 + next.behind.len() > most {
                queue.put_back(next);
                break;
            }
            items.extend(next.ungroup());
        }
        let health = queue.health();
        queue.running += 1;
        self.in_use.count(health, |permits| *permits += 1);
        if let Some(usage) = self.by_app.get_mut(app as usize) {
            usage.count(health, |permits| *permits += 1);
        }
        let slot = host.map(|host| self.hosts.take(host, is_kept, now));
        if let Some(other) = reserved.filter(|_| !is_kept) {
            self.hosts.unreserve(other);
            self.admit(other, now);
        }
        Some(Dispatch { permit: DispatchPermit { destination, app, health, slot }, items })
    }

    /// Lists destinations that wait for a slot at a host, as far as there are free slots. Returns how many.
    fn admit(&mut self, host: Host, now: Millis) -> usize {
        let mut admitted = 0;
        while let Some(destination) = self.hosts.next(host, now) {
            match self.queues.get_mut(&destination) {
                Some(queue) if queue.waiting() > 0 && queue.reserved.is_none() => {
                    queue.reserved = Some(host);
                    queue.listed = false;
                    self.list(destination);
                    admitted += 1;
                }
                other => {
                    if let Some(queue) = other {
                        queue.listed = false;
                    }
                    self.hosts.unreserve(host);
                }
            }
        }
        admitted
    }

    /// Releases a permit. Returns whether the scheduler has to be woken: more than one destination got a slot, or this
    /// one runs low.
    pub(crate) fn end(&mut self, permit: DispatchPermit, now: Millis) -> bool {
        let DispatchPermit { destination, app, health, slot } = permit;
        let less = |permits: &mut usize| *permits = permits.saturating_sub(1);
        self.in_use.count(health, less);
        if let Some(usage) = self.by_app.get_mut(app as usize) {
            usage.count(health, less);
        }
        if let Some(queue) = self.queues.get_mut(&destination) {
            queue.end(now);
            if queue.idle(now) {
                self.queues.remove(&destination);
            }
        }
        self.list(destination);
        let several = slot.is_some_and(|slot| {
            let host = self.hosts.end(slot);
            self.admit(host, now) > 1
        });
        self.note_low(destination) || several
    }

    /// Updates a destination's health and window after an attempt. If the destination asked for a pause, it keeps no
    /// deliveries in memory until the pause ends; returns that time. Calls `policy` only if it matters: not for a
    /// destination that was healthy and still is.
    pub(crate) fn learn(
        &mut self,
        destination: DestinationNo,
        health: AttemptHealth,
        policy: impl Fn(DestinationNo) -> DestinationPolicy,
        now: Millis,
    ) -> Option<Millis> {
        let configured = self.configured;
        let queue = self.queues.get_mut(&destination)?;
        if health == AttemptHealth::Healthy && queue.is_healthy() {
            return None;
        }
        let limit = match policy(destination) {
            DestinationPolicy::Open { concurrency, .. } => concurrency.unwrap_or(configured),
            _ => 1,
        };
        let answered = queue.answered;
        queue.learn(health, limit, now);
        if queue.answered && !answered {
            self.answered.add(destination);
        }
        if queue.paused_until <= now {
            return None;
        }
        let until = queue.paused_until;
        self.release_queue(destination, until);
        matches!(health, AttemptHealth::SlowDown(_)).then_some(until)
    }

    /// Pauses a destination that asked another node for a pause.
    pub(crate) fn pause(&mut self, destination: DestinationNo, until: Millis, now: Millis) {
        let queue = self.queue(destination);
        if until > queue.paused_until.max(now) {
            queue.paused_until = until;
            self.release_queue(destination, until);
        }
    }

    /// Releases the queued deliveries of a paused destination, and looks at it again when the pause is over.
    fn release_queue(&mut self, destination: DestinationNo, until: Millis) {
        if let Some(queue) = self.queues.get_mut(&destination) {
            self.returns.extend(queue.drain().map(|item| (item, until)));
        }
        self.wake_at.push(Reverse((until, destination)));
    }

    /// Lists the destinations whose wake-up time has passed.
    pub(crate) fn wake(&mut self, now: Millis) {
        while let Some(host) = self.hosts.due(now) {
            self.admit(host, now);
        }
        while let Some(&Reverse((at, destination))) = self.wake_at.peek() {
            if at > now {
                break;
            }
            self.wake_at.pop();
            self.list(destination);
            self.note_low(destination);
        }
    }

    /// The next time at which a queue or a host has to be looked at.
    fn next_wake(&self) -> Option<Millis> {
        let first = self.wake_at.peek().map(|Reverse((at, _))| *at);
        let failing = self.failing_waits.then_some(self.next_failing);
        first.into_iter().chain(self.hosts.next_due()).chain(failing).min()
    }

    /// Sets when the scheduler wakes up if nothing happens: at `due`, or earlier if a queue has to be looked at
    /// earlier. Returns that time.
    pub(crate) fn plan_wake(&mut self, due: Millis) -> Millis {
        self.planned_wake = self.next_wake().map_or(due, |at| due.min(at));
        self.planned_wake
    }

    /// Whether a queue has to be looked at before the scheduler's planned wake-up: the need arose since it was planned.
    pub(crate) fn is_sooner(&self) -> bool {
        self.next_wake().is_some_and(|at| at < self.planned_wake)
    }

    /// Drops idle queues and hosts, and the memory of empty rings.
    pub(crate) fn forget_idle(&mut self, now: Millis) {
        self.queues.retain(|_, queue| !queue.idle(now));
        self.hosts.forget_idle(now);
        [&mut self.healthy, &mut self.untried, &mut self.failing].into_iter().for_each(Ring::shrink);
    }

    /// Stops: releases all queued deliveries.
    pub(crate) fn stop(&mut self, now: Millis) {
        self.stopped = true;
        for queue in self.queues.values_mut() {
            self.returns.extend(queue.drain().map(|item| (item, now)));
        }
    }
}

#[cfg(test)]
mod tests;
