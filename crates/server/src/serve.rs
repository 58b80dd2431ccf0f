//! `serve`: config, data folder, engine, sockets, and the end.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::Mode;
use rustix::process::umask;
use tokio::net::TcpListener;

use crate::accept::{self, Limits};
use crate::assemble;
use crate::cli::ServeArgs;
use crate::config::environment::Strings;
use crate::config::{self, Loaded};
use crate::credentials::Credentials;
use crate::data_dir::DataDir;
use crate::first_start;
use crate::machines::{self, Stopping};
use crate::settings::Settings;
use crate::{descriptors, logs, output, signals, welcome};

/// The config that is read when it is there and no other is named.
const DEFAULT_CONFIG: &str = "tidings.toml";

/// Serves until it is asked to stop.
pub(crate) async fn run(args: ServeArgs, env: &dyn Strings) -> anyhow::Result<()> {
    logs::start(args.log.unwrap_or_default(), env)?;
    let config = config_file(&args);
    let mut settings = settings(&args, config.as_deref(), env)?;

    // Whatever is made from here on, the database above all, only we can read, also in a folder that others can enter.
    umask(Mode::RWXG | Mode::RWXO);
    let mut data = DataDir::take(data_folder(&settings))?;
    descriptors::raise_limit();
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!("cannot listen on {}; stop what listens there, or choose another port with --listen", settings.listen)
    })?;
    let bound = listener.local_addr().context("the system does not say where it listens")?;
    data.sign(bound)?;

    let kept_at = data.path().join("credentials.toml");
    let kept = Credentials::load(&kept_at)?.unwrap_or_default();
    let mut credentials = first_start::complete(&mut settings, kept, config.is_some())?;
    credentials.url = first_start::local_url(bound);
    credentials.save(&kept_at)?;

    let limits = Limits::from(settings.connections);
    let stop = signals::stop().context("signals cannot be watched")?;
    let allowed = settings.egress.allow.clone();
    let engine = assemble::build(settings).await?;
    let stopping = Stopping::default();
    let router = engine.router().merge(machines::router(engine.vitals(), stopping.clone()));

    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tidings"));
    output::line(welcome::text(bound, &program, data.path(), config.as_deref(), &allowed));
    let asked = async {
        stop.await;
        stopping.set();
        tracing::info!("stopping; requests under way may end");
    };
    accept::run(listener, router, asked, limits).await;
    engine.stop(limits.grace).await;
    tracing::info!("stopped");
    Ok(())
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
    Ok(settings)
}

/// The folder that holds the database holds the lock and the credentials too.
fn data_folder(settings: &Settings) -> &Path {
    match settings.store.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
