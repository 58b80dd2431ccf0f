//! What a compiled match is made of, and when each part holds.

use std::cmp::Ordering;

use super::document::Memo;
use super::given::Given;
use super::json::Json;
use super::like::Like;
use super::number::Decimal;
use super::steps;
use super::tape::{Item, Kind};

/// A part of a match that is held against one value.
#[derive(Debug)]
pub(crate) enum Condition {
    /// An operator on the value.
    Test(Test),
    /// Conditions on the fields of an object; all must hold.
    Fields(Vec<(Box<str>, Condition)>),
    /// The value is there, and this does not hold for it.
    Not(Box<Condition>),
    /// All of these.
    All(Vec<Condition>),
    /// At least one of these.
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
    /// Sorted.
    pub(crate) texts: Vec<Box<str>>,
    pub(crate) numbers: Vec<Decimal>,
    pub(crate) others: Vec<Json>,
}

/// What `gt` and its like compare with.
#[derive(Debug)]
pub(crate) enum Bound {
    Number(Box<Decimal>),
    Time(jiff::Timestamp),
}

/// Which side of a [`Bound`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Relation {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Condition {
    /// Whether it holds. The recursion is as deep as the match, which is limited, however deep the document is.
    pub(crate) fn holds(&self, given: Given<'_>, memo: &Memo) -> bool {
        match self {
            Self::Test(test) => test.holds(given, memo),
            Self::Fields(fields) => given.object().is_some_and(|object| fields_hold(fields, Some(object), memo)),
            Self::Not(condition) => !matches!(given, Given::Nothing) && !condition.holds(given, memo),
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(given, memo)),
            Self::AnyOf(conditions) => conditions.iter().any(|condition| condition.holds(given, memo)),
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

    /// Leaves of regular expressions only the patterns.
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

/// Whether all conditions on the fields of `object` hold. Unlike [`Condition::holds`] it does not ask for an object
/// first: of a document that is none, each field is missing.
pub(crate) fn fields_hold(fields: &[(Box<str>, Condition)], object: Option<Item<'_>>, memo: &Memo) -> bool {
    fields.iter().all(|(key, condition)| condition.holds(Given::item(object.and_then(|object| object.get(key))), memo))
}

impl Test {
    /// Bytes that it holds besides itself.
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

    /// Whether it holds. A missing field and a wrong type are no match, except for `any` and `exists`.
    fn holds(&self, given: Given<'_>, memo: &Memo) -> bool {
        steps::count(1);
        match self {
            Self::Any => true,
            Self::Exists(wanted) => *wanted != matches!(given, Given::Nothing),
            Self::Is(json) => json.equals(given),
            Self::In(values) => values.have(given),
            Self::Contains(wanted) => contains(wanted, given),
            Self::Order(bound, relation) => bound.order(given).is_some_and(|order| relation.admits(order)),
            Self::StartsWith(part) => given.text().is_some_and(|text| text.starts_with(&**part)),
            Self::EndsWith(part) => given.text().is_some_and(|text| text.ends_with(&**part)),
            Self::Like(like) => given.text().is_some_and(|text| {
                steps::count(text.len());
                memo.is_in(like, given, text)
            }),
        }
    }
}

fn contains(wanted: &Json, given: Given<'_>) -> bool {
    if let Some(array) = given.array() {
        return array.content().any(|item| wanted.equals(Given::Json(item)));
    }
    match (wanted, given.text()) {
        (Json::String(part), Some(text)) => {
            steps::count(text.len());
            text.contains(&**part)
        }
        _ => false,
    }
}

impl OneOf {
    fn have(&self, given: Given<'_>) -> bool {
        if let Some(text) = given.text() {
            return self.texts.binary_search_by(|wanted| (**wanted).cmp(text)).is_ok();
        }
        match given {
            Given::Json(item) if item.kind() == Kind::Number => item.number().is_some_and(|number| {
                steps::count(item.raw().len() + self.numbers.len());
                let number = number.measure();
                self.numbers.iter().any(|wanted| wanted.is(&number))
            }),
            _ => self.others.iter().any(|json| json.equals(given)),
        }
    }
}

impl Bound {
    /// How a value compares to it; `None` for what cannot be compared with it.
    fn order(&self, given: Given<'_>) -> Option<Ordering> {
        match (self, given) {
            (Self::Number(bound), Given::Json(item)) if item.kind() == Kind::Number => {
                steps::count(item.raw().len());
                bound.order(&item.number()?.measure())
            }
            (Self::Time(bound), _) => given.text().and_then(time).map(|time| time.cmp(bound)),
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
