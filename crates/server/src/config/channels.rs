//! `[apps.channels]` and `[[apps.namespaces]]`: options of live channels. Read and checked; without effect in this version.

use serde::Deserialize;

use super::check::Check;
use super::value::RawDuration;

/// Options of channels outside any namespace.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawChannels {
    public: Option<bool>,
    history_size: Option<u32>,
    history_ttl: Option<RawDuration>,
    presence: Option<bool>,
    join_leave: Option<bool>,
    event_name: Option<String>,
}

/// A namespace: the same options for channels of some names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNamespace {
    name: Option<String>,
    r#match: Vec<String>,
    public: Option<bool>,
    history_size: Option<u32>,
    history_ttl: Option<RawDuration>,
    presence: Option<bool>,
    join_leave: Option<bool>,
    event_name: Option<String>,
}

/// Checks the namespaces of one app; `path` is `apps[n].namespaces`.
pub(super) fn check_namespaces(path: &str, namespaces: &[RawNamespace], check: &mut Check) {
    let mut seen: Vec<&str> = Vec::new();
    for (n, namespace) in namespaces.iter().enumerate() {
        let Some(name) = namespace.name.as_deref() else {
            check.wrong(&format!("{path}[{n}]"), "a namespace needs a name");
            continue;
        };
        let at = format!("{path}[{n}].name");
        // Centrifugo's rule, so that its namespaces can be taken over as they are.
        if name.len() < 2 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            check.wrong(&at, "a namespace's name has at least 2 characters from A-Z, a-z, 0-9, - and _");
        }
        if seen.contains(&name) {
            check.wrong(&at, format!("there are two namespaces \"{name}\" in this app"));
        }
        seen.push(name);
    }
    if !namespaces.is_empty() {
        check.warn(path, "[[apps.namespaces]] has no effect yet in this version");
    }
}
