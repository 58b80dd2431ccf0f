//! The channels that a session is in.

use std::sync::Arc;

use tidings_model::channel::Member;

/// A channel that the session is in, and its member there.
#[derive(Debug, Clone)]
struct Membership {
    /// Its canonical name.
    channel: Arc<str>,
    member: Option<Arc<Member>>,
}

/// The memberships, sorted by channel. Most sessions are in few channels, so the list is allocated no larger than
/// needed.
#[derive(Debug, Default)]
pub(super) struct Memberships(Vec<Membership>);

impl Memberships {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn has(&self, channel: &str) -> bool {
        self.place(channel).is_ok()
    }

    /// The session's member in a channel; the outer `None` when the session is not in it.
    pub(super) fn member(&self, channel: &str) -> Option<Option<&Arc<Member>>> {
        self.place(channel).ok().map(|at| self.0[at].member.as_ref())
    }

    pub(super) fn add(&mut self, channel: Arc<str>, member: Option<Arc<Member>>) {
        match self.place(&channel) {
            Ok(at) => self.0[at].member = member,
            Err(at) => {
                if self.0.len() < 4 {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, Membership { channel, member });
            }
        }
    }

    pub(super) fn remove(&mut self, channel: &str) {
        if let Ok(at) = self.place(channel) {
            self.0.remove(at);
        }
    }

    fn place(&self, channel: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|membership| (*membership.channel).cmp(channel))
    }
}
