//! `app`: the tenants, for the operator.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::call::{self, Page};
use super::connect::Connection;
use super::fields::Record;
use super::send;
use super::{Failure, Outcome};
use crate::config::environment::Env;

/// The subcommands of `app`.
#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// All of them
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        connection: Connection,
    },
    /// One of them
    #[command(visible_alias = "get")]
    Show(AppById),
    /// Make one; its key and secrets are printed, once
    #[command(visible_aliases = ["add", "new"])]
    Create {
        /// Its id; without, the next number
        #[arg(long, value_name = "ID")]
        id: Option<String>,
        #[command(flatten)]
        args: AppArgs,
    },
    /// Change the given fields of one
    #[command(alias = "edit", alias = "set", alias = "patch")]
    Update {
        /// Its id
        id: String,
        #[command(flatten)]
        args: AppArgs,
    },
    /// Serve it again
    Enable(AppById),
    /// Stop serving it: its sessions are closed, its servers refused; nothing of it is lost
    Disable(AppById),
    /// Remove one, with its hooks and listeners
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(AppById),
}

/// An app by its id.
#[derive(Debug, Args)]
pub(crate) struct AppById {
    /// Its id
    id: String,
    #[command(flatten)]
    connection: Connection,
}

/// An app's fields.
#[derive(Debug, Args)]
pub(crate) struct AppArgs {
    /// Its public key
    #[arg(long, value_name = "KEY")]
    app_key: Option<String>,
    /// A host name that belongs to it; can be given several times
    #[arg(long = "host", value_name = "NAME", value_delimiter = ',')]
    hosts: Vec<String>,
    /// An origin of pages that may connect; can be given several times
    #[arg(long = "origin", value_name = "ORIGIN", value_delimiter = ',')]
    origins: Vec<String>,
    /// A limit, such as sessions=100 or payload=20KiB; can be given several times
    #[arg(long = "limit", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = limit)]
    limits: Vec<(String, Value)>,
    /// Any keys that [[apps]] has in the config, as JSON or @FILE; the other flags win
    #[arg(long, value_name = "JSON")]
    spec: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(command: AppCommand, outer: Connection, env: &dyn Env) -> Outcome {
    match command {
        AppCommand::List { page, connection } => {
            let client = connection.over(outer).open_as_operator(env)?;
            let row = |app: &Record| ["id", "key", "source", "enabled", "hosts"].map(|key| app.cell(key)).to_vec();
            let head = ["ID", "KEY", "SOURCE", "ENABLED", "HOSTS"];
            call::list(&client, &["v1", "apps"], &[], &page, &head, row).await?;
        }
        AppCommand::Show(app) => {
            let client = app.connection.over(outer).open_as_operator(env)?;
            call::record(&client, Method::GET, &["v1", "apps", &app.id], None).await?;
        }
        AppCommand::Create { id, args } => {
            let mut body = args.body()?;
            body.extend(id.map(|id| ("id".to_owned(), id.into())));
            let client = args.connection.over(outer).open_as_operator(env)?;
            call::record(&client, Method::POST, &["v1", "apps"], Some(body.into())).await?;
        }
        AppCommand::Update { id, args } => {
            let body = args.body()?;
            if body.is_empty() {
                return Err(Failure::Usage("nothing to change was given; see `tidings app update --help`".to_owned()));
            }
            let client = args.connection.over(outer).open_as_operator(env)?;
            call::record(&client, Method::PATCH, &["v1", "apps", &id], Some(body.into())).await?;
        }
        AppCommand::Enable(app) => enable(app, true, outer, env).await?,
        AppCommand::Disable(app) => enable(app, false, outer, env).await?,
        AppCommand::Delete(app) => {
            let client = app.connection.over(outer).open_as_operator(env)?;
            call::delete(&client, &["v1", "apps", &app.id], &format!("app {}", app.id)).await?;
        }
    }
    Ok(())
}

async fn enable(app: AppById, enabled: bool, outer: Connection, env: &dyn Env) -> anyhow::Result<()> {
    let client = app.connection.over(outer).open_as_operator(env)?;
    let body = json!({"enabled": enabled});
    call::record(&client, Method::PATCH, &["v1", "apps", &app.id], Some(body)).await
}

impl AppArgs {
    fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = match self.spec.as_deref().map(|spec| send::json_value("--spec", spec)).transpose()? {
            None => Map::new(),
            Some(Value::Object(spec)) => spec,
            Some(_) => return Err(Failure::Usage("--spec is a JSON object".to_owned())),
        };
        body.extend(self.app_key.clone().map(|key| ("key".to_owned(), key.into())));
        for (name, given) in [("hosts", &self.hosts), ("allowed_origins", &self.origins)] {
            if !given.is_empty() {
                body.insert(name.to_owned(), given.clone().into());
            }
        }
        if !self.limits.is_empty() {
            let limits = body.entry("limits").or_insert_with(|| json!({}));
            if let Value::Object(limits) = limits {
                limits.extend(self.limits.iter().cloned());
            }
        }
        Ok(body)
    }
}

/// Reads `payload=20KiB`; a value that is a whole number becomes a JSON number.
fn limit(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE, such as sessions=100")?;
    let value = value.parse::<u64>().map_or_else(|_| value.into(), Value::from);
    Ok((name.trim().to_owned(), value))
}
