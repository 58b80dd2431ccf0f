//! JSON: strings borrowed from the input, and objects and arrays written into one string.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;
use tidings_model::channel::UserId;

/// A JSON string, borrowed where it has no escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text)))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Reads an object, and refuses an array, from which serde would also read a struct's fields.
pub(crate) fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, serde_json::Error> {
    if json.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return serde_json::from_str(json);
    }
    Err(de::Error::custom("expected an object"))
}

/// A value that is present, even if it is `null`.
pub(crate) fn given<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&'a RawValue>::deserialize(deserializer).map(Some)
}

/// Writes an object. Raw values are not validated: the caller must pass valid JSON.
pub(crate) struct Object(String);

impl Object {
    pub(crate) fn new() -> Self {
        Self::with_capacity(96)
    }

    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mut text = String::with_capacity(capacity);
        text.push('{');
        Self(text)
    }

    /// A member that is a string.
    pub(crate) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        string(&mut self.0, value);
        self
    }

    /// A member that is a user's id: a number or a string, as the app gave it.
    pub(crate) fn user(&mut self, key: &str, user: &UserId) -> &mut Self {
        if user.is_number() { self.raw(key, user) } else { self.text(key, user) }
    }

    /// A member whose value is JSON already.
    pub(crate) fn raw(&mut self, key: &str, json: &str) -> &mut Self {
        self.key(key);
        self.0.push_str(json);
        self
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        string(&mut self.0, key);
        self.0.push(':');
    }
}

/// Appends a member of an object, whose value is JSON already.
pub(crate) fn member(out: &mut String, key: &str, json: &str) {
    string(out, key);
    out.push(':');
    out.push_str(json);
}

/// Writes an array.
pub(crate) struct Array(String);

impl Array {
    pub(crate) fn new() -> Self {
        Self("[".to_owned())
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.comma();
        string(&mut self.0, value);
    }

    /// A user's id: a number or a string, as the app gave it.
    pub(crate) fn user(&mut self, user: &UserId) {
        if user.is_number() { self.raw(user) } else { self.text(user) }
    }

    pub(crate) fn raw(&mut self, json: &str) {
        self.comma();
        self.0.push_str(json);
    }

    pub(crate) fn end(mut self) -> String {
        self.0.push(']');
        self.0
    }

    fn comma(&mut self) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
    }
}

/// Appends a JSON string (RFC 8259 § 7). Escapes quotes, backslashes and control characters only.
fn string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
        // The byte was ASCII, so the rest begins at a character boundary.
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    proptest! {
        #[test]
        fn any_text_reads_back(key in ".*", text in "(.|\\n|\\p{Cc}|[\"\\\\])*", more in ".*") {
            let mut array = Array::new();
            array.text(&text);
            array.raw("1");
            let mut object = Object::new();
            object.text(&key, &text).raw("\u{7f}", &array.end()).text("z", &more);
            let read: Value = serde_json::from_str(&object.end()).unwrap();
            prop_assert_eq!(&read["\u{7f}"], &serde_json::json!([text, 1]));
            if key != "z" && key != "\u{7f}" {
                prop_assert_eq!(&read[&key], &Value::String(text));
            }
        }
    }

    #[test]
    fn an_array_is_no_object() {
        #[derive(Debug, serde::Deserialize)]
        struct Named {
            name: String,
        }
        assert_eq!(object::<Named>(" \n{\"name\":\"a\"}").unwrap().name, "a");
        for bad in ["[\"a\"]", " [\"a\"]", "", "\"a\"", "{", "{}", "{\"name\":\"a\"} x"] {
            assert!(object::<Named>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_without_escapes_is_borrowed() {
        let read = |json| serde_json::from_str::<Text<'_>>(json).map(|text| text.0);
        assert!(matches!(read("\"abc\""), Ok(Cow::Borrowed("abc"))));
        assert!(matches!(read("\"a\\\"c\""), Ok(Cow::Owned(text)) if text == "a\"c"));
        assert!(read("1").is_err());
        assert!(read("\"\\ud800\"").is_err());
    }
}
