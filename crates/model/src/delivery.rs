//! Deliveries and attempts.

use std::time::Duration;

use crate::clock::Millis;

/// The largest part of a response's body that an attempt keeps, in bytes.
pub const MAX_KEPT_BODY: usize = 16 * 1024;

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Attempts are still to come, or one is in flight.
    Pending,
    /// The destination accepted it.
    Delivered,
    /// Every attempt failed, or the destination is gone. It can be retried by hand.
    Undelivered,
    /// Its listener was deleted.
    Canceled,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Undelivered, Self::Canceled];

    /// The word the API and the store use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Undelivered => "undelivered",
            Self::Canceled => "canceled",
        }
    }

    /// Reads [`DeliveryState::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// One HTTP request that tries to make a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The number of the attempt; the first is 1.
    pub n: u32,
    /// When it began (wall time).
    pub started_at: Millis,
    /// How long it took.
    pub duration: Duration,
    /// `delivered`, `http_status`, or why there was no response (`timeout`, `blocked_address`, `dns`, `connect`, `tls`
    /// …).
    pub outcome: String,
    /// The response's status, if there was a response.
    pub status: Option<u16>,
    /// The error in words, for people; contains no secret.
    pub error: Option<String>,
    /// The remote address.
    pub remote: Option<String>,
    /// The response's headers, as JSON pairs; kept for failures only.
    pub response_headers: Option<String>,
    /// The response's body, truncated at [`MAX_KEPT_BODY`].
    pub response_body: Vec<u8>,
    /// When the next attempt is due, if there is one.
    pub next_at: Option<Millis>,
}

impl Attempt {
    /// About how many bytes it takes, for bounds.
    pub fn weight(&self) -> usize {
        let texts = [&self.error, &self.remote, &self.response_headers];
        200 + self.response_body.len() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}
