//! What a door tells the courier about its destinations: how to render a delivery, and how to judge the answer.

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
    /// Which one, and the right to attempt it.
    pub leased: Leased,
    /// The event.
    pub payload: Arc<SharedPayload>,
}

/// A (scheme, host, port) to which attempts go: a number that stands for it in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(u64);

impl Host {
    /// That of a URL.
    pub fn of(url: &Url) -> Self {
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEYS.hash_one((url.scheme(), url.host_str(), url.port_or_known_default())))
    }
}

/// What a destination allows at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationPolicy {
    /// Attempts may be made.
    Open {
        /// Under way at most; `None` takes the configured number.
        concurrency: Option<u32>,
        /// Per second at most.
        rate: Option<u32>,
        /// The host whose slots it uses; `None`: it needs none.
        host: Option<Host>,
    },
    /// Nothing is attempted until it is enabled again; pending deliveries stay pending.
    Disabled,
    /// It was deleted: pending deliveries are canceled.
    Gone,
}

/// A delivery made ready to be sent.
#[derive(Debug)]
pub struct PreparedRequest {
    /// What to send.
    pub request: Request,
    /// The whole time the attempt may take.
    pub timeout: Duration,
    /// How long after its event a delivery is attempted first: the start of its schedule.
    pub delay: Duration,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has it.
    Delivered,
    /// It was refused.
    Refused {
        /// In words.
        error: String,
        /// The destination says that it gets too much.
        slow_down: bool,
        /// It says when to come back.
        retry_after: Option<Duration>,
        /// It says never to come back: it is disabled, for this reason.
        disable: Option<&'static str>,
    },
}

/// A way of rendering and judging deliveries. The courier knows queues, leases and attempts; an outlet knows a
/// protocol.
#[async_trait]
pub trait Outlet: Send + Sync {
    /// What the destination allows now. Cheap: asked before every attempt.
    fn policy(&self, destination: DestinationNo) -> DestinationPolicy;

    /// How many deliveries one request to the destination carries at most. Cheap.
    fn batch(&self, _destination: DestinationNo) -> usize {
        1
    }

    /// The app and the id that people know the destination by, for the log.
    fn name(&self, _destination: DestinationNo) -> Option<(AppId, String)> {
        None
    }

    /// Renders and signs a request for an attempt at `wall` time: of one delivery, or of as many of a destination as
    /// [`Outlet::batch`] says; those of a lane are consecutive, the oldest first. `None`: the destination is gone.
    ///
    /// # Errors
    /// What had to be read could not be; the deliveries are put back.
    async fn prepare(&self, batch: &[Delivery], wall: Millis) -> Result<Option<PreparedRequest>, StoreError>;

    /// What an answer to a delivery, which arrived at `wall` time, means.
    fn judge(&self, delivery: &Delivery, answer: &Response, wall: Millis) -> Outcome;

    /// The delay before the next attempt, after so many that count; `None` when there are none left.
    fn delay_after(&self, delivery: &Delivery, attempts: u32) -> Option<Duration>;
}
