//! The courier's interface to a protocol of deliveries: how to render a delivery, and how to judge the response.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DestinationNo};
use tidings_store::StoreError;
use tidings_store::queue::Leased;
use url::Url;

use crate::egress::{Request, Response};
use crate::shared_payload::SharedPayload;

/// A delivery that is about to be attempted.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The delivery's key, and its lease.
    pub leased: Leased,
    /// The event, shared with its other deliveries.
    pub payload: Arc<SharedPayload>,
}

/// A (scheme, host, port) to which attempts go, as a hash that is valid in this process only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(u64);

impl Host {
    /// The host of a URL.
    pub fn of(url: &Url) -> Self {
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEYS.hash_one((url.scheme(), url.host_str(), url.port_or_known_default())))
    }
}

/// Which attempts a destination allows now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationPolicy {
    /// Attempts may be made.
    Open {
        /// The most attempts in flight; `None` for the configured number.
        concurrency: Option<u32>,
        /// The most requests per second; `None` for no limit.
        rate: Option<u32>,
        /// The host whose slots it uses; `None` if it needs none.
        host: Option<Host>,
    },
    /// Nothing is attempted until it is enabled again; pending deliveries stay pending.
    Disabled,
    /// It was deleted: pending deliveries are canceled.
    Gone,
}

/// A request that carries deliveries, ready to be sent.
#[derive(Debug)]
pub struct PreparedRequest {
    /// The rendered and signed request.
    pub request: Request,
    /// The whole time the attempt may take.
    pub timeout: Duration,
    /// How long after its event a delivery is first attempted: the start of its schedule.
    pub delay: Duration,
}

/// What a response means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The destination accepted the delivery.
    Delivered,
    /// The destination refused the delivery.
    Refused {
        /// The reason, for people.
        error: String,
        /// The destination asks for fewer requests.
        slow_down: bool,
        /// The pause that the destination asks for.
        retry_after: Option<Duration>,
        /// The destination wants no more deliveries: it is disabled, for this reason.
        disable: Option<&'static str>,
    },
}

/// Renders deliveries and judges responses. The courier knows queues, leases and attempts; an outlet knows a protocol.
#[async_trait]
pub trait Outlet: Send + Sync {
    /// Which attempts the destination allows now. Must be cheap: called before every attempt.
    fn policy(&self, destination: DestinationNo) -> DestinationPolicy;

    /// The most deliveries that one request to the destination carries. Must be cheap.
    fn batch(&self, _destination: DestinationNo) -> usize {
        1
    }

    /// The app and the id that people know the destination by, for the log.
    fn name(&self, _destination: DestinationNo) -> Option<(AppId, String)> {
        None
    }

    /// Renders and signs a request for an attempt at `wall` time. It carries one or more deliveries of a destination,
    /// at most [`Outlet::batch`]; those of a lane are consecutive, the oldest first. `None`: the destination was
    /// deleted.
    ///
    /// # Errors
    /// The store failed; the deliveries are released.
    async fn prepare(&self, batch: &[Delivery], wall: Millis) -> Result<Option<PreparedRequest>, StoreError>;

    /// What a response to a delivery means. The response arrived at `wall` time.
    fn judge(&self, delivery: &Delivery, response: &Response, wall: Millis) -> Outcome;

    /// The delay before the next attempt, after `attempts` that count; `None` if the schedule is exhausted.
    fn delay_after(&self, delivery: &Delivery, attempts: u32) -> Option<Duration>;
}
