//! Parses a trace of system calls by strace (`-f -yy -ttt`, with or without `-xx`).

use std::collections::HashMap;
use std::path::Path;

/// A system call: the lines of the trace in which it began and ended, and its text.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) began: usize,
    pub(crate) ended: usize,
    pub(crate) text: String,
}

/// Reads the trace, once its last line reports the program's end.
pub(crate) fn finished_trace(path: &Path) -> Option<String> {
    let trace = String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned();
    trace.lines().any(|line| line.contains("+++ exited with 0 +++")).then_some(trace)
}

/// Joins the two parts of calls that strace interrupts with calls of other threads.
pub(crate) fn parse(trace: &str) -> Vec<Call> {
    let mut open: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((_time, text)) = rest.trim_start().split_once(' ') else { continue };
        if let Some(beginning) = text.strip_suffix("<unfinished ...>") {
            open.insert(thread, (number, beginning));
        } else if let Some((_, end)) = text.strip_prefix("<... ").and_then(|text| text.split_once(" resumed>")) {
            if let Some((began, beginning)) = open.remove(thread) {
                calls.push(Call { began, ended: number, text: format!("{beginning}{end}") });
            }
        } else {
            calls.push(Call { began: number, ended: number, text: text.to_owned() });
        }
    }
    calls.sort_by_key(|call| call.ended);
    calls
}

impl Call {
    /// The call's name.
    pub(crate) fn name(&self) -> &str {
        self.text.split_once('(').map_or("", |(name, _)| name)
    }

    /// What it returned, if it did not fail.
    pub(crate) fn returned(&self) -> Option<u64> {
        let (_, value) = self.text.rsplit_once(" = ")?;
        value.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// The strings among its arguments, in order.
    pub(crate) fn strings(&self) -> Vec<Vec<u8>> {
        self.text.split('"').skip(1).step_by(2).map(bytes).collect()
    }

    /// The file or socket of its first argument, a descriptor: a path, or `TCP:[…]`. `None` for a deleted file.
    pub(crate) fn opened(&self) -> Option<String> {
        let (_, behind) = self.text.split_once('(')?;
        let (descriptor, behind) = behind.split_once('<')?;
        let (what, behind) = behind.split_once('>')?;
        let is_descriptor = descriptor == "AT_FDCWD" || descriptor.bytes().all(|b| b.is_ascii_digit());
        // An arrow is part of a socket's name.
        let what = if what.ends_with('-') { format!("{what}>{}", behind.split_once('>')?.0) } else { what.to_owned() };
        (is_descriptor && !behind.starts_with("(deleted)")).then(|| String::from_utf8_lossy(&bytes(&what)).into_owned())
    }

    /// The number at this position of the arguments, counted from the end.
    pub(crate) fn number_from_end(&self, place: usize) -> Option<u64> {
        let (arguments, _) = self.text.rsplit_once(')')?;
        arguments.rsplit(", ").nth(place)?.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
    }
}

/// Decodes text in which strace wrote bytes as `\x00`.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let hex = behind.strip_prefix(b"x").filter(|_| first == b'\\').and_then(|hex| hex.split_at_checked(2));
        let byte = hex.and_then(|(digits, behind)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, behind))
        });
        let (byte, behind) = byte.unwrap_or((first, behind));
        out.push(byte);
        rest = behind;
    }
    out
}
