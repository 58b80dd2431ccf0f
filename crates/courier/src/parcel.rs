//! An event on its way to several destinations: held once, rendered once, and counted against the memory bound.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tidings_store::log::Logged;

/// An event that deliveries share.
#[derive(Debug)]
pub struct Parcel {
    /// The event as it is logged.
    pub logged: Logged,
    rendered: OnceLock<Bytes>,
    _charge: Charge,
}

impl Parcel {
    pub(crate) fn new(logged: Logged, held: &Arc<AtomicUsize>) -> Arc<Self> {
        let charge = Charge::new(held, logged.event.weight());
        Arc::new(Self { logged, rendered: OnceLock::new(), _charge: charge })
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

/// Bytes that count as held until this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Charge {
    pub(crate) fn new(held: &Arc<AtomicUsize>, bytes: usize) -> Self {
        held.fetch_add(bytes, Ordering::Relaxed);
        Self { held: Arc::clone(held), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
