//! What a compiled match is made of, and when each part holds.

use std::borrow::Cow;

use regex::Regex;

use super::number::Number;
use super::tape::{Item, Kind};

/// A part of a match that is held against one value.
#[derive(Debug)]
pub(crate) enum Condition {
    /// An operator on the value.
    Test(Test),
    /// Conditions on the fields of an object; all must hold.
    Fields(Vec<(String, Condition)>),
}

/// An operator with its operand.
#[derive(Debug)]
pub(crate) enum Test {
    Is(Json),
    StartsWith(String),
    EndsWith(String),
    Contains(String),
    Like(Regex),
    Any,
}

/// A value that `is` compares with.
#[derive(Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    String(String),
    Array(Vec<Json>),
    /// Sorted by key, without duplicates.
    Object(Vec<(String, Json)>),
}

impl Condition {
    /// Whether it holds for `item`, `None` being a field that is not there. The recursion is as deep as the match, which
    /// is limited, however deep the document is.
    pub(crate) fn holds(&self, item: Option<Item<'_>>) -> bool {
        match self {
            Self::Test(test) => test.holds(item),
            Self::Fields(fields) => {
                item.is_some_and(|object| object.kind() == Kind::Object && fields_hold(fields, Some(object)))
            }
        }
    }
}

/// Whether all conditions on the fields of `object` hold. Unlike [`Condition::holds`] it does not ask for an object first:
/// of a document that is none, each field is missing.
pub(crate) fn fields_hold(fields: &[(String, Condition)], object: Option<Item<'_>>) -> bool {
    fields.iter().all(|(key, condition)| condition.holds(object.and_then(|object| object.get(key))))
}

impl Test {
    /// Whether it holds for `item`. A missing field and a wrong type are no match, except for `any`.
    pub(crate) fn holds(&self, item: Option<Item<'_>>) -> bool {
        match (self, item) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Is(json), Some(item)) => json.equals(item),
            (_, Some(item)) => self.text_holds(item.text()),
        }
    }

    /// Whether it holds for a text, `None` being one that is not there.
    pub(crate) fn text_holds(&self, text: Option<Cow<'_, str>>) -> bool {
        match (self, text) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Is(json), Some(text)) => matches!(json, Json::String(wanted) if *wanted == text),
            (Self::StartsWith(part), Some(text)) => text.starts_with(part.as_str()),
            (Self::EndsWith(part), Some(text)) => text.ends_with(part.as_str()),
            (Self::Contains(part), Some(text)) => text.contains(part.as_str()),
            (Self::Like(regex), Some(text)) => regex.is_match(&text),
        }
    }
}

impl Json {
    /// Whether `item` is the same JSON value: numbers by value, objects in any order, of equal keys the last.
    fn equals(&self, item: Item<'_>) -> bool {
        match (self, item.kind()) {
            (Self::Null, Kind::Null) | (Self::Bool(true), Kind::True) | (Self::Bool(false), Kind::False) => true,
            (Self::Number(wanted), Kind::Number) => {
                item.number().is_some_and(|number| number.same(&Number::new(wanted)))
            }
            (Self::String(wanted), Kind::String) => item.text().is_some_and(|text| *wanted == text),
            (Self::Array(wanted), Kind::Array) => {
                wanted.len() == item.len() && wanted.iter().zip(item.content()).all(|(a, b)| a.equals(b))
            }
            (Self::Object(wanted), Kind::Object) => {
                let known = |key: Item<'_>| {
                    key.text().is_some_and(|key| wanted.binary_search_by(|(name, _)| name.as_str().cmp(&key)).is_ok())
                };
                item.len() >= wanted.len()
                    && item.members().all(|(key, _)| known(key))
                    && wanted.iter().all(|(key, json)| item.get(key).is_some_and(|value| json.equals(value)))
            }
            _ => false,
        }
    }
}
