//! `event`: the log of events.

use clap::Subcommand;
use http::Method;

use super::Outcome;
use super::call::{self, Page};
use super::connect::Connection;
use super::fields::Record;
use crate::config::environment::Env;

/// The subcommands of `event`.
#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// The log, newest first
    #[command(visible_alias = "ls")]
    List {
        /// Only events with this name
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Only events of this live channel
        #[arg(long, value_name = "CHANNEL", conflicts_with = "name")]
        channel: Option<String>,
        /// Only events at or after this time, such as 2026-11-21T10:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only events before this time
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        connection: Connection,
    },
    /// One event
    #[command(visible_alias = "get")]
    Show {
        /// The event
        id: String,
        #[command(flatten)]
        connection: Connection,
    },
}

pub(super) async fn run(command: EventCommand, outer: Connection, env: &dyn Env) -> Outcome {
    match command {
        EventCommand::List { name, channel, since, until, page, connection } => {
            let client = connection.over(outer).open(env)?;
            let filters = [("name", name), ("channel", channel), ("since", since), ("until", until)];
            let row = |event: &Record| ["id", "time", "name", "deliveries", "data"].map(|key| event.cell(key)).to_vec();
            call::list(&client, &["v1", "events"], &filters, &page, &["ID", "TIME", "NAME", "DELIVERIES", "DATA"], row)
                .await?;
        }
        EventCommand::Show { id, connection } => {
            let client = connection.over(outer).open(env)?;
            call::record(&client, Method::GET, &["v1", "events", &id], None).await?;
        }
    }
    Ok(())
}
