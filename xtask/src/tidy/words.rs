//! Rules about words that no file may contain: folders of one machine, hosts of package registries, numbers of issues,
//! marks of unfinished work.

use super::{Finding, Tree};

/// Folders that exist only on someone's own machine.
const MACHINE_FOLDERS: [&str; 4] = ["work", "root", "home", "Users"];

/// No absolute path of one machine: it is wrong on every other.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    lines(tree)
        .filter(|(.., line)| MACHINE_FOLDERS.iter().any(|folder| names_folder(line, folder)))
        .map(|(path, number, _)| Finding::error(path, number, "names a folder of one machine; use a relative path"))
        .collect()
}

fn names_folder(line: &str, folder: &str) -> bool {
    let path = format!("/{folder}/");
    line.match_indices(&path).any(|(at, _)| {
        // Otherwise it is part of a longer path or of a URL.
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | '~' | '*'))
    })
}

/// Prefixes of hosts that serve packages. Manifests name packages, never hosts, so that everyone can use a mirror.
const PACKAGE_HOSTS: [&str; 6] = ["registry.", "deb.", "index.", "static.", "files.", "mirror."];
/// Words that make a `#` and a number the number of an issue. Outside its tracker the number tells nothing; give the
/// reason instead.
const ISSUE_WORDS: [&str; 9] = ["issue ", "issues ", "see ", "fixes ", "closes ", "refs ", "pr ", "gh-", "ticket "];
/// Marks of unfinished work, which belongs in the tracker and not in the code.
const UNFINISHED: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// No references that a reader cannot follow, and no marks of unfinished work.
pub(super) fn addresses_and_numbers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, number, line) in lines(tree) {
        if names_package_host(line) {
            findings.push(Finding::error(path, number, "names the host of a package registry; name the package only"));
        }
        if names_issue(line) {
            findings.push(Finding::error(path, number, "names the number of an issue; give the reason instead"));
        }
        if let Some(word) = UNFINISHED.iter().find(|word| is_whole_word(line, word)) {
            findings.push(Finding::error(path, number, format!("{word}: finish it, or file it")));
        }
    }
    findings
}

fn names_package_host(line: &str) -> bool {
    ["https://", "http://"]
        .iter()
        .flat_map(|scheme| line.split(scheme).skip(1))
        .any(|address| PACKAGE_HOSTS.iter().any(|start| address.starts_with(start)) && !address.contains(".example"))
}

fn names_issue(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ISSUE_WORDS.iter().any(|word| {
        line.match_indices(word).any(|(at, word)| {
            let starts_word = !line[..at].ends_with(|c: char| c.is_alphanumeric());
            let behind = &line[at + word.len()..];
            let number = if word.ends_with('-') { Some(behind) } else { behind.strip_prefix('#') };
            starts_word && number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
        })
    })
}

fn is_whole_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, word)| {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        !line[..at].ends_with(is_name) && !line[at + word.len()..].starts_with(is_name)
    })
}

/// All lines of all text files, except the lock file, which cargo writes, and this file, which contains the words.
fn lines(tree: &Tree) -> impl Iterator<Item = (&str, usize, &str)> {
    let exempt = ["Cargo.lock", "xtask/src/tidy/words.rs"];
    tree.texts
        .iter()
        .filter(move |(path, _)| !exempt.contains(&path.as_str()))
        .flat_map(|(path, text)| text.lines().enumerate().map(move |(index, line)| (path.as_str(), index + 1, line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(rule: fn(&Tree) -> Vec<Finding>, line: &str) -> usize {
        rule(&Tree::of(&[("docs/a.md", line)])).len()
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        assert_eq!(errors(machine_paths, "see /home/ada/notes"), 1);
        assert_eq!(errors(machine_paths, "`/root/x`"), 1);
        assert_eq!(errors(machine_paths, "https://example.com/home/"), 0);
        assert_eq!(errors(machine_paths, "framework/work/x and $HOME/work"), 0);
    }

    #[test]
    fn package_hosts_are_found() {
        assert_eq!(errors(addresses_and_numbers, "fetch https://registry.packages.test/x"), 1);
        assert_eq!(errors(addresses_and_numbers, "https://docs.rs/tokio http://static.site.example/"), 0);
    }

    #[test]
    fn issue_numbers_are_found() {
        assert_eq!(errors(addresses_and_numbers, "// Fixes #12"), 1);
        assert_eq!(errors(addresses_and_numbers, "see #3, or GH-4"), 1);
        assert_eq!(errors(addresses_and_numbers, "colour #123456, channel `#u1`, issue a token"), 0);
    }

    #[test]
    fn unfinished_work_is_found() {
        assert_eq!(errors(addresses_and_numbers, "// TODO later"), 1);
        assert_eq!(errors(addresses_and_numbers, "TODOS_TABLE"), 0);
    }
}
