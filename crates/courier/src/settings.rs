//! What an operator can set about deliveries (`[courier]` in the configuration).

use std::time::Duration;

use tidings_model::schedule::Schedule;

/// How deliveries are made. The defaults are what the documentation says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// When attempts are made, where neither listener nor hook says otherwise.
    pub schedule: Schedule,
    /// The whole time one attempt may take, where neither listener nor hook says otherwise.
    pub timeout: Duration,
    /// Attempts under way to one destination at most, where the listener says nothing.
    pub concurrency: u32,
    /// Attempts under way at most, to all destinations together.
    pub max_in_flight: usize,
    /// Bytes of deliveries held in memory at most; what is above stays in the store until there is room.
    pub queue_bytes: usize,
    /// A longer `Retry-After` counts as this.
    pub retry_after_max: Duration,
    /// A destination that has done nothing but fail for so long is disabled.
    pub disable_after: Duration,
    /// Whether headers and body of an answer are kept with the attempt: a receiver may send back what it was told.
    pub keep_answers: bool,
    /// How long a lease lasts. An attempt that its time would not cover is given less time.
    pub lease: Duration,
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
            keep_answers: true,
            lease: Duration::from_secs(120),
        }
    }
}
