//! The listener at `machines.listen`, an address of its own for monitoring.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tidings_supervisor::Supervisor;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::accept::{self, Accept};
use crate::settings::ConnectionSettings;

/// Serves the health endpoints at an address of their own, until everything else has stopped.
pub(crate) struct HealthListener {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl HealthListener {
    /// The most connections: only the operator's own systems connect here.
    const MAX: usize = 64;
    /// How long a scrape in flight may take at the end.
    const GRACE: Duration = Duration::from_secs(1);

    pub(crate) async fn start(address: SocketAddr, router: Router, supervisor: &Supervisor) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "cannot listen on {address}, which machines.listen names; stop what listens there, or choose \
                another port"
            )
        })?;
        let bound = listener.local_addr().context("cannot read the address of the listening socket")?;
        tracing::info!(address = %bound, "health endpoints listening on an address of their own");
        let settings = ConnectionSettings {
            max: Self::MAX,
            max_per_ip: Some(0),
            shutdown_grace: Self::GRACE,
            ..ConnectionSettings::default()
        };
        let accept = Accept::new(accept::Parts::of(router, settings, supervisor.clone()));
        let (stop, stopped) = oneshot::channel();
        let ended = supervisor.service("machines", async move {
            accept.run(listener, async { drop(stopped.await) }).await;
            accept.end().await;
        });
        Ok(Self { stop, ended })
    }

    pub(crate) async fn end(self) {
        self.stop.send(()).ok();
        // The supervisor logs how the task ended.
        drop(self.ended.await);
    }
}
