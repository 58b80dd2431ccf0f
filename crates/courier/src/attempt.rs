//! One attempt of the deliveries that one request carries: render, send, judge the response, and decide what comes
//! next.

use std::time::Duration;

use http::HeaderMap;
use tidings_model::clock::{Millis, millis};
use tidings_model::delivery::{Attempt, MAX_KEPT_BODY};
use tidings_model::id::DestinationNo;
use tidings_model::schedule::jittered;
use tidings_store::queue::{Finished, Next};

use crate::egress::{Response, SendError};
use crate::health::AttemptHealth;
use crate::outlet::{Delivery, DestinationPolicy, Outcome, PreparedRequest};
use crate::queued_delivery::QueuedDelivery;
use crate::settings::KeepAnswers;
use crate::shared::Inner;

/// How much of an error's text an attempt keeps, in bytes. Receivers influence the text, so it needs a bound.
const MAX_KEPT_ERROR: usize = 1_024;
/// How much of a response's headers an attempt keeps, in bytes.
const MAX_KEPT_HEADERS: usize = 4 * 1024;
/// How long a lease has to outlast the attempt, so that the result is written in time. For short leases it is a quarter
/// of the lease.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// How a delivery of a dispatch ended.
pub(crate) enum AttemptEnd {
    /// An attempt ended, or none was needed: the result is recorded.
    Finished(Box<Finished>, AttemptHealth),
    /// It could not be attempted: it is released to the store, due at once.
    NotNow,
    /// Its schedule begins later: it is released to the store, due at this steady time.
    NotBefore(Millis),
    /// This machine was short of sockets, which is not the receiver's fault: it stays queued for a moment.
    Shortage,
}

/// Attempts the deliveries that one request carries. Returns how each ended, in their order.
pub(crate) async fn make(inner: &Inner, destination: DestinationNo, items: &[QueuedDelivery]) -> Vec<AttemptEnd> {
    let canceled = |item: &QueuedDelivery| {
        AttemptEnd::Finished(Box::new(finished(inner, item, None, Next::Canceled, None)), AttemptHealth::Healthy)
    };
    let not_now = || items.iter().map(|_| AttemptEnd::NotNow).collect();
    match inner.outlet.policy(destination) {
        // A destination that is unknown here may be new on another node. `prepare` finds out whether it was deleted.
        DestinationPolicy::Open { .. } | DestinationPolicy::Gone => {}
        DestinationPolicy::Disabled => return not_now(),
    }
    let started_at = inner.clock.wall_ms();
    let delivery = |item: &QueuedDelivery| Delivery { leased: item.leased.clone(), payload: item.payload.clone() };
    let batch: Vec<Delivery> = items.iter().map(delivery).collect();
    let PreparedRequest { request, timeout, delay } = match inner.outlet.prepare(&batch, started_at).await {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return items.iter().map(canceled).collect(),
        Err(error) => {
            tracing::warn!(%error, "rendering deliveries failed; retrying later");
            return not_now();
        }
    };
    if let Some(due) = not_before(inner, items, delay, started_at) {
        return items.iter().map(|_| AttemptEnd::NotBefore(due)).collect();
    }
    // The lease has to outlast the attempt, or another node would make the attempt too. If too little of the lease is
    // left after the wait in the queue, the delivery is released and claimed with a new lease. If even a new lease is
    // too short for the timeout, the timeout is shortened.
    let lease = inner.settings.lease;
    let until = items.iter().map(|item| item.leased.lease.until).min().unwrap_or_default();
    let left = until - inner.clock.steady_ms() - millis(LEASE_MARGIN.min(lease / 4));
    if left < millis(timeout.min(lease / 2)) {
        return not_now();
    }
    let timeout = timeout.min(Duration::from_millis(left.max(1).unsigned_abs()));
    let watch = tidings_model::clock::Stopwatch::start();
    let response = match inner.egress.send(request, timeout).await {
        Err(SendError::Stale) => resend(inner, &batch, timeout.saturating_sub(watch.elapsed())).await,
        response => response,
    };
    if let Err(SendError::Shortage { reason }) = &response {
        inner.metrics.shortages.inc();
        inner.health.shortage(reason, inner.clock.steady_ms());
        return items.iter().map(|_| AttemptEnd::Shortage).collect();
    }
    let duration = watch.elapsed();
    // One random number for all: deliveries of one request are retried together.
    let random = inner.random();
    let ended: Vec<_> = batch
        .iter()
        .zip(items)
        .map(|(delivery, item)| judge(inner, delivery, item, &response, started_at, duration, random))
        .collect();
    if let Some(AttemptEnd::Finished(finished, _)) = ended.first()
        && let Some(attempt) = &finished.attempt
    {
        let duration_ms = millis(duration);
        tracing::debug!(outcome = attempt.outcome, status = attempt.status, duration_ms, "attempt ended");
    }
    ended
}

