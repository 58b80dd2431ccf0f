//! The config file with the position of each key, and its problems.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems};

/// The text of the config file, where each key was set, and the problems so far.
#[derive(Debug, Default)]
pub(super) struct Source {
    name: String,
    text: String,
    /// Paths such as `apps[0].key`, with their offsets in the text.
    keys: Vec<(String, usize)>,
    /// Paths that an environment variable set, with its name.
    variables: Vec<(String, String)>,
    /// Paths that could not be read. Further problems there would only be consequences.
    unread: BTreeSet<String>,
    problems: Vec<Problem>,
    /// The path of each of `problems`, in the same order.
    paths: Vec<String>,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), ..Self::default() }
    }

    /// Records the offset of each key in the text.
    pub(super) fn list_keys(&mut self, tree: &DeTable<'_>) {
        list_keys(tree, "", &mut self.keys);
    }

    /// Records which paths variables have set, and the problems of those that could not.
    pub(super) fn note_variables(&mut self, variables: Vec<(String, String)>, problems: Vec<Problem>) {
        self.variables = variables;
        self.paths.extend(problems.iter().map(|problem| problem.place.clone()));
        self.problems.extend(problems);
    }

    /// Adds a problem at `path`, unless the value there could not even be read.
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

    /// Whether an environment variable set `path`, not the file.
    pub(super) fn is_variable(&self, path: &str) -> bool {
        self.variables.iter().any(|(set, _)| set == path)
    }

    /// Makes a problem at `path`, or at the nearest enclosing table that the file has.
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

    /// The path of each key that file or environment set, and of each table and array around it.
    pub(super) fn set_paths(&self) -> Vec<String> {
        let in_file = self.keys.iter().map(|(path, _)| path);
        in_file.chain(self.variables.iter().map(|(path, _)| path)).cloned().collect()
    }

    /// The problems, as pairs of path and message.
    pub(super) fn into_wrong(self) -> Vec<(String, String)> {
        self.paths.into_iter().zip(self.problems.into_iter().map(|problem| problem.message)).collect()
    }

    /// The problems, in the order of the file.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems;
        problems.sort_by_key(|problem| problem.offset);
        problems
    }

    /// Adds a problem: the key `path` at `offset` cannot be read.
    pub(super) fn note(&mut self, offset: usize, path: &str, message: String) {
        self.problems.push(Problem { place: self.place(offset), message, offset });
        self.paths.push(path.to_owned());
        if !path.is_empty() {
            self.unread.insert(path.to_owned());
        }
    }

    /// The problem of a text that is not TOML.
    pub(super) fn not_toml(&self, error: &toml::de::Error) -> Problems {
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

/// The path of a key in the table at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
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
