//! A value that a match compares with.

use super::MatchError;
use super::number::Decimal;
use super::steps;
use super::tape::{Item, Kind};
use super::target::Target;

/// A JSON value, prepared for comparisons with many others.
#[derive(Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Box<Decimal>),
    String(Box<str>),
    Array(Vec<Json>),
    /// Sorted by key, without duplicates.
    Object(Vec<(Box<str>, Json)>),
}

impl Json {
    /// Reads a value; `path` is its path in the match, for errors.
    pub(crate) fn read(item: Item<'_>, path: &dyn Fn() -> String) -> Result<Self, MatchError> {
        let text = |item: Item<'_>| item.text().map(Box::from).ok_or_else(|| MatchError::NotText { path: path() });
        Ok(match item.kind() {
            Kind::Null => Self::Null,
            Kind::True => Self::Bool(true),
            Kind::False => Self::Bool(false),
            Kind::Number => Self::Number(Box::new(Decimal::new(item.raw()))),
            Kind::String => Self::String(text(item)?),
            Kind::Array => Self::Array(item.content().map(|item| Self::read(item, path)).collect::<Result<_, _>>()?),
            Kind::Object => {
                let mut members = Vec::with_capacity(item.len());
                for (key, value) in item.members() {
                    members.push((text(key)?, Self::read(value, path)?));
                }
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                for pair in members.windows(2) {
                    if let [(a, _), (b, _)] = pair
                        && a == b
                    {
                        return Err(MatchError::Twice { path: format!("{}.{}", path(), super::error::shown(a)) });
                    }
                }
                Self::Object(members)
            }
        })
    }

    /// Bytes on the heap.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 0,
            Self::Number(number) => size_of::<Decimal>() + number.size(),
            Self::String(text) => text.len(),
            Self::Array(items) => items.iter().map(|item| size_of::<Self>() + item.size()).sum(),
            Self::Object(members) => {
                members.iter().map(|(key, item)| size_of::<(Box<str>, Self)>() + key.len() + item.size()).sum()
            }
        }
    }

    /// Whether `target` is the same JSON value. Numbers are compared by value, objects in any order; of equal keys the
    /// last
    /// counts.
    pub(crate) fn equals(&self, target: Target<'_>) -> bool {
        steps::count(1);
        match (self, target) {
            (Self::String(wanted), _) => target.text().is_some_and(|text| **wanted == *text),
            (_, Target::Json(item)) => self.equals_item(item),
            _ => false,
        }
    }

    fn equals_item(&self, item: Item<'_>) -> bool {
        match (self, item.kind()) {
            (Self::Null, Kind::Null) | (Self::Bool(true), Kind::True) | (Self::Bool(false), Kind::False) => true,
            (Self::Number(wanted), Kind::Number) => {
                steps::count(item.raw().len());
                item.number().is_some_and(|number| wanted.is(&number.measure()))
            }
            (Self::Array(wanted), Kind::Array) => {
                wanted.len() == item.len() && wanted.iter().zip(item.content()).all(|(a, b)| a.equals(Target::Json(b)))
            }
            (Self::Object(wanted), Kind::Object) => {
                let known = |key: Item<'_>| {
                    key.text().is_some_and(|key| wanted.binary_search_by(|(name, _)| (**name).cmp(key)).is_ok())
                };
                item.len() >= wanted.len()
                    && item.members().all(|(key, _)| known(key))
                    && wanted
                        .iter()
                        .all(|(key, json)| item.get(key).is_some_and(|item| json.equals(Target::Json(item))))
            }
            _ => false,
        }
    }
}
