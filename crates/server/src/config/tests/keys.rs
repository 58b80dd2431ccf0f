//! Every key is in the sample and in the documentation, and has an effect.

use serde::Deserialize;
use toml::{Table, Value};

use super::super::raw::RawConfig;
use super::super::unbuilt::WITHOUT_EFFECT;
use super::{read, settings};

/// A file with every key, none with its default.
pub(super) const EVERY_KEY: &str = include_str!("every_key.toml");
const DOCUMENTATION: &str = include_str!("../../../../../docs/configuration.md");

/// The keys of each section, from the error for an unknown one.
fn keys_of(section: &str) -> Vec<String> {
    let text = format!("{section}\nno_such_key_anywhere = 1");
    let message = RawConfig::deserialize(toml::Deserializer::parse(&text).unwrap()).unwrap_err().message().to_owned();
    message.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

const SECTIONS: [&str; 16] = [
    "",
    "[tls]",
    "[machines]",
    "[store]",
    "[broker]",
    "[admin]",
    "[live]",
    "[courier]",
    "[egress]",
    "[retention]",
    "[secrets]",
    "[[apps]]",
    "[[apps]]\n[apps.limits]",
    "[[apps]]\n[apps.channels]",
    "[[apps]]\n[[apps.namespaces]]",
    "[[apps]]\n[[apps.webhooks]]",
];

#[test]
fn every_key_is_in_the_sample_and_in_the_documentation() {
    read(EVERY_KEY).unwrap_or_else(|problems| panic!("{problems}"));
    for section in SECTIONS {
        let keys = keys_of(section);
        assert!(!keys.is_empty(), "{section}");
        for key in keys {
            assert!(
                DOCUMENTATION.contains(&format!("`{key}`")),
                "docs/configuration.md does not name `{key}` of {section:?}"
            );
            let sample = [format!("\n{key} = "), format!("[{key}]"), format!(".{key}]")];
            assert!(
                sample.iter().any(|form| format!("\n{EVERY_KEY}").contains(form)),
                "every_key.toml lacks {key} of {section:?}"
            );
        }
    }
}

/// The paths of all values in the table: `apps.0.limits.payload`.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) if list.iter().any(Value::is_table) => {
            list.iter().enumerate().map(|(n, value)| (n.to_string(), value)).collect()
        }
        _ => return found.push(path.to_owned()),
    };
    for (key, value) in inner {
        leaves(value, &if path.is_empty() { key } else { format!("{path}.{key}") }, found);
    }
}

/// The same text without one value.
fn without(text: &str, path: &str) -> String {
    let mut all = Value::Table(text.parse::<Table>().unwrap());
    let (outer, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut here = &mut all;
    for part in outer.split('.').filter(|part| !part.is_empty()) {
        here = match here {
            Value::Table(table) => table.get_mut(part).unwrap(),
            Value::Array(list) => &mut list[part.parse::<usize>().unwrap()],
            other => panic!("{other} has nothing in it"),
        };
    }
    here.as_table_mut().unwrap().remove(key);
    toml::to_string(&all).unwrap()
}

/// The settings of a text in a form that can be compared; of secrets only whether they are set.
fn meaning(text: &str) -> String {
    match read(text) {
        Ok(loaded) => format!("{:?}", loaded.settings),
        Err(problems) => problems.to_string(),
    }
}

/// `apps.0.limits.topics` as the table of keys without effect writes it.
fn listed(path: &str) -> String {
    path.split('.').fold(String::new(), |all, part| match part.parse::<usize>() {
        Ok(_) => all + "[]",
        Err(_) if all.is_empty() => part.to_owned(),
        Err(_) => all + "." + part,
    })
}

fn is_without_effect(path: &str) -> bool {
    let listed = listed(path);
    WITHOUT_EFFECT.iter().any(|(key, _)| {
        listed == *key || listed.starts_with(&format!("{key}.")) || listed.starts_with(&format!("{key}["))
    })
}

// covers: G161
#[test]
fn every_key_has_an_effect_or_is_said_to_have_none() {
    // Some keys hold for one kind of store or broker, or need several apps; each has to have an effect in one of these.
    let sqlite = EVERY_KEY
        .replace("url = \"postgres://tidings@db.internal/tidings?sslmode=verify-full\"", "url = \"sqlite://x/y.db\"")
        .replace("sync = \"full\"", "sync = \"normal\"")
        .replace("connections = 11\nstatement_timeout = \"11s\"\n", "")
        .replace("events = \"31d\"", "events = \"33d\"")
        .replace("url = \"redis://redis.internal/1\"", "url = \"memory://\"");
    let two_apps = format!("{EVERY_KEY}\n[[apps]]\nid = \"2\"\nkey = \"k\"\n");
    let texts = [EVERY_KEY, sqlite.as_str(), two_apps.as_str()];
    for text in texts {
        read(text).unwrap_or_else(|problems| panic!("{problems}"));
    }
    let whole = texts.map(|text| (text, meaning(text)));
    let mut paths = Vec::new();
    leaves(&Value::Table(EVERY_KEY.parse::<Table>().unwrap()), "", &mut paths);
    assert!(paths.len() > 100, "{paths:?}");
    // A certificate is real or refused: tests/tls.rs makes one.
    paths.retain(|path| !path.starts_with("tls."));
    for path in paths {
        let matters = whole.iter().any(|(text, meant)| *meant != meaning(&without(text, &path)));
        assert_eq!(matters, !is_without_effect(&path), "does {path} make a difference?");
    }
}

// covers: G161
#[test]
fn what_has_no_effect_is_said_once_and_documented() {
    for (key, _) in WITHOUT_EFFECT {
        let last = key.rsplit(['.', ']']).next().unwrap();
        let marked = DOCUMENTATION.lines().any(|line| line.contains(&format!("`{last}`")) && line.contains("*later*"));
        let section = DOCUMENTATION.lines().any(|line| line.contains(&format!("{last}]`")) && line.contains("*later*"));
        assert!(marked || section, "docs/configuration.md does not mark {key} as *later*");
    }
    let set = read(EVERY_KEY).unwrap().warnings;
    for (key, _) in WITHOUT_EFFECT {
        let path = key.replace("[]", "[0]");
        let about = format!(": {path} has no effect in this version");
        let said = set.iter().filter(|warning| warning.to_string().contains(&about)).count();
        assert_eq!(said, 1, "{key}: {set:#?}");
    }
    assert_eq!(set.iter().filter(|warning| warning.message.contains("no effect")).count(), WITHOUT_EFFECT.len());
}

// covers: G161
#[test]
fn an_environment_variable_may_name_a_part_that_is_not_there_yet() {
    let env = vec![("TIDINGS__PAGES__WELCOME", "off"), ("TIDINGS__WEBSUB__LEASE", "10d")];
    let loaded = super::parse("", "", &env).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(|warning| warning.message.clone()).collect();
    assert!(warnings.iter().any(|said| said.starts_with("pages has no effect")), "{warnings:?}");
    assert!(warnings.iter().any(|said| said.starts_with("websub has no effect")), "{warnings:?}");
}

// covers: G162
#[test]
fn the_public_url_is_taken_with_and_without_tls() {
    let public = settings("public_url = \"https://push.example.com\"").public_url;
    assert_eq!(public.unwrap().as_str(), "https://push.example.com/");
    let loaded = read("public_url = \"https://push.example.com\"").unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}
