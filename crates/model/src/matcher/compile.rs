//! From the JSON of a match to its conditions.

use regex::RegexBuilder;
use serde_json::Value;

use super::condition::{Condition, Json, Test};
use super::tape::{Item, Kind};
use super::{MAX_CONDITIONS, MAX_DEPTH, MAX_PATTERN_LEN, MAX_REGEX_SIZE, MatchError, OPERATORS};
use crate::pattern::nearest;

const OP: &str = "$op";

/// Counts and collects while the JSON is walked. The recursion is as deep as the JSON, which the caller has limited.
#[derive(Default)]
pub(crate) struct Compiler {
    conditions: usize,
    pub(crate) op: Option<Test>,
    pub(crate) hints: Vec<String>,
}

impl Compiler {
    /// The conditions of the whole match, but for the one on the operation, which is left in `op`.
    pub(crate) fn top(&mut self, root: Item<'_>) -> Result<Condition, MatchError> {
        if root.kind() != Kind::Object {
            return Err(MatchError::NotAnObject);
        }
        self.object(root, "match", true)
    }

    fn condition(&mut self, item: Item<'_>, path: &str) -> Result<Condition, MatchError> {
        match item.kind() {
            Kind::Object => self.object(item, path, false),
            _ => {
                self.count()?;
                Ok(Condition::Test(Test::Is(json(item, path)?)))
            }
        }
    }

    fn object(&mut self, object: Item<'_>, path: &str, top: bool) -> Result<Condition, MatchError> {
        if let Some((operator, operand)) = sole_operator(object) {
            return Ok(Condition::Test(self.test(operator, operand, path)?));
        }
        let mut fields = Vec::with_capacity(object.len());
        let mut seen = Vec::with_capacity(object.len());
        for (key, value) in object.members() {
            let key = key.text().ok_or_else(|| MatchError::NotText { path: path.to_owned() })?;
            let here = format!("{path}.{key}");
            if seen.contains(&key) {
                return Err(MatchError::Twice { path: here });
            }
            match key.strip_prefix('.') {
                Some(field) => fields.push((field.to_owned(), self.condition(value, &here)?)),
                None if key == OP && top => self.op = Some(self.operation(value, &here)?),
                None if key == OP => return Err(MatchError::OpNotAtTop { path: here }),
                None if key.starts_with('$') => return Err(unknown_dollar(&key, here)),
                None => {
                    self.hint(&key, object.len(), path, top);
                    fields.push((key.clone().into_owned(), self.condition(value, &here)?));
                }
            }
            seen.push(key);
        }
        Ok(Condition::Fields(fields))
    }

    /// The condition on the operation: a text operator, or a string to be equal to.
    fn operation(&mut self, value: Item<'_>, path: &str) -> Result<Test, MatchError> {
        let not_text = || MatchError::NotText { path: path.to_owned() };
        let test = match (value.kind(), sole_operator(value)) {
            (Kind::Object, Some((operator, operand))) => self.test(operator, operand, path)?,
            _ => {
                self.count()?;
                Test::Is(json(value, path)?)
            }
        };
        match test {
            // An operation is a word, so comparing it with anything else could never hold.
            Test::Is(Json::String(_)) => Ok(test),
            Test::Is(_) => Err(not_text()),
            _ => Ok(test),
        }
    }

    fn test(&mut self, operator: &'static str, operand: Item<'_>, path: &str) -> Result<Test, MatchError> {
        self.count()?;
        let path = format!("{path}.{operator}");
        let text = |path: String| operand.text().map(String::from).ok_or(MatchError::NotText { path });
        Ok(match operator {
            "is" => Test::Is(json(operand, &path)?),
            "starts_with" => Test::StartsWith(text(path)?),
            "ends_with" => Test::EndsWith(text(path)?),
            "contains" => Test::Contains(text(path)?),
            "like" => like(&text(path.clone())?, path)?,
            _ => Test::Any,
        })
    }

    fn count(&mut self) -> Result<(), MatchError> {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS { Err(MatchError::TooManyConditions) } else { Ok(()) }
    }

