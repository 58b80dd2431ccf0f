//! Writes the results of attempts to the store, in batches, and retries until the store accepts them.
//!
//! While the store cannot write (a full disk, a locked database) results wait here, and keep the memory reserved for
//! their deliveries. So the intake of new work stops before memory runs out, and no result is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_model::clock::millis;
use tidings_store::StoreError;
use tidings_store::queue::{Finished, Next, Recorded, Recording};
use tidings_supervisor::fault;
use tokio::sync::mpsc;

use crate::shared::{Inner, MAX_UNWRITTEN, Notice, UnwrittenResult};
use crate::workers;

/// The most results in one transaction: half of those that may be unwritten, so that one half gathers while the other
/// is being written.
const BATCH: usize = MAX_UNWRITTEN / 2;
/// How long a lane waits for more deliveries before its next request, if it has fewer than one request may carry. So a
/// busy lane makes a few requests a second, instead of one for every two or three events.
const GATHER: Duration = Duration::from_millis(250);
/// The pause before a write is retried, at first and at most. It doubles each time.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Runs until every sender is dropped and everything is written.
pub(crate) async fn run(inner: Arc<Inner>, mut results: mpsc::UnboundedReceiver<UnwrittenResult>) {
    let mut batch = Vec::with_capacity(BATCH);
    while results.recv_many(&mut batch, BATCH).await > 0 {
        fault::point("result-writer");
        let (finished, items): (Vec<_>, Vec<_>) = batch.drain(..).map(|result| (result.finished, result.item)).unzip();
        let finished = Arc::new(finished);
        let recorded = write(&inner, &finished).await;
        inner.unwritten.fetch_sub(finished.len(), Ordering::AcqRel);
        for (finished, recorded) in finished.iter().zip(recorded) {
            settle(&inner, finished, recorded);
        }
        drop(items);
        workers::dispatch_ready(&inner);
    }
}

async fn write(inner: &Inner, finished: &Arc<Vec<Finished>>) -> Vec<Recorded> {
    let mut pause = PAUSE.0;
    loop {
        let recording = Recording {
            now: inner.clock.steady_ms(),
            wall: inner.clock.wall_ms(),
            lease: inner.lease(),
            soon: finished.len() == BATCH || finished.iter().any(|finished| finished.delivery.ordered),
            gather: millis(GATHER),
            disable_failing_since: inner.clock.wall_ms() - millis(inner.settings.disable_after),
        };
        match inner.store.finish(Arc::clone(finished), recording).await {
            Ok(recorded) => return recorded,
            // The store is being closed: unwritten results are lost, and their attempts repeated after the next start.
            Err(StoreError::Closed) => return Vec::new(),
            Err(error) => {
                tracing::error!(%error, results = finished.len(), "writing results of deliveries failed; retrying");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

fn settle(inner: &Inner, finished: &Finished, recorded: Recorded) {
    let destination = finished.delivery.key.destination;
    if recorded.stale {
        inner.metrics.stale.inc();
        return;
    }
    match finished.next {
        Next::Delivered => {
            inner.metrics.closed("delivered");
            // As in the store: only a destination that was failing before has something to clear.
            if finished.was_failing && inner.set_failing(destination, false) {
                inner.health.recovered(&*inner.outlet, destination, inner.clock.steady_ms());
            }
        }
        Next::Retry(due) => {
            failed(inner, finished);
            inner.due_at(due);
        }
        Next::Undelivered => {
            inner.metrics.closed("undelivered");
            failed(inner, finished);
        }
        Next::Canceled => inner.metrics.closed("canceled"),
    }
    if !recorded.next_in_lane.is_empty() {
        inner.fetch(recorded.next_in_lane);
    }
    if let Some(due) = recorded.lane_due {
        inner.due_at(due);
    }
    if recorded.disabled {
        inner.set_failing(destination, false);
        inner.notify(Notice::Disabled);
    }
}

/// Records a failed attempt, and logs it if the destination was not failing before.
fn failed(inner: &Inner, finished: &Finished) {
    let destination = finished.delivery.key.destination;
    let now = inner.clock.steady_ms();
    if inner.set_failing(destination, true) {
        inner.health.failing(&*inner.outlet, finished, now);
    }
    if finished.pause.is_some() {
        inner.health.paused(&*inner.outlet, destination, finished.pause.map_or(0, |until| until - now), now);
    }
}
