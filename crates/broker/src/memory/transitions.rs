//! Records a channel's transitions (occupied, vacated, member added, …) for the bus.

use std::sync::atomic::{AtomicU64, Ordering};

use tidings_model::channel::ChannelKey;
use tidings_model::transition::{Change, Kinds, Transition};

use crate::transition_sink::TransitionSink;

/// Records transitions of one channel. Used under the channel's lock, so that their numbers are in the channel's order.
#[derive(Clone, Copy)]
pub(super) struct TransitionRecorder<'a> {
    pub(super) wanted: Kinds,
    pub(super) sink: &'a dyn TransitionSink,
    /// The number of the last transition of any channel.
    pub(super) last: &'a AtomicU64,
}

impl TransitionRecorder<'_> {
    /// Records a transition with the next number, if its kind is wanted.
    pub(super) fn record(&self, channel: &ChannelKey, change: Change) {
        if self.wanted.has(change.kind()) {
            let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
            self.sink.record(Transition { channel: channel.clone(), number, change });
        }
    }
}
