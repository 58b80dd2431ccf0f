//! Rules about pages: README.md has the two commands that a newcomer needs, which CI runs too, and the files that
//! ARCHITECTURE.md names exist.

use super::{Finding, Tree};

const COMMANDS: [&str; 2] = ["cargo run --release", "cargo xtask test --install"];

/// README.md says how to run and how to test.
pub(super) fn commands(tree: &Tree) -> Vec<Finding> {
    let readme = tree.text("README.md").unwrap_or_default();
    COMMANDS
        .iter()
        .filter(|command| !readme.lines().any(|line| line.contains(*command)))
        .map(|command| Finding::error("README.md", 0, format!("`{command}` is missing here")))
        .collect()
}

/// The page with the code map.
const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// Every file that ARCHITECTURE.md, the decision records and CONTRIBUTING.md name exists, and the code map has every
/// crate. A name is a path from the root, or the end of one; `crates/` and `src/` may be left out.
pub(super) fn named_files(tree: &Tree) -> Vec<Finding> {
    let short = |path: &str| path.strip_prefix("crates/").unwrap_or(path).replace("/src/", "/");
    let paths: Vec<String> =
        tree.texts.iter().flat_map(|(path, _)| [format!("/{path}"), format!("/{}", short(path))]).collect();
    let is_there = |name: &str| {
        let (file, folder) = (format!("/{name}"), format!("/{}/", name.trim_end_matches('/')));
        paths.iter().any(|path| path.ends_with(&file) || path.contains(&folder))
    };
    let mut findings = Vec::new();
    let about_code = |path: &str| [ARCHITECTURE, "CONTRIBUTING.md"].contains(&path) || path.starts_with("docs/adr/");
    for (path, text) in tree.texts.iter().filter(|(path, _)| about_code(path)) {
        for (index, line) in text.lines().enumerate() {
            let quoted = line.split('`').skip(1).step_by(2);
            for name in quoted.filter(|name| is_path(name) && !is_there(name)) {
                findings.push(Finding::error(
                    path,
                    index + 1,
                    format!("there is no file or folder `{name}`; correct the name"),
                ));
            }
        }
    }
    let map = tree.text(ARCHITECTURE).unwrap_or_default();
    let crates = tree
        .texts
        .iter()
        .filter_map(|(path, _)| path.strip_suffix("/Cargo.toml"))
        .filter(|path| path.starts_with("crates/"));
    let unnamed = crates.filter(|folder| !map.contains(&format!("| `{folder}` |")));
    findings.extend(
        unnamed.map(|folder| Finding::error(ARCHITECTURE, 0, format!("`{folder}` is missing in the code map"))),
    );
    findings
}

/// Whether a quoted word is the name of a file or a folder.
fn is_path(word: &str) -> bool {
    let is_plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
    let is_folder = ["crates/", "tests/", "docs/", "benches/"].iter().any(|root| word.starts_with(root))
        || word.strip_suffix('/').is_some_and(|rest| rest.contains('/'));
    is_plain && (word.ends_with(".rs") || word.ends_with(".sql") || is_folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_commands_are_told() {
        let good = Tree::of(&[("README.md", "    cargo run --release\n    cargo xtask test --install\n")]);
        assert!(commands(&good).is_empty());
        assert_eq!(commands(&Tree::of(&[("README.md", "cargo run\n")])).len(), 2);
        assert_eq!(commands(&Tree::default()).len(), 2);
    }

    #[test]
    fn what_the_architecture_names_is_there() {
        let found = |page: &str, files: &[(&str, &str)]| {
            let tree = Tree::of(&[&[(ARCHITECTURE, page)], files].concat());
            named_files(&tree).into_iter().map(|finding| finding.to_string()).collect::<Vec<_>>()
        };
        let files = [("crates/bus/src/live/a.rs", ""), ("crates/bus/Cargo.toml", "")];
        let page = "| `crates/bus` | | `a.rs` |\n`bus/live/a.rs`, `crates/bus/src/live/`, `live/` and `and/or`";
        assert!(found(page, &files).is_empty());
        let gone = "| `crates/bus` | | `b.rs` |\n`bus/dead/`";
        let errors =
            ["`b.rs`", "`bus/dead/`"].map(|name| format!("there is no file or folder {name}; correct the name"));
        let errors = [1, 2].map(|line| format!("error: ARCHITECTURE.md:{line}: {}", errors[line - 1]));
        assert_eq!(found(gone, &files), errors);
        assert_eq!(found("nothing", &files), ["error: ARCHITECTURE.md: `crates/bus` is missing in the code map"]);
    }
}