/// When the first attempt may be made, if that is later than now: `delay` after the last event of those deliveries that
/// were never attempted.
fn not_before(inner: &Inner, items: &[QueuedDelivery], delay: Duration, wall: Millis) -> Option<Millis> {
    if delay.is_zero() {
        return None;
    }
    let fresh = items.iter().filter(|item| item.leased.attempts == 0);
    let last = fresh.map(|item| item.payload.logged.received_at).max()?;
    let left = last.saturating_add(millis(delay)) - wall;
    (left > 0).then(|| inner.clock.steady_ms().saturating_add(left))
}

/// Repeats the request of an attempt on a new connection: the receiver had closed the kept one.
async fn resend(inner: &Inner, batch: &[Delivery], timeout: Duration) -> Result<Response, SendError> {
    // Rendered again, since the first request was consumed. Copies would cost all the requests that need none.
    let Ok(Some(PreparedRequest { mut request, .. })) = inner.outlet.prepare(batch, inner.clock.wall_ms()).await else {
        return Err(SendError::Stale);
    };
    request.fresh = true;
    inner.egress.send(request, timeout).await
}

fn judge(
    inner: &Inner,
    delivery: &Delivery,
    item: &QueuedDelivery,
    response: &Result<Response, SendError>,
    started_at: Millis,
    duration: Duration,
    random: u32,
) -> AttemptEnd {
    let n = item.leased.attempts + 1;
    let mut attempt = Attempt {
        n,
        started_at,
        duration,
        outcome: "delivered".to_owned(),
        status: None,
        error: None,
        remote: None,
        response_headers: None,
        response_body: Vec::new(),
        next_at: None,
    };
    let (code, outcome) = match response {
        Ok(response) => {
            attempt.status = Some(response.status.as_u16());
            attempt.remote = response.remote.map(|remote| remote.to_string());
            ("http_status", inner.outlet.judge(delivery, response, inner.clock.wall_ms()))
        }
        Err(error) => {
            let error_text = error.to_string();
            (error.code(), Outcome::Refused { error: error_text, slow_down: false, retry_after: None, disable: None })
        }
    };
    inner.metrics.attempt(code, attempt.status);
    let Outcome::Refused { error, slow_down, retry_after, disable } = outcome else {
        if let Ok(response) = response
            && inner.settings.keep_answers == KeepAnswers::All
        {
            attempt.response_body = kept_body(response);
        }
        return AttemptEnd::Finished(
            Box::new(finished(inner, item, Some(attempt), Next::Delivered, None)),
            AttemptHealth::Healthy,
        );
    };
    attempt.error = Some(truncated(error));
    attempt.outcome = code.to_owned();
    if let Ok(response) = response
        && inner.settings.keep_answers != KeepAnswers::None
    {
        attempt.response_headers = Some(kept_headers(&response.headers));
        attempt.response_body = kept_body(response);
    }
    let health = match (response, slow_down) {
        (Err(SendError::Refused(_)), _) | (Ok(_), false) => AttemptHealth::Healthy,
        (Err(_), _) => AttemptHealth::Failing,
        (Ok(_), true) => AttemptHealth::SlowDown(retry_after),
    };
    let counted = n.saturating_sub(item.leased.forgiven);
    let next = match (disable, inner.outlet.delay_after(delivery, counted)) {
        (None, Some(delay)) => {
            let asked = retry_after.unwrap_or_default().min(inner.settings.retry_after_max);
            let delay = millis(jittered(delay, random).max(asked));
            attempt.next_at = Some(inner.clock.wall_ms() + delay);
            Next::Retry(inner.clock.steady_ms() + delay)
        }
        _ => Next::Undelivered,
    };
    AttemptEnd::Finished(Box::new(finished(inner, item, Some(attempt), next, disable)), health)
}

/// The result of a delivery's attempt, as the store records it.
pub(crate) fn finished(
    inner: &Inner,
    item: &QueuedDelivery,
    attempt: Option<Attempt>,
    next: Next,
    disable: Option<&'static str>,
) -> Finished {
    let destination = item.leased.key.destination;
    let was_failing = inner.is_failing(destination);
    let batch = if item.leased.ordered { inner.outlet.batch(destination) } else { 1 };
    Finished { delivery: item.leased.clone(), attempt, next, disable, was_failing, pause: None, batch }
}

fn kept_body(response: &Response) -> Vec<u8> {
    response.body[..response.body.len().min(MAX_KEPT_BODY)].to_vec()
}

/// An error's text, truncated to [`MAX_KEPT_ERROR`].
pub(crate) fn truncated(mut error: String) -> String {
    if error.len() > MAX_KEPT_ERROR {
        error.truncate(error.floor_char_boundary(MAX_KEPT_ERROR));
        error.push('…');
    }
    error
}

/// The response's headers as a JSON object of strings, up to [`MAX_KEPT_HEADERS`]. Values of a repeated name are joined
/// with commas (RFC 9110 § 5.3).
fn kept_headers(headers: &HeaderMap) -> String {
    let mut kept = serde_json::Map::new();
    let mut bytes = 0;
    for name in headers.keys() {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let value = values.join(", ");
        bytes += name.as_str().len() + value.len();
        if bytes > MAX_KEPT_HEADERS {
            break;
        }
        kept.insert(name.as_str().to_owned(), value.into());
    }
    serde_json::Value::Object(kept).to_string()
}
