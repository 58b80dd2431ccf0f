//! Keys of features that this version does not have yet. A config that sets them is still accepted: any value is
//! allowed, and the start and `tidings check` warn once per key.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::check::Check;

/// The value of such a key, which is ignored.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub(super) struct Unbuilt(IgnoredAny);

/// Every key without effect, as a path with `[]` for any index, and the feature that it belongs to.
pub(super) const WITHOUT_EFFECT: [(&str, &str); 15] = [
    ("admin.password_hash", "the admin pages"),
    ("egress.topics", "WebSub"),
    ("egress.callbacks", "WebSub"),
    ("websub", "WebSub"),
    ("pages", "the page at /"),
    ("outbox", "relaying an application's outbox"),
    ("apps[].jwks_url", "keys that are fetched"),
    ("apps[].websub", "WebSub"),
    ("apps[].centrifugo", "Centrifugo's protocol"),
    ("apps[].accounts", "accounts"),
    ("apps[].limits.subscriptions", "WebSub"),
    ("apps[].limits.topics", "WebSub"),
    ("apps[].limits.feeds", "WebSub"),
    ("apps[].limits.callbacks_per_host", "WebSub"),
    ("apps[].limits.hub_requests_per_ip", "WebSub"),
];

/// Warns once of each of these keys that was set.
pub(super) fn warn(check: &mut Check) {
    let mut set: Vec<(String, &str)> = Vec::new();
    for path in check.set_paths() {
        let Some((key, part)) = WITHOUT_EFFECT.iter().find_map(|(key, part)| Some((within(&path, key)?, part))) else {
            continue;
        };
        if !set.iter().any(|(known, _)| known == key) {
            set.push((key.to_owned(), part));
        }
    }
    for (path, part) in set {
        check.warn(&path, format!("{path} has no effect in this version, which lacks {part}"));
    }
}

/// The prefix of `path` that matches `key`, where `[]` in `key` stands for any index.
fn within<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let mut rest = path;
    for (n, part) in key.split("[]").enumerate() {
        if n > 0 {
            let (index, behind) = rest.strip_prefix('[')?.split_once(']')?;
            index.parse::<usize>().ok()?;
            rest = behind;
        }
        rest = rest.strip_prefix(part)?;
    }
    let ends = rest.is_empty() || rest.starts_with(['.', '[']);
    ends.then(|| &path[..path.len() - rest.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_within_a_key() {
        assert_eq!(within("websub", "websub"), Some("websub"));
        assert_eq!(within("websub.hubs[0].url", "websub"), Some("websub"));
        assert_eq!(within("apps[12].websub.topics", "apps[].websub"), Some("apps[12].websub"));
        for (path, key) in [("websubs", "websub"), ("apps.websub", "apps[].websub"), ("apps[x].a", "apps[].a")] {
            assert_eq!(within(path, key), None, "{path}");
        }
    }
}
