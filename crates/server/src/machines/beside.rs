//! The address of their own that machines may have.

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

/// What watches the server, at an address of its own, until all else has ended.
pub(crate) struct Beside {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Beside {
    /// Connections that it takes. Who watches the server is known, so these are few.
    const MAX: usize = 64;
    /// Nobody waits for long for the end of a scrape.
    const GRACE: Duration = Duration::from_secs(1);

    pub(crate) async fn start(address: SocketAddr, router: Router, supervisor: &Supervisor) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "cannot listen on {address}, which machines.listen names; stop what listens there, or choose \
                another port"
            )
        })?;
        let bound = listener.local_addr().context("the system does not say where it listens")?;
        tracing::info!(address = %bound, "metrics and the details of /readyz are at an address of their own");
        let settings = ConnectionSettings {
            max: Self::MAX,
            max_per_ip: Some(0),
            shutdown_grace: Self::GRACE,
            ..ConnectionSettings::default()
        };
        let accept = Accept::new(accept::Parts::of(router, settings));
        let (stop, stopped) = oneshot::channel();
        let ended = supervisor.service("machines", async move {
            accept.run(listener, async { drop(stopped.await) }).await;
            accept.end().await;
        });
        Ok(Self { stop, ended })
    }

    pub(crate) async fn end(self) {
        self.stop.send(()).ok();
        // How it ended is the supervisor's to tell.
        drop(self.ended.await);
    }
}
