//! What doors ask: the log, deliveries, and who is where. Each question names its app, and nothing of another's is in
//! an answer.

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
    /// What the store answers.
    pub async fn events(&self, app: &AppId, filter: EventFilter) -> Result<Page<Logged>, StoreError> {
        self.shared.store.events(app, filter).await
    }

    /// An event of the log by its id.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn event(&self, app: &AppId, id: &str) -> Result<Option<Logged>, StoreError> {
        self.shared.store.event(app, id).await
    }

    /// A page of an app's deliveries, newest event first.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn deliveries(&self, app: &AppId, filter: DeliveryFilter) -> Result<Vec<DeliveryRow>, StoreError> {
        self.shared.store.deliveries(app, filter).await
    }

    /// One delivery, of the app that its key names.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
        self.shared.store.delivery(key).await
    }

    /// A page of a delivery's attempts, oldest first.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn attempts(&self, key: &DeliveryKey, range: AttemptRange) -> Result<Page<Attempt>, StoreError> {
        self.shared.store.attempts(key, range).await
    }

    /// Which of these listeners have done nothing but fail, and since when (wall time).
    ///
    /// # Errors
    /// What the store answers.
    pub async fn failing_of(&self, listeners: Vec<DestinationNo>) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
        self.shared.store.failing_of(listeners).await
    }

    /// A channel's state; `None` when it has no subscriptions and nothing is kept of it.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn channel(&self, channel: &ChannelKey) -> Result<Option<ChannelState>, BrokerError> {
        self.shared.broker.channel(channel).await
    }

    /// A page of an app's channels, by name.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn channels(&self, app: &AppId, filter: ChannelFilter) -> Result<Vec<ChannelState>, BrokerError> {
        self.shared.broker.channels(app, filter).await
    }

    /// Who is in a channel with presence, by user id.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn members(&self, channel: &ChannelKey) -> Result<Vec<Arc<Member>>, BrokerError> {
        self.shared.broker.members(channel).await
    }

    /// A page of a channel's history.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn history(&self, channel: &ChannelKey, range: HistoryRange) -> Result<History, BrokerError> {
        self.shared.broker.history(channel, range).await
    }

    /// The event that a cache channel sends to new subscribers.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn cached(&self, channel: &ChannelKey) -> Result<Option<Cached>, BrokerError> {
        self.shared.broker.cached(channel).await
    }
}
