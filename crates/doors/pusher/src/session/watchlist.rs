//! Watchlists: a signed-in session is sent which of the users that its user watches are online, and when that changes
//! (Pusher Channels, "Watchlist events").
//!
//! Each user has one [online channel](tidings_model::policy::online): the user's signed-in sessions are its members,
//! and watching sessions join it without a member. So a user's first and last session cause member events as in any
//! channel, on whichever node they are. Changes that happen before the state of all listed users is known are included
//! in the first watchlist event.

use std::collections::HashSet;
use std::sync::Arc;

use tidings_broker::{DeliveryMode, JoinRefused, Welcome};
use tidings_live::{Context, JoinRequest, Proof, SessionRequest};
use tidings_model::channel::Member;
use tidings_model::clock::Millis;
use tidings_model::policy::online;
use tidings_wire::EncodedMessage;

use super::Session;
use super::watch::{Watched, Watchlist};
use crate::channel::is_valid_user;
use crate::wire;
use crate::wire::codes::Code;
use crate::wire::incoming::watchlist;

/// After how many milliseconds failed joins of online channels are retried.
const RETRY: Millis = 5_000;

impl Session {
    /// After a sign-in: the session joins its user's online channel as a member, and watches the users that `user_data`
    /// lists.
    pub(super) fn watch(&mut self, cx: &mut Context<'_>, user: &Arc<str>, user_data: &str) {
        let limit = self.app.limits.watchlist;
        if limit == 0 {
            return;
        }
        // Without repeats, in the order of the list.
        let mut listed: Vec<Arc<str>> = Vec::new();
        match watchlist(user_data) {
            Some(ids) if ids.iter().all(|id| is_valid_user(id)) => {
                let mut known = HashSet::new();
                // One more than the limit, which is enough to know that the list is too long.
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
        let mut watch = Watchlist::default();
        let count = listed.len();
        listed.retain(|watched| watched != user);
        watch.itself = (listed.len() < count).then(|| Arc::clone(user));
        watch.users = listed.iter().map(|user| Watched { user: Arc::clone(user), is_online: None }).collect();
        watch.users.sort_unstable_by(|a, b| a.user.cmp(&b.user));
        // The list of a later sign-in replaces the earlier one.
        let before = self.watch.iter().flat_map(|before| &before.users);
        for Watched { user: dropped, .. } in before.filter(|before| watch.place(&before.user).is_none()) {
            cx.request(SessionRequest::Leave(online(dropped).into()));
        }
        let own = Arc::new(Member { user: Arc::clone(user).into(), info: None });
        watch.open.insert(join(cx, user, Some(own)));
        watch.open.extend(listed.iter().map(|watched| join(cx, watched, None)));
        self.watch = Some(Box::new(watch));
    }

    /// The join of `user`'s online channel has ended.
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

    /// Retries the joins of online channels that failed.
    pub(super) fn look_for_unknown(&mut self, cx: &mut Context<'_>) {
        let Some(watch) = &mut self.watch else { return };
        for user in std::mem::take(&mut watch.unknown) {
            let is_watched = watch.place(&user).is_some();
            let own = (!is_watched).then(|| Arc::new(Member { user: Arc::clone(&user).into(), info: None }));
            watch.open.insert(join(cx, &user, own));
        }
    }

    /// Changes of `user` may have been missed: joins the online channel again to learn the current state.
    pub(super) fn look_again(&mut self, cx: &mut Context<'_>, user: &str) {
        if let Some(watch) = &mut self.watch
            && watch.place(user).is_some()
        {
            watch.open.insert(join(cx, user, None));
        }
    }

    /// Writes a message of an online channel, unless the first watchlist event will include it.
    pub(super) fn has_heard(&mut self, cx: &mut Context<'_>, prepared: &Arc<EncodedMessage>) {
        let is_taken = self.watch.as_mut().is_some_and(|watch| watch.takes(prepared.content()));
        if let Some(bytes) = prepared.bytes(&wire::FORMAT).filter(|_| !is_taken) {
            cx.write(bytes.clone());
        }
    }
}

/// Requests to join `user`'s online channel. The proof is given because the app has signed the list.
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
