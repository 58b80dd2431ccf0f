//! Supply from the store: which destinations have room for more deliveries, and which run low.

use std::collections::HashSet;

use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DestinationNo};

use super::Dispatcher;
use crate::destination_queue::DestinationQueue;
use crate::outlet::DestinationPolicy;
use crate::ring::AppNo;

impl Dispatcher {
    /// Notes whether the store has more for a destination than was fetched.
    pub(crate) fn set_more(&mut self, destination: DestinationNo, more: bool) {
        if more {
            self.queue(destination).more = true;
        } else if let Some(queue) = self.queues.get_mut(&destination) {
            queue.more = false;
        }
    }

    /// Notes that what is due to a destination is not for this node.
    pub(crate) fn pass_over(&mut self, destination: DestinationNo) {
        self.set_more(destination, false);
        self.others.insert(destination);
    }

    /// Destinations that the store need not be asked for: they hold enough, are paused, or are not for this node.
    /// Whether the store has more for those that hold enough is not known then, so it is asked when they run low. Those
    /// of `apps`, which are not asked for at all, are left out.
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

    /// Notes whether a destination runs low while the store has more for it; answers whether it does.
    pub(super) fn note_low(&mut self, destination: DestinationNo) -> bool {
        let low = |queue: &DestinationQueue| queue.more && queue.waiting() <= queue.running as usize;
        let low = self.queues.get(&destination).is_some_and(low);
        if low {
            self.low.insert(destination);
        }
        low
    }

    /// Whether the store has to be asked for what is due to destinations that run low.
    pub(crate) fn has_low(&self) -> bool {
        !self.low.is_empty()
    }

    /// The destinations that run low, but for those of `apps`, for which there is no room.
    pub(crate) fn take_low(&mut self, apps: &[AppId]) -> Vec<DestinationNo> {
        let full = self.numbers(apps);
        let has_room = |no: &DestinationNo| {
            let app = self.queues.get(no).and_then(|queue| queue.app);
            !app.is_some_and(|app| full.contains(&app))
        };
        std::mem::take(&mut self.low).into_iter().filter(has_room).collect()
    }

    /// Puts back destinations that run low and could not be asked for.
    pub(crate) fn still_low(&mut self, destinations: impl IntoIterator<Item = DestinationNo>) {
        self.low.extend(destinations);
    }

    /// Destinations that have no room for more of a fan-out. Whether the store has more for them is not known then, so
    /// it is asked when they run low.
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
