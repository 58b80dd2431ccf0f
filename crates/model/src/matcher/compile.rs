//! Compiles the JSON of a match to conditions.

use std::collections::HashSet;

use serde_json::Value;

use super::condition::{Bound, Condition, OneOf, Relation, Test, time};
use super::declared::Declared;
use super::error::{shown, shown_json};
use super::json::Json;
use super::like::Like;
use super::number::Decimal;
use super::tape::{Item, Kind};
use super::words::{self, Suggestion};
use super::{MAX_CONDITIONS, MAX_DEPTH, MAX_SIZE, MatchError, OPERATORS};
use crate::pattern::nearest;

const OP: &str = "$op";
/// The longest path in an error, in characters.
const LONGEST_PATH: usize = 160;

/// The state of a compilation. The recursion is as deep as the JSON, which the caller has limited.
pub(crate) struct Compiler<'a> {
    /// The declarations of the hooks that the match is for. `None` for a stored match: its words keep the meaning that
    /// they had, and it may be larger than a new one.
    declared: Option<&'a Declared>,
    /// The keys above, as shown in errors and as fields.
    path: Vec<(String, Option<String>)>,
    conditions: usize,
    size: usize,
    pub(crate) op: Option<Condition>,
    pub(crate) warnings: Vec<String>,
}

type Compiled = Result<Condition, MatchError>;

impl<'a> Compiler<'a> {
    pub(crate) fn new(declared: Option<&'a Declared>, size: usize) -> Self {
        Self { declared, path: Vec::new(), conditions: 0, size, op: None, warnings: Vec::new() }
    }

    /// The conditions of the whole match, except the one on the operation, which is put into `op`.
    pub(crate) fn top(&mut self, root: Item<'_>) -> Compiled {
        if root.kind() != Kind::Object {
            return Err(MatchError::NotAnObject);
        }
        let condition = self.object(root)?;
        if let (Condition::Fields(fields), Some(declared)) = (&condition, self.declared) {
            self.warnings.extend(
                fields.iter().filter(|(name, _)| declared.lack(name)).map(|(name, _)| never_sent(name, declared)),
            );
        }
        Ok(condition)
    }

