//! The names of keys. All keys of a channel have the hash tag `{app:channel}`, so that a cluster keeps them in one
//! slot. A master's other keys have a hash tag in one of the master's own slots.

use tidings_model::channel::ChannelKey;
use tidings_model::id::AppId;

const PREFIX: &str = "tidings:{";

/// The keys of a server that do not belong to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeySpace {
    tag: String,
}

impl KeySpace {
    /// The keys of a single server.
    pub(super) fn alone() -> Self {
        Self { tag: "tidings".to_owned() }
    }

    /// The keys of a cluster's master, in this slot of the master.
    pub(super) fn in_slot(slot: u16) -> Self {
        let tags = (0_u32..).map(|n| format!("tidings-{n}"));
        let tag = tags.into_iter().find(|tag| slot_of_tag(tag.as_bytes()) == slot).unwrap_or_default();
        Self { tag }
    }

    /// Sorted set: when each node's lease ends.
    pub(super) fn nodes(&self) -> String {
        format!("{{{}}}:nodes", self.tag)
    }

    /// Hash: the run id of the server that the data belongs to, and the data's generation.
    pub(super) fn generation(&self) -> String {
        format!("{{{}}}:generation", self.tag)
    }

    /// The pub/sub channel for orders to all nodes.
    pub(super) fn control(&self) -> String {
        format!("{{{}}}:control", self.tag)
    }

    /// Sorted set: the channels in which a node may have sessions, as [`indexed`] writes them, in byte order.
    pub(super) fn index(&self, node: &str) -> String {
        format!("{{{}}}:channels:{node}", self.tag)
    }
}

/// The pub/sub channel of a channel's messages; also the prefix of the channel's keys.
pub(super) fn pubsub_channel(channel: &ChannelKey) -> String {
    let app = channel.app.as_str().replace('%', "%25").replace(':', "%3A");
    format!("{PREFIX}{app}:{}}}", channel.name)
}

/// The channel of a pub/sub channel.
pub(super) fn channel(pubsub_channel: &str) -> Option<ChannelKey> {
    let (app, name) = pubsub_channel.strip_prefix(PREFIX)?.strip_suffix('}')?.split_once(':')?;
    Some(ChannelKey::new(app.replace("%3A", ":").replace("%25", "%").into(), name))
}

/// The keys that a channel's scripts get, in the scripts' order. The last key holds the node's sessions in the channel.
pub(super) fn of_channel(pubsub_channel: &str, node: &str) -> [String; 5] {
    let key = |what: &str| format!("{pubsub_channel}:{what}");
    [key("meta"), key("log"), key("cache"), key("users"), format!("{pubsub_channel}:here:{node}")]
}

/// A channel as an index has it: by app, then by name.
pub(super) fn indexed(channel: &ChannelKey) -> Vec<u8> {
    in_index(&channel.app, &channel.name)
}

/// A name, or the prefix of one, as an index has it.
pub(super) fn in_index(app: &AppId, name: &str) -> Vec<u8> {
    [app.as_str().as_bytes(), b"\0", name.as_bytes()].concat()
}

/// The channel of an index entry.
pub(super) fn of_index(member: &[u8]) -> Option<ChannelKey> {
    let (app, name) = std::str::from_utf8(member).ok()?.split_once('\0')?;
    Some(ChannelKey::new(app.into(), name))
}

/// The number of slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a channel's keys (Redis Cluster specification, "Key distribution model", "Hash tags").
pub(super) fn slot(channel: &ChannelKey) -> u16 {
    let pubsub_channel = pubsub_channel(channel);
    let behind = pubsub_channel.get(PREFIX.len()..).unwrap_or_default();
    let tag = behind.split('}').next().unwrap_or_default();
    slot_of_tag(tag.as_bytes())
}

fn slot_of_tag(tag: &[u8]) -> u16 {
    crc16(tag) % SLOTS
}

/// CRC-16/XMODEM, as the cluster specification requires.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_channels_share_a_key_and_each_is_found_again() {
        let all =
            [("1", "c"), ("1:2", "c"), ("1", "2:c"), ("1%3A2", "c"), ("1", "a}b"), ("1", "{}"), ("1", "ns:$ä #u")];
        let mut pubsub_channels = Vec::new();
        for (app, name) in all {
            let key = ChannelKey::new(app.into(), name);
            assert_eq!(channel(&pubsub_channel(&key)), Some(key.clone()));
            assert_eq!(of_index(&indexed(&key)), Some(key.clone()));
            assert!(!pubsub_channels.contains(&pubsub_channel(&key)), "{key:?}");
            pubsub_channels.push(pubsub_channel(&key));
        }
        assert_eq!(channel(&KeySpace::alone().control()), None);
        assert_eq!(channel(&KeySpace::in_slot(0).control()), None);
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // As `CLUSTER KEYSLOT` answers for the channels' keys.
        for (name, expected) in [("c", 1_038), ("a}b", 9_292), ("ns:$ä #u", 12_985)] {
            assert_eq!(slot(&ChannelKey::new("1".into(), name)), expected, "{name}");
        }
        for slot in [0, 1, SLOTS / 2, SLOTS - 1] {
            assert_eq!(slot_of_tag(KeySpace::in_slot(slot).tag.as_bytes()), slot);
        }
    }
}
