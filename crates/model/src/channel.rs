//! Channels, session ids, positions, members and channel options. [`crate::policy`] decides what a channel's name
//! allows.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::id::AppId;

/// The longest id of a user, in bytes: what OpenID Connect allows a `sub`.
pub const MAX_USER_LEN: usize = 255;

/// Whether a user may have this id, whatever proved it: 1 to [`MAX_USER_LEN`] bytes without control characters.
pub fn is_user_id(id: &str) -> bool {
    (1..=MAX_USER_LEN).contains(&id.len()) && !id.contains(char::is_control)
}

/// A channel of an app. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey {
    /// The app that it belongs to.
    pub app: AppId,
    /// Its name in canonical form ([`crate::policy::canonical`]).
    pub name: Arc<str>,
}

impl ChannelKey {
    /// A key with a name that is canonical already.
    pub fn new(app: AppId, name: impl Into<Arc<str>>) -> Self {
        Self { app, name: name.into() }
    }
}

/// The id of a live session, unique over all nodes and hard to guess: Pusher's `socket_id`, Centrifugo's `client`.
/// Written as two decimal numbers with a dot between (`^\d+\.\d+$`), because Pusher's libraries require that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// The id made of 128 random bits.
    pub fn from_random(bits: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bits))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", (self.0 >> 64) as u64, self.0 as u64)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a session id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a session id is two numbers with a dot between, as in 123.456")]
pub struct BadSessionId;

impl FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, BadSessionId> {
        let part = |digits: &str| {
            let fine = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            fine.then(|| digits.parse::<u64>().ok()).flatten().ok_or(BadSessionId)
        };
        let (high, low) = text.split_once('.').ok_or(BadSessionId)?;
        Ok(Self((u128::from(part(high)?) << 64) | u128::from(part(low)?)))
    }
}

/// The life of a channel's history. Offsets of different epochs cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// Reads an epoch that a client has sent back, or a broker has made: 1 to 32 characters from `A-Za-z0-9-`.
    pub fn parse(text: &str) -> Option<Self> {
        let fine = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fine.then(|| Self(text.into()))
    }

    /// The epoch of 64 random bits.
    pub fn from_random(bits: [u8; 8]) -> Self {
        Self(format!("{:x}", u64::from_be_bytes(bits)).into())
    }

    /// The epoch as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A position in a channel's history: that of the newest publication a reader has seen. Offsets count from 1 without a
/// gap; 0 is before the first publication.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// The number of the publication in its epoch.
    pub offset: u64,
    /// The epoch of the history.
    pub epoch: Epoch,
}

impl fmt::Display for Position {
    /// The form that clients keep: `epoch:offset`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch.as_str(), self.offset)
    }
}

/// The text is not a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a position; pass one on as it came with an event, such as 5f3c:17")]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let (epoch, offset) = text.split_once(':').ok_or(BadPosition)?;
        let is_number = !offset.is_empty() && offset.bytes().all(|b| b.is_ascii_digit());
        let offset = offset.parse().ok().filter(|_| is_number).ok_or(BadPosition)?;
        Ok(Self { offset, epoch: Epoch::parse(epoch).ok_or(BadPosition)? })
    }
}

/// A user's id as the app wrote it: a JSON string or a JSON number, and it is passed on in the same form. Both forms
/// are
/// the same user: ids are compared, ordered and looked up by their text. Cheap to clone.
#[derive(Clone)]
pub struct UserId {
    text: Arc<str>,
    is_number: bool,
}

impl UserId {
    /// An id that the app wrote as a JSON number, by its text.
    pub fn number(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), is_number: true }
    }

    /// The id's text, shared.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Whether the app wrote it as a JSON number. Then its text is that number.
    pub fn is_number(&self) -> bool {
        self.is_number
    }
}

impl<T: Into<Arc<str>>> From<T> for UserId {
    /// An id that the app wrote as a string.
    fn from(text: T) -> Self {
        Self { text: text.into(), is_number: false }
    }
}

impl std::ops::Deref for UserId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for UserId {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl PartialEq for UserId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for UserId {}

impl PartialOrd for UserId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for UserId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_number { f.write_str(&self.text) } else { fmt::Debug::fmt(&self.text, f) }
    }
}

/// A member of a channel: a user, with the info that one of their sessions shows to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user's id; not empty, because sessions without a user are counted but are no members.
    pub user: UserId,
    /// The member info: one JSON value, or `None`.
    pub info: Option<bytes::Bytes>,
}

/// The options of a channel: those of its namespace, adjusted by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Whether any session may join, unless the name requires a proof.
    pub public: bool,
    /// The number of publications kept; 0: no history, and publications have no offsets.
    pub history_size: u32,
    /// How long each publication is kept.
    pub history_ttl: Duration,
    /// How many publications of the history a session gets when it joins through Pusher's protocol.
    pub replay: u32,
    /// Whether members are kept and listed.
    pub presence: bool,
    /// Whether the sessions of the channel receive join and leave messages.
    pub join_leave: bool,
    /// The name of publications that have none.
    pub event_name: String,
    /// How long the last publication is kept for sessions that join later; `None`: it is not kept.
    pub cache_ttl: Option<Duration>,
    /// Whether the sessions receive the subscription count when it changes (Pusher's `subscription_count`).
    pub subscription_count: bool,
    /// The largest number of users present at one time.
    pub max_members: usize,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            public: true,
            history_size: 0,
            history_ttl: Duration::from_secs(300),
            replay: 0,
            presence: false,
            join_leave: false,
            event_name: "message".to_owned(),
            cache_ttl: None,
            subscription_count: false,
            max_members: 100,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_reads_back_and_is_what_pushers_libraries_accept() {
        let id = SessionId::from_random([0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.split('.').count(), 2);
        assert!(text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())), "{text}");
        assert_eq!("1.2".parse::<SessionId>().map(|id| id.to_string()), Ok("1.2".to_owned()));
        for bad in ["", ".", "1.", ".1", "1", "1.2.3", "+1.2", "1.-2", "a.b", "18446744073709551616.1", "1.2\n"] {
            assert_eq!(bad.parse::<SessionId>(), Err(BadSessionId), "{bad:?}");
        }
    }

    #[test]
    fn a_user_is_known_by_the_text_of_their_id() {
        let (number, text) = (UserId::number("10"), UserId::from("10"));
        assert_eq!(number, text);
        assert_eq!(number.cmp(&text), Ordering::Equal);
        assert!(number.is_number() && !text.is_number());
        assert_eq!((format!("{number:?}"), format!("{text:?}")), ("10".to_owned(), "\"10\"".to_owned()));
    }

    #[test]
    fn a_position_reads_back() {
        let position = Position { offset: u64::MAX, epoch: Epoch::from_random([255; 8]) };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", ":", "a", "a:", ":1", "a:+1", "a:-1", "a:1:2", "a b:1", "a:18446744073709551616"] {
            assert_eq!(bad.parse::<Position>(), Err(BadPosition), "{bad:?}");
        }
    }

    #[test]
    fn an_epoch_holds_nothing_that_would_break_a_cursor() {
        assert!(Epoch::parse(Epoch::from_random([1, 2, 3, 4, 5, 6, 7, 8]).as_str()).is_some());
        for bad in ["", "a b", "a:b", "a.b", "ä", &"x".repeat(33)] {
            assert_eq!(Epoch::parse(bad), None, "{bad:?}");
        }
    }
}
