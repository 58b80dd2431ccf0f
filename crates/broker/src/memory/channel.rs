//! The state of one channel. Every method is called under the lock of the channel's partition.

use std::sync::Arc;
use std::time::Duration;

use tidings_model::channel::{ChannelKey, ChannelOptions, Member, SessionId};
use tidings_model::clock::{Millis, millis};
use tidings_model::transition::Change;
use tidings_wire::{ChannelMessage, EncodedMessage, MemberChange, Publication};

use super::budget::{Budget, BudgetReservation};
use super::history::History;
use super::member_set::MemberSet;
use super::transitions::TransitionRecorder;
use crate::broker::{self, Cached, ChannelState, HistoryRange, Join, Leave, Occupancy, Publish, Since};
use crate::shard_message::{JoinRefused, Joined, Left, Recovery, SessionRef, ShardMessage, Shards, Welcome};
use crate::subscribers::Subscribers;

/// Up to this many subscribers, the publisher's thread may write to the sockets of a sleeping shard, which saves waking
/// the shard.
const INLINE_MAX: u64 = 8;
/// Above this many subscriptions, their count is sent only every [`COUNT_INTERVAL`] (Pusher Channels, "Subscription
/// count events").
const COUNT_THROTTLED_ABOVE: u64 = 100;
/// The shortest time between two counts of a large channel, in milliseconds.
const COUNT_INTERVAL: Millis = 5_000;

/// The last publication, kept for sessions that join later.
#[derive(Debug)]
pub(super) struct CacheEntry {
    pub(super) publication: Arc<EncodedMessage>,
    pub(super) expires: Millis,
    /// The publication's share of the app's budget.
    _room: BudgetReservation,
}

impl CacheEntry {
    /// An entry, if the budget allows.
    pub(super) fn new(publication: Arc<EncodedMessage>, expires: Millis, budget: &Arc<Budget>) -> Option<Self> {
        let room = budget.take(publication.content().weight())?;
        Some(Self { publication, expires, _room: room })
    }
}

/// When the subscription count was sent last, and whether it has changed since.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    sent_at: Option<Millis>,
    is_pending: bool,
}

/// State that few channels have. It is boxed, so that the other channels stay small.
#[derive(Debug, Default)]
struct Extras {
    presence: MemberSet,
    /// Whether members are listed and users counted (the option `presence`).
    lists_members: bool,
    /// Whether sessions receive join and leave messages (the option `join_leave`).
    announces_members: bool,
    history: Option<History>,
    cache: Option<CacheEntry>,
    /// Since the last cached event, a session has joined that found none.
    has_cache_miss: bool,
    count: Option<Count>,
}

/// A channel's state.
#[derive(Debug, Default)]
pub(super) struct Channel {
    subscribers: Subscribers,
    extras: Option<Box<Extras>>,
}

impl Channel {
    /// Whether it has no subscription, no history and no cached event.
    pub(super) fn is_blank(&self) -> bool {
        self.subscribers.is_empty()
            && self.extras.as_ref().is_none_or(|extras| extras.history.is_none() && extras.cache.is_none())
    }

    pub(super) fn is_occupied(&self) -> bool {
        !self.subscribers.is_empty()
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        let listed = self.extras.as_ref().filter(|extras| extras.lists_members);
        let users = listed.map_or(0, |extras| extras.presence.users() as u64);
        Occupancy { subscriptions: self.subscribers.len(), users }
    }

    /// The number of sessions whose member is kept.
    pub(super) fn member_sessions(&self) -> usize {
        self.extras.as_ref().map_or(0, |extras| extras.presence.sessions())
    }

