//! The workers: each makes attempts while there are dispatches, and then waits idle for the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_model::clock::Millis;
use tokio::sync::oneshot;

use crate::attempt::AttemptEnd;
use crate::dispatcher::Dispatch;
use crate::guarded_attempt;
use crate::shared::{Inner, MAX_UNWRITTEN};

/// The most idle workers that are kept: spawning one costs more than the rest of a dispatch.
const MAX_IDLE: usize = 1_024;

/// How long a destination is paused, in milliseconds, if this machine was short of sockets for its attempt.
const SHORTAGE_PAUSE: Millis = 250;

/// Dispatches every request that may be made now: to idle workers, and to new ones if none is idle.
pub(crate) fn dispatch_ready(inner: &Arc<Inner>) {
    while let Some(dispatch) = next_dispatch(inner) {
        if let Some(dispatch) = to_idle(inner, dispatch) {
            let work = work(Arc::clone(inner), dispatch);
            inner.supervisor.task("attempt-worker", inner.workers.track_future(work));
        }
    }
    inner.metrics.held_bytes.set(inner.memory.held() as i64);
}

/// Hands a dispatch to an idle worker. Returns it if there is none.
fn to_idle(inner: &Inner, mut dispatch: Dispatch) -> Option<Dispatch> {
    loop {
        let waiting = inner.idle.lock().as_mut().and_then(Vec::pop);
        let Some(worker) = waiting else { return Some(dispatch) };
        match worker.send(dispatch) {
            Ok(()) => return None,
            Err(back) => dispatch = back,
        }
    }
}

/// Waits idle for a dispatch. Returns `None` if enough workers are idle already, or nothing more is dispatched.
async fn wait_for_dispatch(inner: &Inner) -> Option<Dispatch> {
    let (sender, dispatch) = oneshot::channel();
    match inner.idle.lock().as_mut() {
        Some(idle) if idle.len() < MAX_IDLE => idle.push(sender),
        _ => return None,
    }
    dispatch.await.ok()
}

fn next_dispatch(inner: &Inner) -> Option<Dispatch> {
    if inner.unwritten.load(Ordering::Acquire) >= MAX_UNWRITTEN {
        // The result writer dispatches again when it has written some.
        return None;
    }
    let now = inner.clock.steady_ms();
    let mut dispatcher = inner.dispatcher.lock();
    let (policy, batch) = (|no| inner.policy(no), |no| inner.outlet.batch(no));
    let dispatch = dispatcher.start(policy, batch, now);
    if !dispatcher.returns.is_empty() || dispatcher.is_sooner() {
        inner.wake.notify_one();
    }
    dispatch
}

/// A worker: makes attempts while there are dispatches, then waits for more.
async fn work(inner: Arc<Inner>, first: Dispatch) {
    let mut next = Some(first);
    while let Some(Dispatch { permit, items }) = next {
        let destination = permit.destination;
        inner.metrics.in_flight.inc();
        let made = guarded_attempt::make(&inner, destination, &items).await;
        inner.metrics.in_flight.dec();
        let now = inner.clock.steady_ms();
        let wake = {
            let mut dispatcher = inner.dispatcher.lock();
            let (mut is_learned, mut postponed) = (false, Vec::new());
            for (made, item) in made.into_iter().zip(items) {
                match made {
                    AttemptEnd::Finished(mut finished, health) => {
                        // It was one request, however many deliveries it carried: it counts once.
                        if !std::mem::replace(&mut is_learned, true) {
                            let policy = |destination| inner.outlet.policy(destination);
                            finished.pause = dispatcher.learn(destination, health, policy, now);
                        }
                        inner.submit(*finished, item);
                    }
                    AttemptEnd::NotNow => dispatcher.returns.push((item, now)),
                    AttemptEnd::NotBefore(due) => dispatcher.returns.push((item, due)),
                    AttemptEnd::Shortage => postponed.push(item),
                }
            }
            if !postponed.is_empty() {
                dispatcher.put_back(destination, postponed, now + SHORTAGE_PAUSE);
            }
            dispatcher.end(permit, now) || !dispatcher.returns.is_empty()
        };
        if wake {
            inner.wake.notify_one();
        }
        next = match next_dispatch(&inner) {
            Some(dispatch) => Some(dispatch),
            None => wait_for_dispatch(&inner).await,
        };
    }
}
