//! The health of destinations, and what one attempt says about it.

use std::time::Duration;

/// What one attempt says about its destination's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptHealth {
    /// It answered: it accepted the delivery, or refused just this one.
    Healthy,
    /// No answer.
    Failing,
    /// It asked for fewer requests (429, 503 …), perhaps after a pause.
    SlowDown(Option<Duration>),
}

/// A destination's health. It decides which share of the permits the destination may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DestinationHealth {
    /// Its last attempt got an answer.
    Healthy,
    /// It has never answered, as far as is known.
    Untried,
    /// Its last attempt got no answer.
    Failing,
}
