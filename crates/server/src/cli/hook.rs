//! `hook`: the event names in the catalogue.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::call::{self, Page};
use super::connect::Connection;
use super::fields::Record;
use super::send::{self, Fields, Setting};
use super::{Failure, Outcome};
use crate::config::environment::Env;

/// The subcommands of `hook`.
#[derive(Debug, Subcommand)]
pub(crate) enum HookCommand {
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
    Show(HookByName),
    /// Add one
    #[command(visible_aliases = ["add", "new"])]
    Create(HookArgs),
    /// Change the given fields of one
    #[command(alias = "edit", alias = "set", alias = "patch")]
    Update(HookArgs),
    /// Remove one
    #[command(visible_aliases = ["rm", "remove"])]
    Delete(HookByName),
}

/// A hook by its name.
#[derive(Debug, Args)]
pub(crate) struct HookByName {
    /// The event name
    name: String,
    #[command(flatten)]
    connection: Connection,
}

/// A hook's fields.
#[derive(Debug, Args)]
pub(crate) struct HookArgs {
    /// The event name
    name: String,
    /// A top-level field of the data that is sent, maybe with its type; can be given several times
    #[arg(long = "field", visible_alias = "fields", value_name = "NAME[:TYPE]", value_delimiter = ',',
        conflicts_with_all = ["no_fields", "all_fields"])]
    fields: Vec<String>,
    /// Send no field of the data
    #[arg(long, conflicts_with = "all_fields")]
    no_fields: bool,
    /// Send all of the data
    #[arg(long)]
    all_fields: bool,
    /// Where only these fields are kept: "all" (live sessions, histories and the log too), or "webhooks" alone
    #[arg(long, value_name = "WHOM", value_parser = ["all", "webhooks"])]
    fields_for: Option<String>,
    /// For people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A JSON Schema for the authors of receivers: JSON or @FILE
    #[arg(long, value_name = "JSON")]
    schema: Option<String>,
    /// How long one attempt may take, such as 15s; "none" removes it
    #[arg(long, value_name = "TIME")]
    timeout: Option<Setting<String>>,
    /// When attempts are made, such as 0s,5s,5m; "none" removes it
    #[arg(long, value_name = "TIMES")]
    schedule: Option<Setting<String>>,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(command: HookCommand, outer: Connection, env: &dyn Env) -> Outcome {
    match command {
        HookCommand::List { page, connection } => {
            let client = connection.over(outer).open(env)?;
            let row = |hook: &Record| ["name", "fields", "description"].map(|key| field_cell(hook, key)).to_vec();
            call::list(&client, &["v1", "hooks"], &[], &page, &["NAME", "FIELDS", "DESCRIPTION"], row).await?;
        }
        HookCommand::Show(hook) => {
            let client = hook.connection.over(outer).open(env)?;
            call::record(&client, Method::GET, &["v1", "hooks", &hook.name], None).await?;
        }
        HookCommand::Create(args) => {
            let body = args.body()?.set("name", Some(args.name.clone())).into_value();
            let client = args.connection.over(outer).open(env)?;
            call::record(&client, Method::POST, &["v1", "hooks"], Some(body)).await?;
        }
        HookCommand::Update(args) => {
            let body = args.body()?;
            if body.is_empty() {
                return Err(Failure::Usage("nothing to change was given; see `tidings hook update --help`".to_owned()));
            }
            let client = args.connection.over(outer).open(env)?;
            call::record(&client, Method::PATCH, &["v1", "hooks", &args.name], Some(body.into_value())).await?;
        }
        HookCommand::Delete(hook) => {
            let client = hook.connection.over(outer).open(env)?;
            call::delete(&client, &["v1", "hooks", &hook.name], &format!("hook {}", hook.name)).await?;
        }
    }
    Ok(())
}

impl HookArgs {
    fn body(&self) -> Result<Fields, Failure> {
        let fields = match (self.fields.as_slice(), self.no_fields, self.all_fields) {
            (_, true, _) => Some(json!([])),
            (_, _, true) => Some(Value::Null),
            ([], ..) => None,
            (fields, ..) => Some(fields.iter().map(|field| declared(field)).collect()),
        };
        let schema = self.schema.as_deref().map(|schema| send::json_value("--schema", schema)).transpose()?;
        let defaults = Fields::default()
            .setting("timeout", self.timeout.clone())
            .setting("schedule", send::schedule(self.schedule.clone()));
        let defaults = (!defaults.is_empty()).then(|| defaults.into_value());
        Ok(Fields::default()
            .set("fields", fields)
            .set("fields_for", self.fields_for.clone())
            .set("description", self.description.clone())
            .set("schema", schema)
            .set("defaults", defaults))
    }
}

fn declared(field: &str) -> Value {
    match field.split_once(':') {
        Some((name, kind)) => json!({"name": name, "type": kind}),
        None => json!(field),
    }
}

/// The cell of `fields`, such as `name, age:integer`, and whether it holds for webhooks only. No `fields` means all.
fn field_cell(hook: &Record, key: &str) -> String {
    if key != "fields" {
        return hook.cell(key);
    }
    let Some(fields) = hook.raw(key).and_then(|raw| serde_json::from_str::<Vec<Value>>(raw).ok()) else {
        return "(all)".to_owned();
    };
    let names = match fields.as_slice() {
        [] => "(none)".to_owned(),
        fields => fields.iter().map(field_name).collect::<Vec<_>>().join(", "),
    };
    if hook.text("fields_for").as_deref() == Some("webhooks") { format!("{names} (webhooks only)") } else { names }
}

fn field_name(field: &Value) -> String {
    let part = |key: &str| field.get(key).and_then(Value::as_str);
    match (field.as_str().or(part("name")), part("type")) {
        (Some(name), None | Some("any")) => name.to_owned(),
        (Some(name), Some(kind)) => format!("{name}:{kind}"),
        (None, _) => field.to_string(),
    }
}

#[cfg(test)]
pub(super) fn body_of(args: &HookArgs) -> Value {
    args.body().ok().map(Fields::into_value).unwrap_or_default()
}
