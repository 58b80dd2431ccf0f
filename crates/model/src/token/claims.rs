//! The claims of a token.

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::clock::Millis;

/// The claims that an app makes about its client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The client's user; never empty.
    pub sub: Option<String>,
    /// The channels that it may join, as the app wrote them.
    pub channels: Vec<String>,
    /// The only channel that the token is for; such a token proves nothing else.
    pub channel: Option<String>,
    /// When the token expires, in Unix milliseconds; `None`: never.
    pub exp: Option<Millis>,
    /// The member info, which other clients see: one JSON value.
    pub info: Option<Bytes>,
}

impl Claims {
    /// Whether the claims name this channel. `channel` is canonical; the names in the claims need not be.
    pub fn names(&self, channel: &str) -> bool {
        let same = |named: &String| crate::policy::canonical(named) == channel;
        self.channels.iter().any(same) || self.channel.iter().any(same)
    }
}

/// The claims as JSON. Unknown claims are ignored.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct WireClaims {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    channels: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(default, deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<Seconds>,
    #[serde(default, deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<Seconds>,
    #[serde(default, deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    pub(super) iat: Option<Seconds>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    info: Option<Box<RawValue>>,
}

/// A time of a token, in Unix seconds, kept in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(pub(super) Millis);

impl Serialize for Seconds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.0.div_euclid(1_000))
    }
}

/// Reads a time. If it is present it must be a number (RFC 7519 § 2, NumericDate, may have a fraction): ignoring an
/// unreadable time would make the token valid for longer than intended.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Seconds>, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(D::Error::custom("a time is a number of Unix seconds"));
    }
    // The cast saturates at the largest number, which is as good as never.
    Ok(Some(Seconds((seconds * 1_000.0) as Millis)))
}

impl WireClaims {
    /// Reads claims from a JSON object. An array of the values, which serde would accept too, is refused.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        if json.trim_ascii_start().first() == Some(&b'{') { serde_json::from_slice(json).ok() } else { None }
    }

    /// The claims of a token that we issue.
    pub(super) fn of(claims: &Claims, wall_now: Millis) -> Option<Self> {
        let info = match &claims.info {
            Some(info) => Some(serde_json::from_slice::<&RawValue>(info).ok()?.to_owned()),
            None => None,
        };
        Some(Self {
            sub: claims.sub.clone(),
            channels: claims.channels.clone(),
            channel: claims.channel.clone(),
            exp: claims.exp.map(Seconds),
            nbf: None,
            iat: Some(Seconds(wall_now)),
            info,
        })
    }
}

impl From<WireClaims> for Claims {
    fn from(written: WireClaims) -> Self {
        Self {
            // An empty user means no user, as in Centrifugo.
            sub: written.sub.filter(|sub| !sub.is_empty()),
            channels: written.channels,
            channel: written.channel,
            exp: written.exp.map(|Seconds(exp)| exp),
            info: written.info.map(|info| Bytes::from(info.get().to_owned())),
        }
    }
}
