//! The accept loop: takes connections, passes their requests to a router, and ends them in order.
//!
//! Our own rather than `axum::serve`, which limits neither the number of connections nor the time that a head may take,
//! and has no deadline for shutdown. Each connection is counted against the limits before a byte of it is read, TLS
//! included, until it ends, also when it has left HTTP (see [`tidings_live::Guard`]). `overflow` answers those beyond
//! the limits.
//!
//! The files form layers; each uses only those above it:
//!
//! 1. `log_throttle`, `client`, `target`, `connection_limiter`, `drain`, `request_id`: use nothing else of this folder;
//! 2. `wrong_protocol`, `metrics`, then `guess_limiter` and `reserve`: state across connections;
//! 3. `service`: all of that in one value, and the answer to a request;
//! 4. `plain` and `requests`: read requests and write answers; `plain` reads plain ones itself, `requests` has hyper
//!    read all others;
//! 5. `connection`: from the handshake to those two; then `overflow`, for connections beyond the limits;
//! 6. this file: accepts connections.

mod client;
mod connection;
mod connection_limiter;
mod drain;
mod guess_limiter;
mod log_throttle;
mod metrics;
mod overflow;
mod plain;
mod request_id;
mod requests;
mod reserve;
mod service;
mod target;
mod wrong_protocol;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tidings_model::secret::SecretString;
use tidings_supervisor::{Supervisor, Units, fault};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::settings::ConnectionSettings;
use crate::tls::Tls;
use client::Proxies;
use connection_limiter::ConnectionLimiter;
use guess_limiter::GuessLimiter;
use request_id::RequestIds;
use reserve::Reserve;
use service::Service;
use wrong_protocol::WrongProtocolLog;

pub(crate) use metrics::Metrics;
pub(crate) use reserve::{DESCRIPTORS as RESERVED_DESCRIPTORS, NoRoom};

/// The pause after an error such as "too many open files", which the next accept would run into again.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections and serves a router on them.
pub(crate) struct Accept {
    service: Arc<Service>,
    connections: TaskTracker,
    /// A panic while TLS or HTTP is read costs one connection.
    units: Units,
    grace: Duration,
}

/// What an accept loop is made of.
pub(crate) struct Parts {
    pub(crate) router: Router,
    pub(crate) settings: ConnectionSettings,
    pub(crate) tls: Option<Tls>,
    /// Requests with this key are served beyond the limits.
    pub(crate) operator_key: Option<SecretString>,
    pub(crate) no_room: NoRoom,
    pub(crate) metrics: Metrics,
    pub(crate) supervisor: Supervisor,
}

impl Parts {
    /// The parts of a server that serves nothing but this router: no TLS, no operator key, metrics of its own.
    pub(crate) fn of(router: Router, settings: ConnectionSettings, supervisor: Supervisor) -> Self {
        let (no_room, metrics): (NoRoom, _) = (Arc::new(|_| None), Metrics::default());
        Self { router, settings, tls: None, operator_key: None, no_room, metrics, supervisor }
    }
}

impl Accept {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { router, settings, tls, operator_key, no_room, metrics, supervisor } = parts;
        let service = Service {
            router,
            tls,
            user_timeout: settings.user_timeout,
            header_timeout: settings.header_timeout,
            request_timeout: settings.request_timeout,
            proxies: Proxies::new(settings.trusted_proxies),
            limiter: ConnectionLimiter::new(settings.max, settings.max_per_ip),
            reserve: Reserve::new(operator_key, no_room, metrics.clone()),
            guess_limiter: GuessLimiter::new(metrics),
            wrong_protocols: WrongProtocolLog::default(),
            request_ids: RequestIds::default(),
            stopping: CancellationToken::new(),
            cut: CancellationToken::new(),
        };
        Self {
            service: Arc::new(service),
            connections: TaskTracker::new(),
            units: supervisor.units("connection"),
            grace: settings.shutdown_grace,
        }
    }

    /// Accepts connections until `shutdown`. Connections that the kernel has accepted by then are served as well; then
    /// the listener is closed.
    pub(crate) async fn run(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            fault::point("accept");
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer),
                    Err(error) => pause_after(&error).await,
                },
            }
        }
        // Closing the listener would reset the connections in its backlog.
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
        // A trusted proxy's address stands for many clients, so it is not counted.
        let counted = (!service.proxies.trusts(peer.ip())).then(|| peer.ip());
        match service.limiter.acquire(counted) {
            Ok(guard) => self.spawn(peer, connection::serve(stream, peer, guard, service)),
            Err(reached) => {
                let waiting = service.reserve.enter();
                self.spawn(peer, overflow::serve(stream, peer, reached, waiting, service));
            }
        }
    }

    fn spawn(&self, peer: SocketAddr, connection: impl Future<Output = ()> + Send + 'static) {
        self.connections.spawn(self.units.catch_async(peer, connection));
    }

    /// Waits up to `shutdown_grace` for requests in flight, and closes the rest. Sessions that have left HTTP are ended
    /// by `live`, not here.
    pub(crate) async fn end(&self) {
        self.connections.close();
        if tokio::time::timeout(self.grace, self.connections.wait()).await.is_err() {
            tracing::warn!(
                connections = self.connections.len(),
                "connections closed: their requests did not end within shutdown_grace"
            );
            self.service.cut.cancel();
            self.connections.wait().await;
        }
    }
}

async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    // These errors concern one connection, which is gone already.
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        tracing::error!(%error, "accepting a connection failed");
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
