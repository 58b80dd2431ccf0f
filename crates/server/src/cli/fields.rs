//! Records as lines, values as cells.

use serde_json::Value;

use crate::output;

/// What people look for first.
const FIRST: [&str; 6] = ["id", "name", "url", "state", "event", "listener"];
const MAX_CELL: usize = 60;

/// A record as one line per field: names padded, `null` left out.
pub(super) fn record(value: &Value) -> String {
    let Some(object) = value.as_object() else { return value.to_string() };
    let mut keys: Vec<&String> = object.keys().filter(|key| !object[*key].is_null()).collect();
    keys.sort_by_key(|key| FIRST.iter().position(|first| first == key).unwrap_or(FIRST.len()));
    let rows: Vec<Vec<String>> = keys.into_iter().map(|key| vec![format!("{key}:"), text(&object[key])]).collect();
    output::printable(&output::table(&[], &rows))
}

/// A field's value: texts bare, `null` and absent as `-`, anything else as JSON.
pub(super) fn cell(entry: &Value, key: &str) -> String {
    match entry.get(key) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(value) => text(value),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) && !items.is_empty() => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// The text in one line of a table: cut where it is long.
pub(super) fn one_line(text: &str) -> String {
    let text = output::printable(text).replace(['\n', '\t'], " ");
    match text.char_indices().nth(MAX_CELL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_one_field_a_line() {
        let value = json!({"created_at": "now", "id": "lst_1", "hooks": ["a", "b"], "owner": null, "match": {}, "enabled": true});
        assert_eq!(
            record(&value),
            "id:          lst_1\ncreated_at:  now\nenabled:     true\nhooks:       a, b\nmatch:       {}"
        );
    }

    #[test]
    fn a_cell_is_one_line() {
        assert_eq!(one_line("a\nb\u{7}"), "a b\\u{7}");
        assert_eq!(one_line(&"ä".repeat(61)).chars().count(), 61);
    }
}
