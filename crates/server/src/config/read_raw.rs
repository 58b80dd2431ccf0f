//! Reads file and environment, and goes on after a mistake, so that all are reported at once.

use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer};
use toml::{Table, Value};

use super::environment::{self, Env};
use super::problem::Problems;
use super::raw::RawConfig;
use super::serde_message::{nearest_key, readable};
use super::source::{Source, join};

/// Reads file and environment. Keys that cannot be read are recorded as problems and removed.
///
/// # Errors
/// When the text is not TOML.
pub(super) fn read_raw(name: &str, text: &str, env: &dyn Env) -> Result<(Source, RawConfig), Problems> {
    let mut source = Source::new(name, text);
    let mut tree = DeTable::parse(text).map_err(|error| source.not_toml(&error))?;
    source.list_keys(tree.get_ref());

    while let Err(error) = RawConfig::deserialize(Deserializer::from(tree.clone())) {
        let at = error.span().map_or(0, |span| span.start);
        let Some(path) = take_out(tree.get_mut(), "", at) else {
            source.note(at, "", readable(error.message()));
            break;
        };
        let message = nearest_key(error.message(), &place_in_words(&path))
            .unwrap_or_else(|| format!("{path}: {}", readable(error.message())));
        source.note(at, &path, message);
    }

    let mut table = Table::deserialize(Deserializer::from(tree)).unwrap_or_default();
    let (variables, problems) = environment::apply(&mut table, env);
    source.note_variables(variables, problems);
    // Every part has been read on its own. Together they can fail only if a variable sets a part of a broken table.
    let raw = match RawConfig::deserialize(Value::Table(table)) {
        Ok(raw) => raw,
        Err(error) => {
            source.note(0, "", readable(error.message()));
            RawConfig::default()
        }
    };
    Ok((source, raw))
}

fn place_in_words(path: &str) -> String {
    path.rfind('.').map_or_else(|| " at the top level".to_owned(), |end| format!(" in [{}]", &path[..end]))
}

/// Removes the innermost key whose name or value is at `offset`, and returns its path.
fn take_out(table: &mut DeTable<'_>, path: &str, offset: usize) -> Option<String> {
    let mut gone = None;
    for (key, value) in table.iter_mut() {
        let here = join(path, key.get_ref());
        let inner = match value.get_mut() {
            DeValue::Table(inner) => take_out(inner, &here, offset),
            DeValue::Array(items) => items.iter_mut().enumerate().find_map(|(n, item)| match item.get_mut() {
                DeValue::Table(inner) => take_out(inner, &format!("{here}[{n}]"), offset),
                _ => None,
            }),
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
        if key.span().contains(&offset) || value.span().contains(&offset) {
            gone = Some((key.get_ref().to_string(), here));
        }
    }
    let (key, path) = gone?;
    table.remove(key.as_str());
    Some(path)
}
