//! `check`: reports everything that is wrong with a config, or else what it would serve.

use std::path::PathBuf;

use clap::Args;

use super::{Failure, Outcome};
use crate::config;
use crate::config::environment::Env;
use crate::output;
use crate::settings::{Settings, StoreSettings};

/// The flags of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The config file
    #[arg(long, short = 'c', value_name = "FILE", default_value = "tidings.toml")]
    pub(crate) config: PathBuf,
}

pub(super) fn run(args: &CheckArgs, env: &dyn Env) -> Outcome {
    match config::load(&args.config, env) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                output::stderr_line(format!("{warning} (warning)"));
            }
            for warning in config::unreachable_webhooks(&loaded.settings) {
                output::stderr_line(format!("{warning} (warning)"));
            }
            output::line("ok");
            output::line(would_serve(&loaded.settings));
            warn_of_large_matches(&loaded.settings.store);
            Ok(())
        }
        Err(problems) => {
            for problem in &problems.0 {
                output::stderr_line(problem.to_string());
            }
            let count = match problems.0.len() {
                1 => "1 mistake".to_owned(),
                n => format!("{n} mistakes"),
            };
            Err(Failure::Failed(anyhow::anyhow!("{count} in {}", args.config.display())))
        }
    }
}

/// Warns of listeners whose matches are beyond the size limit. A store that does not exist yet is no problem here.
fn warn_of_large_matches(store: &StoreSettings) {
    let StoreSettings::Sqlite { path, .. } = store else { return };
    if !path.exists() {
        return;
    }
    match tidings_store::matches::large_in_sqlite(path) {
        Ok(large) => {
            for tidings_store::matches::LargeMatch { app, listener } in large {
                output::stderr_line(format!(
                    "the match of listener {listener} (app {app}) is beyond the size limit: it is compiled for each \
                    event, which is slow; shorten it, as docs/matches.md says (warning)"
                ));
            }
        }
        Err(error) => {
            output::stderr_line(format!("the matches in {} were not checked: {error} (warning)", path.display()))
        }
    }
}

fn kept_in(store: &StoreSettings) -> String {
    match store {
        StoreSettings::Sqlite { path, .. } => format!("SQLite in {}", path.display()),
        // The URL holds a password.
        StoreSettings::Postgres { options, .. } => {
            format!("PostgreSQL, with up to {} connections", options.connections)
        }
    }
}

fn would_serve(settings: &Settings) -> String {
    let apps: Vec<String> = settings
        .apps
        .iter()
        .map(|app| if app.default { format!("{} (default)", app.id) } else { app.id.to_string() })
        .collect();
    let networks: Vec<String> = settings.egress.allow.iter().map(ToString::to_string).collect();
    let rows = [
        ("listens on", settings.listen.to_string()),
        ("keeps", kept_in(&settings.store)),
        ("apps", if apps.is_empty() { "one, made at the first start".to_owned() } else { apps.join(", ") }),
        ("private networks", if networks.is_empty() { "none may be reached".to_owned() } else { networks.join(", ") }),
    ];
    output::table(&[], &rows.map(|(what, value)| vec![format!("  {what}"), value]))
}
