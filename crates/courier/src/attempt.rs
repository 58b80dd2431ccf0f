//! One attempt, of a delivery or of several that one request carries: render, send, judge, and say what comes next.

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

/// What of the text of an error an attempt keeps, in bytes: receivers have a say in it.
const MAX_KEPT_ERROR: usize = 1_024;
/// What of an answer's headers an attempt keeps, in bytes.
const MAX_KEPT_HEADERS: usize = 4 * 1024;
/// A lease has to outlast the attempt by so much for its result to be written in time; a short one by a quarter of
/// itself.
const MARGIN: Duration = Duration::from_secs(5);

/// How a delivery of a dispatch ended.
pub(crate) enum AttemptEnd {
    /// An attempt ended, or there was none to make: to be recorded.
    Finished(Box<Finished>, AttemptHealth),
    /// Nothing could be tried: to be given back, due at once.
    NotNow,
    /// Its schedule begins later: to be given back, due at this steady time.
    NotBefore(Millis),
    /// There was no socket to try it with, which is nobody's fault but ours: to be kept for a moment.
    Short,
}

/// Makes an attempt of deliveries that one request carries; what became of each, in their order.
pub(crate) async fn make(inner: &Inner, destination: DestinationNo, items: &[QueuedDelivery]) -> Vec<AttemptEnd> {
    let canceled = |item: &QueuedDelivery| {
        AttemptEnd::Finished(Box::new(finished(inner, item, None, Next::Canceled, None)), AttemptHealth::Healthy)
    };
    let not_now = || items.iter().map(|_| AttemptEnd::NotNow).collect();
    match inner.outlet.policy(destination) {
        // A destination that is not known here may be new on another node: preparing tells whether it is really gone.
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
            tracing::warn!(%error, "deliveries could not be rendered; trying again later");
            return not_now();
        }
    };
    if let Some(due) = not_before(inner, items, delay, started_at) {
        return items.iter().map(|_| AttemptEnd::NotBefore(due)).collect();
    }
    // The lease has to outlast the attempt, or somebody else would make it too. A lease that has aged in the queue is
    // given back for a new one; one that is short for the attempt even when new shortens the attempt.
    let lease = inner.settings.lease;
    let until = items.iter().map(|item| item.leased.lease.until).min().unwrap_or_default();
    let left = until - inner.clock.steady_ms() - millis(MARGIN.min(lease / 4));
    if left < millis(timeout.min(lease / 2)) {
        return not_now();
    }
    let timeout = timeout.min(Duration::from_millis(left.max(1).unsigned_abs()));
    let watch = tidings_model::clock::Stopwatch::start();
    let answer = match inner.egress.send(request, timeout).await {
        Err(SendError::Stale) => again(inner, &batch, timeout.saturating_sub(watch.elapsed())).await,
        answer => answer,
    };
    if let Err(SendError::Shortage { reason }) = &answer {
        inner.metrics.shortages.inc();
        inner.health.short(reason, inner.clock.steady_ms());
        return items.iter().map(|_| AttemptEnd::Short).collect();
    }
    let duration = watch.elapsed();
    // What one request carried comes back together.
    let random = inner.random();
    let ended: Vec<_> = batch
        .iter()
        .zip(items)
        .map(|(delivery, item)| judge(inner, delivery, item, &answer, started_at, duration, random))
        .collect();
    if let Some(AttemptEnd::Finished(finished, _)) = ended.first()
        && let Some(attempt) = &finished.attempt
    {
        let duration_ms = millis(duration);
        tracing::debug!(outcome = attempt.outcome, status = attempt.status, duration_ms, "attempt ended");
    }
    ended
}

/// When deliveries that were never attempted may be, if that is later: `delay` after the last of their events.
fn not_before(inner: &Inner, items: &[QueuedDelivery], delay: Duration, wall: Millis) -> Option<Millis> {
    if delay.is_zero() {
        return None;
    }
    let fresh = items.iter().filter(|item| item.leased.attempts == 0);
    let last = fresh.map(|item| item.payload.logged.received_at).max()?;
    let left = last.saturating_add(millis(delay)) - wall;
    (left > 0).then(|| inner.clock.steady_ms().saturating_add(left))
}

/// Makes the exchange of an attempt again, on a connection of its own: the kept one had been closed.
async fn again(inner: &Inner, batch: &[Delivery], timeout: Duration) -> Result<Response, SendError> {
    // Rendered again, since the first request is gone; keeping a copy of each would cost all those that need none.
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
    answer: &Result<Response, SendError>,
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
    let (word, outcome) = match answer {
        Ok(answer) => {
            attempt.status = Some(answer.status.as_u16());
            attempt.remote = answer.remote.map(|remote| remote.to_string());
            ("http_status", inner.outlet.judge(delivery, answer, inner.clock.wall_ms()))
        }
        Err(error) => {
            let error_text = error.to_string();
            (error.code(), Outcome::Refused { error: error_text, slow_down: false, retry_after: None, disable: None })
        }
    };
    inner.metrics.attempt(word, attempt.status);
    let Outcome::Refused { error, slow_down, retry_after, disable } = outcome else {
        if let Ok(answer) = answer
            && inner.settings.keep_answers == KeepAnswers::All
        {
            attempt.response_body = kept_body(answer);
        }
        return AttemptEnd::Finished(
            Box::new(finished(inner, item, Some(attempt), Next::Delivered, None)),
            AttemptHealth::Healthy,
        );
    };
    attempt.error = Some(cut(error));
    attempt.outcome = word.to_owned();
    if let Ok(answer) = answer
        && inner.settings.keep_answers != KeepAnswers::None
    {
        attempt.response_headers = Some(kept_headers(&answer.headers));
        attempt.response_body = kept_body(answer);
    }
    let health = match (answer, slow_down) {
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

/// The end of a delivery's attempt, as the store records it.
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

fn kept_body(answer: &Response) -> Vec<u8> {
    answer.body[..answer.body.len().min(MAX_KEPT_BODY)].to_vec()
}

/// An error's text, within bounds.
pub(crate) fn cut(mut error: String) -> String {
    if error.len() > MAX_KEPT_ERROR {
        error.truncate(error.floor_char_boundary(MAX_KEPT_ERROR));
        error.push('…');
    }
    error
}

/// The answer's headers as a JSON object of texts, within bounds; a repeated name is joined with commas (RFC 9110 §
/// 5.3).
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
