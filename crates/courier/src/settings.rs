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
    /// Attempts under way to one (scheme, host, port) at most; one that got no answer within a second counts no more.
    pub per_host: usize,
    /// Which answers are kept with their attempts.
    pub keep_answers: KeepAnswers,
    /// How long a lease lasts. An attempt that its time would not cover is given less time.
    pub lease: Duration,
}

/// Of which answers more is kept than their status: headers and body. A receiver may send back what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepAnswers {
    /// Of all.
    All,
    /// Of those that say what went wrong.
    #[default]
    Failures,
    /// Of none.
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
