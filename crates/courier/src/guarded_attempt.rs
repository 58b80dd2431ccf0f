//! An attempt whose panic fails only its own deliveries.

use std::pin::pin;
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

/// How long after a panic the delivery is attempted again.
const AFTER_PANIC: Duration = Duration::from_secs(5);
/// How many deliveries are remembered as having panicked once.
const MAX_PANICKED: usize = 10_000;

/// Attempts the deliveries that one request carries. Returns how each ended, in their order. If the attempt of a single
/// delivery panics, that delivery fails. If an attempt of several panics, each is attempted alone, in order, to find
/// the one that panics; after the first that has to wait, for a retry or for a socket, the rest is released.
pub(crate) async fn make(inner: &Inner, destination: DestinationNo, items: &[QueuedDelivery]) -> Vec<AttemptEnd> {
    let Some(first) = items.first() else { return Vec::new() };
    // Pinned here, because each wrapper around a future copies it.
    let made = pin!(attempt::make(inner, destination, items));
    let made = inner.attempts.catch_async(&first.leased.key, made);
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

/// The span of an attempt. Of several deliveries it names the first.
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

/// The end of an attempt that panicked. The first panic may be chance, so one more attempt follows. After a second
/// panic the delivery is undelivered, or it would panic forever.
fn panicked_once_more(inner: &Inner, item: &QueuedDelivery, panicked: &Panicked) -> AttemptEnd {
    let key = &item.leased.key;
    let is_first = {
        let mut all = inner.panicked.lock();
        // A delivery that is forgotten here gets two more attempts, unless it has ended since.
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
        error: Some(attempt::truncated(format!("a bug in the server: the attempt panicked ({panicked})"))),
        remote: None,
        response_headers: None,
        response_body: Vec::new(),
        next_at: is_first.then(|| wall + millis(AFTER_PANIC)),
    };
    inner.metrics.attempt("internal", None);
    AttemptEnd::Finished(Box::new(attempt::finished(inner, item, Some(attempt), next, None)), AttemptHealth::Healthy)
}
