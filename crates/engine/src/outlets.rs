//! Which outlet a destination has: that of its listener's format.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidings_bus::Catalogue;
use tidings_courier::egress::Response;
use tidings_courier::{Delivery, DestinationPolicy, Outcome, Outlet, PreparedRequest};
use tidings_door_api::StandardWebhooks;
use tidings_door_pusher::PusherWebhooks;
use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DestinationNo};
use tidings_model::listener::Format;
use tidings_store::StoreError;

/// All outlets as one.
#[derive(Debug)]
pub(crate) struct Outlets {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) standard: StandardWebhooks,
    pub(crate) pusher: PusherWebhooks,
}

impl Outlets {
    fn of(&self, destination: DestinationNo) -> &dyn Outlet {
        match self.catalogue.listener_by_no(destination).map(|listener| listener.format) {
            Some(Format::Pusher) => &self.pusher,
            // Of one that is not known every outlet says the same.
            Some(Format::Standard) | None => &self.standard,
        }
    }
}

#[async_trait]
impl Outlet for Outlets {
    fn policy(&self, destination: DestinationNo) -> DestinationPolicy {
        self.of(destination).policy(destination)
    }

    fn batch(&self, destination: DestinationNo) -> usize {
        self.of(destination).batch(destination)
    }

    fn name(&self, destination: DestinationNo) -> Option<(AppId, String)> {
        self.of(destination).name(destination)
    }

    async fn prepare(&self, batch: &[Delivery], wall: Millis) -> Result<Option<PreparedRequest>, StoreError> {
        let Some(destination) = batch.first().map(|delivery| delivery.leased.key.destination) else { return Ok(None) };
        if self.catalogue.listener_by_no(destination).is_none() {
            // It may have been made on another node just now.
            self.catalogue.sync().await?;
        }
        self.of(destination).prepare(batch, wall).await
    }

    fn judge(&self, delivery: &Delivery, answer: &Response, wall: Millis) -> Outcome {
        self.of(delivery.leased.key.destination).judge(delivery, answer, wall)
    }

    fn delay_after(&self, delivery: &Delivery, attempts: u32) -> Option<Duration> {
        self.of(delivery.leased.key.destination).delay_after(delivery, attempts)
    }
}
