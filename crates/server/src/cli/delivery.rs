//! `delivery`: deliveries to listeners, and their attempts.

use clap::{Args, Subcommand};
use http::Method;

use super::Outcome;
use super::call::{self, Page};
use super::connect::Connection;
use super::fields::Record;
use crate::config::environment::Env;

/// The subcommands of `delivery`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeliveryCommand {
    /// All of them, or those that the filters select, newest first
    #[command(visible_alias = "ls")]
    List {
        /// Only those in this state
        #[arg(long, value_name = "STATE", value_parser = ["pending", "delivered", "undelivered", "canceled"])]
        state: Option<String>,
        /// Only those to this listener
        #[arg(long, value_name = "ID")]
        listener: Option<String>,
        /// Only those of this event
        #[arg(long, value_name = "ID")]
        event: Option<String>,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        connection: Connection,
    },
    /// One of them
    #[command(visible_alias = "get")]
    Show(ById),
    /// The attempts of one
    #[command(alias = "attempt")]
    Attempts {
        #[command(flatten)]
        delivery: ById,
        #[command(flatten)]
        page: Page,
    },
    /// Make an attempt now, whatever its state
    Retry(ById),
}

/// A delivery by its id.
#[derive(Debug, Args)]
pub(crate) struct ById {
    /// The delivery
    id: String,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(command: DeliveryCommand, outer: Connection, env: &dyn Env) -> Outcome {
    match command {
        DeliveryCommand::List { state, listener, event, page, connection } => {
            let client = connection.over(outer).open(env)?;
            let filters = [("state", state), ("listener", listener), ("event", event)];
            let head = ["ID", "STATE", "NAME", "EVENT", "LISTENER", "ATTEMPTS", "NEXT ATTEMPT", "LAST ERROR"];
            let keys = ["id", "state", "name", "event", "listener", "attempts", "next_attempt_at", "last_error"];
            let row = |delivery: &Record| keys.map(|key| delivery.cell(key)).to_vec();
            call::list(&client, &["v1", "deliveries"], &filters, &page, &head, row).await?;
        }
        DeliveryCommand::Show(delivery) => {
            let client = delivery.connection.over(outer).open(env)?;
            call::record(&client, Method::GET, &["v1", "deliveries", &delivery.id], None).await?;
        }
        DeliveryCommand::Attempts { delivery, page } => {
            let client = delivery.connection.over(outer).open(env)?;
            let head = ["N", "STARTED", "MS", "OUTCOME", "STATUS", "REMOTE", "NEXT ATTEMPT", "ERROR"];
            let keys = ["n", "started_at", "duration_ms", "outcome", "status", "remote", "next_attempt_at", "error"];
            let row = |attempt: &Record| keys.map(|key| attempt.cell(key)).to_vec();
            call::list(&client, &["v1", "deliveries", &delivery.id, "attempts"], &[], &page, &head, row).await?;
        }
        DeliveryCommand::Retry(delivery) => {
            let client = delivery.connection.over(outer).open(env)?;
            call::record(&client, Method::POST, &["v1", "deliveries", &delivery.id, "retry"], None).await?;
        }
    }
    Ok(())
}