    /// Notes what is allowed but most likely not meant: a field that reads like an operator.
    fn hint(&mut self, key: &str, siblings: usize, path: &str, top: bool) {
        if OPERATORS.contains(&key) {
            self.hints.push(format!(
                "{path}.{key} is read as a field, because it is not the only key; for two operators on one field \"f\" \
                 write \"f\" and \".f\", for a field of that name write \".{key}\""
            ));
        } else if siblings == 1
            && !top
            && let Some(operator) = like_an_operator(key)
        {
            self.hints.push(format!("{path}.{key} is read as a field; the operator is \"{operator}\""));
        }
    }
}

/// The operator that a field's name is a slip of. Only for those whose names are no everyday field names, as `like` and `is`
/// nearly are.
fn like_an_operator(key: &str) -> Option<&'static str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '-'], "");
    let key = (key.len() <= 16).then(|| plain(key))?;
    ["starts_with", "ends_with", "contains"].into_iter().find(|name| strsim::osa_distance(&key, &plain(name)) <= 1)
}

/// The operator and operand, if the only key of `object` is an operator.
fn sole_operator(object: Item<'_>) -> Option<(&'static str, Item<'_>)> {
    if object.len() != 1 {
        return None;
    }
    let (key, operand) = object.members().next()?;
    let key = key.text()?;
    OPERATORS.into_iter().find(|operator| *operator == key).map(|operator| (operator, operand))
}

fn like(pattern: &str, path: String) -> Result<Test, MatchError> {
    if pattern.len() > MAX_PATTERN_LEN {
        return Err(MatchError::PatternTooLarge { path });
    }
    match RegexBuilder::new(pattern).size_limit(MAX_REGEX_SIZE).dfa_size_limit(MAX_REGEX_SIZE).build() {
        Ok(regex) => Ok(Test::Like(regex)),
        Err(regex::Error::CompiledTooBig(_)) => Err(MatchError::PatternTooLarge { path }),
        Err(error) => {
            // The parser draws a picture over several lines; its last line says what is wrong.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Err(MatchError::BadPattern { path, reason })
        }
    }
}

fn unknown_dollar(key: &str, path: String) -> MatchError {
    let names = OPERATORS.into_iter().chain([OP]);
    let bare = key.trim_start_matches('$');
    let nearest = nearest(bare, names.clone()).or_else(|| nearest(key, names));
    MatchError::UnknownDollar { path, key: key.to_owned(), nearest }
}

fn json(item: Item<'_>, path: &str) -> Result<Json, MatchError> {
    let text =
        |item: Item<'_>| item.text().map(String::from).ok_or_else(|| MatchError::NotText { path: path.to_owned() });
    Ok(match item.kind() {
        Kind::Null => Json::Null,
        Kind::True => Json::Bool(true),
        Kind::False => Json::Bool(false),
        Kind::Number => Json::Number(item.raw().to_owned()),
        Kind::String => Json::String(text(item)?),
        Kind::Array => Json::Array(item.content().map(|item| json(item, path)).collect::<Result<_, _>>()?),
        Kind::Object => {
            let mut members = Vec::with_capacity(item.len());
            for (key, value) in item.members() {
                members.push((text(key)?, json(value, path)?));
            }
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            for pair in members.windows(2) {
                if let [(a, _), (b, _)] = pair
                    && a == b
                {
                    return Err(MatchError::Twice { path: format!("{path}.{a}") });
                }
            }
            Json::Object(members)
        }
    })
}

/// Checks what cannot be seen in the text of a [`Value`] any more: that it can be written without deep recursion, and that
/// no number lost digits when it was read.
pub(crate) fn check_value(value: &Value) -> Result<(), MatchError> {
    let mut open = vec![(value, 0_usize, String::from("match"))];
    while let Some((value, depth, path)) = open.pop() {
        let inner = match value {
            Value::Array(_) | Value::Object(_) => depth + 1,
            _ => depth,
        };
        if inner > MAX_DEPTH {
            return Err(MatchError::TooDeep);
        }
        match value {
            Value::Array(items) => {
                open.extend(items.iter().enumerate().map(|(n, item)| (item, inner, format!("{path}[{n}]"))));
            }
            Value::Object(members) => {
                open.extend(members.iter().map(|(key, item)| (item, inner, format!("{path}.{key}"))));
            }
            // Integers that 64 bits cannot hold become an f64 when they are read into a `Value`.
            Value::Number(number)
                if number.is_f64() && number.as_f64().is_some_and(|n| n.abs() >= 9_223_372_036_854_775_808.0) =>
            {
                return Err(MatchError::InexactNumber { path });
            }
            _ => {}
        }
    }
    Ok(())
}
