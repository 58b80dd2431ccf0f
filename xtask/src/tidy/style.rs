//! Rules about files: they begin with a description, stay small, and have no unsafe code and no skipped tests.

use super::source::uses;
use super::{Finding, Tree};

/// The most lines of a file.
const MOST_LINES: usize = 500;
/// In one of the first lines, it exempts a file that is a list from [`MOST_LINES`].
const LIST_MARK: &str = "// tidy: list";
const LIST_MARK_LINES: usize = 5;

/// Crates that may have unsafe code in one module, by their root file, each with the decision record that explains it.
const UNSAFE_ROOTS: [(&str, &str); 0] = [];

/// Every Rust file begins with a sentence on what it is.
pub(super) fn module_docs(tree: &Tree) -> Vec<Finding> {
    let opens_with_docs = |text: &str| {
        let mut lines = text.lines().skip_while(|line| line.starts_with(LIST_MARK) || line.trim().is_empty());
        lines.next().is_some_and(|line| line.strip_prefix("//!").is_some_and(|words| !words.trim().is_empty()))
    };
    tree.rust
        .iter()
        .filter(|source| !source.path.ends_with("build.rs") && !opens_with_docs(&source.text))
        .map(|source| Finding::error(&source.path, 1, "begin the file with a `//!` line that says what it is"))
        .collect()
}

/// Files are short: a long one does several things.
pub(super) fn file_size(tree: &Tree) -> Vec<Finding> {
    let is_test = |path: &str| path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs");
    let is_list = |text: &str| text.lines().take(LIST_MARK_LINES).any(|line| line.starts_with(LIST_MARK));
    tree.rust
        .iter()
        .filter(|source| !is_test(&source.path) && !is_list(&source.text))
        .map(|source| (source, source.text.lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(source, lines)| {
            Finding::error(&source.path, 0, format!("{lines} lines, more than {MOST_LINES}; split the file"))
        })
        .collect()
}

/// Every crate forbids unsafe code, or a decision record explains why it needs some.
pub(super) fn unsafe_code(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.rust.iter().filter(|source| is_crate_root(tree, &source.path)) {
        match UNSAFE_ROOTS.iter().find(|(root, _)| *root == source.path) {
            Some((_, record)) if tree.text(record).is_none() => {
                findings.push(Finding::error(&source.path, 0, format!("its decision record {record} does not exist")));
            }
            Some(_) => {}
            None if source.code.contains("#![forbid(unsafe_code)]") => {}
            None => findings.push(Finding::error(&source.path, 1, "add `#![forbid(unsafe_code)]` to the crate")),
        }
    }
    findings
}

fn is_crate_root(tree: &Tree, path: &str) -> bool {
    ["src/lib.rs", "src/main.rs"]
        .iter()
        .any(|root| path.strip_suffix(root).is_some_and(|folder| tree.text(&format!("{folder}Cargo.toml")).is_some()))
}

/// No test is skipped: a test that doesn't run proves nothing.
pub(super) fn ignored_tests(tree: &Tree) -> Vec<Finding> {
    tree.rust
        .iter()
        .flat_map(|source| {
            uses(&source.code, &["#[ignore"])
                .into_iter()
                .map(|(line, _)| Finding::error(&source.path, line, "a skipped test; make it run or remove it"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.path.as_str()).collect()
    }

    #[test]
    fn files_say_what_they_are() {
        let tree = Tree::of(&[
            ("crates/a/src/good.rs", "//! Good.\n"),
            ("crates/a/src/list.rs", "// tidy: list\n//! A list.\n"),
            ("crates/a/src/bare.rs", "use x;\n"),
            ("crates/a/src/empty.rs", "//!\nuse x;\n"),
            ("crates/a/build.rs", "fn main() {}\n"),
        ]);
        assert_eq!(paths(&module_docs(&tree)), ["crates/a/src/bare.rs", "crates/a/src/empty.rs"]);
    }

    #[test]
    fn files_are_short_unless_they_are_tests_or_lists() {
        let long = "x\n".repeat(501);
        let list = format!("//! A list.\n// tidy: list\n{long}");
        let just = "x\n".repeat(500);
        let tree = Tree::of(&[
            ("crates/a/src/long.rs", &long),
            ("crates/a/src/just.rs", &just),
            ("crates/a/src/list.rs", &list),
            ("crates/a/src/tests.rs", &long),
            ("tests/tests/big.rs", &long),
        ]);
        assert_eq!(paths(&file_size(&tree)), ["crates/a/src/long.rs"]);
    }

    #[test]
    fn crate_roots_forbid_unsafe_code() {
        let tree = Tree::of(&[
            ("crates/a/Cargo.toml", ""),
            ("crates/a/src/lib.rs", "//! A.\n#![forbid(unsafe_code)]\n"),
            ("crates/b/Cargo.toml", ""),
            ("crates/b/src/main.rs", "//! B. // #![forbid(unsafe_code)]\n"),
            ("crates/b/src/x/lib.rs", "//! No root.\n"),
        ]);
        assert_eq!(paths(&unsafe_code(&tree)), ["crates/b/src/main.rs"]);
    }

    #[test]
    fn a_skipped_test_is_found_but_not_in_a_text() {
        let tree = Tree::of(&[
            ("crates/a/src/b.rs", "#[test]\n#[ignore = \"slow\"]\nfn x() {}\n"),
            ("crates/a/src/c.rs", "let x = \"#[ignore]\"; // #[ignore]\n"),
        ]);
        assert_eq!(
            ignored_tests(&tree),
            [Finding::error("crates/a/src/b.rs", 2, "a skipped test; make it run or remove it")]
        );
    }
}
