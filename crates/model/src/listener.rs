//! The listener: a URL that receives the events of some hooks.

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
/// The largest setting for a listener's deliveries in flight.
pub const MAX_CONCURRENCY: u32 = 256;
/// The largest setting for a listener's deliveries per second.
pub const MAX_RATE: u32 = 100_000;

/// The order in which a listener gets its events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// No order: a failing delivery delays no other.
    #[default]
    None,
    /// One after the other, over all events.
    Fifo,
    /// One after the other among events with the same ordering key.
    Key,
}

/// Why a listener is disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disabled {
    /// `by request`, `gone` (410) or `failing`.
    pub reason: String,
    /// When it was disabled (wall time).
    pub at: Millis,
}

/// The name of a webhook format, which decides how a listener's deliveries are written and signed. A door has the
/// format.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Format(Cow<'static, str>);

impl Format {
    /// Standard Webhooks, with the listener's own secret.
    pub const STANDARD: Self = Self::named("standard");

    /// The format with this name.
    pub const fn named(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// The format's name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl Default for Format {
    fn default() -> Self {
        Self::STANDARD
    }
}

/// A URL that receives the events of some hooks.
#[derive(Clone)]
pub struct Listener {
    /// The app that it belongs to.
    pub app: AppId,
    /// Its id.
    pub id: String,
    /// Its number as a destination in the store.
    pub no: DestinationNo,
    /// Where its deliveries go.
    pub url: Url,
    /// A description for people.
    pub description: String,
    /// The hooks that it subscribes to: exact names and patterns.
    pub hooks: Vec<Pattern>,
    /// The match: a filter on the data that would be sent.
    pub filter: Match,
    /// The secrets that sign its deliveries.
    pub keys: KeyRing,
    /// Headers that each delivery carries besides ours. Their values are secrets, and are never shown.
    pub headers: Vec<(String, SecretString)>,
    /// The largest number of deliveries per second.
    pub rate: Option<u32>,
    /// The largest number of deliveries in flight; `None`: the configured number.
    pub concurrency: Option<u32>,
    /// The order in which it gets its events.
    pub order: Order,
    /// How its deliveries are written and signed.
    pub format: Format,
    /// The largest number of events in one request, if the format can carry several.
    pub batch: u32,
    /// Its own timeout, which has precedence over the hook's.
    pub timeout: Option<Duration>,
    /// Its own schedule, which has precedence over the hook's.
    pub schedule: Option<Schedule>,
    /// Set while it is disabled: then nothing is delivered.
    pub disabled: Option<Disabled>,
    /// The app's customer that it belongs to; a free text of the app.
    pub owner: Option<String>,
    /// The catalogue version of its last change.
    pub version: i64,
    /// When it was created (wall time).
    pub created_at: Millis,
    /// When it was last changed (wall time).
    pub updated_at: Millis,
}

impl Listener {
    /// Whether it gets deliveries now.
    pub fn enabled(&self) -> bool {
        self.disabled.is_none()
    }

    /// The lane's ordering key for an event with `event_key`; `None` when deliveries need no order.
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

    /// The timeout of a whole attempt: its own, else the hook's, else the configured one.
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
    /// The name is not an HTTP field name.
    #[error("a header name may contain only letters, digits and !#$%&'*+-.^_`|~")]
    Name,
    /// The value contains a control character or is too long.
    #[error("a header value may contain only visible ASCII, spaces and tabs, at most {MAX_HEADER_LEN} bytes")]
    Value,
    /// The header is set by Tidings or by HTTP itself.
    #[error("this header is set by Tidings or by HTTP itself; choose another name")]
    Reserved,
}

/// Checks a listener's own header, when it is stored and again before it is sent.
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
