//! Deliveries and attempts: what is owed to whom, and each HTTP try of it.

use std::time::Duration;

use crate::clock::Millis;

/// The most bytes of an answer's body that an attempt keeps.
pub const MAX_KEPT_BODY: usize = 16 * 1024;

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// Attempts are still to come, or one is under way.
    Pending,
    /// The destination took it.
    Delivered,
    /// Every attempt failed, or the destination is gone. It can be retried by hand.
    Undelivered,
    /// Nobody wants it any more: its listener was deleted.
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

/// One HTTP try of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first.
    pub n: u32,
    /// When it began, by the wall clock.
    pub started_at: Millis,
    /// How long it took.
    pub duration: Duration,
    /// `delivered`, `http_status`, or why there was no answer (`timeout`, `blocked_address`, `dns`, `connect`, `tls`
    /// …).
    pub outcome: String,
    /// The answer's status, when there was one.
    pub status: Option<u16>,
    /// In words, for whoever has to mend it; holds no secret.
    pub error: Option<String>,
    /// The address that was spoken to.
    pub remote: Option<String>,
    /// The answer's headers, as JSON pairs; kept for failures only.
    pub response_headers: Option<String>,
    /// The answer's body, cut at [`MAX_KEPT_BODY`].
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
