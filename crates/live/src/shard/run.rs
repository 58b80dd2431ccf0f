//! The loop of a shard's thread.
//!
//! Each turn: events of sockets, reads that were cut short, timers, then a slice of the sessions' requests and one of
//! the inbox.

use std::time::Duration;

use mio::{Events, Poll};
use parking_lot::{Mutex, MutexGuard};
use tidings_broker::ShardMessage;
use tidings_supervisor::fault;

use super::Shard;
use crate::inbox::{InboxMessage, Inboxes, QueuedMessage, WAKER};

/// Subscribers or other messages of the inbox that are handled before reads and timers get their turn.
const SLICE: usize = 512;
/// Most events taken from the poller at once.
const EVENTS: usize = 1_024;
/// The longest wait for events while sessions are being closed.
const STOP_STEP: Duration = Duration::from_millis(20);

/// Closes a shard's inbox however its thread ends.
struct CloseInboxOnExit {
    inboxes: Inboxes,
    number: u16,
}

impl Drop for CloseInboxOnExit {
    fn drop(&mut self) {
        if let Some(inbox) = self.inboxes.of(self.number) {
            inbox.close();
        }
    }
}

impl Shard {
    /// Runs until it is ordered to stop. While it waits for events, publishers may [write inline](inline_write).
    pub(crate) fn run(shard: &Mutex<Self>, mut poll: Poll) {
        let mut shard = shard.lock();
        // Also when this thread panics: messages to the shard are then dropped, and no sender waits for it.
        let _close_inbox = CloseInboxOnExit { inboxes: shard.inboxes.clone(), number: shard.number };
        let point = format!("shard-{}", shard.number);
        let runtime = shard.runtime.clone();
        // The handler's futures may use tokio's timers and spawn tasks.
        let _inside = runtime.enter();
        let mut events = Events::with_capacity(EVENTS);
        while !shard.has_stopped() {
            let wait = shard.wait();
            match MutexGuard::unlocked(&mut shard, || poll.poll(&mut events, wait)) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    tracing::error!(shard = shard.number, %error, "shard stopped: polling its sockets failed");
                    break;
                }
                _ => shard.now = shard.clock.steady_ms(),
            }
            fault::point(&point);
            assert!(!shard.is_broken, "a publisher that wrote inline panicked");
            for event in &events {
                if event.token() != WAKER {
                    shard.ready(event);
                }
            }
            shard.read_again();
            shard.wake_due();
            shard.handle_requests();
            shard.work();
            shard.go_on_stopping();
        }
        shard.shut_down();
    }

    /// How long to wait for events; `None`: without limit.
    fn wait(&self) -> Option<Duration> {
        let has_more = !self.again.is_empty() || !self.requesters.is_empty();
        let is_busy = self.walk.is_some() || !self.batch.is_empty() || has_more;
        if is_busy || !self.inboxes.of(self.number).is_some_and(|inbox| inbox.fall_asleep()) {
            return Some(Duration::ZERO);
        }
        let rest = self.wheel.rest(self.now).map(Duration::from_millis);
        if self.stopping.is_some() { Some(rest.map_or(STOP_STEP, |rest| rest.min(STOP_STEP))) } else { rest }
    }

    /// Processes a slice of the inbox.
    fn work(&mut self) {
        // An inline write may have left these.
        self.handle_failed_writes();
        let mut left = SLICE;
        while left > 0 {
            if let Some(walk) = self.walk.take() {
                left = left.saturating_sub(self.continue_walk(walk, left).max(1));
                self.handle_failed_writes();
                continue;
            }
            if self.batch.is_empty()
                && let Some(inbox) = self.inboxes.of(self.number)
            {
                inbox.take(&mut self.batch);
            }
            let Some(QueuedMessage { item, weight, .. }) = self.batch.pop_front() else { return };
            left -= 1;
            self.apply(item, weight);
        }
    }

    fn apply(&mut self, item: InboxMessage, weight: usize) {
        match item {
            InboxMessage::Broker(ShardMessage::Message { message, except }) => {
                return self.begin_walk(message, except, weight);
            }
            InboxMessage::Broker(message) => self.handle_broker_message(message),
            InboxMessage::NewSession(new) => self.add_session(*new),
            InboxMessage::Response { at, request_id, response } => self.response_arrived(at, request_id, response),
            InboxMessage::StreamDropped(at) => self.stream_dropped(at),
            InboxMessage::EndStreams => self.end_streams(),
            InboxMessage::Stop(grace, why) => self.begin_stopping(grace, why),
        }
        self.handle_failed_writes();
        self.done(weight);
    }
}