    pub(super) fn state(&self, key: &ChannelKey) -> ChannelState {
        let position = self.extras.as_ref().and_then(|extras| extras.history.as_ref()).map(History::position);
        ChannelState { name: Arc::clone(&key.name), occupancy: self.occupancy(), position }
    }

    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        let listed = self.extras.as_ref().filter(|extras| extras.lists_members);
        listed.map_or_else(Vec::new, |extras| extras.presence.members())
    }

    pub(super) fn history(&self, range: &HistoryRange) -> Option<broker::History> {
        Some(self.extras.as_ref()?.history.as_ref()?.read(range))
    }

    pub(super) fn cached(&self, now: Millis) -> Option<Cached> {
        let cache = self.extras.as_ref()?.cache.as_ref()?;
        let ttl = Duration::from_millis(u64::try_from(cache.expires.saturating_sub(now)).unwrap_or(0));
        Some(Cached { publication: Arc::clone(&cache.publication), ttl })
    }

    /// The history and the cached event, if there are any.
    pub(super) fn kept(&self) -> (Option<&History>, Option<&CacheEntry>) {
        let extras = self.extras.as_ref();
        (extras.and_then(|extras| extras.history.as_ref()), extras.and_then(|extras| extras.cache.as_ref()))
    }

    /// A channel without subscriptions, with this history and this cached event.
    pub(super) fn restored(history: Option<History>, cache: Option<CacheEntry>) -> Self {
        let mut channel = Self::default();
        if history.is_some() || cache.is_some() {
            let extras = channel.extras();
            (extras.history, extras.cache) = (history, cache);
        }
        channel
    }

    /// Publishes an event. `budget` is given if history or cache keep it. If a shard is returned, the caller must call
    /// [`Shards::write_inline`] for it after releasing the lock.
    pub(super) fn publish(
        &mut self,
        publish: Publish,
        budget: Option<&Arc<Budget>>,
        shards: &dyn Shards,
        now: Millis,
    ) -> Option<u16> {
        let Publish { channel, options, event, except, user, by_client } = publish;
        if !by_client {
            self.drop_disabled(&options);
        }
        let position = budget.and_then(|budget| self.history_for(&options, budget)).map(History::next);
        let message =
            Arc::new(EncodedMessage::new(ChannelMessage::Publication(Publication { event, channel, position, user })));
        if let Some(budget) = budget {
            self.keep(&message, &options, budget, now);
        }
        if let Some(shard) = self.subscribers.only_shard().filter(|_| self.subscribers.len() <= INLINE_MAX) {
            shards.append(shard, ShardMessage::Message { message, except });
            return Some(shard);
        }
        self.send(&message, except, shards);
        None
    }

    fn keep(&mut self, message: &Arc<EncodedMessage>, options: &ChannelOptions, budget: &Arc<Budget>, now: Millis) {
        let is_empty = self.subscribers.is_empty();
        let extras = self.extras();
        if let Some(ttl) = options.cache_ttl {
            let bytes = message.content().weight();
            // The previous entry is outdated. It gives its bytes back before the new one takes its own.
            extras.cache = None;
            let room = match &mut extras.history {
                Some(history) => history.make_room(bytes),
                None => budget.take(bytes),
            };
            let entry = |room| {
                let (publication, expires) = (Arc::clone(message), now.saturating_add(millis(ttl)));
                CacheEntry { publication, expires, _room: room }
            };
            extras.cache = room.map(entry);
            extras.has_cache_miss = false;
        }
        if let Some(history) = &mut extras.history {
            let size = usize::try_from(options.history_size).unwrap_or(usize::MAX);
            history.keep(Arc::clone(message), size, millis(options.history_ttl), now);
            if is_empty {
                history.vacated(now);
            }
        }
    }

    /// Lets a session join. A channel with history (then `budget` is given) has a position from its first join on, so
    /// that a session that disconnects before the first publication can recover.
    pub(super) fn join(
        &mut self,
        join: Join,
        budget: Option<&Arc<Budget>>,
        shards: &dyn Shards,
        now: Millis,
        recorder: TransitionRecorder<'_>,
    ) {
        let Join { channel, options, session, at, request_id, member, since, mode } = join;
        let is_new = !self.subscribers.has(at);
        let member = member.filter(|_| is_new && (options.presence || options.join_leave));
        let is_full = member.as_ref().is_some_and(|member| options.presence && self.is_full_for(member, &options));
        let joined = |outcome| {
            ShardMessage::Joined(Box::new(Joined { at, request_id, channel: channel.clone(), mode, outcome }))
        };
        if is_full {
            shards.send(at.shard, joined(Err(JoinRefused::TooManyMembers { limit: options.max_members })));
            return;
        }
        if self.subscribers.is_empty() {
            recorder.record(&channel, Change::Occupied);
        }
        self.subscribers.add(at);
        self.apply_options(&options);
        if let Some(history) = budget.and_then(|budget| self.history_for(&options, budget)) {
            history.occupied();
        }
        let come = member.map(|member| {
            let changes_users = self.extras().presence.add(at, Arc::clone(&member));
            if changes_users && options.presence {
                recorder.record(&channel, Change::MemberAdded(member.user.as_ref().to_owned()));
            }
            MemberChange { channel: channel.clone(), session, member, changes_users }
        });
        let welcome = self.welcome(since.as_ref(), now);
        if options.cache_ttl.is_some()
            && welcome.cached.is_none()
            && !std::mem::replace(&mut self.extras().has_cache_miss, true)
        {
            recorder.record(&channel, Change::CacheMiss);
        }
        shards.send(at.shard, joined(Ok(welcome)));
        if let Some(come) = come.filter(|_| options.join_leave) {
            self.send(&Arc::new(EncodedMessage::new(ChannelMessage::Joined(come))), Some(session), shards);
        }
        if is_new {
            self.count_changed(&channel, shards, now, recorder);
        }
    }

    pub(super) fn leave(&mut self, leave: &Leave, shards: &dyn Shards, now: Millis, recorder: TransitionRecorder<'_>) {
        let was_there = self.subscribers.remove(leave.at);
        send_left(leave, shards);
        if !was_there {
            return;
        }
        if let Some(content) = self.remove_member(leave.at, leave.session, &leave.channel, recorder) {
            self.send(&Arc::new(EncodedMessage::new(content)), None, shards);
        }
        self.count_changed(&leave.channel, shards, now, recorder);
        let is_empty = self.subscribers.is_empty();
        if is_empty {
            recorder.record(&leave.channel, Change::Vacated);
        }
        if let Some(history) = self.extras.as_mut().and_then(|extras| extras.history.as_mut()).filter(|_| is_empty) {
            history.vacated(now);
        }
    }

    /// Removes the member of a session that has left. Returns the leave message for the others, if they receive one.
    fn remove_member(
        &mut self,
        at: SessionRef,
        session: SessionId,
        channel: &ChannelKey,
        recorder: TransitionRecorder<'_>,
    ) -> Option<ChannelMessage> {
        let extras = self.extras.as_mut()?;
        let (member, changes_users) = extras.presence.remove(at)?;
        if changes_users && extras.lists_members {
            recorder.record(channel, Change::MemberRemoved(member.user.as_ref().to_owned()));
        }
        let change = MemberChange { channel: channel.clone(), session, member, changes_users };
        extras.announces_members.then_some(ChannelMessage::Left(change))
    }

    /// Drops expired publications, and an expired history or cached event.
    pub(super) fn expire(&mut self, now: Millis) {
        let is_empty = self.subscribers.is_empty();
        let Some(extras) = &mut self.extras else { return };
        if let Some(history) = &mut extras.history {
            history.expire(now);
        }
        extras.history.take_if(|history| is_empty && history.is_position_expired(now));
        extras.cache.take_if(|cache| cache.expires <= now);
    }

    fn welcome(&self, since: Option<&Since>, now: Millis) -> Welcome {
        let history = self.extras.as_ref().and_then(|extras| extras.history.as_ref());
        let (recovery, publications) = match (history, since) {
            (Some(history), Some(since)) => history.since(since),
            (None, Some(Since::Position(_))) => (Recovery::Lost, Vec::new()),
            _ => (Recovery::NotAsked, Vec::new()),
        };
        Welcome {
            position: history.map(History::position),
            recovery,
            publications,
            members: self.members(),
            subscriptions: self.subscribers.len(),
            cached: self.cached(now).map(|cached| cached.publication),
        }
    }

    fn is_full_for(&self, member: &Member, options: &ChannelOptions) -> bool {
        let presence = self.extras.as_ref().map(|extras| &extras.presence);
        let users = presence.map_or(0, MemberSet::users);
        users >= options.max_members && !presence.is_some_and(|presence| presence.has_user(&member.user))
    }

    /// Takes over the options of a joining session. They also hold for leaves, which carry no options.
    fn apply_options(&mut self, options: &ChannelOptions) {
        self.drop_disabled(options);
        if self.extras.is_none() && !options.presence && !options.join_leave && !options.subscription_count {
            return;
        }
        let extras = self.extras();
        extras.lists_members = options.presence;
        extras.announces_members = options.join_leave;
        let count = extras.count.take().unwrap_or_default();
        extras.count = options.subscription_count.then_some(count);
    }

    /// Drops a history or cached event that the options no longer ask for: as nothing updates it, it would soon be
    /// outdated.
    fn drop_disabled(&mut self, options: &ChannelOptions) {
        if let Some(extras) = &mut self.extras {
            extras.history.take_if(|_| options.history_size == 0);
            extras.cache.take_if(|_| options.cache_ttl.is_none());
        }
    }

    /// The history, if the options ask for one. It is created if there is none.
    fn history_for(&mut self, options: &ChannelOptions, budget: &Arc<Budget>) -> Option<&mut History> {
        if options.history_size == 0 {
            return None;
        }
        let history = &mut self.extras().history;
        if history.is_none() {
            *history = History::new(Arc::clone(budget), millis(options.history_ttl));
        }
        history.as_mut()
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    fn send(&self, message: &Arc<EncodedMessage>, except: Option<SessionId>, shards: &dyn Shards) {
        for shard in self.subscribers.shards() {
            shards.send(shard, ShardMessage::Message { message: Arc::clone(message), except });
        }
    }

    fn count_changed(&mut self, key: &ChannelKey, shards: &dyn Shards, now: Millis, recorder: TransitionRecorder<'_>) {
        if let Some(count) = self.extras.as_mut().and_then(|extras| extras.count.as_mut()) {
            count.is_pending = true;
            self.send_count(key, shards, now, recorder);
        }
    }

    /// Whether the subscription count has changed since it was sent.
    pub(super) fn count_pending(&self) -> bool {
        self.extras.as_ref().and_then(|extras| extras.count).is_some_and(|count| count.is_pending)
    }

    /// Sends the subscription count if it is pending. A large channel's count waits until [`COUNT_INTERVAL`] has
    /// passed.
    pub(super) fn send_count(
        &mut self,
        key: &ChannelKey,
        shards: &dyn Shards,
        now: Millis,
        recorder: TransitionRecorder<'_>,
    ) {
        let subscriptions = self.subscribers.len();
        let Some(count) = self.extras.as_mut().and_then(|extras| extras.count.as_mut()) else { return };
        let is_soon = count.sent_at.is_some_and(|sent_at| now.saturating_sub(sent_at) < COUNT_INTERVAL);
        if !count.is_pending || subscriptions == 0 || (subscriptions > COUNT_THROTTLED_ABOVE && is_soon) {
            return;
        }
        *count = Count { sent_at: Some(now), is_pending: false };
        recorder.record(key, Change::SubscriptionCount(subscriptions));
        let content = ChannelMessage::Subscriptions { channel: key.clone(), count: subscriptions };
        self.send(&Arc::new(EncodedMessage::new(content)), None, shards);
    }

    /// Bytes on the heap, without what histories and caches keep.
    #[cfg(test)]
    pub(super) fn heap(&self) -> usize {
        let extras = self.extras.as_ref().map_or(0, |extras| size_of::<Extras>() + extras.presence.heap());
        self.subscribers.heap() + extras
    }
}

/// Tells the session's shard that the session is no longer in the channel.
pub(super) fn send_left(leave: &Leave, shards: &dyn Shards) {
    let left = Left { at: leave.at, request_id: leave.request_id, channel: leave.channel.clone() };
    shards.send(leave.at.shard, ShardMessage::Left(left));
}
