//! Putting doors on a node.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use tidings_bus::Bus;
use tidings_door::Door;
use tidings_node::{Config, Node, NodeError, Readiness};

use crate::catch_panic::CatchPanic;

/// A running node with its doors. Clones share it.
///
/// When the last clone is dropped, all of its threads and tasks end and its files and sockets are closed, a moment
/// later; [`Engine::stop`] is the orderly way. A router or a bus that is left then answers that it is closing.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    node: Node,
    doors: Vec<Arc<dyn Door>>,
}

impl Engine {
    /// Starts a node, and puts these doors on it. Call it in a Tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`]; nothing runs then.
    pub async fn build(config: Config, doors: Vec<Arc<dyn Door>>) -> Result<Self, NodeError> {
        let formats = doors.clone();
        let start =
            Node::start(config, move |parts| formats.iter().flat_map(|door| door.webhook_formats(parts)).collect());
        let node = start.await?;
        Ok(Self(Arc::new(Inner { node, doors })))
    }

    /// Every door, as one router. A request that makes the code panic is answered with an error, and no other suffers.
    pub fn router(&self) -> Router {
        let Inner { node, doors } = &*self.0;
        let units = node.units("request");
        doors.iter().fold(Router::new(), |router, door| {
            let caught = CatchPanic { units: units.clone(), door: Arc::clone(door) };
            router.merge(door.routes(node).layer(caught))
        })
    }

    /// What to send to a client that asks for a session where there is no room for its connection: the whole answer, in
    /// its protocol's words. `None` for any other request.
    pub fn no_room(&self, request: &Request<()>) -> Option<Vec<u8>> {
        let (status, headers, told) = self.0.doors.iter().find_map(|door| door.no_room(request))?;
        let mut answer = tidings_wire::response_head(status, &headers, self.bus().clock().wall_ms());
        answer.extend_from_slice(&told);
        Some(answer.to_vec())
    }

    /// The way in for programs that embed the engine.
    pub fn bus(&self) -> &Bus {
        self.0.node.bus()
    }

    /// All metrics, as OpenMetrics text.
    pub fn metrics(&self) -> String {
        self.0.node.metrics()
    }

    /// How it stands, for `/readyz`.
    pub async fn readiness(&self) -> Readiness {
        self.0.node.readiness().await
    }

    /// Waits until some part of the engine has ended that it cannot do without, and returns its name. Publishes are
    /// refused from then on; what to do about it is the program's to decide. The server stops in order, with exit
    /// code 1.
    ///
    /// The future does not keep the engine alive.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let failed = self.0.node.failed();
        async move { failed.await.name.as_ref().to_owned() }
    }

    /// Sends live sessions to the nodes that take over, spread over most of `grace`; where none does, they stay until
    /// [`Engine::stop`].
    pub async fn stop_live(&self, grace: Duration) {
        self.0.node.stop_live(grace).await;
    }

    /// Stops: lets attempts under way end for at most `grace`, writes their results, sends away the live sessions that
    /// are still there, closes the store.
    pub async fn stop(&self, grace: Duration) {
        self.0.node.stop(grace).await;
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("node", &self.0.node).field("doors", &self.0.doors).finish()
    }
}
