//! The rule that each promise in `tests/covers.txt` has a test, marked by a comment `// covers: S07, C02` right above
//! it.

use std::collections::BTreeMap;

use super::source::{Source, uses};
use super::{Finding, Tree};

const LIST: &str = "tests/covers.txt";
const MARK: &str = "covers:";
/// Separates a description from the reason why it has no test yet.
const LATER: &str = " later: ";

/// Compares the list with the tests.
pub(super) fn covers(tree: &Tree) -> Vec<Finding> {
    let Some(list) = tree.text(LIST) else {
        return vec![Finding::error(LIST, 0, "this file is missing: it lists what the tests cover")];
    };
    let mut findings = Vec::new();
    let mut promises = BTreeMap::new();
    for (index, line) in list.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (id, description) = line.split_once(' ').unwrap_or((line, ""));
        if description.trim().is_empty() {
            findings.push(Finding::error(LIST, index + 1, format!("{id} has no description")));
        }
        if promises.insert(id, (index + 1, description)).is_some() {
            findings.push(Finding::error(LIST, index + 1, format!("{id} is listed twice")));
        }
    }
    let Covered { ids, astray } = covered(tree);
    findings.extend(astray);
    for (path, line, id) in &ids {
        if !promises.contains_key(id.as_str()) {
            findings.push(Finding::error(path, *line, format!("covers {id}, which {LIST} does not list")));
        }
    }
    for (id, (line, description)) in promises {
        let has_test = ids.iter().any(|(.., covered)| covered == id);
        let (what, later) = description.split_once(LATER).map_or((description, None), |(what, why)| (what, Some(why)));
        match (has_test, later) {
            (true, None) => {}
            (true, Some(_)) => {
                findings.push(Finding::warning(LIST, line, format!("{id} has a test: remove `later:` from its line")))
            }
            (false, Some(why)) => {
                findings.push(Finding::warning(
                    LIST,
                    line,
                    format!("no test covers {id} yet ({why}): {}", what.trim()),
                ));
            }
            (false, None) => findings.push(Finding::error(LIST, line, format!("no test covers {id}: {}", what.trim()))),
        }
    }
    findings
}

/// The ids in the comments.
#[derive(Default)]
struct Covered {
    /// Path, line and id of each comment.
    ids: Vec<(String, usize, String)>,
    /// Findings about comments that are not above a test.
    astray: Vec<Finding>,
}

fn covered(tree: &Tree) -> Covered {
    let mut covered = Covered::default();
    for source in tree.rust.iter().filter(|source| !source.path.starts_with("xtask/")) {
        for comment in &source.comments {
            let ids = ids(&comment.text);
            if !ids.is_empty() && !is_above_a_test(tree, source, comment.line) {
                let message = "`covers:` without a test; put it right above the test";
                covered.astray.push(Finding::error(&source.path, comment.line, message));
                continue;
            }
            covered.ids.extend(ids.into_iter().map(|id| (source.path.clone(), comment.line, id)));
        }
    }
    let is_script = |path: &str| [".js", ".mjs", ".ts", ".py", ".sh"].iter().any(|end| path.ends_with(end));
    for (path, text) in tree.texts.iter().filter(|(path, _)| path.starts_with("tests/") && is_script(path)) {
        for (index, line) in text.lines().enumerate() {
            covered.ids.extend(ids(line).into_iter().map(|id| (path.clone(), index + 1, id)));
        }
    }
    covered
}

/// The ids that a comment names. Other words may follow.
fn ids(comment: &str) -> Vec<String> {
    let Some(ids) = comment.trim_start_matches(['/', '#', '!', ' ', '\t']).strip_prefix(MARK) else {
        return Vec::new();
    };
    let is_id = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_uppercase()) && word.ends_with(|c: char| c.is_ascii_digit())
    };
    let words = ids.split([',', ' ']).filter(|word| !word.is_empty());
    words.take_while(is_id).map(str::to_owned).collect()
}

/// Whether a test follows a comment: a function with a test attribute, or one that a suite of tests runs by its name.
fn is_above_a_test(tree: &Tree, source: &Source, comment: usize) -> bool {
    let mut below = source.code.lines().skip(comment).map(str::trim).filter(|line| !line.is_empty());
    let mut is_marked = false;
    let function = below.find(|line| {
        is_marked |= line.starts_with("#[") && line.contains("test");
        !line.starts_with("#[")
    });
    let name = function.and_then(|line| line.split_once("fn ")).map(|(_, rest)| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    });
    let is_run_by_name = |name: &str| tree.rust.iter().map(|other| uses(&other.code, &[name]).len()).sum::<usize>() > 1;
    // Tests that a macro makes stand in its call.
    is_marked && function.is_some() || name.is_some_and(is_run_by_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(list: &str, test: &str) -> Vec<String> {
        let tree = Tree::of(&[(LIST, list), ("tests/tests/a.rs", test)]);
        covers(&tree).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_covered_list_is_clean() {
        assert!(
            messages("# why\nS01 literals\nC02 crash\n", "// covers: S01, C02 (both)\n#[test]\nfn x() {}\n").is_empty()
        );
    }

    #[test]
    fn what_has_no_test_is_an_error_unless_it_is_for_later() {
        assert_eq!(
            messages("S01 literals\nS02 names later: needs a resolver\n", ""),
            [
                "error: tests/covers.txt:1: no test covers S01: literals",
                "warning: tests/covers.txt:2: no test covers S02 yet (needs a resolver): names"
            ]
        );
    }

    #[test]
    fn an_unknown_id_and_a_stale_later_are_found() {
        let found = messages("S02 names later: soon\n", "// covers: S02\n// covers: S99\n#[test]\nfn x() {}");
        assert_eq!(
            found,
            [
                "error: tests/tests/a.rs:2: covers S99, which tests/covers.txt does not list",
                "warning: tests/covers.txt:1: S02 has a test: remove `later:` from its line"
            ]
        );
    }

    #[test]
    fn a_text_that_mentions_it_covers_nothing() {
        assert_eq!(messages("S01 literals\n", "let x = \"// covers: S01\";\n").len(), 1);
    }

    #[test]
    fn only_a_test_covers_something() {
        let list = "S01 literals\n";
        let alone = "error: tests/tests/a.rs:1: `covers:` without a test; put it right above the test";
        let astray =
            ["// covers: S01\nfn x() {}\n", "// covers: S01\nstruct X;\n#[test]\nfn x() {}\n", "// covers: S01\n"];
        for test in astray {
            assert_eq!(messages(list, test).first().map(String::as_str), Some(alone), "{test}");
        }
        let tests = [
            "// covers: S01\n/// Why.\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn x() {}\n",
            "// covers: S01\nasync fn x() {}\nsuite!(x);\n",
        ];
        for test in tests {
            assert!(messages(list, test).is_empty(), "{test}");
        }
    }
}
