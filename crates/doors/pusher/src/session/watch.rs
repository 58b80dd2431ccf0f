//! Whom a session watches, and what its client has yet to be told of them.

use std::collections::HashSet;
use std::sync::Arc;

use tidings_wire::ChannelMessage;

/// Whom a session watches, and what is known of them so far. A list may be long, so nothing here goes through all of it
/// for one user.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The watched, sorted, without the session's own user, who is online as long as it is asked.
    pub(super) users: Vec<Watched>,
    /// The session's own user, if it is listed and the client has not been told of it.
    pub(super) itself: Option<Arc<str>>,
    /// Asked for, and not known yet.
    pub(super) open: HashSet<u32>,
    /// Who could not be asked for, perhaps the session's own user among them: they are asked for again.
    pub(super) unknown: Vec<Arc<str>>,
    /// Those of `users` that are to be told of in the next answer.
    news: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) user: Arc<str>,
    /// Whether that user is online, while the client has not been told.
    pub(super) is_online: Option<bool>,
}

impl Watch {
    /// Where a user is among the watched.
    pub(super) fn place(&self, user: &str) -> Option<usize> {
        self.users.binary_search_by(|watched| (*watched.user).cmp(user)).ok()
    }

    /// Notes whether the user at this place is online, to be told in the next answer.
    pub(super) fn note(&mut self, place: usize, is_online: bool) {
        if self.users[place].is_online.replace(is_online).is_none() {
            self.news.push(place as u32);
        }
    }

    /// Takes a coming or going that belongs into the first answer.
    pub(super) fn takes(&mut self, said: &ChannelMessage) -> bool {
        let (presence, is_online) = match said {
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

    /// Who is online and who is offline of those whom the client has not been told of.
    pub(super) fn take_news(&mut self) -> [Vec<Arc<str>>; 2] {
        let mut online: Vec<_> = self.itself.take().into_iter().collect();
        let mut offline = Vec::new();
        for place in std::mem::take(&mut self.news) {
            let watched = &mut self.users[place as usize];
            let list = if watched.is_online.take() == Some(true) { &mut online } else { &mut offline };
            list.push(Arc::clone(&watched.user));
        }
        [online, offline]
    }
}
