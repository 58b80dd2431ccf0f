//! Translates matches stored by version 0.1.0 to the present language, with the same meaning.
//!
//! Version 0.1.0 had six operators. Any other object was nesting, an array was compared as a value, the operand of
//! `any`
//! was ignored, and `contains` held for strings only.

use std::borrow::Cow;

use super::tape::{Item, Kind, Tape};
use super::{MAX_DEPTH, OPERATORS, scan, words};
use crate::payload::json_string;

const OPERATORS_THEN: [&str; 6] = ["is", "starts_with", "ends_with", "contains", "like", "any"];
const OP: &str = "$op";

/// The match in the present language; unchanged if it means the same already.
///
/// A text that is not a match is returned unchanged. The recursion is as deep as the match, which was limited when it
/// was
/// stored.
pub fn upgrade(text: &str) -> Cow<'_, str> {
    let tape = if scan::depth_at_most(text, MAX_DEPTH) { Tape::new(text) } else { None };
    let Some(tape) = tape else { return Cow::Borrowed(text) };
    let (mut before, mut now) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    copy(tape.root(text), &mut before);
    let is_match = condition(tape.root(text), true, &mut now).is_some();
    if is_match && now != before { Cow::Owned(now) } else { Cow::Borrowed(text) }
}

/// A condition in the present language. `None`: a key is not Unicode text, so it was never a condition.
fn condition(item: Item<'_>, top: bool, out: &mut String) -> Option<()> {
    match item.kind() {
        Kind::Object => {}
        Kind::Array => {
            out.push_str("{\"is\":");
            copy(item, out);
            out.push('}');
            return Some(());
        }
        _ => {
            copy(item, out);
            return Some(());
        }
    }
    let members: Vec<(Item<'_>, &str, Item<'_>)> =
        item.members().map(|(key, value)| Some((key, key.text()?, value))).collect::<Option<_>>()?;
    if let [(_, operator, operand)] = members[..]
        && OPERATORS_THEN.contains(&operator)
    {
        operation(operator, operand, out);
        return Some(());
    }
    let fields = members.iter().filter(|(_, key, _)| !(top && *key == OP));
    let alone = fields.clone().count() == 1;
    let all_operators = fields.clone().all(|(_, key, _)| OPERATORS.contains(key) || words::suggestion(key).is_some());
    let taken = |key: &str| members.iter().any(|(_, other, _)| other.strip_prefix('.') == Some(key));
    out.push('{');
    for (at, (raw, key, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        // The key would be an operator in the present language, or would be refused.
        let misread = OPERATORS.contains(key) || (!top && words::suggestion(key).is_some());
        if misread && (alone || all_operators) && !taken(key) {
            out.push_str(&json_string(&format!(".{key}")));
        } else {
            out.push_str(raw.raw());
        }
        out.push(':');
        if top && *key == OP {
            model_operation(*value, out);
        } else {
            condition(*value, false, out)?;
        }
    }
    out.push('}');
    Some(())
}

fn operation(operator: &str, operand: Item<'_>, out: &mut String) {
    match operator {
        "any" => out.push_str("{\"any\":true}"),
        "contains" => {
            out.push_str("{\"all\":[{\"contains\":");
            copy(operand, out);
            // `starts_with` the empty string holds for every string, and for nothing else.
            out.push_str("},{\"starts_with\":\"\"}]}");
        }
        _ => {
            out.push_str("{\"");
            out.push_str(operator);
            out.push_str("\":");
            copy(operand, out);
            out.push('}');
        }
    }
}

/// The condition on the operation, which is always a string.
fn model_operation(value: Item<'_>, out: &mut String) {
    let is_any = value.kind() == Kind::Object
        && value.len() == 1
        && value.members().next().is_some_and(|(key, _)| key.text() == Some("any"));
    if is_any { out.push_str("{\"any\":true}") } else { copy(value, out) }
}

/// Copies the value, without spaces between its parts.
fn copy(item: Item<'_>, out: &mut String) {
    match item.kind() {
        Kind::Array => {
            out.push('[');
            for (at, item) in item.content().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                copy(item, out);
            }
            out.push(']');
        }
        Kind::Object => {
            out.push('{');
            for (at, (key, value)) in item.members().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(key.raw());
                out.push(':');
                copy(value, out);
            }
            out.push('}');
        }
        _ => out.push_str(item.raw()),
    }
}
