//! `serve`: config, data folder, engine, sockets, and the end.

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
use crate::config::environment::Strings;
use crate::config::{self, Loaded};
use crate::credentials::Credentials;
use crate::data_dir::DataDir;
use crate::descriptors::{self, Shares};
#[cfg(debug_assertions)]
use crate::faults;
use crate::first_start;
use crate::machines::{self, Stopping};
use crate::settings::{ConnectionSettings, Settings, StoreSettings};
use crate::tls::{self, Tls};
use crate::welcome::{self, Welcome};
use crate::{logs, output, signals};

/// The config that is read when it is there and no other is named.
const DEFAULT_CONFIG: &str = "tidings.toml";
/// Where a node keeps its own things when the database is elsewhere.
const DATA_FOLDER: &str = "tidings-data";

/// Serves until it is asked to stop.
pub(crate) async fn run(args: ServeArgs, env: &dyn Strings) -> anyhow::Result<()> {
    logs::start(args.log.unwrap_or_default(), env)?;
    let config = config_file(&args);
    let mut settings = settings(&args, config.as_deref(), env)?;

    // Whatever is made from here on, the database above all, only we can read, also in a folder that others can enter.
    umask(Mode::RWXG | Mode::RWXO);
    let mut data = DataDir::take(data_folder(&settings))?;
    let open_files = descriptors::raise_limit();
    let tls = settings.tls.clone().map(Tls::new).transpose().context("the certificate cannot be served")?;
    let listener = listen(settings.listen, settings.live.receive_buffer).await.with_context(|| {
        format!("cannot listen on {}; stop what listens there, or choose another port with --listen", settings.listen)
    })?;
    let bound = listener.local_addr().context("the system does not say where it listens")?;
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
    // What others must write, commands and a certificate's name among them.
    let public_url = settings.public_url.take().map(|public| public.as_str().trim_end_matches('/').to_owned());
    credentials.url = public_url.clone().unwrap_or(url);
    credentials.save(&kept_at)?;

    let shares = Shares::of(
        open_files,
        Shares { connections: settings.connections.max, attempts: settings.courier.max_in_flight },
        accept::DESCRIPTORS_ASIDE,
    );
    let connections = ConnectionSettings { max: shares.connections, ..settings.connections.clone() };
    settings.courier.max_in_flight = shares.attempts;
    // Connections that deliveries keep for the next ones count too.
    settings.egress.max_connections = shares.attempts;
    settings.live.sessions.sessions = match settings.live.sessions.sessions {
        0 => shares.sessions(),
        wanted => wanted.min(shares.sessions()),
    };
    let grace = connections.shutdown_grace;
    let delay = settings.shutdown_delay;
    let mut registry = Registry::with_prefix("tidings");
    let supervisor = Supervisor::new(registry.sub_registry_with_prefix("server"));
    let stop = signals::stop(&supervisor).context("signals cannot be watched")?;
    #[cfg(debug_assertions)]
    faults::follow(env, &supervisor);
    let allowed = settings.egress.allow.clone();
    let machines_listen = settings.machines_listen;
    let operator_key = settings.operator_key.clone();
    let engine = assemble::build(settings, data.node()?, data.path()).await?;
    let stopping = Stopping::default();
    let metrics = accept::Metrics::default();
    metrics.register(&mut registry);
    let vitals = Arc::new(engine.vitals(registry, supervisor.clone()));
    let machines = match machines_listen {
        Some(address) => {
            Some(machines::Beside::start(address, machines::detailed(&vitals, &stopping), &supervisor).await?)
        }
        None => None,
    };
    let accept = Arc::new(Accept::new(accept::Parts {
        router: engine.router().merge(machines::router(&vitals, &stopping, machines.is_none())),
        settings: connections,
        tls: tls.clone(),
        operator_key,
        no_room: engine.no_room(),
        metrics,
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
        let asked = signals::hangups(&supervisor).context("signals cannot be watched")?;
        supervisor.service("certificate", tls.follow(tls::LOOK, asked));
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
        tracing::info!(?delay, "stopping: /readyz says so; the listener closes after shutdown_delay");
        tokio::time::sleep(delay).await;
    }
    supervisor.stop();
    close.cancel();
    // How it ended is the supervisor's to tell.
    drop(accepting.await);
    // Nobody listens any more, so that whoever is sent away finds another node or none, and not this one again.
    tracing::info!("stopping; requests under way may end, and live sessions are sent elsewhere");
    // Together: event streams may be requests under way, and they end only by the other.
    tokio::join!(accept.end(), engine.stop_live(grace));
    engine.stop(grace).await;
    if let Some(machines) = machines {
        machines.end().await;
    }
    supervisor.join().await;
    tracing::info!("stopped");
    match failed {
        None => Ok(()),
        Some(name) => {
            bail!("the server has failed: {name} had ended, as the log says. It stopped in order; start it again")
        }
    }
}

/// A path that means the same in every folder.
fn absolute(path: &Path) -> anyhow::Result<String> {
    let whole = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    Ok(whole.display().to_string())
}

fn config_file(args: &ServeArgs) -> Option<PathBuf> {
    args.config.clone().or_else(|| Path::new(DEFAULT_CONFIG).is_file().then(|| DEFAULT_CONFIG.into()))
}

/// What file, environment and flags say together.
fn settings(args: &ServeArgs, config: Option<&Path>, env: &dyn Strings) -> anyhow::Result<Settings> {
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

/// The folder that holds the database holds the lock and the credentials too. With a database elsewhere it is the usual
/// one.
fn data_folder(settings: &Settings) -> &Path {
    match &settings.store {
        StoreSettings::Postgres { .. } => Path::new(DATA_FOLDER),
        StoreSettings::Sqlite { path, .. } => match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        },
    }
}

/// Listens. What is accepted inherits the receive buffer, which the system would otherwise let grow to megabytes each.
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
        // Linux doubles it, for what it keeps beside the bytes.
        assert_eq!(SockRef::from(&accepted).recv_buffer_size().unwrap(), 64 << 10);
    }
}
