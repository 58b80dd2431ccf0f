//! Parses apps that are created through the API: the same keys as `[[apps]]`, as JSON.

use serde_json::Value;
use tidings_engine::{AppReader, Spec, WrongField};
use tidings_model::app::App;

use super::apps;
use super::check::Check;
use super::read_raw::read_raw;

/// The app's path in the TOML document that is made of its spec.
const HERE: &str = "apps[0]";

/// Parses an app's spec by the rules of the config file.
#[derive(Debug)]
pub(crate) struct SpecParser;

impl AppReader for SpecParser {
    fn read(&self, spec: &Spec) -> Result<App, Vec<WrongField>> {
        let wrong = |field: &str, message: String| vec![WrongField { field: field.to_owned(), message }];
        if let Some(field) = file_in(&Value::Object(spec.clone()), "") {
            // Files belong to the server: whoever may create apps must not read them.
            return Err(wrong(&field, "a secret must be a string here, not a file".to_owned()));
        }
        let document = toml::Value::try_from(serde_json::json!({"apps": [spec]}));
        let text = document.and_then(|document| toml::to_string(&document));
        let text = text.map_err(|error| {
            wrong("", format!("an app's fields are strings, numbers, booleans, arrays and objects: {error}"))
        })?;
        let nothing: Vec<(&str, &str)> = Vec::new();
        let (source, raw) = read_raw("", &text, &nothing).map_err(|problems| wrong("", problems.to_string()))?;
        let mut check = Check::new(source, Vec::new());
        let app = apps::resolve(&raw.apps, &mut check).pop();
        let problems = check.into_wrong();
        match app {
            Some(app) if problems.is_empty() => {
                Ok(App { default: spec.get("default") == Some(&Value::Bool(true)), ..app })
            }
            _ => Err(problems.into_iter().map(|(path, message)| wrong_field(&path, &message)).collect()),
        }
    }
}

/// A problem of the config, with the path and the message made relative to the app.
fn wrong_field(path: &str, message: &str) -> WrongField {
    let message = message.replace(&format!(" in [{HERE}]"), "").replace(&format!("{HERE}."), "");
    WrongField { field: in_app(path), message }
}

/// Makes a path of the config relative to the app.
fn in_app(path: &str) -> String {
    path.strip_prefix(HERE).map_or(path, |rest| rest.trim_start_matches('.')).to_owned()
}

/// The path of the first secret that names a file.
fn file_in(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(members) if members.len() == 1 && members.contains_key("file") => Some(path.to_owned()),
        Value::Object(members) => members.iter().find_map(|(key, value)| {
            file_in(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") })
        }),
        Value::Array(entries) => {
            entries.iter().enumerate().find_map(|(n, value)| file_in(value, &format!("{path}[{n}]")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(spec: &Value) -> Result<App, Vec<WrongField>> {
        SpecParser.read(spec.as_object().unwrap())
    }

    #[test]
    fn an_app_is_read_like_one_of_the_config() {
        let app = read(&json!({
            "id": "7", "key": "k7", "secret": "s", "api_keys": ["an-api-key-long-enough"], "enabled": false,
            "limits": {"payload": "20KiB", "sessions": 5}, "channels": {"history_size": 3},
            "namespaces": [{"name": "chat", "match": ["presence-"], "history_ttl": "9s"}],
            "webhooks": [{"url": "https://a.example/x", "events": ["channel_occupied"]}],
        }))
        .unwrap();
        assert_eq!(
            (app.id.as_str(), app.key.as_str(), app.limits.payload, app.limits.sessions),
            ("7", "k7", 20 << 10, 5)
        );
        assert!(!app.enabled && !app.default && app.webhooks.len() == 1);
        assert_eq!(app.namespaces.options("news").history_size, 3);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let first = |spec: Value| read(&spec).unwrap_err().remove(0);
        let of = |more: Value| {
            let mut spec = json!({"id": "7", "key": "k"});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            first(spec)
        };
        assert_eq!(of(json!({"limits": {"payload": 0}})).field, "limits.payload");
        assert_eq!(of(json!({"webhooks": [{"url": "https://a", "events": ["x"]}]})).field, "webhooks[0].events[0]");
        assert!(of(json!({"limts": {}})).message.contains("did you mean \"limits\"?"));
        assert!(of(json!({"doors": ["front"]})).message.contains("doors"));
        assert_eq!(of(json!({"secret": {"file": "/etc/passwd"}})).field, "secret");
        assert_eq!(of(json!({"api_keys": [{"file": "/etc/passwd"}]})).field, "api_keys[0]");
        assert_eq!(first(json!({"id": "a b", "key": "k"})).field, "id");
        assert!(first(json!({"id": "1"})).message.contains("key"));
    }
}
