//! What the door's handlers share.

use std::sync::Arc;

use tidings_bus::{Apps, Bus, Rate, Throttle};
use tidings_live::{ClientAddr, Live, Refused};
use tidings_model::app::App;
use tidings_model::id::AppId;

use crate::api::refusal::Refusal;

/// Pusher Channels over a bus. Clones share one door.
#[derive(Debug, Clone)]
pub(crate) struct PusherDoor {
    shared: Arc<Shared>,
}

struct Shared {
    bus: Bus,
    live: Live,
    keep_alive: KeepAlive,
    /// Limits log lines about rejected requests.
    rejection_logs: Throttle<AppId>,
}

/// Log lines about rejected requests of one app, so that a client that guesses keys does not fill the disk.
const REJECTION_LOGS: Rate = Rate::per_second(1);

/// How long a client may be silent, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// After so many seconds without a frame the client pings; the server pings when either side was silent a little
    /// longer. Not 0.
    pub activity: u32,
    /// The seconds that the client has to answer a ping.
    pub pong: u32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { activity: 45, pong: 30 }
    }
}

impl PusherDoor {
    /// A door to the bus's apps.
    pub(crate) fn new(bus: Bus, live: Live, keep_alive: KeepAlive) -> Self {
        Self { shared: Arc::new(Shared { bus, live, keep_alive, rejection_logs: Throttle::default() }) }
    }

    pub(crate) fn live(&self) -> &Live {
        &self.shared.live
    }

    pub(crate) fn keep_alive(&self) -> KeepAlive {
        self.shared.keep_alive
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.shared.bus
    }

    /// Counts events that a server of the app is about to publish.
    pub(crate) fn may_publish(&self, app: &App, events: usize) -> Result<(), Refusal> {
        self.shared.bus.may_publish(app, u32::try_from(events).unwrap_or(u32::MAX)).map_err(|seconds| {
            let limit = app.limits.publishes_per_second;
            self.live().refused(Some(&app.id), Refused::PublishRate, None);
            Refusal::too_many(format!("Too many events: the app may publish {limit} per second"), seconds)
        })
    }

    /// Logs a request whose signature is wrong, with the string that should have been signed: the app's server often
    /// hides the response, and then the operator sees the reason here.
    pub(crate) fn log_rejected(&self, app: &App, client: Option<ClientAddr>, refusal: &Refusal) {
        let now = self.shared.bus.clock().steady_ms();
        if self.shared.rejection_logs.take(app.id.clone(), 1, REJECTION_LOGS, now).is_ok() {
            let client = client.map(|ClientAddr(client)| tracing::field::display(client));
            tracing::info!(app = %app.id, client, reason = refusal.text(), "Pusher HTTP API request rejected");
        }
    }

    pub(crate) fn apps(&self) -> &Apps {
        self.shared.bus.apps()
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("bus", &self.bus).finish_non_exhaustive()
    }
}
