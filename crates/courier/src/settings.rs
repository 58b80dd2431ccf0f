//! The operator's settings for deliveries (`[courier]` in the configuration).

use std::time::Duration;

use tidings_model::schedule::Schedule;

/// How deliveries are made. The defaults are the documented ones.
#[derive(Debug, Clone)]
pub struct Settings {
    /// When attempts are made, unless the listener or the hook sets it.
    pub schedule: Schedule,
    /// The whole time one attempt may take, unless the listener or the hook sets it.
    pub timeout: Duration,
    /// The most attempts in flight to one destination, unless the listener sets it.
    pub concurrency: u32,
    /// The most attempts in flight to all destinations together.
    pub max_in_flight: usize,
    /// The most bytes of deliveries held in memory. Deliveries beyond it stay in the store until there is room.
    pub queue_bytes: usize,
    /// The longest `Retry-After` that is honoured; a longer one counts as this.
    pub retry_after_max: Duration,
    /// A destination that has only failed for this long is disabled.
    pub disable_after: Duration,
    /// The most attempts in flight to one (scheme, host, port). One without an answer after a second is not counted.
    pub per_host: usize,
    /// Which responses are kept with their attempts.
    pub keep_answers: KeepAnswers,
    /// How long a lease lasts. An attempt's timeout is shortened if the lease would not outlast it.
    pub lease: Duration,
}

/// Which responses are kept with headers and body; of the others only the status is. A response may repeat what the
/// request contained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepAnswers {
    /// All responses: the body of those that accept a delivery, headers and body of those that refuse it.
    All,
    /// Responses that refuse a delivery.
    #[default]
    Failures,
    /// No responses.
    None,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            schedule: Schedule::default(),
            timeout: Duration::from_secs(15),
            concurrency: 10,
            max_in_flight: 4_096,
            queue_bytes: 64 << 20,
            retry_after_max: Duration::from_secs(10 * 3_600),
            disable_after: Duration::from_secs(120 * 3_600),
            per_host: 64,
            keep_answers: KeepAnswers::Failures,
            lease: Duration::from_secs(120),
        }
    }
}
