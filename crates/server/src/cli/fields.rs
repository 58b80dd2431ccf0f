//! Prints records as lines, and values as cells of a table.
//!
//! A record keeps its fields in the server's order, and each value as the JSON text that came: an event's data is shown
//! exactly as it was published, also its numbers.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::pretty;
use crate::output;

const MAX_CELL: usize = 60;

/// A JSON object with its values as they came.
#[derive(Debug)]
pub(super) struct Record(Vec<(String, Box<RawValue>)>);

impl Record {
    /// A field's JSON text; `null` counts as absent.
    pub(super) fn raw(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.get()).filter(|text| *text != "null")
    }

    /// A field that is a string.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.raw(key)?).ok()
    }

    /// A field that is an array of strings; empty if it is absent.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.raw(key).and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default()
    }

    /// A field's value for a table: a string without quotes, `-` if it is absent, anything else as JSON.
    pub(super) fn cell(&self, key: &str) -> String {
        self.raw(key).map_or_else(|| "-".to_owned(), shown)
    }

    /// One line per field, names padded. Absent fields are left out, and `warnings`, which go to stderr.
    pub(super) fn lines(&self) -> String {
        let fields = self.0.iter().filter(|(name, value)| value.get() != "null" && name != "warnings");
        let rows: Vec<Vec<String>> = fields.map(|(key, value)| vec![format!("{key}:"), shown(value.get())]).collect();
        output::printable(&output::table(&[], &rows))
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Record(fields))
    }
}

fn shown(raw: &str) -> String {
    if let Ok(text) = serde_json::from_str::<String>(raw) {
        return text;
    }
    match serde_json::from_str::<Vec<String>>(raw) {
        Ok(texts) if !texts.is_empty() => texts.join(", "),
        _ => pretty::compact(raw),
    }
}

/// The text on one line, for a table; cut after [`MAX_CELL`] characters.
pub(super) fn one_line(text: &str) -> String {
    let text = output::printable(text).replace(['\n', '\t'], " ");
    match text.char_indices().nth(MAX_CELL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_field_a_line_as_it_came() {
        let text = r#"{"id":"lst_1","hooks":["a","b"],"owner":null,"data":{"b": 1.10, "a": 123456789012345678901234567890},"none":[]}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        assert_eq!(
            record.lines(),
            "id:     lst_1\nhooks:  a, b\ndata:   {\"b\":1.10,\"a\":123456789012345678901234567890}\nnone:   []"
        );
        assert_eq!(
            (record.cell("owner"), record.cell("nothing"), record.cell("id")),
            ("-".into(), "-".into(), "lst_1".into())
        );
    }

    #[test]
    fn a_cell_is_one_line() {
        assert_eq!(one_line("a\nb\u{7}"), "a b\\u{7}");
        assert_eq!(one_line(&"ä".repeat(61)).chars().count(), 61);
    }
}
