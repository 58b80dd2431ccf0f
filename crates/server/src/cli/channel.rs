//! `channel`: who is where, and what was said there.

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::Outcome;
use super::call::{self, Page};
use super::connect::Connection;
use super::fields::Record;
use crate::config::environment::Strings;

/// What to do with channels.
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Those that somebody is in
    #[command(visible_alias = "ls")]
    List {
        /// Those whose names begin so
        #[arg(long, value_name = "PREFIX")]
        prefix: Option<String>,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        connection: Connection,
    },
    /// Who is in one, by user
    Members {
        /// The channel
        name: String,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        connection: Connection,
    },
    /// What was said in one, the newest first
    History {
        /// The channel
        name: String,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        connection: Connection,
    },
    /// One of them: who is there, and what was said
    #[command(visible_alias = "get")]
    Show {
        /// The channel
        name: String,
        /// How many of the newest events to show, 1 to 250
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=250))]
        history: Option<u32>,
        #[command(flatten)]
        connection: Connection,
    },
}

pub(super) async fn run(command: ChannelCommand, outer: Connection, env: &dyn Strings) -> Outcome {
    match command {
        ChannelCommand::List { prefix, page, connection } => {
            let client = connection.over(outer).open(env)?;
            let row = |channel: &Record| {
                let cells = ["name", "subscriptions", "users"].map(|key| channel.cell(key));
                cells.into_iter().chain([offset(channel)]).collect()
            };
            let head = ["NAME", "SUBSCRIPTIONS", "USERS", "OFFSET"];
            call::list(&client, &["v1", "channels"], &[("prefix", prefix)], &page, &head, row).await?;
        }
        ChannelCommand::Members { name, page, connection } => {
            let client = connection.over(outer).open(env)?;
            let row = |member: &Record| ["user", "info"].map(|key| member.cell(key)).to_vec();
            call::list(&client, &["v1", "channels", &name, "members"], &[], &page, &["USER", "INFO"], row).await?;
        }
        ChannelCommand::History { name, page, connection } => {
            let client = connection.over(outer).open(env)?;
            let row = |event: &Record| ["offset", "time", "id", "name", "data"].map(|key| event.cell(key)).to_vec();
            let head = ["OFFSET", "TIME", "ID", "NAME", "DATA"];
            call::list(&client, &["v1", "channels", &name, "history"], &[], &page, &head, row).await?;
        }
        ChannelCommand::Show { name, history, connection } => {
            let client = connection.over(outer).open(env)?;
            let mut url = client.address(&["v1", "channels", &name]);
            if let Some(history) = history {
                url.query_pairs_mut().append_pair("history", &history.to_string());
            }
            call::record_at(&client, Method::GET, url, None).await?;
        }
    }
    Ok(())
}

/// How much was said where history is kept, else a dash.
fn offset(channel: &Record) -> String {
    let position = channel.raw("position").and_then(|raw| serde_json::from_str::<Value>(raw).ok());
    position.as_ref().and_then(|position| position.get("offset")).map_or_else(|| "-".to_owned(), Value::to_string)
}
