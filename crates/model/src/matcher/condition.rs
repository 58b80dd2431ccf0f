//! The parts of a compiled match, and their evaluation.

use std::cmp::Ordering;

use super::document::Memo;
use super::json::Json;
use super::like::Like;
use super::number::Decimal;
use super::steps;
use super::tape::{Item, Kind};
use super::target::Target;

/// A part of a match that is evaluated on one value.
#[derive(Debug)]
pub(crate) enum Condition {
    /// An operator on the value.
    Test(Test),
    /// Conditions on the fields of an object; all must hold.
    Fields(Vec<(Box<str>, Condition)>),
    /// The value is present, and this condition does not hold for it.
    Not(Box<Condition>),
    /// All of these hold.
    All(Vec<Condition>),
    /// At least one of these holds.
    AnyOf(Vec<Condition>),
}

/// An operator with its operand.
#[derive(Debug)]
pub(crate) enum Test {
    Is(Json),
    In(Box<OneOf>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    /// A string with this text, or an array with this value.
    Contains(Json),
    Like(Like),
    Any,
    Exists(bool),
    Order(Bound, Relation),
}

/// The values of an `in`.
#[derive(Debug, Default)]
pub(crate) struct OneOf {
    /// The strings, sorted for binary search.
    pub(crate) texts: Vec<Box<str>>,
    pub(crate) numbers: Vec<Decimal>,
    pub(crate) others: Vec<Json>,
}

/// The operand of `gt`, `gte`, `lt` and `lte`.
#[derive(Debug)]
pub(crate) enum Bound {
    Number(Box<Decimal>),
    Time(jiff::Timestamp),
}

/// The side of a [`Bound`] on which values match.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Relation {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Condition {
    /// Whether it holds. The recursion is as deep as the match, which is limited, not as deep as the document.
    pub(crate) fn holds(&self, target: Target<'_>, memo: &Memo) -> bool {
        match self {
            Self::Test(test) => test.holds(target, memo),
            Self::Fields(fields) => target.object().is_some_and(|object| fields_hold(fields, Some(object), memo)),
            Self::Not(condition) => !matches!(target, Target::Missing) && !condition.holds(target, memo),
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(target, memo)),
            Self::AnyOf(conditions) => conditions.iter().any(|condition| condition.holds(target, memo)),
        }
    }

    /// Whether one of its tests satisfies `wanted`.
    pub(crate) fn some_test(&self, wanted: &dyn Fn(&Test) -> bool) -> bool {
        match self {
            Self::Test(test) => wanted(test),
            Self::Fields(fields) => fields.iter().any(|(_, condition)| condition.some_test(wanted)),
            Self::Not(condition) => condition.some_test(wanted),
            Self::All(conditions) | Self::AnyOf(conditions) => conditions.iter().any(|c| c.some_test(wanted)),
        }
    }

    /// Whether it asks for fields of an object.
    pub(crate) fn has_fields(&self) -> bool {
        match self {
            Self::Test(_) => false,
            Self::Fields(_) => true,
            Self::Not(condition) => condition.has_fields(),
            Self::All(conditions) | Self::AnyOf(conditions) => conditions.iter().any(Self::has_fields),
        }
    }

    /// Drops compiled regular expressions, and keeps their patterns.
    pub(crate) fn drop_compiled(&mut self) {
        match self {
            Self::Test(Test::Like(like)) => like.drop_compiled(),
            Self::Test(_) => {}
            Self::Fields(fields) => fields.iter_mut().for_each(|(_, condition)| condition.drop_compiled()),
            Self::Not(condition) => condition.drop_compiled(),
            Self::All(conditions) | Self::AnyOf(conditions) => conditions.iter_mut().for_each(Self::drop_compiled),
        }
    }
}

/// Whether all conditions on the fields of `object` hold. Unlike [`Condition::holds`] it accepts a document that is not
/// an object: then each field is missing.
pub(crate) fn fields_hold(fields: &[(Box<str>, Condition)], object: Option<Item<'_>>, memo: &Memo) -> bool {
    fields.iter().all(|(key, condition)| condition.holds(Target::item(object.and_then(|object| object.get(key))), memo))
}

