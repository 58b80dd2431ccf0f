//! The config file with the place of each key, read so that one mistake does not hide the next.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer};
use toml::{Spanned, Table, Value};

use super::environment::{self, Strings};
use super::problem::{Problem, Problems};
use super::raw::RawConfig;

/// Where each key was set.
#[derive(Debug, Default)]
pub(super) struct Source {
    name: String,
    text: String,
    /// Paths such as `apps[0].key` with where they begin in the text.
    keys: Vec<(String, usize)>,
    /// Paths that a variable set, with its name.
    variables: Vec<(String, String)>,
    /// Paths that could not be read; whatever else is wrong with them is a consequence.
    unread: BTreeSet<String>,
    problems: Vec<Problem>,
    /// The path of each problem.
    paths: Vec<String>,
}

impl Source {
    /// Reads file and environment. What cannot be read is noted and taken out.
    ///
    /// # Errors
    /// When the text is not TOML at all.
    pub(super) fn read(name: &str, text: &str, env: &dyn Strings) -> Result<(Self, RawConfig), Problems> {
        let mut source = Self { name: name.to_owned(), text: text.to_owned(), ..Self::default() };
        let mut tree = DeTable::parse(text).map_err(|error| source.not_toml(&error))?;
        list_keys(tree.get_ref(), "", &mut source.keys);

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
        source.variables = variables;
        source.paths.extend(problems.iter().map(|problem| problem.place.clone()));
        source.problems.extend(problems);
        // Every part has been read on its own; this can fail only where a variable met a broken file.
        let raw = match RawConfig::deserialize(Value::Table(table)) {
            Ok(raw) => raw,
            Err(error) => {
                source.note(0, "", readable(error.message()));
                RawConfig::default()
            }
        };
        Ok((source, raw))
    }

    /// Notes what is wrong at `path`, unless it could not even be read.
    pub(super) fn wrong(&mut self, path: &str, message: String) {
        let unread = |outer: &String| {
            path.strip_prefix(outer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if !self.unread.iter().any(unread) {
            let problem = self.problem(path, message);
            self.problems.push(problem);
            self.paths.push(path.to_owned());
        }
    }

    /// Whether a variable set `path`, and not the file.
    pub(super) fn is_variable(&self, path: &str) -> bool {
        self.variables.iter().any(|(set, _)| set == path)
    }

    /// A problem at `path`, or at the nearest section around it that was written.
    pub(super) fn problem(&self, path: &str, message: String) -> Problem {
        if let Some((_, variable)) = self.variables.iter().find(|(set, _)| set == path) {
            return Problem { place: variable.clone(), message, offset: usize::MAX };
        }
        let mut around = path;
        loop {
            if let Some(&(_, offset)) = self.keys.iter().find(|(key, _)| key == around) {
                return Problem { place: self.place(offset), message, offset };
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None => return Problem { place: self.name.clone(), message, offset: 0 },
            }
        }
    }

    /// The path of each key that file or environment set, and of what it is in.
    pub(super) fn set_paths(&self) -> Vec<String> {
        let in_file = self.keys.iter().map(|(path, _)| path);
        in_file.chain(self.variables.iter().map(|(path, _)| path)).cloned().collect()
    }

    /// What was wrong, each with its path.
    pub(super) fn into_wrong(self) -> Vec<(String, String)> {
        self.paths.into_iter().zip(self.problems.into_iter().map(|problem| problem.message)).collect()
    }

    /// What was wrong, in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems;
        problems.sort_by_key(|problem| problem.offset);
        problems
    }

    fn note(&mut self, offset: usize, path: &str, message: String) {
        self.problems.push(Problem { place: self.place(offset), message, offset });
        self.paths.push(path.to_owned());
        if !path.is_empty() {
            self.unread.insert(path.to_owned());
        }
    }

    fn not_toml(&self, error: &toml::de::Error) -> Problems {
        let offset = error.span().map_or(0, |span| span.start);
        Problems(vec![Problem { place: self.place(offset), message: error.message().to_owned(), offset }])
    }

    /// `file:line:column`, both counted from 1, columns in characters.
    fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
        format!("{}:{line}:{column}", self.name)
    }
}

fn place_in_words(path: &str) -> String {
    path.rfind('.').map_or_else(|| " at the top level".to_owned(), |end| format!(" in [{}]", &path[..end]))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn list_keys(table: &DeTable<'_>, path: &str, keys: &mut Vec<(String, usize)>) {
    for (key, value) in table {
        let path = join(path, key.get_ref());
        keys.push((path.clone(), key.span().start));
        list_values(value, &path, keys);
    }
}

fn list_values(value: &Spanned<DeValue<'_>>, path: &str, keys: &mut Vec<(String, usize)>) {
    match value.get_ref() {
        DeValue::Table(table) => list_keys(table, path, keys),
        DeValue::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                let path = format!("{path}[{n}]");
                keys.push((path.clone(), item.span().start));
                list_values(item, &path, keys);
            }
        }
        _ => {}
    }
}

/// Takes the innermost key whose name or value stands at `offset` out of the table, and gives its path.
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

/// For serde's "unknown field" message, with a place such as ` in [store]`: the same in a person's words, with the
/// right name that is nearest.
pub(super) fn nearest_key(message: &str, place: &str) -> Option<String> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let wrong = names.next()?;
    let known: Vec<&str> = names.collect();
    let near = known.iter().map(|name| (strsim::jaro_winkler(wrong, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    Some(match near {
        Some((likeness, name)) if likeness > 0.75 => {
            format!("unknown key \"{wrong}\"{place}; did you mean \"{name}\"?")
        }
        _ => format!("unknown key \"{wrong}\"{place}; the keys are {}", known.join(", ")),
    })
}

/// Serde's message without the value that was found: it may be a secret.
pub(super) fn readable(message: &str) -> String {
    for start in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = message.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected ")) {
            let kind = found.split(['`', '"']).next().unwrap_or_default().trim();
            return format!("must be {}, not {}", kind_in_words(expected), kind_in_words(kind));
        }
    }
    message.to_owned()
}

fn kind_in_words(kind: &str) -> &str {
    match kind {
        "string" | "a string" => "a text",
        "integer" => "a number",
        "u16" | "u32" | "u64" | "usize" => "a whole number",
        "floating point" => "a number with a fraction",
        "boolean" | "a boolean" => "true or false",
        "sequence" | "a sequence" => "a list",
        "map" => "a table",
        other => other,
    }
}
