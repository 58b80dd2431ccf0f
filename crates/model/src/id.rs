//! Ids: their form, and how they are made and checked.
//!
//! Tidings' own ids sort by the time at which they were made, and contain no `.`: Standard Webhooks signs
//! `id.timestamp.body`, so a dot in an id would make that ambiguous (Standard Webhooks 1.0, "Signature scheme").

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest id a caller may give to an event, in bytes.
pub const MAX_ID_LEN: usize = 128;

/// The prefix of ids of Tidings' own events.
pub const RESERVED_ID_PREFIX: &str = "tidings_";

/// The id of an app: the tenant that everything else belongs to. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct AppId(Arc<str>);

impl AppId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AppId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for AppId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<AppId> for String {
    fn from(id: AppId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// An event's number in the store's log: grows with time, unique over all apps. Its upper bits are the Unix millisecond
/// in which the event was stored, so a range of numbers is a range of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventNo(pub i64);

impl EventNo {
    /// The number of bits below the millisecond, which tell apart events of the same millisecond.
    pub const COUNTER_BITS: u32 = 20;

    /// The first number of a millisecond.
    pub fn first_of(ms: i64) -> Self {
        Self(ms.clamp(0, i64::MAX >> Self::COUNTER_BITS) << Self::COUNTER_BITS)
    }

    /// The millisecond in which the event was stored.
    pub fn millis(self) -> i64 {
        self.0 >> Self::COUNTER_BITS
    }

    /// The number after this one for an event stored at `now_ms`: never lower, even when the clock went back.
    pub fn next(self, now_ms: i64) -> Self {
        Self((self.0 + 1).max(Self::first_of(now_ms).0))
    }
}

/// The number of a destination (a listener) in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationNo(pub i64);

/// Identifies a delivery: one event for one destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeliveryKey {
    /// The app both belong to.
    pub app: AppId,
    /// The event.
    pub event: EventNo,
    /// The destination.
    pub destination: DestinationNo,
}

impl DeliveryKey {
    /// The id that the API shows: `dlv_` and 26 characters that sort by the event's time.
    pub fn id(&self) -> String {
        let bits = ((self.event.0 as u64 as u128) << 64) | u128::from(self.destination.0 as u64);
        format!("dlv_{}", base32(bits))
    }

    /// Reads what [`DeliveryKey::id`] wrote; `None` for anything else.
    pub fn parse(app: &AppId, id: &str) -> Option<Self> {
        let bits = unbase32(id.strip_prefix("dlv_")?)?;
        let event = i64::try_from((bits >> 64) as u64).ok()?;
        let destination = i64::try_from(bits as u64).ok()?;
        Some(Self { app: app.clone(), event: EventNo(event), destination: DestinationNo(destination) })
    }
}

/// The id as the API shows it.
impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id())
    }
}

/// A new id: `prefix_` and 26 characters (a UUID version 7 in Crockford's base 32). It sorts by time and has 74 random
/// bits.
pub fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", base32(uuid::Uuid::now_v7().as_u128()))
}

/// The caller's id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "an id has 1 to {MAX_ID_LEN} characters from A-Z, a-z, 0-9, _ and - (no dot: ids are signed as id.timestamp.body), \
    and does not begin with {RESERVED_ID_PREFIX}"
)]
pub struct BadId;

/// Checks an id that a caller chose for an event.
///
/// # Errors
/// [`BadId`] when it is empty, too long, holds another character than `A-Za-z0-9_-`, or begins with
/// [`RESERVED_ID_PREFIX`].
pub fn check_id(id: &str) -> Result<(), BadId> {
    let fine = !id.is_empty()
        && id.len() <= MAX_ID_LEN
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && !id.starts_with(RESERVED_ID_PREFIX);
    if fine { Ok(()) } else { Err(BadId) }
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn base32(bits: u128) -> String {
    (0..26).rev().map(|i| char::from(ALPHABET[((bits >> (5 * i)) & 31) as usize])).collect()
}

fn unbase32(text: &str) -> Option<u128> {
    if text.len() != 26 {
        return None;
    }
    text.bytes().enumerate().try_fold(0u128, |bits, (i, byte)| {
        let value = ALPHABET.iter().position(|&c| c == byte)? as u128;
        // 26 characters hold 130 bits: the first may only be 0 to 7.
        if i == 0 && value > 7 { None } else { Some((bits << 5) | value) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: I03
    #[test]
    fn ids_sort_by_time_and_hold_no_dot() {
        let ids: Vec<String> = (0..1000).map(|_| new_id("evt")).collect();
        let mut sorted = ids.clone();
        sorted.sort();
        assert_eq!(ids, sorted);
        assert!(ids.iter().all(|id| check_id(id).is_ok() && !id.contains('.')));
        for bad in ["", "a.b", "tidings_x", "a b", "å", "a\r\nx", &"x".repeat(MAX_ID_LEN + 1)] {
            assert_eq!(check_id(bad), Err(BadId), "{bad:?}");
        }
    }

    #[test]
    fn a_delivery_id_reads_back_and_belongs_to_the_asking_app() {
        let app = AppId::from("1");
        let key = DeliveryKey {
            app: app.clone(),
            event: EventNo::first_of(1_763_719_000_000),
            destination: DestinationNo(7),
        };
        assert_eq!(DeliveryKey::parse(&app, &key.id()), Some(key.clone()));
        assert_eq!(DeliveryKey::parse(&AppId::from("2"), &key.id()).map(|k| k.app), Some(AppId::from("2")));
        for bad in [
            "",
            "dlv_",
            "dlv_zzzzzzzzzzzzzzzzzzzzzzzzzz",
            "evt_00000000000000000000000000",
            "dlv_0000000000000000000000000é",
        ] {
            assert_eq!(DeliveryKey::parse(&app, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn event_numbers_never_go_back() {
        let first = EventNo(0).next(1_000);
        let second = first.next(1_000);
        let after_clock_went_back = second.next(10);
        assert!(first < second && second < after_clock_went_back);
        assert_eq!(first.millis(), 1_000);
    }
}
