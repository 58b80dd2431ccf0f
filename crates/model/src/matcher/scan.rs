//! Finds the pieces of JSON text without building values.
//!
//! Used by [`super::Document`], which reads fields of an event, and by [`crate::payload`], which copies the bytes of
//! fields as they were sent. Everything is iterative and takes one pass, so neither deep nor wide text can exhaust the
//! stack or the time. The text must be valid JSON; for any other text the results are meaningless, but nothing panics
//! or
//! loops for ever.

use std::borrow::Cow;

/// The position of the first byte at or after `at` that is not JSON whitespace.
pub(crate) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The position after the string whose opening quote is at `at`; `None` if it does not end.
pub(crate) fn skip_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The position after the number, `true`, `false` or `null` that starts at `at`.
pub(crate) fn skip_scalar(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b',' | b':' | b']' | b'}' | b'[' | b'{' | b'"' | b' ' | b'\t' | b'\n' | b'\r') {
            break;
        }
        at += 1;
    }
    at
}

/// The position after the value that starts at `at`; `None` if it does not end.
fn skip_value(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = skip_string(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            _ => at = skip_scalar(bytes, at),
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Whether no value of `text` is nested deeper than `max`: a scalar has depth 0, `[]` and `{}` have depth 1.
pub(crate) fn depth_at_most(text: &str, max: usize) -> bool {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => match skip_string(bytes, at) {
                Some(after) => {
                    at = after;
                    continue;
                }
                None => return true,
            },
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    true
}

/// Whether a value is an array.
pub(crate) fn is_array(text: &str) -> bool {
    text.as_bytes().get(skip_space(text.as_bytes(), 0)) == Some(&b'[')
}

/// The text of a string, given with its quotes. `None` if it is not Unicode text, which JSON allows (a lone surrogate).
pub(crate) fn unquote(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The members of an object in the order sent, duplicates included, as raw (key with quotes, value) texts.
pub(crate) struct Members<'t> {
    text: &'t str,
    at: usize,
}

/// Starts on the members of `text`; `None` if it is not an object.
pub(crate) fn members(text: &str) -> Option<Members<'_>> {
    let at = skip_space(text.as_bytes(), 0);
    (text.as_bytes().get(at) == Some(&b'{')).then_some(Members { text, at: at + 1 })
}

impl<'t> Iterator for Members<'t> {
    type Item = (&'t str, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        let mut key_at = skip_space(bytes, self.at);
        if bytes.get(key_at) == Some(&b',') {
            key_at = skip_space(bytes, key_at + 1);
        }
        if bytes.get(key_at) != Some(&b'"') {
            return None;
        }
        let key_end = skip_string(bytes, key_at)?;
        let colon = skip_space(bytes, key_end);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let value_at = skip_space(bytes, colon + 1);
        let value_end = skip_value(bytes, value_at)?;
        self.at = value_end;
        Some((self.text.get(key_at..key_end)?, self.text.get(value_at..value_end)?))
    }
}
