//! An event on its way to several destinations: held once, rendered once, and counted against `queue_bytes`.

use std::sync::Arc;
use std::sync::OnceLock;

use bytes::Bytes;
use tidings_store::log::Logged;

use crate::memory::{Account, MemoryReservation};

/// An event that deliveries share.
#[derive(Debug)]
pub struct SharedPayload {
    /// The event as it is logged.
    pub logged: Logged,
    rendered: OnceLock<Bytes>,
    reservation: MemoryReservation,
}

impl SharedPayload {
    pub(crate) fn new(logged: Logged, account: &Arc<Account>) -> Arc<Self> {
        let reservation = MemoryReservation::new(account, logged.event.weight());
        Arc::new(Self { logged, rendered: OnceLock::new(), reservation })
    }

    /// The account of the memory that it holds.
    pub(crate) fn account(&self) -> &Arc<Account> {
        self.reservation.account()
    }

    /// The body that every destination of one outlet gets, if it has been rendered.
    pub fn rendered(&self) -> Option<&Bytes> {
        self.rendered.get()
    }

    /// Keeps the rendered body for the other destinations; if another got there first, that one's is kept.
    pub fn keep_rendered(&self, body: Bytes) -> Bytes {
        self.rendered.get_or_init(|| body).clone()
    }
}
