//! `migrate`: copies an SQLite database into an empty PostgreSQL database.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use tidings_model::clock::SystemClock;
use tidings_store::postgres::{self, Options};

use super::{Failure, Outcome};
use crate::data_dir::DataDir;
use crate::output;

/// The flags of `migrate`.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// The database of a stopped server, as sqlite://tidings-data/tidings.db
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// An empty database, as postgres://user:password@host/database
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
}

pub(super) async fn run(args: &MigrateArgs) -> Outcome {
    let Some(path) = args.from.strip_prefix("sqlite://").map(Path::new) else {
        return Err(Failure::Usage(
            "--from must be a sqlite:// URL, as in sqlite://tidings-data/tidings.db".to_owned(),
        ));
    };
    postgres::check_url(&args.to).map_err(|error| Failure::Usage(format!("--to: {error}")))?;
    if !path.is_file() {
        return Err(Failure::Usage(format!("--from: there is no database {}", path.display())));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The lock makes sure that no server still writes to the database: its last writes would not be copied.
    let _held = DataDir::take(folder)?;
    let now = SystemClock::shared().steady_ms();
    let copied = postgres::copy_from_sqlite(path, &args.to, &Options::default(), now).await;
    let copied = copied.context("nothing was copied")?;
    let rows: Vec<Vec<String>> =
        copied.iter().map(|(table, rows)| vec![format!("  {table}"), rows.to_string()]).collect();
    output::line("copied");
    output::line(output::table(&[], &rows));
    output::line("now serve with the same main key file and [store] url");
    Ok(())
}