impl Test {
    /// Bytes on the heap.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Is(json) | Self::Contains(json) => json.size(),
            Self::In(values) => {
                let list = size_of::<OneOf>();
                let texts: usize = values.texts.iter().map(|text| size_of::<Box<str>>() + text.len()).sum();
                let numbers: usize = values.numbers.iter().map(|number| size_of::<Decimal>() + number.size()).sum();
                list + texts + numbers + values.others.iter().map(|json| size_of::<Json>() + json.size()).sum::<usize>()
            }
            Self::StartsWith(text) | Self::EndsWith(text) => text.len(),
            Self::Like(like) => like.size(),
            Self::Order(Bound::Number(number), _) => size_of::<Decimal>() + number.size(),
            Self::Any | Self::Exists(_) | Self::Order(Bound::Time(_), _) => 0,
        }
    }

    /// Whether it holds. A missing field or a wrong type is no match, except for `any` and `exists`.
    fn holds(&self, target: Target<'_>, memo: &Memo) -> bool {
        steps::count(1);
        match self {
            Self::Any => true,
            Self::Exists(wanted) => *wanted != matches!(target, Target::Missing),
            Self::Is(json) => json.equals(target),
            Self::In(values) => values.have(target),
            Self::Contains(wanted) => contains(wanted, target),
            Self::Order(bound, relation) => bound.order(target).is_some_and(|order| relation.admits(order)),
            Self::StartsWith(part) => target.text().is_some_and(|text| text.starts_with(&**part)),
            Self::EndsWith(part) => target.text().is_some_and(|text| text.ends_with(&**part)),
            Self::Like(like) => target.text().is_some_and(|text| {
                steps::count(text.len());
                memo.is_in(like, target, text)
            }),
        }
    }
}

fn contains(wanted: &Json, target: Target<'_>) -> bool {
    if let Some(array) = target.array() {
        return array.content().any(|item| wanted.equals(Target::Json(item)));
    }
    match (wanted, target.text()) {
        (Json::String(part), Some(text)) => {
            steps::count(text.len());
            text.contains(&**part)
        }
        _ => false,
    }
}

impl OneOf {
    fn have(&self, target: Target<'_>) -> bool {
        if let Some(text) = target.text() {
            return self.texts.binary_search_by(|wanted| (**wanted).cmp(text)).is_ok();
        }
        match target {
            Target::Json(item) if item.kind() == Kind::Number => item.number().is_some_and(|number| {
                steps::count(item.raw().len() + self.numbers.len());
                let number = number.measure();
                self.numbers.iter().any(|wanted| wanted.is(&number))
            }),
            _ => self.others.iter().any(|json| json.equals(target)),
        }
    }
}

impl Bound {
    /// How a value compares to it; `None` if it cannot be compared.
    fn order(&self, target: Target<'_>) -> Option<Ordering> {
        match (self, target) {
            (Self::Number(bound), Target::Json(item)) if item.kind() == Kind::Number => {
                steps::count(item.raw().len());
                bound.order(&item.number()?.measure())
            }
            (Self::Time(bound), _) => target.text().and_then(time).map(|time| time.cmp(bound)),
            _ => None,
        }
    }
}

impl Relation {
    fn admits(self, order: Ordering) -> bool {
        match self {
            Self::Above => order.is_gt(),
            Self::AtLeast => order.is_ge(),
            Self::Below => order.is_lt(),
            Self::AtMost => order.is_le(),
        }
    }
}

/// The longest RFC 3339 time: with nanoseconds and an offset it has 35 characters.
const LONGEST_TIME: usize = 40;

/// Reads an RFC 3339 time.
pub(crate) fn time(text: &str) -> Option<jiff::Timestamp> {
    if text.len() > LONGEST_TIME || text.len() < 20 || text.ends_with(']') { None } else { text.parse().ok() }
}
