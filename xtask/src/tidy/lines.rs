//! The rule that lines of Rust and Markdown are not too long, so that two versions of a file fit side by side.
//!
//! `cargo fmt` does not break comments, literals and macro arguments, so this rule checks them.

use super::source::Source;
use super::{Finding, Tree};

/// The most characters of a line.
const MOST_COLUMNS: usize = 120;

/// Finds lines of Rust and Markdown that are too long and could be broken.
pub(super) fn line_length(tree: &Tree) -> Vec<Finding> {
    let rust = tree.rust.iter().flat_map(|source| found(&source.path, long_in_rust(source)));
    let pages = tree.texts.iter().filter(|(path, _)| path.ends_with(".md"));
    rust.chain(pages.flat_map(|(path, text)| found(path, long_in_markdown(text)))).collect()
}

fn found(path: &str, lines: Vec<(usize, usize)>) -> impl Iterator<Item = Finding> {
    lines.into_iter().map(move |(line, columns)| {
        Finding::error(path, line, format!("{columns} columns, more than {MOST_COLUMNS}; break the line"))
    })
}

/// The numbers of the lines that are too long, each with its length. Raw literals are exempt: they cannot be broken.
fn long_in_rust(source: &Source) -> Vec<(usize, usize)> {
    let is_raw = |line: usize| source.raw_lines.iter().any(|lines| lines.contains(&line));
    let lines = source.text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter_map(|(number, line)| Some((number, too_long(line)?))).filter(|(number, _)| !is_raw(*number)).collect()
}

/// The same for Markdown. Code blocks are exempt: they are typed or read as they are.
fn long_in_markdown(text: &str) -> Vec<(usize, usize)> {
    let (mut found, mut in_code, mut was_blank) = (Vec::new(), false, true);
    // Below a list item, an indented line continues the item.
    let (mut is_listed, mut is_indented_code) = (false, false);
    for (index, line) in text.lines().enumerate() {
        let words = line.trim_start();
        let indented = line.len() - words.len();
        let is_fence = words.starts_with("```");
        in_code ^= is_fence;
        if !words.is_empty() {
            is_indented_code = indented >= 4 && !is_listed && (was_blank || is_indented_code);
            is_listed = without_marker(words).len() < words.len() || (is_listed && indented > 0);
        }
        was_blank = words.is_empty();
        if !in_code && !is_fence && !is_indented_code {
            found.extend(too_long(line).map(|columns| (index + 1, columns)));
        }
    }
    found
}

/// The length of a line that has more than [`MOST_COLUMNS`] and can be broken: it is no table row, and does not begin
/// with a word, such as a URL, that is too long itself.
fn too_long(line: &str) -> Option<usize> {
    let columns = line.chars().count();
    let words = without_marker(line.trim_start());
    let starts_at = columns - words.chars().count();
    let is_row = words.starts_with('|');
    let first_break = words.chars().take_while(|c| !c.is_whitespace()).count();
    (columns > MOST_COLUMNS && !is_row && starts_at + first_break <= MOST_COLUMNS).then_some(columns)
}

/// A line's text without the markers of a comment and of a list item.
fn without_marker(line: &str) -> &str {
    let comment = ["///", "//!", "//"].into_iter().find_map(|slashes| line.strip_prefix(slashes));
    let words = comment.unwrap_or(line).trim_start();
    let numbered = words.trim_start_matches(|c: char| c.is_ascii_digit());
    let item = ["- ", "* "].into_iter().find_map(|bullet| words.strip_prefix(bullet));
    let item = item.or_else(|| numbered.strip_prefix(". ").filter(|_| numbered.len() < words.len()));
    item.map_or(words, str::trim_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        line_length(&Tree::of(&[(path, text)])).iter().map(|finding| finding.line).collect()
    }

    fn words(columns: usize) -> String {
        "word ".repeat(columns / 5 + 1)[..columns - 1].to_owned() + "."
    }

    #[test]
    fn long_lines_are_found_in_rust_and_markdown() {
        let (fits, long) = (words(120), words(121));
        assert_eq!(lines("a.rs", &format!("{fits}\n{long}\n")), [2]);
        assert_eq!(lines("docs/a.md", &format!("{fits}\n{long}\n")), [2]);
        assert_eq!(lines("a.rs", &format!("    let a = \"{long}\";\n/// {long}\n")), [1, 2]);
        assert!(lines("a.toml", &long).is_empty());
        let message = line_length(&Tree::of(&[("a.rs", &long)])).remove(0).to_string();
        assert_eq!(message, "error: a.rs:1: 121 columns, more than 120; break the line");
    }

    #[test]
    fn columns_are_characters() {
        assert!(lines("a.md", &words(60).replace('w', "é").repeat(2)).is_empty());
    }

    #[test]
    fn what_cannot_be_broken_is_left() {
        let url = format!("https://example.com/{}", "x".repeat(120));
        for line in [&url, &format!("// {url}"), &format!("- {url}"), &format!("12. {url} and more")] {
            assert!(lines("a.rs", line).is_empty() && lines("a.md", line).is_empty(), "{line}");
        }
        assert_eq!(lines("a.md", &format!("see {url}")), [1]);
        assert_eq!(lines("a.md", &format!("12.{} {url}", words(9))), [1]);
        let raw = format!("let a = r#\"\n{}\"#;\nlet b = 1; // {}", words(130), words(130));
        assert_eq!(lines("a.rs", &raw), [3]);
    }

    #[test]
    fn tables_and_code_of_pages_are_left() {
        let long = words(130);
        let page = format!("| {long} |\n\n```sh\n{long}\n```\n\n    {long}\n    {long}\n\n{long}\n");
        assert_eq!(lines("a.md", &page), [10]);
        assert_eq!(lines("a.md", &format!("- item\n\n    {long}\n")), [3]);
        assert_eq!(lines("a.md", &format!("text\n    {long}\n")), [2]);
        assert!(lines("a.rs", &format!("//! | {long} |")).is_empty());
    }
}
