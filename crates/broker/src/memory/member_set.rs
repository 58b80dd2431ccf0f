//! The members of a channel: its sessions, and the users that they belong to.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use tidings_model::channel::Member;

use crate::shard_message::SessionRef;

/// A user, with the member info of their first session.
#[derive(Debug)]
struct User(Arc<Member>);

/// The sessions with a user id that are in a channel.
#[derive(Debug, Default)]
pub(super) struct MemberSet {
    sessions: HashMap<SessionRef, Arc<Member>>,
    /// The number of each user's sessions, in the order of user ids, which is the order of lists.
    users: BTreeMap<User, u32>,
}

impl MemberSet {
    /// The number of users.
    pub(super) fn users(&self) -> usize {
        self.users.len()
    }

    /// The number of sessions.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether the user has a session here.
    pub(super) fn has_user(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// Adds a session that is not there yet; true if it is its user's first.
    pub(super) fn add(&mut self, at: SessionRef, member: Arc<Member>) -> bool {
        self.sessions.insert(at, Arc::clone(&member));
        if let Some(sessions) = self.users.get_mut(&*member.user) {
            *sessions += 1;
            return false;
        }
        self.users.insert(User(member), 1);
        true
    }

    /// Removes a session. Returns its member, and whether it was its user's last session.
    pub(super) fn remove(&mut self, at: SessionRef) -> Option<(Arc<Member>, bool)> {
        let member = self.sessions.remove(&at)?;
        if self.sessions.capacity() > 4 * self.sessions.len() {
            self.sessions.shrink_to(2 * self.sessions.len());
        }
        let sessions = self.users.get_mut(&*member.user)?;
        *sessions -= 1;
        let was_last = *sessions == 0;
        if was_last {
            self.users.remove(&*member.user);
        }
        Some((member, was_last))
    }

    /// Each user once.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.users.keys().map(|user| Arc::clone(&user.0)).collect()
    }

    /// Bytes on the heap; those of the tree are an estimate.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        // A leaf of the standard library's tree holds 5 to 11 entries beside 12 bytes; inner nodes are a tenth of all.
        let tree = self.users.len() * (12 + 5 * (8 + 4)) / 5 * 11 / 10;
        self.sessions.allocation_size() + tree
    }
}

impl Borrow<str> for User {
    fn borrow(&self) -> &str {
        &self.0.user
    }
}

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        self.0.user == other.0.user
    }
}

impl Eq for User {}

impl PartialOrd for User {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for User {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.user.cmp(&other.0.user)
    }
}
