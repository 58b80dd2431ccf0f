//! Watchlists: a session that has signed in is told which of the users whom its user watches are online, and when that
//! changes (Pusher Channels, "Watchlist events").
//!
//! Who is online is known by one [channel](tidings_model::policy::online) for each user: their signed-in sessions are
//! its members, and watchers are in it as nobody. So a first session that comes and a last one that goes are told like
//! any member's, from whichever node. What is told before all of the list is known goes into the first answer, which is
//! one event.

use std::collections::HashSet;
use std::sync::Arc;

use tidings_broker::{DeliveryMode, JoinRefused, Welcome};
use tidings_live::{Context, JoinRequest, Proof, SessionRequest};
use tidings_model::channel::Member;
use tidings_model::clock::Millis;
use tidings_model::policy::online;
use tidings_wire::EncodedMessage;

use super::Session;
use super::watch::{Watch, Watched};
use crate::channel::is_valid_user;
use crate::wire;
use crate::wire::codes::Code;
use crate::wire::incoming::watchlist;

/// How long it takes until it is tried again to learn who is online.
const RETRY: Millis = 5_000;

impl Session {
    /// A session is its user's now: it counts as a sign of them, and watches whom `user_data` lists.
    pub(super) fn watch(&mut self, cx: &mut Context<'_>, user: &Arc<str>, user_data: &str) {
        let limit = self.app.limits.watchlist;
        if limit == 0 {
            return;
        }
        // Each once, in the order of the list.
        let mut listed: Vec<Arc<str>> = Vec::new();
        match watchlist(user_data) {
            Some(ids) if ids.iter().all(|id| is_valid_user(id)) => {
                let mut known = HashSet::new();
                // One more than may be watched: that the list is too long is known then, however long it is.
                let unique = ids.iter().filter(|id| known.insert(&***id)).take(limit + 1);
                listed.extend(unique.map(|id| Arc::from(&**id)));
            }
            _ => Self::error(cx, "Invalid watchlist: send a list of user ids; nobody is watched"),
        }
        if listed.len() > limit {
            let message = format!("The watchlist is longer than {limit} users; the first {limit} are watched");
            // The session is signed in all the same.
            cx.write(wire::error(Some(Code::WatchlistTooLong), &message));
            listed.truncate(limit);
        }
        let mut watch = Watch::default();
        let count = listed.len();
        listed.retain(|watched| watched != user);
        watch.itself = (listed.len() < count).then(|| Arc::clone(user));
        watch.users = listed.iter().map(|user| Watched { user: Arc::clone(user), is_online: None }).collect();
        watch.users.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        // A list that comes with another sign-in takes the place of the one before.
        let before = self.watch.iter().flat_map(|before| &before.users);
        for Watched { user: dropped, .. } in before.filter(|before| watch.place(&before.user).is_none()) {
            cx.request(SessionRequest::Leave(online(dropped).into()));
        }
        let own = Arc::new(Member { user: Arc::clone(user).into(), info: None });
        watch.open.insert(join(cx, user, Some(own)));
        watch.open.extend(listed.iter().map(|watched| join(cx, watched, None)));
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
        watch.open.remove(&request_id);
        match (outcome, watch.place(user)) {
            (Ok(welcome), Some(place)) => watch.note(place, !welcome.members.is_empty()),
            (Ok(_), None) => {}
            (Err(_), _) => watch.unknown.push(Arc::from(user)),
        }
        if watch.open.is_empty() {
            watch.open = HashSet::new();
            let [online, offline] = watch.take_news();
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
            let is_watched = watch.place(&user).is_some();
            let own = (!is_watched).then(|| Arc::new(Member { user: Arc::clone(&user).into(), info: None }));
            watch.open.insert(join(cx, &user, own));
        }
    }

    /// Comings and goings of `user` may have been missed: asks once more.
    pub(super) fn look_again(&mut self, cx: &mut Context<'_>, user: &str) {
        if let Some(watch) = &mut self.watch
            && watch.place(user).is_some()
        {
            watch.open.insert(join(cx, user, None));
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

/// Asks to join the channel that knows whether `user` is online. That the door asks is the proof: the app has signed
/// the list.
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
