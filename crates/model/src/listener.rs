//! The listener: somebody's URL that wants hooks' events.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use url::Url;

use crate::clock::Millis;
use crate::hook::DeliveryDefaults;
use crate::id::{AppId, DestinationNo};
use crate::matcher::Match;
use crate::pattern::Pattern;
use crate::schedule::Schedule;
use crate::secret::SecretString;
use crate::signature::KeyRing;

/// The longest URL, in bytes.
pub const MAX_URL_LEN: usize = 2_048;
/// The most hook names and patterns of one listener.
pub const MAX_HOOKS: usize = 100;
/// The most headers of one listener.
pub const MAX_HEADERS: usize = 20;
/// The longest header value, in bytes.
pub const MAX_HEADER_LEN: usize = 2_048;
/// The most deliveries that may be under way to one listener.
pub const MAX_CONCURRENCY: u32 = 256;
/// The most deliveries per second that a listener may ask to be limited to.
pub const MAX_RATE: u32 = 100_000;

/// In which order a listener gets its events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As they come; a failing one holds up nothing.
    #[default]
    None,
    /// One after the other, all of them.
    Fifo,
    /// One after the other among those with the same key.
    Key,
}

/// Why a listener gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    /// `by request`, `gone` (410) or `failing`.
    pub reason: String,
    /// Since when.
    pub at: Millis,
}

/// How a listener's deliveries are written and signed: the name of the form, which the outlet of a door knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Format(Cow<'static, str>);

impl Format {
    /// Standard Webhooks, with the listener's own secret.
    pub const STANDARD: Self = Self::named("standard");

    /// The form of this name.
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::STANDARD
    }
}

/// Somebody's URL that wants hooks' events.
#[derive(Clone)]
pub struct Listener {
    /// Whose it is.
    pub app: AppId,
    /// Its id.
    pub id: String,
    /// Its number as a destination in the store.
    pub no: DestinationNo,
    /// Where its deliveries go.
    pub url: Url,
    /// For people.
    pub description: String,
    /// Which hooks it wants: exact names and patterns.
    pub hooks: Vec<Pattern>,
    /// Which of their events: a filter on what would be sent.
    pub filter: Match,
    /// What its deliveries are signed with.
    pub keys: KeyRing,
    /// Headers that each delivery carries besides ours. Values are secrets: shown to nobody.
    pub headers: Vec<(String, SecretString)>,
    /// Deliveries per second at most.
    pub rate: Option<u32>,
    /// Deliveries under way at most; `None` takes the configured number.
    pub concurrency: Option<u32>,
    /// In which order it gets its events.
    pub order: Order,
    /// How they are written and signed.
    pub format: Format,
    /// How many of them one request carries at most, where the format has a place for several.
    pub batch: u32,
    /// Its own timeout, before the hook's.
    pub timeout: Option<Duration>,
    /// Its own schedule, before the hook's.
    pub schedule: Option<Schedule>,
    /// Set while it gets nothing.
    pub disabled: Option<Disabled>,
    /// Whose it is among the app's customers; free text of the app's.
    pub owner: Option<String>,
    /// The catalogue version of its last change.
    pub version: i64,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last changed.
    pub updated_at: Millis,
}

impl Listener {
    /// Whether it gets deliveries now.
    pub fn enabled(&self) -> bool {
        self.disabled.is_none()
    }

    /// The ordering key of its delivery of an event with `event_key`; `None` when deliveries need no order.
    pub fn lane<'e>(&self, event_key: Option<&'e str>) -> Option<&'e str> {
        match self.order {
            Order::None => None,
            Order::Fifo => Some(""),
            Order::Key => Some(event_key.unwrap_or("")),
        }
    }

    /// The schedule of its deliveries: its own, else the hook's, else the configured one.
    pub fn schedule<'a>(&'a self, hook: Option<&'a DeliveryDefaults>, configured: &'a Schedule) -> &'a Schedule {
        self.schedule.as_ref().or_else(|| hook.and_then(|h| h.schedule.as_ref())).unwrap_or(configured)
    }

    /// The whole time one attempt may take: its own, else the hook's, else the configured one.
    pub fn timeout(&self, hook: Option<&DeliveryDefaults>, configured: Duration) -> Duration {
        self.timeout.or_else(|| hook.and_then(|h| h.timeout)).unwrap_or(configured)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("app", &self.app)
            .field("id", &self.id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Why a header of a listener was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Not an HTTP field name.
    #[error("a header name holds only letters, digits and !#$%&'*+-.^_`|~")]
    Name,
    /// Holds a control character or is too long.
    #[error("a header value holds visible ASCII, spaces and tabs, at most {MAX_HEADER_LEN} bytes")]
    Value,
    /// A header that only we may set.
    #[error("this header is set by Tidings or by HTTP itself; choose another name")]
    Reserved,
}

/// Checks a header that a listener asks for, when it is stored and again before it is sent.
///
/// # Errors
/// [`BadHeader`] for a name or value that HTTP does not allow, and for names that would let a tenant change where a
/// request goes, how long it is, or what its signature says.
pub fn check_header(name: &str, value: &str) -> Result<(), BadHeader> {
    const RESERVED: [&str; 14] = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "accept-encoding",
        "user-agent",
        "date",
    ];
    if name.is_empty() || name.len() > 100 || http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(BadHeader::Name);
    }
    let name = name.to_ascii_lowercase();
    if RESERVED.contains(&name.as_str()) || ["proxy-", "webhook-", "svix-"].iter().any(|p| name.starts_with(p)) {
        return Err(BadHeader::Reserved);
    }
    let visible = |b: u8| b == b'\t' || (0x20..0x7f).contains(&b);
    if value.len() > MAX_HEADER_LEN || !value.bytes().all(visible) {
        return Err(BadHeader::Value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: I01, I02
    #[test]
    fn headers_that_could_change_the_request_are_refused() {
        for name in [
            "Host",
            "content-LENGTH",
            "Transfer-Encoding",
            "Connection",
            "TE",
            "Expect",
            "Proxy-Authorization",
            "Webhook-Id",
            "svix-signature",
        ] {
            assert_eq!(check_header(name, "x"), Err(BadHeader::Reserved), "{name}");
        }
        for name in ["", "a b", "a:b", "a\r\nb", "a\0", "ä"] {
            assert_eq!(check_header(name, "x"), Err(BadHeader::Name), "{name:?}");
        }
        for value in ["a\r\nHost: evil", "a\nb", "a\0b", "ä", &"x".repeat(MAX_HEADER_LEN + 1)] {
            assert_eq!(check_header("x-token", value), Err(BadHeader::Value), "{value:?}");
        }
        assert_eq!(check_header("Authorization", "Bearer abc"), Ok(()));
    }
}
