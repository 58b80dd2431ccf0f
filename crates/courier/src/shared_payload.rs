//! An event that several deliveries share: held once, rendered once, and counted against `queue_bytes`.

use std::sync::Arc;
use std::sync::OnceLock;

use bytes::Bytes;
use tidings_store::log::Logged;

use crate::memory::{Account, MemoryReservation};

/// An event that deliveries share.
#[derive(Debug)]
pub struct SharedPayload {
    /// The event as it is in the log.
    pub logged: Logged,
    rendered: OnceLock<Bytes>,
    reservation: MemoryReservation,
}

impl SharedPayload {
    pub(crate) fn new(logged: Logged, account: &Arc<Account>) -> Arc<Self> {
        let reservation = MemoryReservation::new(account, logged.event.weight());
        Arc::new(Self { logged, rendered: OnceLock::new(), reservation })
    }

    /// The account from which its memory is reserved.
    pub(crate) fn account(&self) -> &Arc<Account> {
        self.reservation.account()
    }

    /// The body that is the same for every destination of an outlet, if it has been rendered.
    pub fn rendered(&self) -> Option<&Bytes> {
        self.rendered.get()
    }

    /// Keeps the rendered body for the other destinations, and returns the kept one: an earlier body wins.
    pub fn keep_rendered(&self, body: Bytes) -> Bytes {
        self.rendered.get_or_init(|| body).clone()
    }
}
