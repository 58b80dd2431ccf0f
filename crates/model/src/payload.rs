//! The part of an event's data that is sent, and its bytes.
//!
//! A hook declares [`Field`]s; [`select_fields`] keeps only those fields of the data; [`render_body`] makes the body
//! that
//! the courier signs and sends. Values are never parsed and written again: the bytes of a field are the bytes that were
//! published, so large integers, `1e400`, duplicate keys, key order, escapes and spaces inside values arrive unchanged.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::event::Data;
use crate::matcher::number::Number;
use crate::matcher::scan::{self, members, unquote};

/// A top-level field that a hook declares. In JSON it is its name, or `{"name": …, "type": …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The key in the data.
    pub name: String,
    /// The type of its value, if one is declared.
    pub kind: Option<FieldKind>,
}

/// The declared type of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// A string.
    String,
    /// Any number.
    Number,
    /// A number without a fractional part; `1.0` is one, as in JSON Schema.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An object.
    Object,
    /// An array.
    Array,
    /// Any value.
    Any,
}

/// The data is not an object, so it has no fields to select.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("data: the hook declares fields, so the data must be a JSON object")]
pub struct NotAnObject;

/// Why data does not fit a hook's declared fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldTypeError {
    /// The data is not an object.
    #[error(transparent)]
    NotAnObject(#[from] NotAnObject),
    /// A field has another type.
    #[error("data.{field}: the hook declares {expected}, this is {found}; send {expected} or null, or leave it out")]
    WrongType {
        /// The field.
        field: String,
        /// The declared type.
        expected: FieldKind,
        /// The type of the value that was sent.
        found: &'static str,
    },
}

/// The data limited to `fields`: values, their order and duplicates as sent, other keys dropped. `None` when no key is
/// dropped, so that the data stays as it is, byte for byte.
///
/// # Errors
/// [`NotAnObject`] if `raw` is not an object.
pub fn select_fields(raw: &RawValue, fields: &[Field]) -> Result<Option<Data>, NotAnObject> {
    let text = raw.get();
    let mut out = String::with_capacity(text.len());
    let mut drops = false;
    out.push('{');
    for (key, value) in members(text).ok_or(NotAnObject)? {
        if unquote(key).is_some_and(|name| fields.iter().any(|field| field.name == name)) {
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(key);
            out.push(':');
            out.push_str(value);
        } else {
            drops = true;
        }
    }
    out.push('}');
    // Members of a valid JSON object, put together as an object, are valid JSON.
    Ok(drops.then(|| Data::json(out)))
}

/// Checks the data against the declared types. A missing or null field fits every type. If a key occurs more than once,
/// each value is checked, because each is sent.
///
/// # Errors
/// [`FieldTypeError`] names the field, its declared type and the type that was sent.
pub fn check_types(raw: &RawValue, fields: &[Field]) -> Result<(), FieldTypeError> {
    for (key, value) in members(raw.get()).ok_or(NotAnObject)? {
        let Some(name) = unquote(key) else { continue };
        let Some(field) = fields.iter().find(|field| field.name == name) else { continue };
        if let Some(expected) = field.kind
            && !expected.accepts(value)
        {
            return Err(FieldTypeError::WrongType { field: field.name.clone(), expected, found: type_of(value) });
        }
    }
    Ok(())
}

/// Whether no value is nested deeper than `max`: a scalar has depth 0, `[]` and `{}` have depth 1. One pass, no
/// recursion.
pub fn depth_at_most(raw: &RawValue, max: usize) -> bool {
    scan::depth_at_most(raw.get(), max)
}

/// The body of a webhook: `{"type", "timestamp", "data"}`, with `"op"` before the data for a model's change. JSON data
/// is copied byte for byte. Of other data, `text/*` in UTF-8 becomes a JSON string; all else becomes `"data_base64"` in
/// place of `"data"`; both are followed by `"content_type"`.
pub fn render_body(kind: &str, timestamp: &str, op: Option<&str>, data: &Data) -> Bytes {
    let mut out = String::with_capacity(data.bytes.len() + kind.len() + timestamp.len() + 96);
    out.push_str("{\"type\":");
    push_json_string(&mut out, kind);
    out.push_str(",\"timestamp\":");
    push_json_string(&mut out, timestamp);
    if let Some(op) = op {
        out.push_str(",\"op\":");
        push_json_string(&mut out, op);
    }
    if let Some(json) = data.as_json() {
        out.push_str(",\"data\":");
        out.push_str(json);
    } else {
        if let Some(text) = as_text(data) {
            out.push_str(",\"data\":");
            push_json_string(&mut out, text);
        } else {
            out.push_str(",\"data_base64\":\"");
            STANDARD.encode_string(&data.bytes, &mut out);
            out.push('"');
        }
        out.push_str(",\"content_type\":");
        push_json_string(&mut out, data.content_type.as_deref().unwrap_or("application/octet-stream"));
    }
    out.push('}');
    Bytes::from(out)
}

/// The text of data that is not JSON but `text/*` in UTF-8.
pub(crate) fn as_text(data: &Data) -> Option<&str> {
    let content_type = data.content_type.as_deref()?;
    let is_text = content_type.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"));
    if is_text { std::str::from_utf8(&data.bytes).ok() } else { None }
}

/// A text as a JSON string, with its quotes.
pub(crate) fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_json_string(&mut out, text);
    out
}

fn push_json_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        // The character found is one byte of ASCII.
        let (character, after) = special.split_at(1);
        match character {
            "\"" => out.push_str("\\\""),
            "\\" => out.push_str("\\\\"),
            "\n" => out.push_str("\\n"),
            "\r" => out.push_str("\\r"),
            "\t" => out.push_str("\\t"),
            _ => character.bytes().for_each(|byte| out.push_str(&format!("\\u{byte:04x}"))),
        }
        rest = after;
    }
    out.push_str(rest);
    out.push('"');
}

impl FieldKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::String, Self::Number, Self::Integer, Self::Boolean, Self::Object, Self::Array, Self::Any];

    /// The word for it in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Object => "object",
            Self::Array => "array",
            Self::Any => "any",
        }
    }

    /// Whether a field of this kind accepts a raw JSON value.
    fn accepts(self, value: &str) -> bool {
        match (self, type_of(value)) {
            (Self::Any, _) | (_, "null") => true,
            (Self::Integer, "number") => Number::new(value).is_whole(),
            (_, found) => self.as_str() == found,
        }
    }
}

/// The JSON type of a raw value, by its first byte.
fn type_of(value: &str) -> &'static str {
    match value.as_bytes().first() {
        Some(b'"') => "string",
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b't' | b'f') => "boolean",
        Some(b'n') | None => "null",
        Some(_) => "number",
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Field {
    /// A field of any type.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), kind: None }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldObject {
    name: String,
    #[serde(rename = "type", default)]
    kind: Option<FieldKind>,
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.kind {
            None => serializer.serialize_str(&self.name),
            Some(_) => FieldObject { name: self.name.clone(), kind: self.kind }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrObject;

        impl<'de> Visitor<'de> for NameOrObject {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name, or {\"name\": …, \"type\": …}")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
                Ok(Field::named(name))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field, A::Error> {
                let FieldObject { name, kind } = FieldObject::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Field { name, kind })
            }
        }

        deserializer.deserialize_any(NameOrObject)
    }
}
