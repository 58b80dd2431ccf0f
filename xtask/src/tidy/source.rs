//! A Rust file as the rules see it: the code without comments and literals, the string literals, the comments.

use std::ops::RangeInclusive;

/// A piece of a file, and the line it starts in, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) line: usize,
    pub(super) text: String,
}

/// A Rust file, split into code, literals and comments.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
    /// The code, with comments and literals replaced by spaces; line breaks are kept.
    pub(super) code: String,
    /// The code without its `#[cfg(test)]` modules; empty for a file of tests.
    pub(super) shipped_code: String,
    /// String literals outside `#[cfg(test)]` modules, without quotes.
    pub(super) shipped_strings: Vec<Piece>,
    /// Comments, including their slashes.
    pub(super) comments: Vec<Piece>,
    /// The lines of raw string literals.
    pub(super) raw_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let parts = take_apart(text);
        let test_lines = test_module_lines(&parts.code);
        let all_test = is_test_path(path);
        let is_shipped = |line: usize| !all_test && !test_lines.iter().any(|lines| lines.contains(&line));
        let shipped_code = parts
            .code
            .lines()
            .enumerate()
            .map(|(index, line)| if is_shipped(index + 1) { line } else { "" })
            .collect::<Vec<_>>()
            .join("\n");
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            shipped_code,
            shipped_strings: parts.strings.into_iter().filter(|piece| is_shipped(piece.line)).collect(),
            comments: parts.comments,
            raw_lines: parts.raw_lines,
            code: parts.code,
        }
    }

    /// Whether the file holds nothing but tests.
    pub(super) fn is_test(&self) -> bool {
        is_test_path(&self.path)
    }

    /// Whether the file is below one of these folders.
    pub(super) fn is_below(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }

    /// The lines of shipped code that contain one of `words`, each with that word.
    pub(super) fn shipped_uses<'w>(&self, words: &[&'w str]) -> Vec<(usize, &'w str)> {
        uses(&self.shipped_code, words)
    }
}

/// The lines of `code` that contain one of `words`, each with that word. A longer name that only ends with the word
/// does not count.
pub(super) fn uses<'w>(code: &str, words: &[&'w str]) -> Vec<(usize, &'w str)> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        for word in words {
            let starts_name = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if line.match_indices(word).any(|(at, _)| starts_name(at)) {
                found.push((index + 1, *word));
            }
        }
    }
    found
}

fn is_test_path(path: &str) -> bool {
    let in_tests = path.starts_with("tests/") || path.contains("/tests/");
    let in_tools =
        ["benches/", "fuzz/", "xtask/", "crates/testkit/", "examples/"].iter().any(|dir| path.starts_with(dir));
    in_tests || in_tools || path.ends_with("tests.rs")
}

#[derive(Debug, Default)]
struct Parts {
    code: String,
    strings: Vec<Piece>,
    comments: Vec<Piece>,
    raw_lines: Vec<RangeInclusive<usize>>,
}

/// Splits a file into code, literals and comments.
fn take_apart(text: &str) -> Parts {
    let mut parts = Parts::default();
    let mut line = 1;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let (len, kind) = next_piece(rest, parts.code.chars().next_back());
        let piece = &rest[..len];
        match kind {
            Kind::Code => parts.code.push_str(piece),
            Kind::Comment | Kind::Char | Kind::Text { .. } => {
                parts.code.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            }
        }
        match kind {
            Kind::Comment => parts.comments.push(Piece { line, text: piece.to_owned() }),
            Kind::Text { open, close } => {
                let inner = piece.get(open..len.saturating_sub(close)).unwrap_or_default();
                parts.strings.push(Piece { line, text: inner.to_owned() });
                if open > 1 {
                    parts.raw_lines.push(line..=line + piece.matches('\n').count());
                }
            }
            Kind::Code | Kind::Char => {}
        }
        line += piece.matches('\n').count();
        at += len;
    }
    parts
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Char,
    /// A string literal, with the lengths of its opening and closing delimiters in bytes.
    Text {
        open: usize,
        close: usize,
    },
}

