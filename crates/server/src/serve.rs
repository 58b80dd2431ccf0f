//! `serve`: config, data folder, engine, sockets, and the end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::accept::{self, Accept};
use crate::assemble;
use crate::cli::ServeArgs;
use crate::config::environment::Strings;
use crate::config::{self, Loaded};
use crate::credentials::Credentials;
use crate::data_dir::DataDir;
use crate::descriptors::{self, Shares};
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
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!("cannot listen on {}; stop what listens there, or choose another port with --listen", settings.listen)
    })?;
    let bound = listener.local_addr().context("the system does not say where it listens")?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = first_start::local_url(scheme, bound);
    data.sign(&url)?;

    let kept_at = data.path().join("credentials.toml");
    let kept = Credentials::load(&kept_at)?.unwrap_or_default();
    let mut credentials = first_start::complete(&mut settings, kept, config.is_some())?;
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
    settings.live.sessions.sessions = match settings.live.sessions.sessions {
        0 => shares.sessions(),
        wanted => wanted.min(shares.sessions()),
    };
    let grace = connections.shutdown_grace;
    let delay = settings.shutdown_delay;
    let stop = signals::stop().context("signals cannot be watched")?;
    let allowed = settings.egress.allow.clone();
    let machines_listen = settings.machines_listen;
    let operator_key = settings.operator_key.clone();
    let engine = assemble::build(settings, data.node()?).await?;
    let stopping = Stopping::default();
    let vitals = Arc::new(engine.vitals());
    let metrics = accept::Metrics::default();
    metrics.register(&mut engine.registry().lock());
    let machines = match machines_listen {
        Some(address) => Some(Beside::start(address, machines::detailed(&vitals, &stopping)).await?),
        None => None,
    };
    let accept = Accept::new(accept::Parts {
        router: engine.router().merge(machines::router(&vitals, &stopping, machines.is_none())),
        settings: connections,
        tls: tls.clone(),
        operator_key,
        no_room: engine.no_room(),
        metrics,
    });

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
    let asked = async {
        stop.await;
        stopping.set();
        if !delay.is_zero() {
            tracing::info!(?delay, "stopping: /readyz says so; the listener closes after shutdown_delay");
            tokio::time::sleep(delay).await;
        }
    };
    let following = tls.map(follow_certificate).transpose()?;
    accept.run(listener, asked).await;
    // Nobody listens any more, so that whoever is sent away finds another node or none, and not this one again.
    tracing::info!("stopping; requests under way may end, and live sessions are sent elsewhere");
    // Together: event streams may be requests under way, and they end only by the other.
    tokio::join!(accept.end(), engine.stop_live(grace));
    engine.stop(grace).await;
    if let Some(machines) = machines {
        machines.end().await;
    }
    if let Some(following) = following {
        following.abort();
    }
    tracing::info!("stopped");
    Ok(())
}

/// What watches the server, at an address of its own, until all else has ended.
struct Beside {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Beside {
    /// Connections that it takes. Who watches the server is known, so these are few.
    const MAX: usize = 64;
    /// Nobody waits for long for the end of a scrape.
    const GRACE: Duration = Duration::from_secs(1);

    async fn start(address: SocketAddr, router: Router) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}, which machines.listen names; stop what listens there, or choose another port")
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
        let ended = tokio::spawn(async move {
            accept.run(listener, async { drop(stopped.await) }).await;
            accept.end().await;
        });
        Ok(Self { stop, ended })
    }

    async fn end(self) {
        self.stop.send(()).ok();
        if self.ended.await.is_err() {
            tracing::error!("what listens on machines.listen had broken down");
        }
    }
}

/// Follows the certificate's files, and reads them at once on SIGHUP.
fn follow_certificate(tls: Tls) -> anyhow::Result<JoinHandle<()>> {
    let asked = signals::hangups().context("signals cannot be watched")?;
    Ok(tokio::spawn(tls.follow(tls::LOOK, asked)))
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

/// The folder that holds the database holds the lock and the credentials too. With a database elsewhere it is the usual one.
fn data_folder(settings: &Settings) -> &Path {
    match &settings.store {
        StoreSettings::Postgres { .. } => Path::new(DATA_FOLDER),
        StoreSettings::Sqlite { path, .. } => match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        },
    }
}
