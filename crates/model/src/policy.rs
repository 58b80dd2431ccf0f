//! The channel policy: decides for all doors, from a channel's name and namespace, who may join it and its options.
//!
//! A door checks only its own kind of proof (Pusher's auth string, a token); it may be stricter than [`access`], never
//! laxer.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::ChannelOptions;

/// The prefix by which Pusher's clients name the channel of one user.
pub const SERVER_TO_USER: &str = "#server-to-user-";
/// The prefix of the server's internal channels. No door lets a control character through, so no client can name them.
/// They are never listed.
const INTERNAL: &str = "\u{1}";
/// The prefix of channels that track whether a user is online.
const ONLINE: &str = "\u{1}online:";
/// In byte order, the names of internal channels come before this, and all other names after it.
pub const AFTER_INTERNAL: &str = "\u{2}";
/// How long channels with `cache-` in their names keep their last publication, unless their namespace says otherwise.
const CACHE_TTL: Duration = Duration::from_secs(30 * 60);

/// The requirement for joining a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access<'a> {
    /// None: any session may join.
    Open,
    /// A proof that names the channel.
    Proof,
    /// The session's user is one of these.
    Users(Vec<&'a str>),
}

/// The canonical name of a channel: `#server-to-user-u` is `#u`.
pub fn canonical(name: &str) -> Cow<'_, str> {
    match name.strip_prefix(SERVER_TO_USER) {
        Some(user) => Cow::Owned(format!("#{user}")),
        None => Cow::Borrowed(name),
    }
}

/// The internal channel that tracks whether a user of an app is online. The user's sessions are its members; sessions
/// that
/// watch the user join it without being members.
pub fn online(user: &str) -> String {
    format!("{ONLINE}{user}")
}

/// The user that this channel tracks, if it is a channel of [`online`].
pub fn user_online(name: &str) -> Option<&str> {
    name.strip_prefix(ONLINE)
}

/// Whether this canonical name is an internal channel of the server, which appears in no list and no webhook.
pub fn is_internal(name: &str) -> bool {
    name.starts_with(INTERNAL)
}

/// Whether data in this channel is encrypted by the app for its clients, so that the server cannot read it.
pub fn is_encrypted(name: &str) -> bool {
    name.starts_with("private-encrypted-")
}

/// The requirement for joining the channel with this canonical name and these options.
pub fn access<'a>(name: &'a str, options: &ChannelOptions) -> Access<'a> {
    let is_private = |name: &str| ["private-", "presence-", "$"].iter().any(|prefix| name.starts_with(prefix));
    let within = name.split_once(':').map_or(name, |(_, rest)| rest);
    if is_internal(name) || is_private(name) || within.starts_with('$') {
        return Access::Proof;
    }
    if let Some((_, users)) = name.split_once('#') {
        return Access::Users(if name.starts_with('#') { vec![users] } else { users.split(',').collect() });
    }
    if options.public { Access::Open } else { Access::Proof }
}

/// The options that a channel's name decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    presence: bool,
    cache: bool,
}

impl Kind {
    fn of(name: &str) -> Self {
        let presence = name.strip_prefix("presence-");
        let private = name.strip_prefix("private-").map(|rest| rest.strip_prefix("encrypted-").unwrap_or(rest));
        let rest = presence.or(private).unwrap_or(name);
        Self { presence: presence.is_some(), cache: rest.starts_with("cache-") }
    }

    fn index(self) -> usize {
        usize::from(self.presence) | usize::from(self.cache) << 1
    }

    fn from_index(index: usize) -> Self {
        Self { presence: index & 1 != 0, cache: index & 2 != 0 }
    }
}

/// One namespace's options, for each kind of name.
#[derive(Debug, Clone)]
struct ByKind([Arc<ChannelOptions>; 4]);

impl ByKind {
    fn new(options: &ChannelOptions) -> Self {
        Self(std::array::from_fn(|index| {
            let kind = Kind::from_index(index);
            let mut options = options.clone();
            if kind.presence {
                options.presence = true;
                options.join_leave = true;
            }
            if kind.cache {
                options.cache_ttl = options.cache_ttl.or(Some(CACHE_TTL));
            }
            Arc::new(options)
        }))
    }

    fn get(&self, name: &str) -> &Arc<ChannelOptions> {
        &self.0[Kind::of(name).index()]
    }
}

/// A namespace as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// The namespace applies to `name:…` (and `$name:…`).
    pub name: String,
    /// It also applies to channels with one of these prefixes.
    pub prefixes: Vec<String>,
    /// The options of its channels.
    pub options: ChannelOptions,
}

/// The options of every channel of an app.
#[derive(Debug, Clone)]
pub struct Namespaces {
    rest: ByKind,
    by_name: HashMap<String, ByKind>,
    /// The longest first.
    by_prefix: Vec<(String, ByKind)>,
    /// The options of internal channels.
    internal: Arc<ChannelOptions>,
}

impl Namespaces {
    /// `rest` are the options of channels outside of every namespace.
    pub fn new(rest: &ChannelOptions, namespaces: &[Namespace]) -> Self {
        let mut by_prefix = Vec::new();
        let mut by_name = HashMap::new();
        for namespace in namespaces {
            let options = ByKind::new(&namespace.options);
            by_prefix.extend(namespace.prefixes.iter().map(|prefix| (prefix.clone(), options.clone())));
            by_name.insert(namespace.name.clone(), options);
        }
        by_prefix.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let internal = ChannelOptions { presence: true, join_leave: true, ..ChannelOptions::default() };
        Self { rest: ByKind::new(rest), by_name, by_prefix, internal: Arc::new(internal) }
    }

