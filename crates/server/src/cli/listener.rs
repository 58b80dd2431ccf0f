//! `listener`: the URLs that receive events.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};

use super::call::{self, Page};
use super::connect::{Connection, ServerConnection};
use super::fields::Record;
use super::send::{self, Fields, Setting};
use super::{Failure, Outcome};
use crate::config::environment::Env;

const PATH: [&str; 2] = ["v1", "listeners"];

/// The subcommands of `listener`.
#[derive(Debug, Subcommand)]
pub(crate) enum ListenerCommand {
    /// All of them, or those that the filters select
    #[command(visible_alias = "ls")]
    List {
        /// Only those of this hook
        #[arg(long)]
        hook: Option<String>,
        /// Only those of this owner
        #[arg(long)]
        owner: Option<String>,
        /// Only those that are enabled, or with `false` only those that are not
        #[arg(long, num_args = 0..=1, default_missing_value = "true")]
        enabled: Option<bool>,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        connection: Connection,
    },
    /// One of them
    #[command(visible_alias = "get")]
    Show(ById),
    /// Add one. Its secret is shown now and never again
    #[command(visible_aliases = ["add", "new"])]
    Create {
        #[command(flatten)]
        fields: ListenerFields,
        #[command(flatten)]
        connection: ServerConnection,
    },
    /// Change the given fields of one
    #[command(alias = "edit", alias = "set", alias = "patch")]
    Update {
        /// The listener
        id: String,
        #[command(flatten)]
        fields: ListenerFields,
        #[command(flatten)]
        connection: ServerConnection,
    },
    /// Remove one
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(ById),
    /// Send one a test event
    Test {
        /// The listener
        id: String,
        /// The event's name [default: tidings.test]
        #[arg(long, short = 'e', alias = "name", value_name = "NAME")]
        event: Option<String>,
        /// The event's data: JSON, @FILE, or - for stdin
        #[arg(long, short = 'd', value_name = "JSON", allow_hyphen_values = true)]
        data: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Give one a new secret; the old one stays good for a while
    #[command(alias = "rotate", alias = "rotate_secret")]
    RotateSecret {
        /// The listener
        id: String,
        /// The new secret [default: made by the server]
        #[arg(long, value_name = "whsec_…")]
        secret: Option<String>,
        /// How long the old one stays good [default: 24h]
        #[arg(long, value_name = "TIME")]
        grace: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

/// A listener by its id.
#[derive(Debug, Args)]
pub(crate) struct ById {
    /// The listener
    id: String,
    #[command(flatten)]
    connection: Connection,
}

/// A listener's fields.
#[derive(Debug, Args)]
pub(crate) struct ListenerFields {
    /// Where its deliveries go
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// An event name or pattern that it receives; can be given several times
    #[arg(long = "hook", visible_alias = "hooks", alias = "hooks", value_name = "NAME", value_delimiter = ',')]
    hooks: Vec<String>,
    /// Which of the events: JSON or @FILE; {} for all
    #[arg(long = "match", value_name = "JSON")]
    filter: Option<String>,
    /// The secret that deliveries are signed with [default: made by the server]
    #[arg(long, value_name = "whsec_…")]
    secret: Option<String>,
    /// A header of each delivery; can be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The most deliveries per second; "none" for no limit
    #[arg(long, value_name = "N")]
    rate: Option<Setting<u32>>,
    /// The most deliveries in flight; "none" for the server's default
    #[arg(long, value_name = "N")]
    concurrency: Option<Setting<u32>>,
    /// none, fifo (one after the other) or key (those with the same key one after the other)
    #[arg(long, value_name = "ORDER", value_parser = ["none", "fifo", "key"])]
    order: Option<String>,
    /// How long one attempt may take, such as 15s; "none" for the hook's
    #[arg(long, value_name = "TIME")]
    timeout: Option<Setting<String>>,
    /// When attempts are made, such as 0s,5s,5m; "none" for the hook's
    #[arg(long, value_name = "TIMES")]
    schedule: Option<Setting<String>>,
    /// Deliver
    #[arg(long, alias = "enable", conflicts_with = "disabled")]
    enabled: bool,
    /// Deliver nothing
    #[arg(long, alias = "disable")]
    disabled: bool,
    /// Which of your customers it belongs to; "none" for no owner
    #[arg(long, value_name = "TEXT")]
    owner: Option<Setting<String>>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

pub(super) async fn run(command: ListenerCommand, outer: Connection, env: &dyn Env) -> Outcome {
    match command {
        ListenerCommand::List { hook, owner, enabled, page, connection } => {
            let client = connection.over(outer).open(env)?;
            let filters = [("hook", hook), ("owner", owner), ("enabled", enabled.map(|enabled| enabled.to_string()))];
            call::list(&client, &PATH, &filters, &page, &["ID", "STATE", "HOOKS", "URL"], row).await?;
        }
        ListenerCommand::Show(listener) => {
            let client = listener.connection.over(outer).open(env)?;
            call::record(&client, Method::GET, &[&PATH[..], &[&listener.id]].concat(), None).await?;
        }
        ListenerCommand::Create { fields, connection } => {
            if fields.url.is_none() || fields.hooks.is_empty() {
                return Err(Failure::Usage(
                    "a listener needs --url and at least one --hook, as in `tidings listener \
                    create --url http://127.0.0.1:9000 --hook person.created`"
                        .to_owned(),
                ));
            }
            let client = Connection::from(connection).over(outer).open(env)?;
            call::record(&client, Method::POST, &PATH, Some(fields.body()?.into_value())).await?;
        }
        ListenerCommand::Update { id, fields, connection } => {
            let body = fields.body()?;
            if body.is_empty() {
                return Err(Failure::Usage(
                    "nothing to change was given; see `tidings listener update --help`".to_owned(),
                ));
            }
            let client = Connection::from(connection).over(outer).open(env)?;
            call::record(&client, Method::PATCH, &[&PATH[..], &[&id]].concat(), Some(body.into_value())).await?;
        }
        ListenerCommand::Delete(listener) => {
            let client = listener.connection.over(outer).open(env)?;
            call::delete(&client, &[&PATH[..], &[&listener.id]].concat(), &format!("listener {}", listener.id)).await?;
        }
        ListenerCommand::Test { id, event, data, connection } => {
            let data = data.as_deref().map(|data| send::json_value("--data", data)).transpose()?;
            let client = connection.over(outer).open(env)?;
            let body = Fields::default().set("name", event).set("data", data).into_value();
            call::record(&client, Method::POST, &[&PATH[..], &[&id, "test"]].concat(), Some(body)).await?;
        }
        ListenerCommand::RotateSecret { id, secret, grace, connection } => {
            let client = connection.over(outer).open(env)?;
            let body = Fields::default().set("secret", secret).set("grace", grace).into_value();
            call::record(&client, Method::POST, &[&PATH[..], &[&id, "rotate_secret"]].concat(), Some(body)).await?;
        }
    }
    Ok(())
}

impl ListenerFields {
    fn body(&self) -> Result<Fields, Failure> {
        let filter = self.filter.as_deref().map(|filter| send::json_value("--match", filter)).transpose()?;
        let enabled = if self.enabled { Some(true) } else { self.disabled.then_some(false) };
        Ok(Fields::default()
            .set("url", self.url.clone())
            .set("hooks", (!self.hooks.is_empty()).then(|| self.hooks.clone()))
            .set("match", filter)
            .set("secret", self.secret.clone())
            .set("headers", headers(&self.headers)?)
            .setting("rate", self.rate.clone())
            .setting("concurrency", self.concurrency.clone())
            .set("order", self.order.clone())
            .setting("timeout", self.timeout.clone())
            .setting("schedule", send::schedule(self.schedule.clone()))
            .set("enabled", enabled)
            .setting("owner", self.owner.clone())
            .set("description", self.description.clone()))
    }
}

fn headers(given: &[String]) -> Result<Option<Value>, Failure> {
    let mut headers = Map::new();
    for header in given {
        // The value may be a secret, so the error does not quote it.
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| Failure::Usage("a header is written as --header 'Name: value'".to_owned()))?;
        headers.insert(name.trim().to_owned(), value.trim().into());
    }
    Ok((!headers.is_empty()).then_some(Value::Object(headers)))
}

fn row(listener: &Record) -> Vec<String> {
    let state = match (listener.raw("enabled"), listener.text("disabled_reason")) {
        (Some("true"), _) => "enabled".to_owned(),
        (_, Some(reason)) => format!("disabled ({reason})"),
        (_, None) => "disabled".to_owned(),
    };
    vec![listener.cell("id"), state, listener.cell("hooks"), listener.cell("url")]
}

#[cfg(test)]
pub(super) fn body_of(fields: &ListenerFields) -> Value {
    fields.body().ok().map(Fields::into_value).unwrap_or_default()
}
