//! App webhooks: URLs of an app that receive its channel events (Pusher Channels, "Webhooks").

use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use crate::listener::Format;
use crate::matcher::{Match, MatchError};
use crate::secret::SecretString;
use crate::transition::Kind;

/// The most events of one request.
pub const MAX_BATCH: u32 = 100;
/// The prefix of ids of listeners that stand for webhooks. No other listener's id has it.
const ID_PREFIX: &str = "whk_";
/// The most webhooks of one app.
pub const MAX_WEBHOOKS: usize = 100;

/// A URL, and the channel events that it receives.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// The URL.
    pub url: Url,
    /// The kinds of events.
    pub events: Vec<Kind>,
    /// Only events of channels whose names begin with this.
    pub starts_with: String,
    /// Only events of channels whose names end with this.
    pub ends_with: String,
    /// The largest number of events in one request.
    pub batch: u32,
    /// Headers that each request carries besides its format's.
    pub headers: Vec<(String, SecretString)>,
    /// How requests are written and signed.
    pub format: Format,
}

impl Webhook {
    /// The id of the listener that stands for the webhook. It changes only with the URL and the channels' prefix and
    /// suffix.
    pub fn listener_id(&self) -> String {
        let mut hash = Sha256::new();
        for field in [self.url.as_str(), &self.starts_with, &self.ends_with] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field.as_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        digest[..13].iter().fold(ID_PREFIX.to_owned(), |id, byte| id + &format!("{byte:02x}"))
    }

    /// The filter on channels, as a match on the event's data.
    ///
    /// # Errors
    /// [`MatchError`] when the beginning or the end is too long for a match.
    pub fn filter(&self) -> Result<Match, MatchError> {
        let mut conditions = serde_json::Map::new();
        if !self.starts_with.is_empty() {
            conditions.insert("channel".to_owned(), json!({"starts_with": self.starts_with}));
        }
        if !self.ends_with.is_empty() {
            // A second condition on the same field.
            conditions.insert(".channel".to_owned(), json!({"ends_with": self.ends_with}));
        }
        Match::compile(&conditions.into())
    }
}

/// Whether the listener with this id stands for a webhook: such a listener is changed with its app.
pub fn is_webhook(listener_id: &str) -> bool {
    listener_id.starts_with(ID_PREFIX)
}

/// The name of a kind in an app's webhooks.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Occupied => "channel_occupied",
        Kind::Vacated => "channel_vacated",
        Kind::MemberAdded => "member_added",
        Kind::MemberRemoved => "member_removed",
        Kind::SubscriptionCount => "subscription_count",
        Kind::ClientEvent => "client_event",
        Kind::CacheMiss => "cache_miss",
    }
}

/// The kind with this name in an app's webhooks.
pub fn kind_of_name(name: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind_name(*kind) == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Data;
    use crate::matcher::Document;

    fn webhook(url: &str, starts_with: &str, ends_with: &str) -> Webhook {
        let (starts_with, ends_with) = (starts_with.to_owned(), ends_with.to_owned());
        Webhook {
            url: url.parse().unwrap(),
            events: Vec::new(),
            starts_with,
            ends_with,
            batch: 1,
            headers: Vec::new(),
            format: Format::STANDARD,
        }
    }

    #[test]
    fn channels_are_chosen_by_how_their_names_begin_and_end() {
        for (starts_with, ends_with, wanted) in [("", "", [true; 3]), ("a-", "", [true, true, false])] {
            check(starts_with, ends_with, wanted);
        }
        check("", "-z", [true, false, true]);
        check("a-", "-z", [true, false, false]);
    }

    fn check(starts_with: &str, ends_with: &str, wanted: [bool; 3]) {
        let filter = webhook("https://a.example", starts_with, ends_with).filter().unwrap();
        for (channel, wanted) in ["a-z", "a-b", "b-z"].into_iter().zip(wanted) {
            let data = Data::json(json!({"channel": channel}).to_string());
            assert_eq!(filter.matches(&Document::of(None, &data)), wanted, "{channel} {starts_with} {ends_with}");
        }
    }

    #[test]
    fn a_webhook_keeps_its_listener_while_its_url_and_channels_are_the_same() {
        let id = webhook("https://a.example", "a", "b").listener_id();
        assert_eq!(webhook("https://a.example/", "a", "b").listener_id(), id);
        for other in
            [("https://a.example/x", "a", "b"), ("https://a.example", "ab", ""), ("https://a.example", "", "ab")]
        {
            assert_ne!(webhook(other.0, other.1, other.2).listener_id(), id);
        }
    }

    #[test]
    fn names_of_kinds_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind_of_name(kind_name(kind)), Some(kind));
        }
        assert_eq!(kind_of_name("channel_exists"), None);
    }
}
