//! `serve`: reads the config, takes the data folder, starts the engine and the listeners, and stops them in order.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use prometheus_client::registry::Registry;
use rustix::fs::Mode;
use rustix::process::umask;
use socket2::SockRef;
use tidings_supervisor::Supervisor;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::accept::{self, Accept};
use crate::assemble;
use crate::cli::ServeArgs;
use crate::config::environment::Env;
use crate::config::{self, Loaded};
use crate::credentials::Credentials;
use crate::data_dir::DataDir;
use crate::descriptors::{self, Shares};
#[cfg(debug_assertions)]
use crate::faults;
use crate::first_start;
use crate::health::{self, Stopping};
use crate::settings::{ConnectionSettings, Settings, StoreSettings};
use crate::tls::{self, Tls};
use crate::welcome::{self, Welcome};
use crate::{logs, output, signals};

/// The config file that is read if it exists and no other is given.
const DEFAULT_CONFIG: &str = "tidings.toml";
/// The data folder of a node whose database is PostgreSQL.
const DATA_FOLDER: &str = "tidings-data";

/// Serves until it is asked to stop.
pub(crate) async fn run(args: ServeArgs, env: &dyn Env) -> anyhow::Result<()> {
    logs::start(args.log.unwrap_or_default(), env)?;
    let config = config_file(&args);
    let mut settings = settings(&args, config.as_deref(), env)?;

    // Files that are made from here on, the database above all, are readable by our user only, even in a folder that
    // others can enter.
    umask(Mode::RWXG | Mode::RWXO);
    let mut data = DataDir::take(data_folder(&settings))?;
    let open_files = descriptors::raise_limit();
    let tls = settings.tls.clone().map(Tls::new).transpose().context("the certificate cannot be served")?;
    let listener = listen(settings.listen, settings.live.receive_buffer).await.with_context(|| {
        format!("cannot listen on {}; stop what listens there, or choose another port with --listen", settings.listen)
    })?;
    let bound = listener.local_addr().context("cannot read the address of the listening socket")?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = first_start::local_url(scheme, bound);
    data.sign(&url)?;

    let kept_at = data.path().join("credentials.toml");
    let made = Credentials::load(&kept_at)?.unwrap_or_default().made();
    if settings.apps.is_empty() && !made.has_app() && assemble::holds_data(&settings.store).await? {
        bail!(
            "the store holds data already, but the keys of its app are missing: {} has none, and the config has no \
            [[apps]]. Put the file or the config back from the backup (or copy it from another node). If the keys are \
            lost, `tidings init` writes a config with new ones",
            kept_at.display()
        );
    }
    let mut credentials = first_start::complete(&mut settings, made, config.is_some())?;
    first_start::warn_of_unserved_app(&settings, &credentials);
    credentials.config = config.as_deref().map(absolute).transpose()?.unwrap_or_default();
    // Commands have to use the public URL too: a certificate names its host.
    let public_url = settings.public_url.take().map(|public| public.as_str().trim_end_matches('/').to_owned());
    credentials.url = public_url.clone().unwrap_or(url);
    credentials.save(&kept_at)?;

    let shares = Shares::of(
        open_files,
        Shares { connections: settings.connections.max, attempts: settings.courier.max_in_flight },
        accept::RESERVED_DESCRIPTORS,
    );
    let connections = ConnectionSettings { max: shares.connections, ..settings.connections.clone() };
    settings.courier.max_in_flight = shares.attempts;
    // Idle connections that egress keeps for later deliveries need descriptors too.
    settings.egress.max_connections = shares.attempts;
    settings.live.sessions.sessions = match settings.live.sessions.sessions {
        0 => shares.sessions(),
        wanted => wanted.min(shares.sessions()),
    };
    let grace = connections.shutdown_grace;
    let delay = settings.shutdown_delay;
    let mut registry = Registry::with_prefix("tidings");
    let supervisor = Supervisor::new(registry.sub_registry_with_prefix("server"));
    let stop = signals::stop(&supervisor).context("cannot watch signals")?;
    #[cfg(debug_assertions)]
    faults::follow(env, &supervisor);
    let allowed = settings.egress.allow.clone();
    let machines_listen = settings.machines_listen;
    let operator_key = settings.operator_key.clone();
    let engine = assemble::build(settings, data.node()?, data.path()).await?;
    let stopping = Stopping::default();
    let metrics = accept::Metrics::default();
    metrics.register(&mut registry);
    let health_source = Arc::new(engine.health(registry, supervisor.clone()));
    let own_listener = match machines_listen {
        Some(address) => Some(
            health::HealthListener::start(address, health::detailed(&health_source, &stopping), &supervisor).await?,
        ),
        None => None,
    };
    let accept = Arc::new(Accept::new(accept::Parts {
        router: engine.router().merge(health::router(&health_source, &stopping, own_listener.is_none())),
        settings: connections,
        tls: tls.clone(),
        operator_key,
        no_room: engine.no_room(),
        metrics,
        supervisor: supervisor.clone(),
    }));

    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tidings"));
    output::line(welcome::text(&Welcome {
        scheme,
        bound,
        public_url: public_url.as_deref(),
        program: &program,
        data: data.path(),
        config: config.as_deref(),
        allowed: &allowed,
    }));
    if let Some(tls) = tls {
        let reload = signals::hangups(&supervisor).context("cannot watch signals")?;
        supervisor.service("certificate", tls.follow(tls::CHECK_INTERVAL, reload));
    }
    let close = CancellationToken::new();
    let accepting = supervisor.service("accept", {
        let (accept, close) = (Arc::clone(&accept), close.clone());
        async move { accept.run(listener, close.cancelled()).await }
    });
    let failed = tokio::select! {
        () = stop => None,
        name = engine.failed() => Some(name),
        failure = supervisor.failed() => Some(failure.name.as_ref().to_owned()),
    };
    if failed.is_none() {
        stopping.set();
    }
    if !delay.is_zero() {
        let failure = failed.as_deref();
        tracing::info!(?delay, failure, "stopping: /readyz answers 503; the listener closes after shutdown_delay");
        tokio::time::sleep(delay).await;
    }
    supervisor.stop();
    close.cancel();
    // The supervisor logs how the task ended.
    drop(accepting.await);
    // The listener is closed first, so that clients whose sessions end now reconnect to another node and not to this
    // one.
    tracing::info!("listener closed; waiting for requests in flight, closing live sessions");
    // Both at once: an event stream may be a request in flight, and it ends only by `stop_live`.
    tokio::join!(accept.end(), engine.stop_live(grace));
    engine.stop(grace).await;
    if let Some(own_listener) = own_listener {
        own_listener.end().await;
    }
    supervisor.join().await;
    tracing::info!("stopped");
    match failed {
        None => Ok(()),
        Some(name) => {
            bail!("the server has failed: {name} ended unexpectedly; the log says why. Start the server again")
        }
    }
}

