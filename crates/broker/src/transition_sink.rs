//! Where a broker records channel events (occupied, vacated, member added, …), as transitions.

use tidings_model::channel::ChannelKey;
use tidings_model::id::AppId;
use tidings_model::policy;
use tidings_model::transition::{Kinds, Transition};

/// Takes the transitions of the kinds that it wants, those of one channel in order. Called under a channel's lock, so
/// it only appends to a queue.
pub trait TransitionSink: Send + Sync + 'static {
    /// The kinds that an app subscribes to. Called with every join and leave, so it must be cheap.
    fn wanted(&self, app: &AppId) -> Kinds;

    /// Takes a transition of a wanted kind.
    fn record(&self, transition: Transition);

    /// Transitions may be missing, because a node has died or was cut off: the recorded state has to be compared with
    /// the broker's.
    fn reconcile(&self);
}

/// The kinds to record for a channel: none for the server's internal channels.
pub(crate) fn wanted(sink: &dyn TransitionSink, channel: &ChannelKey) -> Kinds {
    if policy::is_internal(&channel.name) { Kinds::NONE } else { sink.wanted(&channel.app) }
}

/// Takes no transitions.
#[derive(Debug, Clone, Copy)]
pub struct DiscardTransitions;

impl TransitionSink for DiscardTransitions {
    fn wanted(&self, _: &AppId) -> Kinds {
        Kinds::NONE
    }

    fn record(&self, _: Transition) {}

    fn reconcile(&self) {}
}
