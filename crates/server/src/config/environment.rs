//! Environment variables over the file: `TIDINGS__STORE__URL` sets `url` in `[store]`.
//!
//! Two underscores separate the parts, because Kubernetes gives every pod variables such as `TIDINGS_PORT=tcp://…` if a
//! service has our name. Letter case does not matter. `TIDINGS__APPS__<id>__SECRET` sets a key of the app with that id.
//!
//! A variable is text, and its type depends on the key. It is tried as a string, as a TOML value, and as a
//! comma-separated list; the first that the key accepts is taken.

use serde::Deserialize;
use toml::{Table, Value};

use super::problem::Problem;
use super::raw::RawConfig;
use super::serde_message::{nearest_key, readable};

/// A source of environment variables, so that tests need not change those of the process.
pub(crate) trait Env {
    /// All variables, as pairs of name and value.
    fn all(&self) -> Vec<(String, String)>;

    /// One variable; an empty one counts as unset.
    fn get(&self, name: &str) -> Option<String> {
        self.all().into_iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
    }
}

/// The variables of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessEnvironment;

impl Env for ProcessEnvironment {
    fn all(&self) -> Vec<(String, String)> {
        // None of our variables is anything but UTF-8.
        std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }
}

impl Env for Vec<(&str, &str)> {
    fn all(&self) -> Vec<(String, String)> {
        self.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

const PREFIX: &str = "TIDINGS__";

/// Sets the values of the variables in `table`. Returns the path of each key that was set, with its variable's name,
/// and the problems.
pub(crate) fn apply(table: &mut Table, env: &dyn Env) -> (Vec<(String, String)>, Vec<Problem>) {
    let mut set = Vec::new();
    let mut problems = Vec::new();
    let mut variables = env.all();
    variables.retain(|(name, _)| name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX)));
    variables.sort();
    for (name, text) in variables {
        let parts: Vec<&str> = name[PREFIX.len()..].split("__").collect();
        match put(table, &parts, &text) {
            Ok(path) => set.push((path, name)),
            Err(message) => problems.push(Problem { place: name, message, offset: usize::MAX }),
        }
    }
    (set, problems)
}

/// Warnings for variables that are not read because they have one underscore where two belong, each with the right
/// form. Kubernetes' own variables (`TIDINGS_PORT`, `TIDINGS_SERVICE_HOST`) name no key, so they are no mistake.
pub(super) fn misspelt(env: &dyn Env) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut names: Vec<String> = env.all().into_iter().map(|(name, _)| name).collect();
    names.sort();
    for name in names {
        let Some(rest) = name.strip_prefix("TIDINGS_").filter(|rest| !rest.starts_with('_')) else { continue };
        if let Some(right) = readings(rest).into_iter().find(|parts| names_key(parts)) {
            let message =
                format!("is not read: two underscores separate the parts, as in {PREFIX}{}", right.join("__"));
            problems.push(Problem { place: name, message, offset: usize::MAX });
        }
    }
    problems
}

/// The ways to split a name with single underscores: a top-level key, a key in a section, and a key of an app.
fn readings(rest: &str) -> Vec<Vec<&str>> {
    let mut readings = vec![vec![rest]];
    if let Some((section, key)) = rest.split_once('_') {
        readings.push(vec![section, key]);
        if let Some((app, key)) = key.split_once('_') {
            readings.push(vec![section, app, key]);
        }
    }
    readings.retain(|parts| parts.iter().all(|part| !part.is_empty()));
    readings
}

fn names_key(parts: &[&str]) -> bool {
    let table = match parts {
        [apps, _, rest @ ..] if apps.eq_ignore_ascii_case("apps") && !rest.is_empty() => {
            in_app(&lower(rest), Value::Boolean(true))
        }
        _ => nested(&lower(parts), Value::Boolean(true)),
    };
    // A known key accepts the value, or fails with another error: that it has the wrong type.
    RawConfig::deserialize(Value::Table(table)).map_or_else(|e| !e.message().starts_with("unknown field"), |_| true)
}

fn put(table: &mut Table, parts: &[&str], text: &str) -> Result<String, String> {
    if parts.iter().any(|part| part.is_empty()) {
        return Err(
            "is not the name of a key; sections and keys are parted by two underscores, as in TIDINGS__STORE__URL"
                .to_owned(),
        );
    }
    match parts {
        [apps, id, rest @ ..] if apps.eq_ignore_ascii_case("apps") && !rest.is_empty() => {
            let keys = lower(rest);
            let value = value_of(text, |value| in_app(&keys, value))?;
            let (index, app) = find_app(table, id)?;
            merge(app, &keys, value);
            Ok(format!("apps[{index}].{}", keys.join(".")))
        }
        _ => {
            let keys = lower(parts);
            let value = value_of(text, |value| nested(&keys, value))?;
            merge(table, &keys, value);
            Ok(keys.join("."))
        }
    }
}

fn lower(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| part.to_ascii_lowercase()).collect()
}

fn find_app<'t>(table: &'t mut Table, id: &str) -> Result<(usize, &'t mut Table), String> {
    let mut apps: Vec<&mut Table> = table
        .get_mut("apps")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_table_mut)
        .collect();
    let ids: Vec<String> =
        apps.iter().map(|app| app.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()).collect();
    match ids.iter().position(|own| own.eq_ignore_ascii_case(id)) {
        Some(index) => Ok((index, apps.swap_remove(index))),
        None if ids.is_empty() => Err(format!("names the app {id:?}, but the config file has no [[apps]]")),
        None => Err(format!("names the app {id:?}, which is not in the config file; its apps are {}", ids.join(", "))),
    }
}

/// The first reading of `text` that the key accepts.
fn value_of(text: &str, place: impl Fn(Value) -> Table) -> Result<Value, String> {
    let whole = format!("value = {text}");
    let toml = whole.parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let list = || {
        Value::Array(
            text.split(',')
                .map(|item| Value::String(item.trim().to_owned()))
                .filter(|v| v.as_str() != Some(""))
                .collect(),
        )
    };
    let mut first_error = None;
    let readings = [Some(Value::String(text.to_owned())), toml, Some(list())];
    for reading in readings.into_iter().flatten() {
        match RawConfig::deserialize(Value::Table(place(reading.clone()))) {
            Ok(_) => return Ok(reading),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let message = first_error.map(|error| error.message().to_owned()).unwrap_or_default();
    Err(nearest_key(&message, "").unwrap_or_else(|| readable(&message)))
}

fn nested(keys: &[String], value: Value) -> Table {
    let mut table = Table::new();
    merge(&mut table, keys, value);
    table
}

fn in_app(keys: &[String], value: Value) -> Table {
    Table::from_iter([("apps".to_owned(), Value::Array(vec![Value::Table(nested(keys, value))]))])
}

/// Sets `value` at the path `keys`, and replaces what is not a table on the way.
fn merge(table: &mut Table, keys: &[String], value: Value) {
    match keys {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let entry = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(inner) = entry {
                merge(inner, rest, value);
            }
        }
    }
}
