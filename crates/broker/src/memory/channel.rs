//! One channel. Every method is called under its partition's lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_model::channel::{ChannelKey, ChannelOptions, Member, SessionId};
use tidings_model::clock::{Millis, millis};
use tidings_wire::{Prepared, Presence as PresenceSaid, Publication, Said};

use super::Budget;
use super::history::History;
use super::presence::Presence;
use crate::broker::{self, Cached, ChannelState, HistoryRange, Join, Leave, Occupancy, Publish, Since};
use crate::told::{JoinRefused, Joined, Left, Recovery, Shards, Told, Welcome};

/// From so many subscriptions on their number is told only now and then (Pusher's rule).
const MANY: u64 = 100;
/// How often, then.
const COUNT_EVERY: Millis = 5_000;

/// The last publication, where it is kept for those who come later.
#[derive(Debug)]
struct CacheEntry {
    publication: Arc<Prepared>,
    expires: Millis,
    bytes: usize,
    budget: Arc<Budget>,
}

impl Drop for CacheEntry {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// When the number of subscriptions was told last, where it is told.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    told: u64,
    at: Millis,
}

/// What few channels have, apart so that the many stay small.
#[derive(Debug, Default)]
struct Extras {
    presence: Presence,
    join_leave: bool,
    history: Option<History>,
    cache: Option<CacheEntry>,
    count: Option<Count>,
}

/// A channel's state. A subscription without presence is a number here and nothing else: who is subscribed, the shards know,
/// and they ask once to join and once to leave.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Subscriptions of each shard that has some.
    shards: Vec<(u16, u32)>,
    extras: Option<Box<Extras>>,
}

impl Channel {
    /// Whether nobody is there and nothing is kept.
    pub(super) fn is_blank(&self) -> bool {
        self.shards.is_empty()
            && self.extras.as_ref().is_none_or(|extras| extras.history.is_none() && extras.cache.is_none())
    }

    pub(super) fn occupancy(&self) -> Occupancy {
        let users = self.extras.as_ref().map_or(0, |extras| extras.presence.users() as u64);
        Occupancy { subscriptions: self.shards.iter().map(|(_, count)| u64::from(*count)).sum(), users }
    }

    pub(super) fn sessions_present(&self) -> usize {
        self.extras.as_ref().map_or(0, |extras| extras.presence.sessions())
    }

