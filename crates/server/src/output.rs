//! The only place that writes to the terminal.
//!
//! The result of a command goes to stdout, everything else to stderr. A closed pipe (`tidings event list | head`) is no
//! failure: the program exits with 0.

use std::io::{ErrorKind, Write};

/// Writes a line to stdout.
pub(crate) fn line(text: impl AsRef<str>) {
    put(&mut std::io::stdout().lock(), text.as_ref());
}

/// Writes a line to stderr.
pub(crate) fn stderr_line(text: impl AsRef<str>) {
    put(&mut std::io::stderr().lock(), text.as_ref());
}

fn put(to: &mut impl Write, text: &str) {
    match writeln!(to, "{text}").and_then(|()| to.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        // If writing to the terminal fails, there is no other way to report it.
        Ok(()) | Err(_) => {}
    }
}

/// Formats rows in columns, each as wide as its widest cell; the last is not padded. An empty `head` is left out.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).filter(|h| !h.is_empty()).chain(rows).collect();
    let columns = all.iter().map(|row| row.len()).max().unwrap_or(0);
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut lines = Vec::with_capacity(all.len());
    for row in all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

/// Quotes the text as one argument of a POSIX shell.
pub(crate) fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// Escapes control characters as `\u{…}`, so that the text cannot steer the terminal. Newlines and tabs stay.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() && c != '\n' && c != '\t' { c.escape_unicode().collect() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows =
            vec![vec!["a".into(), "long cell".into(), "x".into()], vec!["bbb".into(), "c".into(), String::new()]];
        assert_eq!(table(&["ID", "NAME", "Z"], &rows), "ID   NAME       Z\na    long cell  x\nbbb  c");
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        assert_eq!(shell_quoted("/usr/bin/tidings"), "/usr/bin/tidings");
        assert_eq!(shell_quoted("/my data/it's"), "'/my data/it'\\''s'");
        assert_eq!(shell_quoted(""), "''");
    }

    #[test]
    fn a_delivery_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\nc");
    }
}
