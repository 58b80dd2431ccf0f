//! What a match is held against: the data that would be sent, and the model operation.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use serde_json::value::RawValue;

use super::tape::{Item, Kind, Tape};
use crate::event::Data;
use crate::payload;

/// What would be sent, as matches see it.
///
/// It is read when the first match asks for a field, and once, however many matches ask. Text that is not JSON has no
/// fields, so it matches only what asks for none.
pub struct Document<'a> {
    op: Option<&'a str>,
    text: Cow<'a, str>,
    /// Whether the text is known to be valid JSON.
    checked: bool,
    tape: OnceLock<Option<Tape>>,
}

impl<'a> Document<'a> {
    /// A document of JSON text.
    pub fn new(op: Option<&'a str>, json: &'a str) -> Self {
        Self::make(op, Cow::Borrowed(json), false)
    }

    /// A document of an event's data, or of what [`payload::select_fields`] leaves of it, as [`payload::render_body`] would
    /// send it: text is one JSON string, and other
    /// bytes have nothing to look at.
    pub fn of(op: Option<&'a str>, data: &'a Data) -> Self {
        match (data.as_json(), payload::as_text(data)) {
            (Some(json), _) => Self::make(op, Cow::Borrowed(json), false),
            (None, Some(text)) => Self::make(op, Cow::Owned(payload::json_string(text)), true),
            (None, None) => Self::make(op, Cow::Borrowed(""), false),
        }
    }

    fn make(op: Option<&'a str>, text: Cow<'a, str>, checked: bool) -> Self {
        Self { op, text, checked, tape: OnceLock::new() }
    }

    /// The model operation, if the event tells of a model's change.
    pub fn op(&self) -> Option<&str> {
        self.op
    }

    /// The string at a path of field names, to look up candidates by [`super::Match::index_key`]. `None` when there is no
    /// such field or it is not a string.
    pub fn string_at<K: AsRef<str>>(&self, path: &[K]) -> Option<Cow<'_, str>> {
        let mut item = self.root()?;
        for key in path {
            item = item.get(key.as_ref())?;
        }
        if item.kind() == Kind::String { item.text() } else { None }
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
        // Not the data: it belongs to a tenant and may be large.
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
        assert_eq!(doc.string_at(&["a"]).as_deref(), Some("x"));
        assert!(doc.tape.get().is_some());
    }
}
