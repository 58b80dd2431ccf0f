//! The log: on stderr, for people or for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::environment::Strings;

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// A JSON object per line
    Json,
}

/// Starts the log. What is written is said by `TIDINGS_LOG`, else `RUST_LOG`, else `info`.
///
/// # Errors
/// When the variable is no filter, or there is a log already.
pub(crate) fn start(format: LogFormat, env: &dyn Strings) -> anyhow::Result<()> {
    let wanted = ["TIDINGS_LOG", "RUST_LOG"].iter().find_map(|name| Some((*name, env.get(name)?)));
    let filter = match wanted {
        None => EnvFilter::new("info"),
        Some((name, text)) => EnvFilter::try_new(text)
            .map_err(|error| anyhow::anyhow!("{name} is not a log filter such as info or tidings=debug: {error}"))?,
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}
