//! The engine: a node with doors.

use std::collections::HashSet;
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
    /// Starts a node with these doors. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`]; then nothing is left running.
    pub async fn build(config: Config, doors: Vec<Arc<dyn Door>>) -> Result<Self, NodeError> {
        let mut names = HashSet::new();
        if let Some(twice) = doors.iter().find(|door| !names.insert(door.name())) {
            return Err(NodeError::DuplicateDoor(twice.name()));
        }
        let formats = doors.clone();
        let start =
            Node::start(config, move |parts| formats.iter().flat_map(|door| door.webhook_formats(parts)).collect());
        let node = start.await?;
        Ok(Self(Arc::new(Inner { node, doors })))
    }

    /// The routes of all doors. A request whose handler panics gets an error; no other request is affected.
    pub fn router(&self) -> Router {
        let Inner { node, doors } = &*self.0;
        let units = node.units("request");
        doors.iter().fold(Router::new(), |router, door| {
            let caught = CatchPanic { units: units.clone(), door: Arc::clone(door) };
            router.merge(door.routes(node).layer(caught))
        })
    }

    /// The complete response to a request for a session when the server is at its limit of connections, in the terms of
    /// the session's protocol. `None` for any other request.
    pub fn no_room(&self, request: &Request<()>) -> Option<Vec<u8>> {
        let (status, headers, body) = self.0.doors.iter().find_map(|door| door.no_room(request))?;
        let mut answer = tidings_wire::response_head(status, &headers, self.bus().clock().wall_ms());
        answer.extend_from_slice(&body);
        Some(answer.to_vec())
    }

    /// The bus, for programs that embed the engine.
    pub fn bus(&self) -> &Bus {
        self.0.node.bus()
    }

    /// All metrics, as OpenMetrics text.
    pub fn metrics(&self) -> String {
        self.0.node.metrics()
    }

    /// The node's status, for `/readyz`.
    pub async fn readiness(&self) -> Readiness {
        self.0.node.readiness().await
    }

    /// Waits until a required part of the engine has ended, and returns its name. From then on publishes are refused,
    /// and
    /// the program has to decide what to do. The `tidings` server stops in order, with exit code 1.
    ///
    /// The future does not keep the engine alive.
    pub fn failed(&self) -> impl Future<Output = String> + Send + use<> {
        let failed = self.0.node.failed();
        async move { failed.await.name.as_ref().to_owned() }
    }

    /// Asks live sessions to reconnect to another node, spread over most of `grace`. If there is none, they stay until
    /// [`Engine::stop`].
    pub async fn stop_live(&self, grace: Duration) {
        self.0.node.stop_live(grace).await;
    }

    /// Stops: waits at most `grace` for attempts in flight, writes their results, closes the remaining live sessions,
    /// closes the store.
    pub async fn stop(&self, grace: Duration) {
        self.0.node.stop(grace).await;
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("node", &self.0.node).field("doors", &self.0.doors).finish()
    }
}
