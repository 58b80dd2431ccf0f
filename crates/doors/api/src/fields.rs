//! Reads the fields of a request's JSON object, one by one, so that every refusal names its field.
//!
//! Values stay raw JSON until they are read as a type. An event's data is never parsed and serialized again.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tidings_model::pattern::nearest;
use tidings_model::payload;

use crate::limits;
use crate::problem::{Code, Problem, shown};

/// Checks that a body is JSON.
pub(crate) fn json(body: &[u8]) -> Result<&RawValue, Problem> {
    if body.is_empty() {
        return Err(Problem::new(Code::InvalidJson, "the body is empty").remedy("send a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| {
        Problem::new(Code::InvalidJson, format!("the body is not JSON: {error}")).remedy(format!(
            "see line {}, column {}",
            error.line(),
            error.column()
        ))
    })
}

/// A value of the request, and its path in it.
#[derive(Debug, Clone)]
pub(crate) struct Value<'b> {
    pub(crate) path: String,
    pub(crate) raw: &'b RawValue,
}

/// The fields of an object, and the object's path, which is empty for the body itself.
#[derive(Debug)]
pub(crate) struct Fields<'b> {
    parent: String,
    found: Vec<(String, &'b RawValue)>,
}

/// What a request does to a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Setting<T> {
    /// The field is absent: the setting stays.
    #[default]
    Kept,
    /// The field is `null`: the setting gets its default.
    Reset,
    /// A new value.
    To(T),
}

impl<T: Clone> Setting<T> {
    /// Applies it to a setting that may be unset.
    pub(crate) fn apply(&self, to: &mut Option<T>) {
        match self {
            Self::Kept => {}
            Self::Reset => *to = None,
            Self::To(value) => *to = Some(value.clone()),
        }
    }

    /// Applies it to a setting that always has a value.
    pub(crate) fn apply_or(&self, to: &mut T, default: impl FnOnce() -> T) {
        match self {
            Self::Kept => {}
            Self::Reset => *to = default(),
            Self::To(value) => *to = value.clone(),
        }
    }
}

impl<'b> Fields<'b> {
    /// Reads a whole body. `shown` are read-only fields, which responses have and requests must not set.
    pub(crate) fn of_body(body: &'b [u8], known: &[&str], shown: &[&str]) -> Result<Self, Problem> {
        let raw = json(body)?;
        let Some(found) = object(raw) else {
            return Err(
                Problem::new(Code::InvalidField, format!("the body is {}", kind(raw))).remedy("send a JSON object")
            );
        };
        let fields = Self { parent: String::new(), found };
        for (name, raw) in &fields.found {
            if !payload::depth_at_most(raw, limits::JSON_DEPTH) {
                return Err(Problem::new(Code::InvalidField, format!("nested more than {} deep", limits::JSON_DEPTH))
                    .field(crate::problem::shown(name))
                    .remedy("nest it less, or send it as a string"));
            }
        }
        fields.check(known, shown)?;
        Ok(fields)
    }

    fn check(&self, known: &[&str], read_only: &[&str]) -> Result<(), Problem> {
        for (index, (name, _)) in self.found.iter().enumerate() {
            let path = self.path(&shown(name));
            if read_only.contains(&name.as_str()) {
                return Err(Problem::new(Code::UnknownField, format!("{path:?} is read-only"))
                    .field(path)
                    .remedy("leave it out"));
            }
            if !known.contains(&name.as_str()) {
                let remedy = match nearest(name, known.iter().copied()) {
                    Some(nearest) => format!("did you mean {nearest:?}?"),
                    None if known.is_empty() => "leave it out".to_owned(),
                    None => format!("leave it out; the fields are {}", known.join(", ")),
                };
                return Err(Problem::new(Code::UnknownField, format!("there is no field {path:?}"))
                    .field(path)
                    .remedy(remedy));
            }
            if self.found.iter().take(index).any(|(before, _)| before == name) {
                return Err(Problem::new(Code::InvalidField, "given twice").field(path).remedy("keep one"));
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        if self.parent.is_empty() { name.to_owned() } else { format!("{}.{name}", self.parent) }
    }

    /// A field that was sent, `null` or not.
    pub(crate) fn sent(&self, name: &str) -> Option<Value<'b>> {
        let (_, raw) = self.found.iter().find(|(found, _)| found == name)?;
        Some(Value { path: self.path(name), raw })
    }

    /// A field that was sent and is not `null`.
    pub(crate) fn get(&self, name: &str) -> Option<Value<'b>> {
        self.sent(name).filter(|value| !value.is_null())
    }

