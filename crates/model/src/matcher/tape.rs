//! A tape: the spans of all values in a JSON text, in one flat list.
//!
//! [`super::Document`] builds it once per event, in one pass without recursion, and every match reads it. A lookup in
//! an
//! object of more than [`WIDE`] members uses a hash table, so that many matches on a wide object do not take the
//! product
//! of both. A string with escapes is decoded once.

use std::collections::HashMap;
use std::sync::OnceLock;

use super::number::Number;
use super::{scan, steps};

/// Objects with more members than this get a hash table of their keys.
const WIDE: u32 = 16;

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    True,
    False,
    Number,
    String,
    Array,
    Object,
}

#[derive(Debug)]
struct Span {
    kind: Kind,
    start: u32,
    end: u32,
    /// The index after this value and all that is in it.
    after: u32,
    /// Of an array its number of values, of an object its number of members; of a string with escapes its index among
    /// those, from 1.
    len: u32,
}

/// The spans of all values. A container is followed by its content; an object's content is key, value, key, value …
#[derive(Debug, Default)]
pub(crate) struct Tape {
    spans: Vec<Span>,
    /// The decoded strings with escapes, filled on demand. The inner `None`: it is not Unicode text.
    escaped: Vec<OnceLock<Option<Box<str>>>>,
    wide: HashMap<u32, HashMap<Box<str>, u32>>,
}

impl Tape {
    /// Reads `text`, which must be valid JSON. `None` for text that is not, or is larger than 4 GiB.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        u32::try_from(bytes.len()).ok()?;
        steps::count(bytes.len());
        let mut tape = Self::default();
        let mut open: Vec<u32> = Vec::new();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let start = at;
            let kind = match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => {
                    at += 1;
                    continue;
                }
                b'}' | b']' => {
                    at += 1;
                    tape.close(text, open.pop()?, at)?;
                    continue;
                }
                b'{' => Kind::Object,
                b'[' => Kind::Array,
                b'"' => Kind::String,
                b't' => Kind::True,
                b'f' => Kind::False,
                b'n' => Kind::Null,
                _ => Kind::Number,
            };
            at = match kind {
                Kind::Object | Kind::Array => at + 1,
                Kind::String => scan::skip_string(bytes, at)?,
                _ => scan::skip_scalar(bytes, at),
            };
            let index = u32::try_from(tape.spans.len()).ok()?;
            if let Some(parent) = open.last() {
                tape.spans.get_mut(*parent as usize)?.len += 1;
            }
            let mut len = 0;
            if kind == Kind::String && bytes.get(start..at)?.contains(&b'\\') {
                tape.escaped.push(OnceLock::new());
                len = u32::try_from(tape.escaped.len()).ok()?;
            }
            tape.spans.push(Span { kind, start: start as u32, end: at as u32, after: index + 1, len });
            if matches!(kind, Kind::Object | Kind::Array) {
                open.push(index);
            }
        }
        (open.is_empty() && !tape.spans.is_empty()).then_some(tape)
    }

    /// The whole value.
    pub(crate) fn root<'t>(&'t self, text: &'t str) -> Item<'t> {
        self.item(text, 0)
    }

    /// The value at an [`Item::index`].
    pub(crate) fn item<'t>(&'t self, text: &'t str, index: u32) -> Item<'t> {
        Item { tape: self, text, index }
    }

    fn close(&mut self, text: &str, index: u32, end: usize) -> Option<()> {
        let after = u32::try_from(self.spans.len()).ok()?;
        let span = self.spans.get_mut(index as usize)?;
        span.end = end as u32;
        span.after = after;
        if span.kind == Kind::Object {
            span.len /= 2;
            if span.len > WIDE {
                let object = self.item(text, index);
                // Inserting in the order sent lets the last of equal keys win.
                let keys =
                    object.members().filter_map(|(key, value)| Some((key.text()?.into(), value.index))).collect();
                self.wide.insert(index, keys);
            }
        }
        Some(())
    }
}

/// One value on a tape.
#[derive(Clone, Copy)]
pub(crate) struct Item<'t> {
    tape: &'t Tape,
    text: &'t str,
    index: u32,
}

impl<'t> Item<'t> {
    /// Its type.
    pub(crate) fn kind(self) -> Kind {
        self.span().map_or(Kind::Null, |span| span.kind)
    }

    /// Its number of values or members, duplicates included.
    pub(crate) fn len(self) -> usize {
        self.span().map_or(0, |span| span.len as usize)
    }

    /// Its bytes as sent.
    pub(crate) fn raw(self) -> &'t str {
        self.span().and_then(|span| self.text.get(span.start as usize..span.end as usize)).unwrap_or_default()
    }

    /// Its text, if it is a string and that string is Unicode text.
    pub(crate) fn text(self) -> Option<&'t str> {
        let span = self.span().filter(|span| span.kind == Kind::String)?;
        match span.len.checked_sub(1) {
            None => self.raw().strip_prefix('"')?.strip_suffix('"'),
            Some(escaped) => self.tape.escaped.get(escaped as usize)?.get_or_init(|| self.unescaped()).as_deref(),
        }
    }

    fn unescaped(self) -> Option<Box<str>> {
        steps::count(self.raw().len());
        scan::unquote(self.raw()).map(Into::into)
    }

    /// Its index on the tape.
    pub(crate) fn index(self) -> u32 {
        self.index
    }

    /// The number, if it is one.
    pub(crate) fn number(self) -> Option<Number<'t>> {
        (self.kind() == Kind::Number).then(|| Number::new(self.raw()))
    }

    /// The value of a member, the last one if the key occurs more than once; `None` if this is not an object.
    pub(crate) fn get(self, key: &str) -> Option<Self> {
        if self.kind() != Kind::Object {
            return None;
        }
        if let Some(keys) = self.tape.wide.get(&self.index) {
            return keys.get(key).map(|index| Self { index: *index, ..self });
        }
        self.members().filter(|(name, _)| name.text() == Some(key)).last().map(|(_, value)| value)
    }

    /// The members of an object in the order sent, as (key, value).
    pub(crate) fn members(self) -> impl Iterator<Item = (Self, Self)> + use<'t> {
        let mut content = self.content();
        std::iter::from_fn(move || Some((content.next()?, content.next()?)))
    }

    /// The content of a container; of an object keys and values alternately; of a scalar nothing.
    pub(crate) fn content(self) -> impl Iterator<Item = Self> + use<'t> {
        let end = self.span().map_or(0, |span| span.after);
        let mut next = self.index + 1;
        std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let item = Self { index: next, ..self };
            next = item.span()?.after;
            Some(item)
        })
    }

    fn span(self) -> Option<&'t Span> {
        steps::count(1);
        self.tape.spans.get(self.index as usize)
    }
}
