//! Who is told of transitions: what becomes of a channel as its sessions come and go.

use tidings_model::channel::ChannelKey;
use tidings_model::id::AppId;
use tidings_model::policy;
use tidings_model::transition::{Kinds, Transition};

/// Is told of the transitions that it wants, each channel's in their order. Called under a channel's lock, so it only
/// appends.
pub trait Watch: Send + Sync + 'static {
    /// What is wanted of an app's channels. Cheap: asked with every join and leave.
    fn wanted(&self, app: &AppId) -> Kinds;

    /// One that is wanted.
    fn happened(&self, transition: Transition);

    /// Some may have happened without being told, because a node has gone or could not reach the others.
    fn unsure(&self);
}

/// What is wanted of a channel: nothing where it is the server's own.
pub(crate) fn wanted(watch: &dyn Watch, channel: &ChannelKey) -> Kinds {
    if policy::is_internal(&channel.name) { Kinds::NONE } else { watch.wanted(&channel.app) }
}

/// Nobody.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn wanted(&self, _: &AppId) -> Kinds {
        Kinds::NONE
    }

    fn happened(&self, _: Transition) {}

    fn unsure(&self) {}
}
