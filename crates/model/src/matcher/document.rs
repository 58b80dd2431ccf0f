//! The input of a match: the data that would be sent, and the model operation.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use parking_lot::Mutex;
use serde_json::value::RawValue;

use super::like::Like;
use super::tape::{Item, Tape};
use super::target::Target;
use crate::event::Data;
use crate::payload;

/// The data that would be sent, as matches see it.
///
/// It is parsed once, when the first match asks for a field. Text that is not JSON has no fields, so only matches that
/// need no field accept it.
pub struct Document<'a> {
    op: Option<&'a str>,
    text: Cow<'a, str>,
    /// Whether the text is known to be valid JSON.
    checked: bool,
    tape: OnceLock<Option<Tape>>,
    memo: Memo,
}

/// Results of regular expressions that are compiled on demand, so that none is compiled twice for the same text.
#[derive(Default)]
pub(crate) struct Memo(Mutex<HashMap<MemoKey, bool>>);

/// A pattern, and the index of its text in the document; `None` for the operation.
type MemoKey = (Box<str>, Option<u32>);

impl Memo {
    /// Whether `like` is found in `text`, the text of `target`.
    pub(crate) fn is_in(&self, like: &Like, target: Target<'_>, text: &str) -> bool {
        let Some(pattern) = like.uncompiled() else { return like.is_in(text) };
        let index = match target {
            Target::Json(item) => Some(item.index()),
            Target::Missing | Target::Op(_) => None,
        };
        *self.0.lock().entry((pattern.into(), index)).or_insert_with(|| like.is_in(text))
    }
}

impl<'a> Document<'a> {
    /// A document of JSON text.
    pub fn new(op: Option<&'a str>, json: &'a str) -> Self {
        Self::make(op, Cow::Borrowed(json), false)
    }

    /// A document of an event's data, or of the data that [`payload::select_fields`] leaves, as
    /// [`payload::render_body`]
    /// would send it: text is one JSON string, and other bytes have no content for matches.
    pub fn of(op: Option<&'a str>, data: &'a Data) -> Self {
        match (data.as_json(), payload::as_text(data)) {
            (Some(json), _) => Self::make(op, Cow::Borrowed(json), false),
            (None, Some(text)) => Self::make(op, Cow::Owned(payload::json_string(text)), true),
            (None, None) => Self::make(op, Cow::Borrowed(""), false),
        }
    }

    fn make(op: Option<&'a str>, text: Cow<'a, str>, checked: bool) -> Self {
        Self { op, text, checked, tape: OnceLock::new(), memo: Memo::default() }
    }

    /// The model operation, if the event is a change of a model.
    pub fn op(&self) -> Option<&str> {
        self.op
    }

    /// The string at a path of field names, to look up candidates by [`super::Match::index_key`]. `None` when there is
    /// no such field or it is not a string.
    pub fn string_at<K: AsRef<str>>(&self, path: &[K]) -> Option<&str> {
        let mut item = self.root()?;
        for key in path {
            item = item.get(key.as_ref())?;
        }
        item.text()
    }

    pub(crate) fn memo(&self) -> &Memo {
        &self.memo
    }

    /// The whole value; `None` if the text is not JSON.
    pub(crate) fn root(&self) -> Option<Item<'_>> {
        let tape = self.tape.get_or_init(|| {
            let valid = self.checked || serde_json::from_str::<&RawValue>(&self.text).is_ok();
            if valid { Tape::new(&self.text) } else { None }
        });
        tape.as_ref().map(|tape| tape.root(&self.text))
    }
}

impl fmt::Debug for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The data is left out: it belongs to a tenant and may be large.
        f.debug_struct("Document").field("op", &self.op).field("bytes", &self.text.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::Match;

    #[test]
    fn it_is_read_only_when_a_field_is_asked_for() {
        let doc = Document::new(Some("create"), r#"{"a":"x"}"#);
        for filter in ["{}", r#"{"$op":"create"}"#, r#"{"any":true}"#] {
            assert!(Match::parse(filter).unwrap().matches(&doc), "{filter}");
        }
        assert!(!Match::parse(r#"{"$op":"update","a":"x"}"#).unwrap().matches(&doc));
        assert!(doc.tape.get().is_none());
        assert_eq!(doc.string_at(&["a"]), Some("x"));
        assert!(doc.tape.get().is_some());
    }
}
