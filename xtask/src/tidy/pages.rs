//! What pages say of the tree: the two commands that a newcomer needs, which CI runs too, and the files that the
//! architecture names.

use super::{Finding, Tree};

const COMMANDS: [&str; 2] = ["cargo run --release", "cargo xtask test --install"];

/// How to run it, how to test it.
pub(super) fn commands(tree: &Tree) -> Vec<Finding> {
    let readme = tree.text("README.md").unwrap_or_default();
    COMMANDS
        .iter()
        .filter(|command| !readme.lines().any(|line| line.contains(*command)))
        .map(|command| Finding::error("README.md", 0, format!("does not tell `{command}`")))
        .collect()
}

/// The page with the code map.
const ARCHITECTURE: &str = "ARCHITECTURE.md";

/// Every file that the architecture, its decisions and the guide for contributors name is there, and the code map
/// leaves out no crate. Names are paths from the root, or their ends; `crates/` and `src/` may be left out of them.
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
                findings.push(Finding::error(path, index + 1, format!("`{name}` is not there")));
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
    findings
        .extend(unnamed.map(|folder| Finding::error(ARCHITECTURE, 0, format!("the code map leaves out `{folder}`"))));
    findings
}

/// Whether a quoted word is the name of a file, or of a folder in one.
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
            ["error: ARCHITECTURE.md:1: `b.rs` is not there", "error: ARCHITECTURE.md:2: `bus/dead/` is not there"];
        assert_eq!(found(gone, &files), errors);
        assert_eq!(found("nothing", &files), ["error: ARCHITECTURE.md: the code map leaves out `crates/bus`"]);
    }
}