/// The absolute form of a path, as UTF-8 text for the credentials file.
fn absolute(path: &Path) -> anyhow::Result<String> {
    let whole = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    Ok(whole.display().to_string())
}

fn config_file(args: &ServeArgs) -> Option<PathBuf> {
    args.config.clone().or_else(|| Path::new(DEFAULT_CONFIG).is_file().then(|| DEFAULT_CONFIG.into()))
}

/// The settings of file, environment and flags together.
fn settings(args: &ServeArgs, config: Option<&Path>, env: &dyn Env) -> anyhow::Result<Settings> {
    let loaded = match config {
        Some(path) => config::load(path, env),
        None => config::without_file(env),
    };
    let Loaded { mut settings, warnings } =
        loaded.map_err(|problems| anyhow::anyhow!("the config cannot be served:\n{problems}"))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    if let Some(listen) = args.listen {
        settings.listen = listen;
    }
    settings.egress.allow.extend(args.egress_allow.iter().copied());
    for warning in config::unreachable_webhooks(&settings) {
        tracing::warn!("{warning}");
    }
    Ok(settings)
}

/// The folder for the lock and the credentials: the one that holds the SQLite database, or [`DATA_FOLDER`] with
/// PostgreSQL.
fn data_folder(settings: &Settings) -> &Path {
    match &settings.store {
        StoreSettings::Postgres { .. } => Path::new(DATA_FOLDER),
        StoreSettings::Sqlite { path, .. } => match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        },
    }
}

/// Opens the listening socket. Accepted connections inherit its receive buffer, which the kernel would otherwise let
/// grow to megabytes each.
async fn listen(address: SocketAddr, receive_buffer: usize) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    SockRef::from(&listener).set_recv_buffer_size(receive_buffer)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G014
    #[tokio::test]
    async fn what_is_accepted_inherits_the_receive_buffer() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), 32 << 10).await.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = tidings_testkit::dial(address).await;
        let (accepted, _) = listener.accept().await.unwrap();
        // Linux doubles the value, for its own bookkeeping.
        assert_eq!(SockRef::from(&accepted).recv_buffer_size().unwrap(), 64 << 10);
    }
}
