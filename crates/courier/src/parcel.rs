//! An event on its way to several destinations: held once, rendered once, and counted against the memory bound.

use std::sync::Arc;
use std::sync::OnceLock;

use bytes::Bytes;
use tidings_store::log::Logged;

use crate::memory::{Account, Charge};

/// An event that deliveries share.
#[derive(Debug)]
pub struct Parcel {
    /// The event as it is logged.
    pub logged: Logged,
    rendered: OnceLock<Bytes>,
    charge: Charge,
}

impl Parcel {
    pub(crate) fn new(logged: Logged, account: &Arc<Account>) -> Arc<Self> {
        let charge = Charge::new(account, logged.event.weight());
        Arc::new(Self { logged, rendered: OnceLock::new(), charge })
    }

    /// Whose memory it takes.
    pub(crate) fn account(&self) -> &Arc<Account> {
        self.charge.account()
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