    pub(super) fn state(&self, key: &ChannelKey) -> ChannelState {
        let position = self.extras.as_ref().and_then(|extras| extras.history.as_ref()).map(History::position);
        ChannelState { name: Arc::clone(&key.name), occupancy: self.occupancy(), position }
    }

    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        self.extras.as_ref().map_or_else(Vec::new, |extras| extras.presence.members())
    }

    pub(super) fn history(&mut self, range: &HistoryRange, now: Millis) -> Option<broker::History> {
        let history = self.extras.as_mut()?.history.as_mut()?;
        history.expire(now);
        Some(history.read(range))
    }

    pub(super) fn cached(&self, now: Millis) -> Option<Cached> {
        let cache = self.extras.as_ref()?.cache.as_ref().filter(|cache| cache.expires > now)?;
        let ttl = std::time::Duration::from_millis(u64::try_from(cache.expires - now).unwrap_or(0));
        Some(Cached { publication: Arc::clone(&cache.publication), ttl })
    }

    /// Says something; `budget` is there when something of it is to be kept.
    pub(super) fn publish(&mut self, publish: Publish, budget: Option<Arc<Budget>>, shards: &dyn Shards, now: Millis) {
        let Publish { channel, options, event, except, user, by_client: _ } = publish;
        let position = match &budget {
            Some(budget) if options.history_size > 0 => {
                let history = &mut self.extras().history;
                let ttl = millis(options.history_ttl);
                Some(history.get_or_insert_with(|| History::new(Arc::clone(budget), ttl)).next())
            }
            _ => None,
        };
        let prepared = Arc::new(Prepared::new(Said::Publication(Publication { event, channel, position, user })));
        if let Some(budget) = budget {
            self.keep(&prepared, &options, budget, now);
        }
        self.tell(&prepared, except, shards);
    }

    fn keep(&mut self, prepared: &Arc<Prepared>, options: &ChannelOptions, budget: Arc<Budget>, now: Millis) {
        let extras = self.extras();
        if let Some(history) = extras.history.as_mut().filter(|_| options.history_size > 0) {
            let size = usize::try_from(options.history_size).unwrap_or(usize::MAX);
            history.expire(now);
            history.keep(Arc::clone(prepared), size, millis(options.history_ttl), now);
        }
        if let Some(ttl) = options.cache_ttl {
            let bytes = prepared.said().weight();
            // The one before gives its room back first.
            extras.cache = None;
            if budget.used.load(Ordering::Relaxed) + bytes <= budget.limit {
                budget.used.fetch_add(bytes, Ordering::Relaxed);
                let (publication, expires) = (Arc::clone(prepared), now.saturating_add(millis(ttl)));
                extras.cache = Some(CacheEntry { publication, expires, bytes, budget });
            }
        }
    }

    /// Lets a session join. A channel that keeps history has a position from here on (for which `budget` is there), so that
    /// who goes away before the first publication can come back to it.
    pub(super) fn join(&mut self, join: Join, budget: Option<Arc<Budget>>, shards: &dyn Shards, now: Millis) {
        let Join { channel, options, session, at, ask, member, since, way } = join;
        let member = member.filter(|_| options.presence);
        let is_full = member.as_ref().is_some_and(|member| self.is_full_for(&member.user, options.max_members));
        let joined = |outcome| Told::Joined(Box::new(Joined { at, ask, channel: channel.clone(), way, outcome }));
        if is_full {
            shards.tell(at.shard, joined(Err(JoinRefused::TooManyMembers { limit: options.max_members })));
            return;
        }
        let is_again = member.is_some() && self.extras().presence.has_session(session);
        if !is_again {
            self.count_up(at.shard);
        }
        let come = member.filter(|_| !is_again).map(|member| {
            let changes_users = self.extras().presence.add(session, Arc::clone(&member));
            PresenceSaid { channel: channel.clone(), session, member, changes_users }
        });
        if let Some(budget) = budget {
            let ttl = millis(options.history_ttl);
            self.extras().history.get_or_insert_with(|| History::new(budget, ttl));
        }
        shards.tell(at.shard, joined(Ok(self.welcome(since.as_ref(), now))));
        if options.join_leave && come.is_some() {
            self.extras().join_leave = true;
        }
        if let Some(come) = come.filter(|_| options.join_leave) {
            self.tell(&Arc::new(Prepared::new(Said::Joined(come))), Some(session), shards);
        }
        if options.subscription_count {
            self.extras().count.get_or_insert_default();
            self.tell_count(&channel, shards, now);
        }
    }

    pub(super) fn leave(&mut self, leave: &Leave, shards: &dyn Shards, now: Millis) {
        self.count_down(leave.at.shard);
        if let Some(history) = self.extras.as_mut().and_then(|extras| extras.history.as_mut()) {
            history.touch(now);
        }
        let gone = self.extras.as_mut().and_then(|extras| extras.presence.remove(leave.session));
        tell_left(leave, shards);
        if let Some((member, changes_users)) = gone
            && self.extras().join_leave
        {
            let (channel, session) = (leave.channel.clone(), leave.session);
            let said = Said::Left(PresenceSaid { channel, session, member, changes_users });
            self.tell(&Arc::new(Prepared::new(said)), None, shards);
        }
        self.tell_count(&leave.channel, shards, now);
    }

    /// Drops what is too old, and tells the number of subscriptions if it is owed.
    pub(super) fn expire(&mut self, key: &ChannelKey, shards: &dyn Shards, now: Millis) {
        let Some(extras) = &mut self.extras else { return };
        if let Some(history) = &mut extras.history {
            history.expire(now);
        }
        let is_empty = self.shards.is_empty();
        extras.history.take_if(|history| is_empty && history.is_forgotten(now));
        extras.cache.take_if(|cache| cache.expires <= now);
        self.tell_count(key, shards, now);
    }

    fn welcome(&mut self, since: Option<&Since>, now: Millis) -> Welcome {
        let subscriptions = self.occupancy().subscriptions;
        let cached = self.cached(now).map(|cached| cached.publication);
        let members = self.members();
        let history = self.extras.as_mut().and_then(|extras| extras.history.as_mut());
        let (position, (recovery, publications)) = match (history, since) {
            (Some(history), since) => {
                history.expire(now);
                let found = since.map_or((Recovery::NotAsked, Vec::new()), |since| history.since(since));
                (Some(history.position()), found)
            }
            (None, Some(Since::Position(_))) => (None, (Recovery::Lost, Vec::new())),
            (None, _) => (None, (Recovery::NotAsked, Vec::new())),
        };
        Welcome { position, recovery, publications, members, subscriptions, cached }
    }

    fn is_full_for(&self, user: &str, max_members: usize) -> bool {
        let presence = self.extras.as_ref().map(|extras| &extras.presence);
        let users = presence.map_or(0, Presence::users);
        users >= max_members && !presence.is_some_and(|presence| presence.has_user(user))
    }

    fn extras(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    fn count_up(&mut self, shard: u16) {
        match self.shards.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, count)) => *count += 1,
            None => self.shards.push((shard, 1)),
        }
    }

    fn count_down(&mut self, shard: u16) {
        let Some(index) = self.shards.iter().position(|(known, _)| *known == shard) else { return };
        self.shards[index].1 -= 1;
        if self.shards[index].1 == 0 {
            self.shards.swap_remove(index);
        }
    }

    fn tell(&self, prepared: &Arc<Prepared>, except: Option<SessionId>, shards: &dyn Shards) {
        for (shard, _) in &self.shards {
            shards.tell(*shard, Told::Said { prepared: Arc::clone(prepared), except });
        }
    }

    /// Tells how many subscriptions there are, where that is wanted, has changed, and was not told a moment ago.
    fn tell_count(&mut self, key: &ChannelKey, shards: &dyn Shards, now: Millis) {
        let count = self.occupancy().subscriptions;
        let Some(told) = self.extras.as_mut().and_then(|extras| extras.count.as_mut()) else { return };
        if told.told == count || (count > MANY && now - told.at < COUNT_EVERY) {
            return;
        }
        *told = Count { told: count, at: now };
        let said = Said::Subscriptions { channel: key.clone(), count };
        self.tell(&Arc::new(Prepared::new(said)), None, shards);
    }
}

/// Tells a session that it is in the channel no more.
pub(super) fn tell_left(leave: &Leave, shards: &dyn Shards) {
    let left = Left { at: leave.at, ask: leave.ask, channel: leave.channel.clone() };
    shards.tell(leave.at.shard, Told::Left(left));
}
