//! Supply from the store: which destinations have room for more deliveries, and which run low.

use std::collections::HashSet;

use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DestinationNo};

use super::Dispatcher;
use crate::destination_queue::DestinationQueue;
use crate::outlet::DestinationPolicy;
use crate::ring::AppNo;

impl Dispatcher {
    /// Records whether the store has more for a destination than was claimed.
    pub(crate) fn set_more(&mut self, destination: DestinationNo, more: bool) {
        if more {
            self.queue(destination).more = true;
        } else if let Some(queue) = self.queues.get_mut(&destination) {
            queue.more = false;
        }
    }

    /// Records that this node makes no attempts for a destination: it is disabled, or another node serves it.
    pub(crate) fn pass_over(&mut self, destination: DestinationNo) {
        self.set_more(destination, false);
        self.others.insert(destination);
    }

    /// Destinations that the query for due work skips: they have enough queued, are paused, or get no attempts from
    /// this node. Since the query does not tell whether the store has more for them, they are marked as having more,
    /// and are claimed for when they run low. Destinations of `apps` are left out: the query skips those apps
    /// altogether.
    pub(crate) fn full(
        &mut self,
        policy: impl Fn(DestinationNo) -> DestinationPolicy,
        apps: &[AppId],
        now: Millis,
    ) -> Vec<DestinationNo> {
        let apps = self.numbers(apps);
        self.others.retain(|no| policy(*no) == DestinationPolicy::Disabled);
        let configured = self.configured as usize;
        let enough = |queue: &DestinationQueue| {
            queue.paused_until > now || queue.waiting() >= configured.max(queue.running as usize * 2)
        };
        let full = self.queues.iter_mut().filter(|(_, queue)| enough(queue));
        let full = full.filter_map(|(no, queue)| {
            queue.more = true;
            (!queue.app.is_some_and(|app| apps.contains(&app))).then_some(*no)
        });
        full.chain(self.others.iter().copied()).collect()
    }

    fn numbers(&self, apps: &[AppId]) -> Vec<AppNo> {
        apps.iter().filter_map(|app| self.app_numbers.get(app).copied()).collect()
    }

    /// Records a destination that runs low while the store has more for it. Returns whether it does.
    pub(super) fn note_low(&mut self, destination: DestinationNo) -> bool {
        let low = |queue: &DestinationQueue| queue.more && queue.waiting() <= queue.running as usize;
        let low = self.queues.get(&destination).is_some_and(low);
        if low {
            self.low.insert(destination);
        }
        low
    }

    /// Whether a destination runs low, so that its due deliveries should be claimed.
    pub(crate) fn has_low(&self) -> bool {
        !self.low.is_empty()
    }

    /// Takes the destinations that run low. Those of `apps`, which hold their share of memory, are dropped.
    pub(crate) fn take_low(&mut self, apps: &[AppId]) -> Vec<DestinationNo> {
        let full = self.numbers(apps);
        let has_memory = |no: &DestinationNo| {
            let app = self.queues.get(no).and_then(|queue| queue.app);
            !app.is_some_and(|app| full.contains(&app))
        };
        std::mem::take(&mut self.low).into_iter().filter(has_memory).collect()
    }

    /// Puts back destinations that run low and could not be claimed for.
    pub(crate) fn still_low(&mut self, destinations: impl IntoIterator<Item = DestinationNo>) {
        self.low.extend(destinations);
    }

    /// Destinations that have no room for more deliveries of a fan-out. They are marked as having more in the store,
    /// and are claimed for when they run low.
    pub(crate) fn without_room(
        &mut self,
        policy: impl Fn(DestinationNo) -> DestinationPolicy,
        now: Millis,
    ) -> HashSet<DestinationNo> {
        let configured = self.configured;
        let full = |no: &DestinationNo, queue: &DestinationQueue| queue.is_full(|| policy(*no), configured, now);
        let without_room = self.queues.iter_mut().filter(|(no, queue)| full(no, queue));
        without_room.map(|(no, queue)| (*no, queue.more = true).0).collect()
    }
}