    /// A required field, which must not be `null`.
    pub(crate) fn required(&self, name: &str) -> Result<Value<'b>, Problem> {
        self.get(name).ok_or_else(|| {
            Problem::new(Code::MissingField, format!("the field {name:?} is required"))
                .field(self.path(name))
                .remedy("give it")
        })
    }

    /// What the request does to a setting.
    pub(crate) fn setting<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Value<'b>) -> Result<T, Problem>,
    ) -> Result<Setting<T>, Problem> {
        match self.sent(name) {
            None => Ok(Setting::Kept),
            Some(value) if value.is_null() => Ok(Setting::Reset),
            Some(value) => read(&value).map(Setting::To),
        }
    }
}

impl<'b> Value<'b> {
    /// Whether it is `null`.
    pub(crate) fn is_null(&self) -> bool {
        self.raw.get() == "null"
    }

    /// The refusal of this value.
    pub(crate) fn wrong(&self, detail: impl Into<String>) -> Problem {
        Problem::new(Code::InvalidField, detail).field(&self.path)
    }

    /// The refusal of this value with an error's text, which may end with a remedy after `; `.
    pub(crate) fn refused(&self, error: impl fmt::Display) -> Problem {
        Problem::saying(Code::InvalidField, error)
            .field(&self.path)
            .or_remedy("docs/api.md lists the values that are allowed here")
    }

    fn not(&self, expected: &str) -> Problem {
        self.wrong(format!("this is {}", kind(self.raw))).remedy(format!("write {expected}"))
    }

    /// A string.
    pub(crate) fn text(&self) -> Result<String, Problem> {
        if !self.raw.get().starts_with('"') {
            return Err(self.not("a string"));
        }
        let text: String = serde_json::from_str(self.raw.get()).map_err(|_| {
            self.wrong("this string contains half of a surrogate pair")
                .remedy("escape such characters in pairs, or not at all")
        })?;
        if text.contains('\0') {
            // PostgreSQL cannot store it.
            return Err(self.wrong("this string contains a NUL character").remedy("write printable characters"));
        }
        Ok(text)
    }

    /// A string of at most `most` bytes, without control characters.
    pub(crate) fn short_text(&self, most: usize) -> Result<String, Problem> {
        let text = self.text()?;
        if text.len() > most {
            return Err(self.too_long(text.len(), most));
        }
        if text.chars().any(char::is_control) {
            return Err(self.wrong("this string contains a control character").remedy("leave control characters out"));
        }
        Ok(text)
    }

    /// The refusal of a value that is too long.
    pub(crate) fn too_long(&self, len: usize, most: usize) -> Problem {
        self.wrong(format!("this has {len} bytes")).remedy(format!("write at most {most}"))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self) -> Result<bool, Problem> {
        match self.raw.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.not("true or false")),
        }
    }

    /// A whole number within a range.
    pub(crate) fn whole(&self, range: RangeInclusive<u32>) -> Result<u32, Problem> {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        match self.raw.get().parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ if kind(self.raw) == "a number" => {
                Err(self.wrong("this number is not allowed here").remedy(format!("write {}", expected())))
            }
            _ => Err(self.not(&expected())),
        }
    }

    /// An array.
    pub(crate) fn list(&self) -> Result<Vec<Value<'b>>, Problem> {
        let entries: Vec<&'b RawValue> = serde_json::from_str(self.raw.get()).map_err(|_| self.not("an array"))?;
        let value = |(index, raw)| Value { path: format!("{}[{index}]", self.path), raw };
        Ok(entries.into_iter().enumerate().map(value).collect())
    }

    /// An object with no other fields than these.
    pub(crate) fn object(&self, known: &[&str]) -> Result<Fields<'b>, Problem> {
        let fields = Fields { parent: self.path.clone(), found: self.members()? };
        fields.check(known, &[])?;
        Ok(fields)
    }

    /// An object with any keys, in the order in which they were sent.
    pub(crate) fn members(&self) -> Result<Vec<(String, &'b RawValue)>, Problem> {
        object(self.raw).ok_or_else(|| self.not("an object"))
    }
}

/// The type of a JSON value, for error texts.
fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "true or false",
        Some(b'n') | None => "null",
        Some(_) => "a number",
    }
}

/// The members of an object, duplicates included; `None` for anything else.
fn object(raw: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    struct Members<'b>(Vec<(String, &'b RawValue)>);

    impl<'de> Deserialize<'de> for Members<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Each;

            impl<'de> Visitor<'de> for Each {
                type Value = Members<'de>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                    let mut found = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        found.push(member);
                    }
                    Ok(Members(found))
                }
            }

            deserializer.deserialize_map(Each)
        }
    }

    serde_json::from_str::<Members<'_>>(raw.get()).ok().map(|members| members.0)
}
