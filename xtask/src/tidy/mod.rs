//! `cargo xtask tidy`: the rules of this code base that the compiler cannot check.
//!
//! A rule is a function from the [`Tree`] to its findings. It searches text, not syntax trees; only comments, literals
//! and test modules are told apart. That is enough for rules about what must not occur somewhere.

mod boundaries;
mod circles;
mod covers;
mod doors;
mod imports;
mod layers;
mod lines;
mod pages;
mod source;
mod style;
mod words;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::run::output_of;
use source::Source;

/// A finding of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1; 0 means the whole file.
    line: usize,
    message: String,
    /// A warning does not fail the check.
    is_warning: bool,
}

impl Finding {
    fn error(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into(), is_warning: false }
    }

    fn warning(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { is_warning: true, ..Self::error(path, line, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_warning { "warning: " } else { "error: " })?;
        f.write_str(&self.path)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The repository's text files.
#[derive(Debug, Default)]
struct Tree {
    /// The Rust files, parsed.
    rust: Vec<Source>,
    /// All text files with their paths, including the Rust files.
    texts: Vec<(String, String)>,
}

impl Tree {
    /// Reads all files that are in git or could be added to it.
    fn read(root: &Path) -> anyhow::Result<Self> {
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let names = output_of(Command::new("git").args(list).current_dir(root))?;
        let mut tree = Self::default();
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            let path = root.join(name);
            // git also lists a file whose deletion is not committed yet.
            if !path.is_file() {
                continue;
            }
            let bytes = std::fs::read(&path).with_context(|| format!("cannot read {name}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                tree.add(name, text);
            }
        }
        Ok(tree)
    }

    fn add(&mut self, path: &str, text: String) {
        if path.ends_with(".rs") {
            self.rust.push(Source::new(path, &text));
        }
        self.texts.push((path.to_owned(), text));
    }

    /// The text of one file.
    fn text(&self, path: &str) -> Option<&str> {
        self.texts.iter().find(|(name, _)| name == path).map(|(_, text)| text.as_str())
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add(path, (*text).to_owned());
        }
        tree
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

const RULES: [Rule; 20] = [
    style::module_docs,
    style::file_size,
    style::unsafe_code,
    style::ignored_tests,
    lines::line_length,
    boundaries::sql,
    boundaries::pure_code,
    boundaries::outgoing_connections,
    boundaries::environment,
    boundaries::time,
    boundaries::own_folders,
    boundaries::quiet_libraries,
    layers::dependencies,
    circles::circles,
    doors::door_names,
    words::machine_paths,
    words::addresses_and_numbers,
    covers::covers,
    pages::commands,
    pages::named_files,
];

/// Applies every rule and prints the findings; `true` if none is an error.
///
/// # Errors
/// When the repository cannot be read.
pub(crate) fn tidy(root: &Path) -> anyhow::Result<bool> {
    let tree = Tree::read(root)?;
    let findings: Vec<_> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    for finding in &findings {
        eprintln!("{finding}");
    }
    let errors = findings.iter().filter(|finding| !finding.is_warning).count();
    eprintln!("tidy: {} files, {errors} errors, {} warnings", tree.texts.len(), findings.len() - errors);
    Ok(errors == 0)
}
