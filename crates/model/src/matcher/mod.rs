//! The match: a listener's filter on the data that would be sent.
//!
//! ```json
//! {"name": {"starts_with": "J"}, "address": {"city": "Bergen"}, "$op": "update"}
//! ```
//!
//! A match is compiled when it is stored or read from the store ([`Match::parse_for`], [`Match::stored`]) and evaluated
//! on each event ([`Match::matches`]). `docs/matches.md` specifies the language, and its examples are a test.
//!
//! Guarantees: a missing field or a wrong type is no match (except for `any` and `exists`), never an error; nothing
//! panics, whatever the document; time is linear in the document for each condition; numbers are compared by their
//! digits, never as floats; of equal keys in the document the last counts. A compiled match takes at most [`MAX_SIZE`]
//! bytes, including the caches of its regular expressions.

mod compile;
mod condition;
mod declared;
mod document;
mod error;
mod json;
mod like;
mod limits;
pub(crate) mod number;
mod operators;
pub(crate) mod scan;
mod steps;
mod tape;
mod target;
mod upgrade;
mod words;

#[cfg(test)]
mod linear;

use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

pub use declared::Declared;
pub use document::Document;
pub use error::MatchError;
pub use limits::{MAX_CONDITIONS, MAX_DEPTH, MAX_JSON_LEN, MAX_PATTERN_LEN, MAX_REGEX_SIZE, MAX_SIZE};
pub use operators::OPERATORS;
pub use upgrade::upgrade;

use compile::Compiler;
use condition::{Condition, Test, fields_hold};
use json::Json;
use tape::Tape;
use target::Target;

/// The deepest nesting of a stored match. It is larger than [`MAX_DEPTH`], because [`upgrade`] may have added levels.
const MAX_STORED_DEPTH: usize = 4 * MAX_DEPTH;
/// A compiled match. Cheap to clone.
#[derive(Clone)]
pub struct Match(Arc<Inner>);

struct Inner {
    source: Box<RawValue>,
    op: Option<Condition>,
    root: Condition,
    warnings: Vec<String>,
    index_key: Option<(Vec<String>, String)>,
    size: usize,
    is_large: bool,
}

impl Match {
    /// The match `{}`, which holds for everything.
    pub fn all() -> Self {
        let inner = Inner {
            source: RawValue::from_string("{}".to_owned()).unwrap_or_default(),
            op: None,
            root: Condition::Fields(Vec::new()),
            warnings: Vec::new(),
            index_key: None,
            size: 0,
            is_large: false,
        };
        Self(Arc::new(inner))
    }

    /// Compiles the text of a match without knowing the hooks' declarations. The text is kept, so numbers keep all
    /// their
    /// digits.
    ///
    /// # Errors
    /// [`MatchError`] names the path and what to write instead.
    pub fn parse(text: &str) -> Result<Self, MatchError> {
        Self::parse_for(text, &Declared::default())
    }

    /// Compiles the text of a match for hooks with these declarations.
    ///
    /// # Errors
    /// [`MatchError`] names the path and what to write instead.
    pub fn parse_for(text: &str, declared: &Declared) -> Result<Self, MatchError> {
        let source = source(text)?;
        if source.get().len() > MAX_JSON_LEN {
            return Err(MatchError::TooLarge);
        }
        Self::of(source, MAX_DEPTH, Some(declared))
    }

    /// Compiles a match from the store. It may be larger than a new match, and contain words that would be refused now.
    /// If it is too large, its regular expressions are compiled when an event needs them ([`Match::is_large`]).
    ///
    /// # Errors
    /// [`MatchError`], when no version of Tidings would have accepted it.
    pub fn stored(text: &str) -> Result<Self, MatchError> {
        Self::of(source(text)?, MAX_STORED_DEPTH, None)
    }

    fn of(source: Box<RawValue>, depth: usize, declared: Option<&Declared>) -> Result<Self, MatchError> {
        if !scan::depth_at_most(source.get(), depth) {
            return Err(MatchError::TooDeep);
        }
        let tape = Tape::new(source.get()).ok_or(MatchError::NotAnObject)?;
        let mut compiler = Compiler::new(declared, size_of::<Inner>() + source.get().len());
        let mut root = compiler.top(tape.root(source.get()))?;
        let mut size = compiler.size();
        let Compiler { mut op, warnings, .. } = compiler;
        if size > MAX_SIZE {
            root.drop_compiled();
            op.iter_mut().for_each(Condition::drop_compiled);
            size = MAX_SIZE;
        }
        let index_key = index_key(&root);
        size += index_key.as_ref().map_or(0, |(path, text)| text.len() + path.iter().map(String::len).sum::<usize>());
        let is_late = |test: &Test| matches!(test, Test::Like(like) if like.uncompiled().is_some());
        let is_large = root.some_test(&is_late) || op.as_ref().is_some_and(|op| op.some_test(&is_late));
        Ok(Self(Arc::new(Inner { source, op, root, warnings, index_key, size, is_large })))
    }

