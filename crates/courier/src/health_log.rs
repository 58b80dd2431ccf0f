//! Log lines about destinations: deliveries begin to fail, they succeed again, or a destination asks for a pause.
//!
//! One line per destination and change, within a rate for each destination and for all: a thousand receivers that fail
//! together, or one that flaps, must not fill the log. Lines left out are counted, or logged later by `catch_up`.

use std::collections::HashMap;

use parking_lot::Mutex;
use tidings_model::clock::Millis;
use tidings_model::excerpt;
use tidings_model::id::DestinationNo;
use tidings_store::queue::Finished;

use crate::outlet::Outlet;

/// The most lines in a window.
const LINES: u32 = 10;
/// The length of a window, in milliseconds.
const WINDOW: Millis = 10_000;
/// The least time between two lines about a destination's state, and about a shortage of this machine, in milliseconds.
const EVERY: Millis = 60_000;
/// The least time between two lines about a destination's pauses, in milliseconds.
const RARELY: Millis = 600_000;
/// How many destinations are remembered.
const REMEMBERED: usize = 10_000;

#[derive(Default)]
pub(crate) struct HealthLog(Mutex<State>);

#[derive(Default)]
struct State {
    logged: HashMap<DestinationNo, LastLogged>,
    /// When the current window began, and the lines in it.
    window: Millis,
    lines: u32,
    /// Lines left out since the last `catch_up`.
    left_out: u64,
    /// When a shortage of this machine was last logged.
    shortage_at: Option<Millis>,
}

/// What was last logged of a destination, and when.
#[derive(Clone, Copy)]
struct LastLogged {
    failing: bool,
    at: Millis,
    paused_at: Option<Millis>,
}

impl State {
    /// Counts a line. Returns whether the window has room for it.
    fn may_log(&mut self, now: Millis) -> bool {
        if now - self.window >= WINDOW {
            (self.window, self.lines) = (now, 0);
        }
        self.lines += 1;
        self.lines <= LINES
    }

    /// Whether to log that a destination is failing, or that it has recovered. If so, records it as logged.
    fn should_log(&mut self, destination: DestinationNo, failing: bool, now: Millis) -> bool {
        let before = self.logged.get(&destination).copied();
        if before.is_some_and(|logged| now - logged.at < EVERY || logged.failing == failing) {
            // Logged already, or logged later by `catch_up`, if it is still so then.
            return false;
        }
        if !self.may_log(now) || self.logged.len() >= REMEMBERED && before.is_none() {
            self.left_out += 1;
            return false;
        }
        let paused_at = before.and_then(|logged| logged.paused_at);
        self.logged.insert(destination, LastLogged { failing, at: now, paused_at });
        true
    }
}

impl HealthLog {
    /// A delivery failed, and the destination was not failing before.
    pub(crate) fn failing(&self, outlet: &dyn Outlet, finished: &Finished, now: Millis) {
        let key = &finished.delivery.key;
        if !self.0.lock().should_log(key.destination, true, now) {
            return;
        }
        let Some((app, listener)) = outlet.name(key.destination) else { return };
        let error = finished.attempt.as_ref().and_then(|attempt| attempt.error.as_deref()).unwrap_or_default();
        let error = excerpt(error);
        tracing::warn!(
            %app, listener, delivery = key.id(), error,
            "deliveries to a listener are failing and will be retried on its schedule; `tidings delivery attempts` \
            with the delivery's id shows the responses"
        );
    }

    /// A delivery succeeded, and the destination was failing before.
    pub(crate) fn recovered(&self, outlet: &dyn Outlet, destination: DestinationNo, now: Millis) {
        if self.0.lock().should_log(destination, false, now) {
            log_recovered(outlet, destination);
        }
    }

    /// A destination asked for a pause of so many milliseconds.
    pub(crate) fn paused(&self, outlet: &dyn Outlet, destination: DestinationNo, pause: Millis, now: Millis) {
        {
            let mut state = self.0.lock();
            let before = state.logged.get(&destination).copied();
            if before.and_then(|logged| logged.paused_at).is_some_and(|at| now - at < RARELY) {
                return;
            }
            if !state.may_log(now) || state.logged.len() >= REMEMBERED && before.is_none() {
                state.left_out += 1;
                return;
            }
            let (failing, at) = before.map_or((true, now), |logged| (logged.failing, logged.at));
            state.logged.insert(destination, LastLogged { failing, at, paused_at: Some(now) });
        }
        let Some((app, listener)) = outlet.name(destination) else { return };
        tracing::warn!(
            %app, listener, pause_ms = pause,
            "a listener asked for fewer deliveries and is paused; set its `rate` or `concurrency` to what it can \
            handle"
        );
    }

    /// This machine was short of sockets, or of what they need, for an attempt.
    pub(crate) fn shortage(&self, reason: &str, now: Millis) {
        {
            let mut state = self.0.lock();
            if state.shortage_at.is_some_and(|at| now - at < EVERY) {
                return;
            }
            state.shortage_at = Some(now);
        }
        tracing::warn!(
            reason,
            "deliveries postponed: this machine cannot open more connections; raise its limit on open files \
            (`ulimit -n`, LimitNOFILE), or lower `courier.max_in_flight`"
        );
    }

    /// Logs the changes that the rates held back, if they still hold, and the number of lines left out. Called by each
    /// sweep.
    pub(crate) fn catch_up(&self, outlet: &dyn Outlet, is_failing: impl Fn(DestinationNo) -> bool, now: Millis) {
        let (mut recovered, mut failing) = (Vec::new(), Vec::new());
        let left_out = {
            let mut state = self.0.lock();
            let old: Vec<_> =
                state.logged.iter().filter(|(_, logged)| now - logged.at >= EVERY).map(|(no, _)| *no).collect();
            for destination in old {
                let fails = is_failing(destination);
                if state.should_log(destination, fails, now) {
                    if fails { failing.push(destination) } else { recovered.push(destination) }
                } else if !fails {
                    // Its recovery is logged already, or there is no room for the line: forget it.
                    state.logged.remove(&destination);
                }
            }
            std::mem::take(&mut state.left_out)
        };
        recovered.into_iter().for_each(|destination| log_recovered(outlet, destination));
        for (app, listener) in failing.into_iter().filter_map(|destination| outlet.name(destination)) {
            tracing::warn!(%app, listener, "deliveries to a listener are failing again; see `tidings delivery list`");
        }
        if left_out > 0 {
            tracing::warn!(
                changes = left_out,
                "too many listeners began to fail, recovered or were paused to log each one"
            );
        }
    }
}

fn log_recovered(outlet: &dyn Outlet, destination: DestinationNo) {
    if let Some((app, listener)) = outlet.name(destination) {
        tracing::info!(%app, listener, "deliveries to a listener succeed again");
    }
}
