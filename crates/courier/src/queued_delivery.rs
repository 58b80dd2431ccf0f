//! A delivery in memory, with those of its lane that go in the same request.

use std::sync::Arc;

use tidings_store::queue::Leased;

use crate::memory::MemoryReservation;
use crate::shared_payload::SharedPayload;

/// Bytes reserved for one delivery in memory, besides its event.
const QUEUED_WEIGHT: usize = 512;

/// A delivery in memory, with its lease.
pub(crate) struct QueuedDelivery {
    pub(crate) leased: Leased,
    pub(crate) payload: Arc<SharedPayload>,
    /// The next deliveries of its lane, which go in the same request.
    pub(crate) behind: Vec<QueuedDelivery>,
    _reservation: MemoryReservation,
}

impl QueuedDelivery {
    pub(crate) fn new(leased: Leased, payload: Arc<SharedPayload>) -> Self {
        let _reservation = MemoryReservation::new(payload.account(), QUEUED_WEIGHT);
        Self { leased, payload, behind: Vec::new(), _reservation }
    }

    /// This delivery and those behind it, one by one.
    pub(crate) fn ungroup(mut self) -> impl Iterator<Item = QueuedDelivery> {
        let behind = std::mem::take(&mut self.behind);
        std::iter::once(self).chain(behind)
    }

    /// Groups deliveries that were leased to go in one request: the reverse of [`QueuedDelivery::ungroup`].
    pub(crate) fn group(items: impl IntoIterator<Item = QueuedDelivery>) -> Vec<QueuedDelivery> {
        let mut all: Vec<QueuedDelivery> = Vec::new();
        for item in items {
            match all.last_mut() {
                Some(head) if item.leased.follows && item.leased.key.destination == head.leased.key.destination => {
                    head.behind.push(item);
                }
                _ => all.push(item),
            }
        }
        all
    }
}
