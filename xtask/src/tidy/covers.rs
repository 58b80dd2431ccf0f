//! The rule that each promise in `tests/covers.txt` has a test that says so: a comment `// covers: S07, C02`.

use std::collections::BTreeMap;

use super::{Finding, Tree};

const LIST: &str = "tests/covers.txt";
const MARK: &str = "covers:";
/// Behind the description of what is not yet promised.
const LATER: &str = " later: ";

/// Compares the list with the tests.
pub(super) fn covers(tree: &Tree) -> Vec<Finding> {
    let Some(list) = tree.text(LIST) else {
        return vec![Finding::error(LIST, 0, "the list of what tests cover is missing")];
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
    let covered = covered(tree);
    for (path, line, id) in &covered {
        if !promises.contains_key(id.as_str()) {
            findings.push(Finding::error(path, *line, format!("covers {id}, which {LIST} does not list")));
        }
    }
    for (id, (line, description)) in promises {
        let has_test = covered.iter().any(|(.., covered)| covered == id);
        let (what, later) = description.split_once(LATER).map_or((description, None), |(what, why)| (what, Some(why)));
        match (has_test, later) {
            (true, None) => {}
            (true, Some(_)) => findings.push(Finding::warning(LIST, line, format!("{id} has a test: no longer later"))),
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

/// Where which id is covered.
fn covered(tree: &Tree) -> Vec<(String, usize, String)> {
    let in_rust =
        tree.rust.iter().filter(|source| !source.path.starts_with("xtask/")).flat_map(|source| {
            source.comments.iter().map(|comment| (&source.path, comment.line, comment.text.as_str()))
        });
    let in_scripts = tree
        .texts
        .iter()
        .filter(|(path, _)| [".js", ".mjs", ".ts", ".py", ".sh"].iter().any(|end| path.ends_with(end)))
        .flat_map(|(path, text)| text.lines().enumerate().map(move |(index, line)| (path, index + 1, line)));
    let mut found = Vec::new();
    for (path, line, comment) in in_rust.chain(in_scripts) {
        let Some(ids) = comment.trim_start_matches(['/', '#', '!', ' ', '\t']).strip_prefix(MARK) else { continue };
        // Behind the ids there may be words.
        let is_id = |word: &&str| {
            word.starts_with(|c: char| c.is_ascii_uppercase()) && word.ends_with(|c: char| c.is_ascii_digit())
        };
        let words = ids.split([',', ' ']).filter(|word| !word.is_empty());
        found.extend(words.take_while(is_id).map(|id| (path.clone(), line, id.to_owned())));
    }
    found
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
        assert!(messages("# why\nS01 literals\nC02 crash\n", "// covers: S01, C02 (both)\nfn x() {}\n").is_empty());
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
        let found = messages("S02 names later: soon\n", "// covers: S02\n// covers: S99\n");
        assert_eq!(
            found,
            [
                "error: tests/tests/a.rs:2: covers S99, which tests/covers.txt does not list",
                "warning: tests/covers.txt:1: S02 has a test: no longer later"
            ]
        );
    }

    #[test]
    fn a_text_that_mentions_it_covers_nothing() {
        assert_eq!(messages("S01 literals\n", "let x = \"// covers: S01\";\n").len(), 1);
    }
}
