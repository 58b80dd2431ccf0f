//! `channel`: channels, their members and their history.

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::Outcome;
use super::call::{self, Page};
use super::connect::Connection;
use super::fields::Record;
use crate::config::environment::Env;

/// The subcommands of `channel`.
#[derive(Debug, Subcommand)]
pub(crate) enum ChannelCommand {
    /// Channels with at least one session
    #[command(visible_alias = "ls")]
    List {
        /// Channels whose names begin with this
        #[arg(long, value_name = "PREFIX")]
        prefix: Option<String>,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        connection: Connection,
    },
    /// The members of one, by user
    Members {
        /// The channel
        name: String,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        connection: Connection,
    },
    /// The history of one, newest first
    History {
        /// The channel
        name: String,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        connection: Connection,
    },
    /// One channel: its subscriptions and its history
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

pub(super) async fn run(command: ChannelCommand, outer: Connection, env: &dyn Env) -> Outcome {
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

/// The offset of the channel's last event if it keeps a history, else a dash.
fn offset(channel: &Record) -> String {
    let position = channel.raw("position").and_then(|raw| serde_json::from_str::<Value>(raw).ok());
    position.as_ref().and_then(|position| position.get("offset")).map_or_else(|| "-".to_owned(), Value::to_string)
}
