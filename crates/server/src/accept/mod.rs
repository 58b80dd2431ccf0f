//! The accept loop: connections in, requests to a router, and an orderly end.
//!
//! Our own rather than `axum::serve`, which sets no limit on connections and none on how long a head may take, and
//! knows no deadline for the end. Each connection takes a place under the limits before a byte of it is read, TLS
//! included, and keeps it until it ends, also when it has left HTTP (see [`tidings_live::Guard`]). For one that gets no
//! place there is `overflow`.
//!
//! In layers, each of which uses those above it alone:
//!
//! 1. `notice`, `client`, `target`, `places`, `drain`, `request_id`: what needs nothing else of this folder;
//! 2. `foreign`, `metrics`, then `guesses` and `aside`: what is remembered across connections;
//! 3. `service`: all of that in one, and the answer to a request;
//! 4. `plain` and `requests`: read requests and write answers, for plain ones by ourselves, for any others by hyper;
//! 5. `connection`: from the handshake to those two; then `overflow`, for connections without a place;
//! 6. this file: accepts them.

mod aside;
mod client;
mod connection;
mod drain;
mod foreign;
mod guesses;
mod metrics;
mod notice;
mod overflow;
mod places;
mod plain;
mod request_id;
mod requests;
mod service;
mod target;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tidings_model::secret::SecretString;
use tidings_supervisor::fault;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::settings::ConnectionSettings;
use crate::tls::Tls;
use aside::Aside;
use client::Proxies;
use foreign::Foreigners;
use guesses::Guesses;
use places::Places;
use request_id::RequestIds;
use service::Service;

pub(crate) use aside::{DESCRIPTORS as DESCRIPTORS_ASIDE, NoRoom};
pub(crate) use metrics::Metrics;

/// A pause after an error such as "too many open files", which the next accept would only meet again.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves a router to whoever connects.
pub(crate) struct Accept {
    service: Arc<Service>,
    connections: TaskTracker,
    grace: Duration,
}

/// What it serves, and how.
pub(crate) struct Parts {
    pub(crate) router: Router,
    pub(crate) settings: ConnectionSettings,
    pub(crate) tls: Option<Tls>,
    /// Opens the door when there is no room.
    pub(crate) operator_key: Option<SecretString>,
    pub(crate) no_room: NoRoom,
    pub(crate) metrics: Metrics,
}

impl Parts {
    /// Those of a server that has nothing but this.
    pub(crate) fn of(router: Router, settings: ConnectionSettings) -> Self {
        let (no_room, metrics): (NoRoom, _) = (Arc::new(|_| None), Metrics::default());
        Self { router, settings, tls: None, operator_key: None, no_room, metrics }
    }
}

impl Accept {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { router, settings, tls, operator_key, no_room, metrics } = parts;
        let service = Service {
            router,
            tls,
            user_timeout: settings.user_timeout,
            header_timeout: settings.header_timeout,
            request_timeout: settings.request_timeout,
            proxies: Proxies::new(settings.trusted_proxies),
            places: Places::new(settings.max, settings.max_per_ip),
            aside: Aside::new(operator_key, no_room, metrics.clone()),
            guesses: Guesses::new(metrics),
            foreigners: Foreigners::default(),
            request_ids: RequestIds::default(),
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
        };
        Self { service: Arc::new(service), connections: TaskTracker::new(), grace: settings.shutdown_grace }
    }

    /// Accepts connections until `shutdown`. Those that the system has accepted by then are served as well; then nobody
    /// listens any more.
    pub(crate) async fn run(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            fault::point("accept");
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer),
                    Err(error) => rest_after(&error).await,
                },
            }
        }
        // A close would reset these.
        if let Ok(listener) = listener.into_std() {
            while let Ok((stream, peer)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    self.take(stream, peer);
                }
            }
        }
        self.service.stopping.cancel();
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr) {
        let service = Arc::clone(&self.service);
        // Behind a proxy many clients have one address.
        let counted = (!service.proxies.trusts(peer.ip())).then(|| peer.ip());
        match service.places.take(counted) {
            Ok(guard) => self.connections.spawn(connection::serve(stream, peer, guard, service)),
            Err(full) => {
                let waiting = service.aside.enter();
                self.connections.spawn(overflow::serve(stream, peer, full, waiting, service))
            }
        };
    }

    /// Lets requests under way end, for as long as the settings say, and cuts off the rest. Connections that have left
    /// HTTP are not ours to end.
    pub(crate) async fn end(&self) {
        self.connections.close();
        if tokio::time::timeout(self.grace, self.connections.wait()).await.is_err() {
            tracing::warn!(connections = self.connections.len(), "requests that had not ended in time are cut off");
            self.service.cut.cancel();
            self.connections.wait().await;
        }
    }
}

async fn rest_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    // These are about one connection that is gone already.
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::error!(%error, "no connection can be accepted");
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
