//! Who is in a channel: sessions, and the users that they belong to.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use tidings_model::channel::{Member, SessionId};

/// A user who is there.
#[derive(Debug)]
struct User {
    /// What the first of the user's sessions showed.
    member: Arc<Member>,
    sessions: u32,
}

/// The sessions with a user id that are in a channel.
#[derive(Debug, Default)]
pub(super) struct Presence {
    sessions: HashMap<SessionId, Arc<Member>>,
    /// In the order of their ids, as they are listed.
    users: BTreeMap<Arc<str>, User>,
}

impl Presence {
    /// How many users are there.
    pub(super) fn users(&self) -> usize {
        self.users.len()
    }

    /// How many sessions are remembered.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether a session is remembered already.
    pub(super) fn has_session(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Whether a user is there already.
    pub(super) fn has_user(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// Remembers a session; true if it is its user's first.
    pub(super) fn add(&mut self, session: SessionId, member: Arc<Member>) -> bool {
        self.sessions.insert(session, Arc::clone(&member));
        let user = self.users.entry(Arc::clone(&member.user)).or_insert(User { member, sessions: 0 });
        user.sessions += 1;
        user.sessions == 1
    }

    /// Forgets a session; its member, and whether it was its user's last.
    pub(super) fn remove(&mut self, session: SessionId) -> Option<(Arc<Member>, bool)> {
        let member = self.sessions.remove(&session)?;
        let user = self.users.get_mut(&member.user)?;
        user.sessions -= 1;
        let was_last = user.sessions == 0;
        if was_last {
            self.users.remove(&member.user);
        }
        Some((member, was_last))
    }

    /// Each user once.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.users.values().map(|user| Arc::clone(&user.member)).collect()
    }
}
