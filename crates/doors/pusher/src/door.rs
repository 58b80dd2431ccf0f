//! What the door's handlers share.

use std::sync::Arc;

use tidings_bus::{Apps, Bus};

/// Pusher Channels over a bus. Clones share one door.
#[derive(Debug, Clone)]
pub struct PusherDoor {
    shared: Arc<Shared>,
}

struct Shared {
    bus: Bus,
    apps: Arc<Apps>,
}

impl PusherDoor {
    /// A door to these apps.
    pub fn new(bus: Bus, apps: Arc<Apps>) -> Self {
        Self { shared: Arc::new(Shared { bus, apps }) }
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.shared.bus
    }

    pub(crate) fn apps(&self) -> &Apps {
        &self.shared.apps
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("bus", &self.bus).finish_non_exhaustive()
    }
}
