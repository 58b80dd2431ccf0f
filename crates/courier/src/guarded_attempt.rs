//! An attempt whose panic fails its own deliveries alone.

use std::time::Duration;

use tidings_model::clock::millis;
use tidings_model::delivery::Attempt;
use tidings_model::id::DestinationNo;
use tidings_store::queue::Next;
use tidings_supervisor::Panicked;
use tracing::{Instrument as _, Span};

use crate::attempt::{self, AttemptEnd};
use crate::health::AttemptHealth;
use crate::queued_delivery::QueuedDelivery;
use crate::shared::Inner;

/// When a delivery is attempted again whose attempt panicked.
const AFTER_PANIC: Duration = Duration::from_secs(5);
/// How many deliveries are remembered to have panicked.
const MAX_PANICKED: usize = 10_000;

/// Makes an attempt of deliveries that one request carries; what became of each, in their order. A panic fails them,
/// unless one of them did it alone: where several went together, each is attempted by itself, up to the first that has
/// to wait.
pub(crate) async fn make(inner: &Inner, destination: DestinationNo, items: &[QueuedDelivery]) -> Vec<AttemptEnd> {
    let Some(first) = items.first() else { return Vec::new() };
    let made = inner.attempts.catch_async(&first.leased.key, attempt::make(inner, destination, items));
    match made.instrument(span(inner, destination, first, items.len())).await {
        Ok(made) => return made,
        Err(panicked) if items.len() == 1 => return vec![panicked_once_more(inner, first, &panicked)],
        Err(_) => {}
    }
    let mut all = Vec::with_capacity(items.len());
    let mut go_on = true;
    for item in items {
        let alone = std::slice::from_ref(item);
        let made = if go_on { Box::pin(make(inner, destination, alone)).await.pop() } else { None };
        let made = made.unwrap_or(AttemptEnd::NotNow);
        go_on &= matches!(&made, AttemptEnd::Finished(finished, _) if !matches!(finished.next, Next::Retry(_)));
        all.push(made);
    }
    all
}

/// What the lines of the log about an attempt are written in. Of several deliveries it names the first.
fn span(inner: &Inner, destination: DestinationNo, first: &QueuedDelivery, deliveries: usize) -> Span {
    let event = &first.payload.logged.event;
    tracing::debug_span!(
        "attempt",
        app = %event.app,
        event = event.id,
        delivery = first.leased.key.id(),
        listener = inner.outlet.name(destination).map(|(_, id)| id),
        attempt = first.leased.attempts + 1,
        deliveries,
    )
}

/// The end of an attempt that panicked. It may have been chance, so there is one more; a delivery that panics again
/// would do so for ever, and is undelivered.
fn panicked_once_more(inner: &Inner, item: &QueuedDelivery, panicked: &Panicked) -> AttemptEnd {
    let key = &item.leased.key;
    let is_first = {
        let mut all = inner.panicked.lock();
        // It may have come to nothing since: those that are forgotten are given two more.
        if all.len() >= MAX_PANICKED {
            all.clear();
        }
        let is_first = all.insert(key.clone());
        if !is_first {
            all.remove(key);
        }
        is_first
    };
    let (steady, wall) = (inner.clock.steady_ms(), inner.clock.wall_ms());
    let next = if is_first { Next::Retry(steady + millis(AFTER_PANIC)) } else { Next::Undelivered };
    let attempt = Attempt {
        n: item.leased.attempts + 1,
        started_at: wall,
        duration: Duration::ZERO,
        outcome: "internal".to_owned(),
        status: None,
        error: Some(attempt::cut(format!("a bug in the server: the attempt panicked ({panicked})"))),
        remote: None,
        response_headers: None,
        response_body: Vec::new(),
        next_at: is_first.then(|| wall + millis(AFTER_PANIC)),
    };
    inner.metrics.attempt("internal", None);
    AttemptEnd::Finished(Box::new(attempt::finished(inner, item, Some(attempt), next, None)), AttemptHealth::Healthy)
}