    /// The options of the channel with this canonical name. The longest match wins; a namespace's name is compared with
    /// its `:`.
    pub fn options(&self, name: &str) -> &Arc<ChannelOptions> {
        if is_internal(name) {
            return &self.internal;
        }
        let bare = name.strip_prefix('$').unwrap_or(name);
        let named = bare.split_once(':').and_then(|(namespace, _)| self.by_name.get_key_value(namespace));
        let prefixed = self.by_prefix.iter().find(|(prefix, _)| name.starts_with(prefix.as_str()));
        let chosen = match (named, prefixed) {
            (Some((own, _)), Some((prefix, options))) if prefix.len() > own.len() + 1 => options,
            (Some((_, options)), _) | (None, Some((_, options))) => options,
            (None, None) => &self.rest,
        };
        chosen.get(name)
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        Self::new(&ChannelOptions::default(), &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces() -> Namespaces {
        let namespace = |name: &str, prefixes: &[&str], history_size, public| Namespace {
            name: name.to_owned(),
            prefixes: prefixes.iter().map(|&prefix| prefix.to_owned()).collect(),
            options: ChannelOptions { history_size, public, ..ChannelOptions::default() },
        };
        Namespaces::new(
            &ChannelOptions::default(),
            &[
                namespace("chat", &["presence-chat-", "private-"], 1, true),
                namespace("deep", &["private-deep-", "chat:deep-"], 2, true),
                namespace("shut", &[], 3, false),
            ],
        )
    }

    #[test]
    fn every_name_has_one_answer_to_who_may_join() {
        let user = |name| Access::Users(vec![name]);
        let table: [(&str, Access<'_>); 20] = [
            ("news", Access::Open),
            ("cache-news", Access::Open),
            ("a:b", Access::Open),
            ("chat:a", Access::Open),
            ("shut:a", Access::Proof),
            ("private-x", Access::Proof),
            ("private-encrypted-x", Access::Proof),
            ("private-cache-x", Access::Proof),
            ("private-encrypted-cache-x", Access::Proof),
            ("presence-x", Access::Proof),
            ("presence-cache-x", Access::Proof),
            ("$x", Access::Proof),
            ("$shut:x", Access::Proof),
            ("shut:$x", Access::Proof),
            ("chat:$x#a", Access::Proof),
            ("private-x#a", Access::Proof),
            ("#u", user("u")),
            ("#a,b", user("a,b")),
            ("x#a,b", Access::Users(vec!["a", "b"])),
            ("shut:x#a", user("a")),
        ];
        let namespaces = namespaces();
        for (name, expected) in table {
            assert_eq!(access(name, namespaces.options(name)), expected, "{name}");
        }
    }

    #[test]
    fn the_longest_match_decides_the_options() {
        let namespaces = namespaces();
        for (name, history) in [
            ("x", 0),
            ("chat", 0),
            ("chat:x", 1),
            ("$chat:x", 1),
            ("presence-chat-x", 1),
            ("presence-x", 0),
            ("private-x", 1),
            ("private-deep-x", 2),
            ("chat:deep-x", 2),
            ("other:x", 0),
        ] {
            assert_eq!(namespaces.options(name).history_size, history, "{name}");
        }
    }

    #[test]
    fn a_name_says_whether_there_is_presence_and_a_cache() {
        let namespaces = namespaces();
        let of = |name: &str| {
            let options = namespaces.options(name);
            (options.presence, options.join_leave, options.cache_ttl.is_some())
        };
        assert_eq!(of("x"), (false, false, false));
        assert_eq!(of("presence-x"), (true, true, false));
        assert_eq!(of("presence-chat-x"), (true, true, false));
        assert_eq!(of("presence-cache-x"), (true, true, true));
        for name in ["cache-x", "private-cache-x", "private-encrypted-cache-x"] {
            assert_eq!(of(name), (false, false, true), "{name}");
        }
        assert_eq!(of("private-x-cache-"), (false, false, false));
    }

    #[test]
    fn who_is_online_is_the_servers_own_business() {
        let namespaces = namespaces();
        // A user's id may look like anything.
        for user in ["u", "chat:u", "private-deep-u", "#a,b", "$x"] {
            let name = online(user);
            assert_eq!((user_online(&name), &*canonical(&name)), (Some(user), name.as_str()));
            assert!(is_internal(&name) && *name < *AFTER_INTERNAL);
            let options = namespaces.options(&name);
            assert_eq!(access(&name, options), Access::Proof, "{user}");
            assert!(options.presence && options.join_leave && options.history_size == 0, "{user}");
        }
        assert!(!is_internal(" ") && AFTER_INTERNAL < " ");
        assert_eq!(user_online("u"), None);
    }

    #[test]
    fn a_users_channel_has_one_name() {
        assert_eq!(canonical("#server-to-user-u1"), "#u1");
        assert_eq!(canonical("#u1"), "#u1");
        assert_eq!(canonical("private-x"), "private-x");
    }
}
