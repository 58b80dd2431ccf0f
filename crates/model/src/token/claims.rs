//! What a token says.

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::clock::Millis;

/// What an app says of its client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The user that the client is; never empty.
    pub sub: Option<String>,
    /// The channels that it may join, as the app wrote them.
    pub channels: Vec<String>,
    /// The one channel that the token is for: such a token proves nothing else.
    pub channel: Option<String>,
    /// When it ends, in Unix milliseconds; `None`: never.
    pub exp: Option<Millis>,
    /// What the client shows of itself to others: one JSON value.
    pub info: Option<Bytes>,
}

impl Claims {
    /// Whether it proves that its client may join this channel, by any of its names (both canonical).
    pub fn names(&self, channel: &str) -> bool {
        let same = |named: &String| crate::policy::canonical(named) == channel;
        self.channels.iter().any(same) || self.channel.iter().any(same)
    }
}

/// The claims as they are written. Others are passed over.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Written {
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

/// A time that is there has to be a number: one that could not be read would be one that does not hold (RFC 7519 § 2,
/// NumericDate, may have a fraction).
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Seconds>, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(D::Error::custom("a time is a number of Unix seconds"));
    }
    // Casting stops at the largest number, which is as good as never.
    Ok(Some(Seconds((seconds * 1_000.0) as Millis)))
}

impl Written {
    /// Reads a JSON object, and no list of values in the same order.
    pub(super) fn read(json: &[u8]) -> Option<Self> {
        if json.trim_ascii_start().first() == Some(&b'{') { serde_json::from_slice(json).ok() } else { None }
    }

    /// As they are written by us.
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

impl From<Written> for Claims {
    fn from(written: Written) -> Self {
        Self {
            // The empty user is nobody, as with Centrifugo.
            sub: written.sub.filter(|sub| !sub.is_empty()),
            channels: written.channels,
            channel: written.channel,
            exp: written.exp.map(|Seconds(exp)| exp),
            info: written.info.map(|info| Bytes::from(info.get().to_owned())),
        }
    }
}
