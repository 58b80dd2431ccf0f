//! The accept loop: connections in, requests to a router, and an orderly end.
//!
//! Our own rather than `axum::serve`, which sets no limit on connections and none on how long a head may take, and knows
//! no deadline for the end. Each connection takes a place under the limits before a byte of it is read, TLS included, and
//! keeps it until it ends, also when it has left HTTP (see [`tidings_live::Guard`]).

mod client;
mod connection;
mod places;
mod plain;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::settings::ConnectionSettings;
use crate::tls::Tls;
use client::Proxies;
use connection::Service;
use places::Places;

/// A pause after an error such as "too many open files", which the next accept would only meet again.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until `shutdown`, then lets requests under way end, for as long as the settings say, and cuts off
/// the rest. Connections that have left HTTP are not ours to end.
pub(crate) async fn run(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    settings: ConnectionSettings,
    tls: Option<Tls>,
) {
    let grace = settings.shutdown_grace;
    let places = Places::new(settings.max, settings.max_per_ip);
    let connections = TaskTracker::new();
    let service = Arc::new(Service {
        router,
        tls,
        user_timeout: settings.user_timeout,
        header_timeout: settings.header_timeout,
        request_timeout: settings.request_timeout,
        proxies: Proxies::new(settings.trusted_proxies),
        stopping: CancellationToken::new(),
        cut: CancellationToken::new(),
    });
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            let place = places.free().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (place, accepted) = next => match accepted {
                Ok((stream, peer)) => {
                    // Behind a proxy many clients have one address.
                    let counted = (!service.proxies.trusts(peer.ip())).then(|| peer.ip());
                    match places.take(place, counted) {
                        Some(guard) => {
                            connections.spawn(connection::serve(stream, peer, guard, Arc::clone(&service)));
                        }
                        None => tracing::debug!(%peer, "refused: its address has all the connections that one may have"),
                    }
                }
                Err(error) => rest_after(&error).await,
            },
        }
    }
    drop(listener);
    service.stopping.cancel();
    connections.close();
    if tokio::time::timeout(grace, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests that had not ended in time are cut off");
        service.cut.cancel();
        connections.wait().await;
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
