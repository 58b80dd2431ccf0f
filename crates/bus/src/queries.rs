//! Queries of doors: the log, deliveries, channels and members. Each query names its app, and the answer contains data
//! of that app only.

use std::sync::Arc;

use tidings_broker::{BrokerError, Cached, ChannelFilter, ChannelState, History, HistoryRange};
use tidings_model::channel::{ChannelKey, Member};
use tidings_model::clock::Millis;
use tidings_model::delivery::Attempt;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo};
use tidings_store::StoreError;
use tidings_store::log::{EventFilter, Logged};
use tidings_store::page::Page;
use tidings_store::queue::{AttemptRange, DeliveryFilter, DeliveryRow};

use crate::bus::Bus;

impl Bus {
    /// A page of an app's log, newest first.
    ///
    /// # Errors
    /// The store's error.
    pub async fn events(&self, app: &AppId, filter: EventFilter) -> Result<Page<Logged>, StoreError> {
        self.shared.store.events(app, filter).await
    }

    /// An event of the log by its id.
    ///
    /// # Errors
    /// The store's error.
    pub async fn event(&self, app: &AppId, id: &str) -> Result<Option<Logged>, StoreError> {
        self.shared.store.event(app, id).await
    }

    /// A page of an app's deliveries, newest event first.
    ///
    /// # Errors
    /// The store's error.
    pub async fn deliveries(&self, app: &AppId, filter: DeliveryFilter) -> Result<Vec<DeliveryRow>, StoreError> {
        self.shared.store.deliveries(app, filter).await
    }

    /// One delivery, of the app that its key names.
    ///
    /// # Errors
    /// The store's error.
    pub async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
        self.shared.store.delivery(key).await
    }

    /// A page of a delivery's attempts, oldest first.
    ///
    /// # Errors
    /// The store's error.
    pub async fn attempts(&self, key: &DeliveryKey, range: AttemptRange) -> Result<Page<Attempt>, StoreError> {
        self.shared.store.attempts(key, range).await
    }

    /// Which of these listeners have only failed lately, and since when (wall time).
    ///
    /// # Errors
    /// The store's error.
    pub async fn failing_of(&self, listeners: Vec<DestinationNo>) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
        self.shared.store.failing_of(listeners).await
    }

    /// A channel's state; `None` when it has no subscriptions, no history and no cached event.
    ///
    /// # Errors
    /// The broker's error.
    pub async fn channel(&self, channel: &ChannelKey) -> Result<Option<ChannelState>, BrokerError> {
        self.shared.broker.channel(channel).await
    }

    /// A page of an app's channels, by name.
    ///
    /// # Errors
    /// The broker's error.
    pub async fn channels(&self, app: &AppId, filter: ChannelFilter) -> Result<Vec<ChannelState>, BrokerError> {
        self.shared.broker.channels(app, filter).await
    }

    /// The members of a channel with presence, in the order of user ids.
    ///
    /// # Errors
    /// The broker's error.
    pub async fn members(&self, channel: &ChannelKey) -> Result<Vec<Arc<Member>>, BrokerError> {
        self.shared.broker.members(channel).await
    }

    /// A page of a channel's history.
    ///
    /// # Errors
    /// The broker's error.
    pub async fn history(&self, channel: &ChannelKey, range: HistoryRange) -> Result<History, BrokerError> {
        self.shared.broker.history(channel, range).await
    }

    /// The event that a cache channel sends to new subscribers.
    ///
    /// # Errors
    /// The broker's error.
    pub async fn cached(&self, channel: &ChannelKey) -> Result<Option<Cached>, BrokerError> {
        self.shared.broker.cached(channel).await
    }
}
