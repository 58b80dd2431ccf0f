//! What the door's handlers share.

use std::sync::Arc;
use std::time::Duration;

use tidings_bus::{Apps, Bus, Rate, Throttle};
use tidings_courier::egress::Egress;
use tidings_live::{ClientAddr, Live, NotAdmitted, Refused, SessionPermit};
use tidings_model::app::App;
use tidings_model::id::AppId;
use tidings_model::listener::Listener;
use tidings_model::secret::SecretString;
use tidings_node::Node;
use tidings_store::StoreError;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits;
use crate::problem::{Code, Problem};

/// The Tidings API over a bus. Clones share one door.
#[derive(Debug, Clone)]
pub(crate) struct ApiDoor {
    shared: Arc<Shared>,
}

struct Shared {
    bus: Bus,
    live: Live,
    egress: Egress,
    operator_key: SecretString,
    tests: Throttle<(AppId, String)>,
    compiling: Semaphore,
}

impl ApiDoor {
    /// A door to the node's apps. An empty operator key opens nothing.
    pub(crate) fn new(node: &Node, operator_key: SecretString) -> Self {
        // Listeners' URLs are checked by the egress through which deliveries leave.
        let (bus, live, egress) = (node.bus().clone(), node.live().clone(), node.egress().clone());
        let (tests, compiling) = (Throttle::default(), Semaphore::new(limits::COMPILING));
        Self { shared: Arc::new(Shared { bus, live, egress, operator_key, tests, compiling }) }
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.shared.bus
    }

    pub(crate) fn egress(&self) -> &Egress {
        &self.shared.egress
    }

    pub(crate) fn live(&self) -> &Live {
        &self.shared.live
    }

    /// Waits for its turn to compile a match.
    pub(crate) async fn compiling(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.shared.compiling.acquire().await.map_err(|_| Problem::from(StoreError::Closed))
    }

    /// Admits a live client of this app.
    pub(crate) fn admit(&self, app: &App, client: Option<ClientAddr>) -> Result<SessionPermit, NotAdmitted> {
        self.shared.live.admit(app, client.map(|ClientAddr(client)| client))
    }

    pub(crate) fn apps(&self) -> &Apps {
        self.shared.bus.apps()
    }

    pub(crate) fn operator_key(&self) -> &SecretString {
        &self.shared.operator_key
    }

    /// Counts a publish of this app.
    pub(crate) fn may_publish(&self, app: &App) -> Result<(), Problem> {
        self.bus().may_publish(app, 1).map_err(|seconds| {
            let count = app.limits.publishes_per_second;
            self.live().refused(Some(&app.id), Refused::PublishRate, None);
            Problem::new(Code::RateLimited, format!("the app may publish {count} events per second"))
                .remedy("send it again after `Retry-After`, or raise `apps.limits.publishes_per_second` in the config")
                .retry_after(seconds)
        })
    }

    /// Counts a test of this listener, or a manual retry.
    pub(crate) fn may_test(&self, listener: &Listener) -> Result<(), Problem> {
        let rate = Rate { count: limits::TESTS_PER_MINUTE, per: Duration::from_secs(60) };
        let now = self.bus().clock().steady_ms();
        let key = (listener.app.clone(), listener.id.clone());
        self.shared.tests.take(key, 1, rate, now).map_err(|seconds| {
            let often = format!("a listener may get {} tests and manual retries per minute", rate.count);
            Problem::new(Code::RateLimited, often).remedy("send it again after `Retry-After`").retry_after(seconds)
        })
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("bus", &self.bus).finish_non_exhaustive()
    }
}
