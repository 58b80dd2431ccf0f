//! Durations and sizes as people write them.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

/// A duration such as `"15s"`, as the API writes them.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawDuration(pub(super) Duration);

impl<'de> Deserialize<'de> for RawDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOf {
            expected: "a duration such as \"15s\"",
            read: |text| duration(text).map(Self),
            whole: None,
        })
    }
}

/// A size such as `"10KiB"`, or a number of bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawSize(pub(super) u64);

impl RawSize {
    /// The size as a `usize`, saturating.
    pub(super) fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl<'de> Deserialize<'de> for RawSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOf {
            expected: "a size such as \"10KiB\"",
            read: |text| size(text).map(Self),
            whole: Some(Self),
        })
    }
}

struct TextOf<T> {
    expected: &'static str,
    read: fn(&str) -> Result<T, String>,
    whole: Option<fn(u64) -> T>,
}

impl<T> Visitor<'_> for TextOf<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match (self.whole, u64::try_from(number)) {
            (Some(whole), Ok(number)) => Ok(whole(number)),
            _ => Err(E::invalid_type(de::Unexpected::Signed(number), &self)),
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    tidings_model::schedule::parse_duration(text).map_err(|error| error.to_string())
}

/// Reads a size: a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB` (1,024 each), or `kB`, `MB`, `GB`, `TB` (1,000
/// each).
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write it as \"10KiB\", \"64MiB\" or \"10GiB\"");
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit: u64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(|| format!("{text:?} is more than any machine has"))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_read() {
        let check = |text: &str, bytes: Option<u64>| assert_eq!(size(text).ok(), bytes, "{text:?}");
        check("10KiB", Some(10_240));
        check("1 MiB", Some(1 << 20));
        check("10GiB", Some(10 << 30));
        check("2kB", Some(2_000));
        check("7", Some(7));
        check("", None);
        check("KiB", None);
        check("1.5MiB", None);
        check("10 KiBs", None);
        check("99999999999TiB", None);
    }
}