    /// Compiles a match that has been read into a [`Value`]. Prefer [`Match::parse`] if you have the text: a `Value`
    /// loses
    /// digits of large integers, and a match with such a number is refused here.
    ///
    /// # Errors
    /// [`MatchError`] names the path and what to write instead.
    pub fn compile(json: &Value) -> Result<Self, MatchError> {
        compile::check_value(json)?;
        Self::parse(&json.to_string())
    }

    /// The JSON that it was compiled from, without surrounding whitespace.
    pub fn to_json(&self) -> &RawValue {
        &self.0.source
    }

    /// Warnings for the author of the match, with paths: parts that are allowed but most likely not intended, such as a
    /// field that no hook declares.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// The accounted size in bytes: the most that it takes, caches included. `{}` counts as 0.
    pub fn size(&self) -> usize {
        if self.is_all() { 0 } else { self.0.size }
    }

    /// Whether it is above the size limit, because it was stored before there was one. [`Match::matches`] then compiles
    /// its
    /// regular expressions each time, which takes so long that it should be done on a blocking thread.
    pub fn is_large(&self) -> bool {
        self.0.is_large
    }

    /// Whether it matches every event, so that no [`Document`] is needed.
    pub fn is_all(&self) -> bool {
        self.0.op.is_none() && self.needs_no_data()
    }

    /// Whether it matches the data that would be sent.
    pub fn matches(&self, doc: &Document<'_>) -> bool {
        let Inner { op, root, .. } = &*self.0;
        if let Some(condition) = op
            && !condition.holds(doc.op().map_or(Target::Missing, Target::Op), doc.memo())
        {
            return false;
        }
        if self.needs_no_data() {
            return true;
        }
        match root {
            Condition::Fields(fields) => fields_hold(fields, doc.root(), doc.memo()),
            condition => condition.holds(Target::item(doc.root()), doc.memo()),
        }
    }

    /// A field that must be a certain string for the match to hold: its path and that string. If
    /// [`Document::string_at`] the path is anything else, the match does not hold, so an index can find candidates by
    /// hash. Of several such fields it is the first one nearest to the top.
    pub fn index_key(&self) -> Option<(&[String], &str)> {
        self.0.index_key.as_ref().map(|(path, value)| (path.as_slice(), value.as_str()))
    }

    fn needs_no_data(&self) -> bool {
        match &self.0.root {
            Condition::Fields(fields) => fields.is_empty(),
            condition => matches!(condition, Condition::Test(Test::Any)),
        }
    }
}

fn source(text: &str) -> Result<Box<RawValue>, MatchError> {
    serde_json::from_str(text).map_err(|error| MatchError::NotJson { reason: error.to_string() })
}

/// Searches breadth first, because a field near the top is found sooner and is shared by more matches.
fn index_key(root: &Condition) -> Option<(Vec<String>, String)> {
    let mut level: Vec<(Vec<&str>, &Condition)> = vec![(Vec::new(), root)];
    while !level.is_empty() {
        let mut below = Vec::new();
        for (path, condition) in level {
            match condition {
                Condition::Test(Test::Is(Json::String(text))) => {
                    return Some((path.into_iter().map(str::to_owned).collect(), text.to_string()));
                }
                Condition::Fields(fields) => {
                    below.extend(fields.iter().map(|(key, condition)| ([&path[..], &[&**key]].concat(), condition)));
                }
                Condition::All(conditions) => below.extend(conditions.iter().map(|c| (path.clone(), c))),
                Condition::Test(_) | Condition::Not(_) | Condition::AnyOf(_) => {}
            }
        }
        level = below;
    }
    None
}

impl Default for Match {
    fn default() -> Self {
        Self::all()
    }
}

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Match({})", self.0.source.get())
    }
}

impl PartialEq for Match {
    /// Whether both were compiled from the same text.
    fn eq(&self, other: &Self) -> bool {
        self.0.source.get() == other.0.source.get()
    }
}

impl Eq for Match {}

impl Serialize for Match {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.source.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Match {
    /// As [`Match::stored`]. Works only with JSON, because the text is kept.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = Box::<RawValue>::deserialize(deserializer)?;
        Self::stored(source.get()).map_err(D::Error::custom)
    }
}
