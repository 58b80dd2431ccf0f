//! Match: a listener's filter on what would be sent.
//!
//! ```json
//! {"name": {"starts_with": "J"}, "address": {"city": "Bergen"}, "$op": "update"}
//! ```
//!
//! The bus compiles a listener's match once ([`Match::parse`]) and holds it against each event ([`Match::matches`]). All
//! conditions must hold; fields that the match does not name do not matter; `{}` matches everything.
//!
//! | written | holds when the field |
//! |---|---|
//! | `"J"`, `5`, `null`, `[1]`, `{"is": …}` | is that JSON value: `1` is `1.0` but not `"1"`; `null` is a null that was sent |
//! | `{"starts_with": "J"}`, `{"ends_with": "n"}` | is a string that begins or ends so; upper and lower case differ |
//! | `{"contains": "oe"}` | is a string with that substring; an array's elements are not looked at |
//! | `{"like": "^J.*n$"}` | is a string in which the regular expression is found, anywhere unless anchored |
//! | `{"any": true}` | is anything, or is not sent at all; the operand means nothing |
//! | `{"city": …}` | is an object for whose fields that holds |
//!
//! An object whose only key is an operator is that operator, at the top too, where it is about the data as a whole; any
//! other object is nesting. A leading `.` is taken off a field's name, so a field called `like` is written `".like"`, one
//! called `.x` is written `"..x"`, and a second operator on a field `name` can be given under `".name"`. `"$op"` at the
//! top is the model operation; any other key with `$` is refused.
//!
//! Guarantees: a missing field or a wrong type is no match (except `any`), never an error; nothing panics, whatever the
//! document; time is linear in the document for each condition; numbers are compared by their digits, never as floats; of
//! equal keys in the document the last counts.

mod compile;
mod condition;
mod document;
mod error;
pub(crate) mod number;
pub(crate) mod scan;
mod tape;

use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

pub use document::Document;
pub use error::MatchError;

use compile::Compiler;
use condition::{Condition, Json, Test, fields_hold};
use tape::Tape;

/// The most operators in one match.
pub const MAX_CONDITIONS: usize = 100;
/// The deepest nesting of a match's JSON, values to compare with included; `{"a": 1}` has depth 1.
pub const MAX_DEPTH: usize = 16;
/// The longest JSON of a match, in bytes.
pub const MAX_JSON_LEN: usize = 8 * 1024;
/// The longest regular expression, in bytes.
pub const MAX_PATTERN_LEN: usize = 1024;
/// The largest compiled regular expression, and the largest cache it may keep for searching, in bytes.
pub const MAX_REGEX_SIZE: usize = 256 * 1024;
/// The words that are operators when they are an object's only key.
pub const OPERATORS: [&str; 6] = ["is", "starts_with", "ends_with", "contains", "like", "any"];

/// A compiled match. Cheap to clone.
#[derive(Clone)]
pub struct Match(Arc<Inner>);

struct Inner {
    source: Box<RawValue>,
    op: Option<Test>,
    root: Condition,
    hints: Vec<String>,
    index_key: Option<(Vec<String>, String)>,
}

impl Match {
    /// The match `{}`, which holds for everything.
    pub fn all() -> Self {
        let inner = Inner {
            source: RawValue::from_string("{}".to_owned()).unwrap_or_default(),
            op: None,
            root: Condition::Fields(Vec::new()),
            hints: Vec::new(),
            index_key: None,
        };
        Self(Arc::new(inner))
    }

    /// Compiles the text of a match. The text is kept, so numbers keep all their digits.
    ///
    /// # Errors
    /// [`MatchError`] names the path and what to write instead.
    pub fn parse(text: &str) -> Result<Self, MatchError> {
        let source: Box<RawValue> =
            serde_json::from_str(text).map_err(|error| MatchError::NotJson { reason: error.to_string() })?;
        if source.get().len() > MAX_JSON_LEN {
            return Err(MatchError::TooLarge);
        }
        if !scan::depth_at_most(source.get(), MAX_DEPTH) {
            return Err(MatchError::TooDeep);
        }
        let tape = Tape::new(source.get()).ok_or(MatchError::NotAnObject)?;
        let mut compiler = Compiler::default();
        let root = compiler.top(tape.root(source.get()))?;
        let Compiler { op, hints, .. } = compiler;
        let index_key = index_key(&root);
        Ok(Self(Arc::new(Inner { source, op, root, hints, index_key })))
    }

    /// Compiles a match that has been read into a [`Value`]. Prefer [`Match::parse`] where the text is at hand: a `Value`
    /// has forgotten the digits of large integers, and a match with one is refused here.
    ///
    /// # Errors
    /// [`MatchError`] names the path and what to write instead.
    pub fn compile(json: &Value) -> Result<Self, MatchError> {
        compile::check_value(json)?;
        Self::parse(&json.to_string())
    }

    /// The JSON that it was compiled from, as given but for surrounding whitespace.
    pub fn to_json(&self) -> &RawValue {
        &self.0.source
    }

    /// What is allowed but most likely not meant, such as `{"name": {"startswith": "J"}}`, which asks for a field
    /// `startswith`. For whoever just wrote the match; in words, naming the path.
    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// Whether it holds for everything, so that there is no need for a [`Document`].
    pub fn is_all(&self) -> bool {
        self.0.op.is_none() && self.needs_no_data()
    }

    /// Whether it holds for what would be sent.
    pub fn matches(&self, doc: &Document<'_>) -> bool {
        if let Some(test) = &self.0.op
            && !test.text_holds(doc.op().map(Into::into))
        {
            return false;
        }
        if self.needs_no_data() {
            return true;
        }
        match &self.0.root {
            Condition::Fields(fields) => fields_hold(fields, doc.root()),
            Condition::Test(test) => test.holds(doc.root()),
        }
    }

    /// A field that must be a certain string for the match to hold: its path and that string. If
    /// [`Document::string_at`] of the path is something else, the match does not hold, so an index can find candidates by
    /// hash. Of several it is the one nearest to the top that was written first.
    pub fn index_key(&self) -> Option<(&[String], &str)> {
        self.0.index_key.as_ref().map(|(path, value)| (path.as_slice(), value.as_str()))
    }

    fn needs_no_data(&self) -> bool {
        match &self.0.root {
            Condition::Fields(fields) => fields.is_empty(),
            Condition::Test(test) => matches!(test, Test::Any),
        }
    }
}

/// Breadth first, because a field near the top is found sooner and more matches share it.
fn index_key(root: &Condition) -> Option<(Vec<String>, String)> {
    let mut level = vec![(Vec::new(), root)];
    while !level.is_empty() {
        let mut below = Vec::new();
        for (path, condition) in level {
            match condition {
                Condition::Test(Test::Is(Json::String(value))) => return Some((path, value.clone())),
                Condition::Test(_) => {}
                Condition::Fields(fields) => below.extend(fields.iter().map(|(key, condition)| {
                    let mut path = path.clone();
                    path.push(key.clone());
                    (path, condition)
                })),
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
    /// Only from JSON, because it keeps the text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = Box::<RawValue>::deserialize(deserializer)?;
        Self::parse(source.get()).map_err(D::Error::custom)
    }
}
