//! The state of a session's watchlist: the watched users, and the changes that its client has not been sent yet.

use std::collections::HashSet;
use std::sync::Arc;

use tidings_wire::ChannelMessage;

/// A session's watchlist. It may be long, so no operation for one user visits all of it.
#[derive(Debug, Default)]
pub(super) struct Watchlist {
    /// The watched users, sorted, without the session's own user, who is online as long as the session lasts.
    pub(super) users: Vec<Watched>,
    /// The session's own user, if it is listed and the client has not been sent its state.
    pub(super) itself: Option<Arc<str>>,
    /// The ids of the open joins of online channels.
    pub(super) open: HashSet<u32>,
    /// Users whose online channels could not be joined, perhaps the session's own. The joins are retried.
    pub(super) unknown: Vec<Arc<str>>,
    /// Indexes of those in `users` whose state goes into the next watchlist event.
    unsent: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) user: Arc<str>,
    /// Whether the user is online; `None` once the client has been sent it, and before it is known.
    pub(super) is_online: Option<bool>,
}

impl Watchlist {
    /// The index of a watched user.
    pub(super) fn place(&self, user: &str) -> Option<usize> {
        self.users.binary_search_by(|watched| (*watched.user).cmp(user)).ok()
    }

    /// Notes whether the user at this index is online, for the next watchlist event.
    pub(super) fn note(&mut self, place: usize, is_online: bool) {
        if self.users[place].is_online.replace(is_online).is_none() {
            self.unsent.push(place as u32);
        }
    }

    /// Whether a member event goes into the next watchlist event instead of being sent by itself. If so, it is noted.
    pub(super) fn takes(&mut self, message: &ChannelMessage) -> bool {
        let (presence, is_online) = match message {
            ChannelMessage::Joined(presence) => (presence, true),
            ChannelMessage::Left(presence) => (presence, false),
            _ => return false,
        };
        if self.open.is_empty() || !presence.changes_users {
            return false;
        }
        let user = presence.member.user.text();
        match self.place(user) {
            Some(place) if self.users[place].is_online.is_some() => self.note(place, is_online),
            _ => return self.itself.as_ref() == Some(user),
        }
        true
    }

    /// Takes the users whose state the client has not been sent: those who are online, and those who are offline.
    pub(super) fn take_news(&mut self) -> [Vec<Arc<str>>; 2] {
        let mut online: Vec<_> = self.itself.take().into_iter().collect();
        let mut offline = Vec::new();
        for place in std::mem::take(&mut self.unsent) {
            let watched = &mut self.users[place as usize];
            let list = if watched.is_online.take() == Some(true) { &mut online } else { &mut offline };
            list.push(Arc::clone(&watched.user));
        }
        [online, offline]
    }
}
