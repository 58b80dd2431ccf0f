//! Watchlists: a session that has signed in is told which of the users whom its user watches are online, and when that
//! changes (Pusher Channels, "Watchlist events").
//!
//! Who is online is known by one [channel](tidings_model::policy::online) for each user: their signed-in sessions are its
//! members, and watchers are in it as nobody. So a first session that comes and a last one that goes are told like any
//! member's, from whichever node. What is told before all of the list is known goes into the first answer, which is one event.

use std::sync::Arc;

use tidings_broker::{DeliveryMode, JoinRefused, Welcome};
use tidings_live::{Context, JoinRequest, Proof, SessionRequest};
use tidings_model::channel::Member;
use tidings_model::clock::Millis;
use tidings_model::policy::online;
use tidings_wire::{ChannelMessage, EncodedMessage};

use crate::channel::is_valid_user;
use crate::wire;
use crate::wire::incoming::watchlist;

use super::Session;

/// How long it takes until it is tried again to learn who is online.
const RETRY: Millis = 5_000;
/// The error that says that the list is too long. The session is signed in all the same.
const TOO_LONG: u16 = 4302;

/// Whom a session watches, and what is known of them so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The watched, without the session's own user, who is online as long as it is asked.
    users: Vec<Arc<str>>,
    /// Asked for, and not known yet.
    open: Vec<u32>,
    /// Who could not be asked for, perhaps the session's own user among them: they are asked for again.
    unknown: Vec<Arc<str>>,
    online: Vec<Arc<str>>,
    offline: Vec<Arc<str>>,
}

impl Watch {
    fn note(&mut self, user: Arc<str>, is_online: bool) {
        for list in [&mut self.online, &mut self.offline] {
            list.retain(|known| *known != user);
        }
        if is_online { self.online.push(user) } else { self.offline.push(user) }
    }

    /// Takes a coming or going that belongs into the first answer.
    fn takes(&mut self, said: &ChannelMessage) -> bool {
        let (presence, is_online) = match said {
            ChannelMessage::Joined(presence) => (presence, true),
            ChannelMessage::Left(presence) => (presence, false),
            _ => return false,
        };
        let user = presence.member.user.text();
        let is_listed = self.online.contains(user) || self.offline.contains(user);
        let takes = !self.open.is_empty() && presence.changes_users && is_listed;
        if takes {
            self.note(Arc::clone(user), is_online);
        }
        takes
    }
}

impl Session {
    /// A session is its user's now: it counts as a sign of them, and watches whom `user_data` lists.
    pub(super) fn watch(&mut self, cx: &mut Context<'_>, user: &Arc<str>, user_data: &str) {
        let limit = self.app.limits.watchlist;
        if limit == 0 {
            return;
        }
        let mut watch = Watch::default();
        match watchlist(user_data) {
            Some(ids) if ids.iter().all(|id| is_valid_user(id)) => {
                for id in &ids {
                    // One more than may be watched: that the list is too long is known then, however long it is.
                    if watch.users.len() > limit {
                        break;
                    }
                    if !watch.users.iter().any(|known| **known == **id) {
                        watch.users.push(Arc::from(&**id));
                    }
                }
            }
            _ => Self::error(cx, "Invalid watchlist: send a list of user ids; nobody is watched"),
        }
        if watch.users.len() > limit {
            let message = format!("The watchlist is longer than {limit} users; the first {limit} are watched");
            cx.write(wire::error(Some(TOO_LONG), &message));
            watch.users.truncate(limit);
        }
        if watch.users.contains(user) {
            watch.users.retain(|watched| watched != user);
            watch.online.push(Arc::clone(user));
        }
        // A list that comes with another sign-in takes the place of the one before.
        for dropped in self.watch.iter().flat_map(|before| &before.users).filter(|user| !watch.users.contains(user)) {
            cx.request(SessionRequest::Leave(online(dropped).into()));
        }
        let own = Arc::new(Member { user: Arc::clone(user).into(), info: None });
        watch.open.push(join(cx, user, Some(own)));
        watch.open.extend(watch.users.iter().map(|watched| join(cx, watched, None)));
        self.watch = Some(Box::new(watch));
    }

    /// A channel that knows whether `user` is online has been joined, or could not be.
    pub(super) fn has_looked(
        &mut self,
        cx: &mut Context<'_>,
        request_id: u32,
        user: &str,
        outcome: &Result<Welcome, JoinRefused>,
    ) {
        let Some(watch) = &mut self.watch else { return };
        watch.open.retain(|open| *open != request_id);
        let watched = watch.users.iter().find(|watched| ***watched == *user).cloned();
        match (watched, outcome) {
            (Some(watched), Ok(welcome)) => watch.note(watched, !welcome.members.is_empty()),
            (_, Ok(_)) => {}
            (_, Err(_)) => watch.unknown.push(Arc::from(user)),
        }
        if watch.open.is_empty() {
            let (online, offline) = (std::mem::take(&mut watch.online), std::mem::take(&mut watch.offline));
            if !online.is_empty() || !offline.is_empty() {
                cx.write(wire::watchlist_events(&[("online", &online), ("offline", &offline)]));
            }
            if !watch.unknown.is_empty() {
                cx.wake_at(self.prove_by.min(cx.now().saturating_add(RETRY)));
            }
        }
    }

    /// Asks for those who could not be asked for.
    pub(super) fn look_for_unknown(&mut self, cx: &mut Context<'_>) {
        let Some(watch) = &mut self.watch else { return };
        for user in std::mem::take(&mut watch.unknown) {
            let is_watched = watch.users.contains(&user);
            let own = (!is_watched).then(|| Arc::new(Member { user: Arc::clone(&user).into(), info: None }));
            watch.open.push(join(cx, &user, own));
        }
    }

    /// Comings and goings of `user` may have been missed: asks once more.
    pub(super) fn look_again(&mut self, cx: &mut Context<'_>, user: &str) {
        if let Some(watch) = &mut self.watch
            && let Some(watched) = watch.users.iter().find(|watched| ***watched == *user)
        {
            watch.open.push(join(cx, watched, None));
        }
    }

    /// Tells what is said of somebody who is watched.
    pub(super) fn has_heard(&mut self, cx: &mut Context<'_>, prepared: &Arc<EncodedMessage>) {
        let is_taken = self.watch.as_mut().is_some_and(|watch| watch.takes(prepared.content()));
        if let Some(bytes) = prepared.bytes(&wire::FORMAT).filter(|_| !is_taken) {
            cx.write(bytes.clone());
        }
    }
}

/// Asks to join the channel that knows whether `user` is online. That the door asks is the proof: the app has signed the list.
fn join(cx: &mut Context<'_>, user: &str, member: Option<Arc<Member>>) -> u32 {
    let channel = online(user).into();
    cx.request(SessionRequest::Join(JoinRequest {
        channel,
        proof: Proof::Channel,
        member,
        since: None,
        mode: DeliveryMode::Session,
    }))
}
