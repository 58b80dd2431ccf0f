//! How keys are named. All keys of a channel have the tag `{app:channel}`, so that a cluster keeps them together.

use tidings_model::channel::ChannelKey;
use tidings_model::id::AppId;

const PREFIX: &str = "tidings:{";
/// When each node's lease ends.
pub(super) const NODES: &str = "{tidings}:nodes";
/// Which server the data is of, and how often that has changed.
pub(super) const GENERATION: &str = "{tidings}:generation";
/// Where orders to all nodes are told.
pub(super) const CONTROL: &str = "{tidings}:control";

/// Where a channel's messages are told; its keys begin so.
pub(super) fn voice(channel: &ChannelKey) -> String {
    let app = channel.app.as_str().replace('%', "%25").replace(':', "%3A");
    format!("{PREFIX}{app}:{}}}", channel.name)
}

/// The channel whose messages are told there.
pub(super) fn channel(voice: &str) -> Option<ChannelKey> {
    let (app, name) = voice.strip_prefix(PREFIX)?.strip_suffix('}')?.split_once(':')?;
    Some(ChannelKey::new(app.replace("%3A", ":").replace("%25", "%").into(), name))
}

/// The keys that scripts of a channel get, in their order; the last one is of a node's sessions in it.
pub(super) fn of_channel(voice: &str, node: &str) -> [String; 5] {
    let key = |what: &str| format!("{voice}:{what}");
    [key("meta"), key("log"), key("cache"), key("users"), format!("{voice}:here:{node}")]
}

/// The channels in which a node may have sessions, as [`indexed`] names them, in the order of their bytes.
pub(super) fn index(node: &str) -> String {
    format!("{{tidings}}:channels:{node}")
}

/// A channel as it stands in an index: by app, then by name.
pub(super) fn indexed(channel: &ChannelKey) -> Vec<u8> {
    in_index(&channel.app, &channel.name)
}

/// A name, or how one begins, as it stands in an index.
pub(super) fn in_index(app: &AppId, name: &str) -> Vec<u8> {
    [app.as_str().as_bytes(), b"\0", name.as_bytes()].concat()
}

/// The channel that an index names so.
pub(super) fn of_index(member: &[u8]) -> Option<ChannelKey> {
    let (app, name) = std::str::from_utf8(member).ok()?.split_once('\0')?;
    Some(ChannelKey::new(app.into(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_channels_share_a_key_and_each_is_found_again() {
        let all =
            [("1", "c"), ("1:2", "c"), ("1", "2:c"), ("1%3A2", "c"), ("1", "a}b"), ("1", "{}"), ("1", "ns:$ä #u")];
        let mut voices = Vec::new();
        for (app, name) in all {
            let key = ChannelKey::new(app.into(), name);
            assert_eq!(channel(&voice(&key)), Some(key.clone()));
            assert_eq!(of_index(&indexed(&key)), Some(key.clone()));
            assert!(!voices.contains(&voice(&key)), "{key:?}");
            voices.push(voice(&key));
        }
        assert_eq!(channel(CONTROL), None);
    }
}