/// The length and kind of the piece at the start of `rest`; `before` is the last character of code before it.
fn next_piece(rest: &str, before: Option<char>) -> (usize, Kind) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Kind::Comment);
    }
    if rest.starts_with("/*") {
        return (block_comment_len(rest), Kind::Comment);
    }
    let in_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_name && let Some(found) = raw_string(rest) {
        return found;
    }
    if let Some(inner) = rest.strip_prefix('"') {
        return (1 + closing_quote(inner, '"'), Kind::Text { open: 1, close: 1 });
    }
    if let Some(len) = char_literal(rest) {
        return (len, Kind::Char);
    }
    (rest.chars().next().map_or(1, char::len_utf8), Kind::Code)
}

/// Block comments nest.
fn block_comment_len(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let tail = &rest[at..];
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`.
fn raw_string(rest: &str) -> Option<(usize, Kind)> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|prefix| rest.strip_prefix(prefix).is_some_and(|tail| tail.trim_start_matches('#').starts_with('"')))?;
    let hashes = rest[prefix.len()..].chars().take_while(|c| *c == '#').count();
    let open = prefix.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    let inner_len = rest[open..].find(&end)?;
    Some((open + inner_len + end.len(), Kind::Text { open, close: end.len() }))
}

/// `'a'`, `'\n'`, `'\u{1F600}'`, but not a lifetime.
fn char_literal(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let mut chars = inner.chars();
    let first = chars.next()?;
    if first == '\\' {
        return Some(1 + closing_quote(inner, '\''));
    }
    (chars.next()? == '\'').then(|| 2 + first.len_utf8())
}

/// The length up to and including the next unescaped `quote`.
fn closing_quote(inner: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    inner.len()
}

/// The attributes of a module that is built for tests only; the second is the start of a longer condition.
const FOR_TESTS: [&str; 2] = ["#[cfg(test)]", "#[cfg(all(test,"];

/// The lines of each `#[cfg(test)] mod … { … }`.
fn test_module_lines(code: &str) -> Vec<RangeInclusive<usize>> {
    let line_of = |at: usize| code[..at].matches('\n').count() + 1;
    let mut found = Vec::new();
    for (start, attribute) in FOR_TESTS.iter().flat_map(|attribute| code.match_indices(attribute)) {
        let behind = start + attribute.len();
        let item = code[behind..].trim_start();
        // Searching for the brace covers `pub(crate) mod`, further attributes, and functions for tests only.
        let Some(open) = code[behind..].find(['{', ';']).map(|at| behind + at) else { continue };
        if code[open..].starts_with(';') || item.starts_with("use ") {
            continue;
        }
        let mut depth = 0_usize;
        for (at, c) in code[open..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                found.push(line_of(start)..=line_of(open + at));
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "let a = \"x\\\"y // no\"; // yes\nlet b = r#\"raw \"z\" \
            {\"#; /* one /* two */ */ let c: &'static str = 'q';\n";
        let source = Source::new("crates/a/src/b.rs", text);
        assert!(!source.code.contains("no") && !source.code.contains("raw") && !source.code.contains("two"));
        assert!(source.code.contains("'static str") && !source.code.contains('q'));
        let strings: Vec<_> = source.shipped_strings.iter().map(|piece| (piece.line, piece.text.as_str())).collect();
        assert_eq!(strings, [(1, "x\\\"y // no"), (2, "raw \"z\" {")]);
        assert_eq!(source.comments[0], Piece { line: 1, text: "// yes".to_owned() });
        assert_eq!(source.code.lines().count(), text.lines().count());
    }

    #[test]
    fn test_modules_are_not_shipped() {
        let text = "fn a() { Instant::now(); }\n#[cfg(test)]\nmod tests {\n    fn b() { if x { \"SELECT 1\" } }\n}\nfn \
            c() {}\n";
        let source = Source::new("crates/a/src/b.rs", text);
        assert!(source.shipped_code.contains("fn a") && source.shipped_code.contains("fn c"));
        assert!(!source.shipped_code.contains("fn b"));
        assert!(source.shipped_strings.is_empty());
        let on_linux = text.replace("(test)", "(all(test, target_os = \"linux\"))");
        assert!(!Source::new("crates/a/src/b.rs", &on_linux).shipped_code.contains("fn b"));
        assert!(Source::new("crates/a/src/b/tests.rs", text).shipped_uses(&["Instant::now"]).is_empty());
    }

    #[test]
    fn a_word_is_found_where_a_name_starts() {
        assert_eq!(uses("a\nstd::env::var(x)\nmy_env::var(x)", &["env::var("]), [(2, "env::var(")]);
    }
}