    /// The size of the compiled match in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    fn condition(&mut self, item: Item<'_>) -> Compiled {
        match item.kind() {
            Kind::Object => self.object(item),
            Kind::Array => Err(MatchError::LoneArray { path: self.at(), array: shown_json(item.raw()).to_owned() }),
            _ => {
                let json = self.json(item)?;
                self.test(Test::Is(json))
            }
        }
    }

    /// A condition below a key.
    fn below(&mut self, key: &str, field: Option<&str>, item: Item<'_>) -> Compiled {
        self.path.push((format!(".{}", shown(key)), field.map(str::to_owned)));
        let condition = self.condition(item);
        self.path.pop();
        condition
    }

    fn object(&mut self, object: Item<'_>) -> Compiled {
        let top = self.path.is_empty();
        let mut members = Vec::with_capacity(object.len());
        let mut seen = HashSet::with_capacity(object.len());
        for (key, value) in object.members() {
            let key = key.text().ok_or_else(|| MatchError::NotText { path: self.at() })?;
            if !seen.insert(key) {
                return Err(MatchError::Twice { path: self.at_key(key) });
            }
            match key {
                OP if top => self.op = Some(self.operation(value)?),
                OP => return Err(MatchError::OpNotAtTop { path: self.at_key(key) }),
                _ if key.starts_with('$') => return Err(unknown_dollar(key, self.at_key(key))),
                _ => members.push((key, value)),
            }
        }
        if let [(key, operand)] = members[..] {
            if let Some(operator) = OPERATORS.into_iter().find(|operator| *operator == key) {
                return self.operator(operator, operand);
            }
            self.check_word(key, operand)?;
        }
        self.check_operators(&members)?;
        let mut fields = Vec::with_capacity(members.len());
        for (key, value) in members {
            let field = key.strip_prefix('.').unwrap_or(key);
            self.grow(size_of::<(Box<str>, Condition)>() + field.len())?;
            fields.push((field.into(), self.below(key, Some(field), value)?));
        }
        Ok(Condition::Fields(fields))
    }

    /// Refuses a key, the only one of its object, that was most likely intended as an operator.
    fn check_word(&self, key: &str, operand: Item<'_>) -> Result<(), MatchError> {
        let (Some(declared), false) = (self.declared, self.path.is_empty()) else { return Ok(()) };
        match words::suggestion(key) {
            Some(suggestion) if !declared.has(&self.fields(key)) => Err(MatchError::Misread {
                path: self.at_key(key),
                word: shown(key),
                instead: suggestion.form(operand.raw()),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses an object that consists of several operators, and warns of operators beside fields: both would be read
    /// as
    /// fields.
    fn check_operators(&mut self, members: &[(&str, Item<'_>)]) -> Result<(), MatchError> {
        let Some(declared) = self.declared else { return Ok(()) };
        let is_operator = |(key, _): &&(&str, Item<'_>)| {
            let known = OPERATORS.contains(key) || (!self.path.is_empty() && words::suggestion(key).is_some());
            known && !declared.has(&self.fields(key))
        };
        let operators: Vec<&(&str, Item<'_>)> = members.iter().filter(is_operator).collect();
        if operators.len() == members.len() && operators.len() > 1 {
            let form = |(key, operand): &&(&str, Item<'_>)| {
                let own = OPERATORS.into_iter().find(|operator| operator == key).map(Suggestion::Operator);
                own.or_else(|| words::suggestion(key))
                    .map_or_else(String::new, |suggestion| suggestion.form(operand.raw()))
            };
            let forms: Vec<String> = operators.iter().take(2).map(form).collect();
            let more = if operators.len() > 2 { ", …" } else { "" };
            let instead = format!("{{\"all\": [{}{more}]}}", forms.join(", "));
            return Err(MatchError::SeveralOperators { path: self.at(), instead });
        }
        let warnings: Vec<String> = operators
            .iter()
            .filter(|(key, _)| OPERATORS.contains(key))
            .map(|(key, _)| {
                format!(
                    "{}: this is read as a field, because it is not the only key; for several conditions on one value \
                    write {{\"all\": […]}}, for a field of that name \".{key}\"",
                    self.at_key(key)
                )
            })
            .collect();
        self.warnings.extend(warnings);
        Ok(())
    }

    /// The condition on the operation.
    fn operation(&mut self, value: Item<'_>) -> Compiled {
        let path = self.at_key(OP);
        let condition = self.below(OP, None, value)?;
        // An operation is a string, so a comparison with any other type could never hold.
        let is_text = |json: &Json| matches!(json, Json::String(_));
        let foreign = |test: &Test| match test {
            Test::Is(json) | Test::Contains(json) => !is_text(json),
            Test::In(values) => !values.numbers.is_empty() || !values.others.is_empty(),
            Test::Order(..) => true,
            _ => false,
        };
        if condition.has_fields() || condition.some_test(&foreign) {
            return Err(MatchError::NotText { path });
        }
        Ok(condition)
    }

    fn operator(&mut self, operator: &'static str, operand: Item<'_>) -> Compiled {
        self.path.push((format!(".{operator}"), None));
        let compiled = self.operand(operator, operand);
        self.path.pop();
        compiled
    }

    fn operand(&mut self, operator: &'static str, operand: Item<'_>) -> Compiled {
        let test = match operator {
            "is" => Test::Is(self.json(operand)?),
            "starts_with" => Test::StartsWith(self.text(operand)?),
            "ends_with" => Test::EndsWith(self.text(operand)?),
            "contains" => Test::Contains(self.contained(operand)?),
            "like" => Test::Like(self.like(operand)?),
            "in" => Test::In(Box::new(self.one_of(operand)?)),
            "exists" => match operand.kind() {
                Kind::True => Test::Exists(true),
                Kind::False => Test::Exists(false),
                _ => return Err(self.wrong("true or false")),
            },
            "gt" => Test::Order(self.bound(operand)?, Relation::Above),
            "gte" => Test::Order(self.bound(operand)?, Relation::AtLeast),
            "lt" => Test::Order(self.bound(operand)?, Relation::Below),
            "lte" => Test::Order(self.bound(operand)?, Relation::AtMost),
            "not" => {
                self.grow(size_of::<Condition>())?;
                return Ok(Condition::Not(Box::new(self.condition(operand)?)));
            }
            "all" => return Ok(Condition::All(self.list(operand, "an array of conditions, one at least")?)),
            _ if operand.kind() == Kind::True => Test::Any,
            _ => return Ok(Condition::AnyOf(self.list(operand, "true, or an array of conditions, one at least")?)),
        };
        self.test(test)
    }

    fn list(&mut self, operand: Item<'_>, takes: &'static str) -> Result<Vec<Condition>, MatchError> {
        if operand.kind() != Kind::Array || operand.len() == 0 {
            return Err(self.wrong(takes));
        }
        let mut conditions = Vec::with_capacity(operand.len());
        for (n, item) in operand.content().enumerate() {
            self.grow(size_of::<Condition>())?;
            self.path.push((format!("[{n}]"), None));
            conditions.push(self.condition(item)?);
            self.path.pop();
        }
        Ok(conditions)
    }

    fn one_of(&mut self, operand: Item<'_>) -> Result<OneOf, MatchError> {
        if operand.kind() != Kind::Array || operand.len() == 0 {
            return Err(self.wrong("an array of values, one at least"));
        }
        let mut values = OneOf::default();
        for (n, item) in operand.content().enumerate() {
            self.path.push((format!("[{n}]"), None));
            self.check_value(item, "any")?;
            match self.json(item)? {
                Json::String(text) => values.texts.push(text),
                Json::Number(number) => values.numbers.push(*number),
                other => values.others.push(other),
            }
            self.path.pop();
        }
        values.texts.sort_unstable();
        Ok(values)
    }

    fn contained(&mut self, operand: Item<'_>) -> Result<Json, MatchError> {
        if operand.kind() == Kind::Array && self.declared.is_some() {
            let forms = ["all", "any"].map(|word| format!("{{\"{word}\": [{{\"contains\": …}}, …]}}"));
            let instead = format!("{} for all of these, {} for one of them", forms[0], forms[1]);
            return Err(MatchError::NotAValue { path: self.at(), instead });
        }
        self.check_value(operand, "contains")?;
        self.json(operand)
    }

    /// Refuses a condition in the place of a value.
    fn check_value(&self, item: Item<'_>, operator: &str) -> Result<(), MatchError> {
        let key = || item.members().next().and_then(|(key, _)| key.text());
        let Some(key) = (item.kind() == Kind::Object && item.len() == 1).then(key).flatten() else { return Ok(()) };
        if self.declared.is_none() || !(OPERATORS.contains(&key) || key.starts_with('$')) {
            return Ok(());
        }
        let instead = match operator {
            "any" => format!("{{\"any\": [{}, …]}}", shown_json(item.raw())),
            _ => "a value; conditions on the values of an array are not supported".to_owned(),
        };
        Err(MatchError::NotAValue { path: self.at(), instead })
    }

    fn bound(&mut self, operand: Item<'_>) -> Result<Bound, MatchError> {
        let takes = "a number, or an RFC 3339 time such as \"2027-01-31T12:00:00Z\"";
        match operand.kind() {
            Kind::Number => Ok(Bound::Number(Box::new(Decimal::new(operand.raw())))),
            Kind::String => operand.text().and_then(time).map(Bound::Time).ok_or_else(|| self.wrong(takes)),
            _ => Err(self.wrong(takes)),
        }
    }

    fn like(&mut self, operand: Item<'_>) -> Result<Like, MatchError> {
        let stored = self.declared.is_none();
        let mut like = Like::new(&self.text(operand)?, stored, &|| self.at())?;
        if stored && self.size + like.size() > MAX_SIZE {
            like.drop_compiled();
        }
        Ok(like)
    }

    fn text(&self, operand: Item<'_>) -> Result<Box<str>, MatchError> {
        operand.text().map(Box::from).ok_or_else(|| MatchError::NotText { path: self.at() })
    }

    fn json(&self, item: Item<'_>) -> Result<Json, MatchError> {
        Json::read(item, &|| self.at())
    }

    fn wrong(&self, takes: &'static str) -> MatchError {
        MatchError::WrongOperand { path: self.at(), takes }
    }

    fn test(&mut self, test: Test) -> Compiled {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS && self.declared.is_some() {
            return Err(MatchError::TooManyConditions);
        }
        self.grow(test.size())?;
        Ok(Condition::Test(test))
    }

    fn grow(&mut self, bytes: usize) -> Result<(), MatchError> {
        self.size += bytes;
        if self.size > MAX_SIZE && self.declared.is_some() {
            return Err(MatchError::MatchTooLarge { path: self.at(), size: self.size });
        }
        Ok(())
    }

    /// The names of the fields down to `key`.
    fn fields<'p>(&'p self, key: &'p str) -> Vec<&'p str> {
        self.path.iter().filter_map(|(_, field)| field.as_deref()).chain([key]).collect()
    }

    /// The current path, such as `match.name.like`; the middle of a long path is left out.
    fn at(&self) -> String {
        let mut path = "match".to_owned();
        let longest = LONGEST_PATH / 2;
        for (at, (shown, _)) in self.path.iter().enumerate() {
            let last = at + 1 == self.path.len();
            if last || path.len() + shown.len() <= longest {
                path.push_str(shown);
            } else if !path.ends_with('…') {
                path.push_str(".…");
            }
        }
        path
    }

    fn at_key(&self, key: &str) -> String {
        format!("{}.{}", self.at(), shown(key))
    }
}

fn never_sent(name: &str, declared: &Declared) -> String {
    let nearest = declared.nearest(name).map(|name| format!(" (did you mean \"{}\"?)", shown(name)));
    format!(
        "match.{}: no hook of this listener declares this field{}, so it is never sent",
        shown(name),
        nearest.unwrap_or_default()
    )
}

fn unknown_dollar(key: &str, path: String) -> MatchError {
    let names = OPERATORS.into_iter().chain([OP]);
    let bare = key.trim_start_matches('$');
    let elsewhere = match words::suggestion(bare) {
        Some(Suggestion::Operator(operator)) => Some(operator),
        Some(Suggestion::Not(_)) => Some("not"),
        _ => None,
    };
    let exact = OPERATORS.into_iter().find(|operator| *operator == bare);
    let nearest = exact.or(elsewhere).or_else(|| nearest(bare, names.clone())).or_else(|| nearest(key, names));
    MatchError::UnknownDollar { path, key: shown(key), nearest }
}

/// Checks what the text of a [`Value`] no longer shows: that no number lost digits when it was read. Also checks that
/// the
/// value can be written without deep recursion.
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
                open.extend(members.iter().map(|(key, item)| (item, inner, format!("{path}.{}", shown(key)))));
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
