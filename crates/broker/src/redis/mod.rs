//! Channel state in Redis: the broker of several nodes.
//!
//! Every write to a channel is one script on the channel's keys, which also publishes what follows from it; so Redis decides
//! the order, and every node, also the one that asked, hears it from there. `docs/adr/0007` says why it is as it is.
//!
//! - [`core`]: what all parts share. [`servers`]: who has which channel; [`link`]: the connection to one of them; [`cluster`]:
//!   keeping up with those of a cluster. [`nodes`]: clearing up after dead nodes.
//! - [`entry`]: a channel as this node sees it. [`lane`]: what this node asks about its own sessions, in order.
//! - [`keys`], [`scripts`] (with `scripts/*.lua`), [`codec`], [`message`], [`reply`], [`notes`]: what is said to Redis and back.

mod cluster;
mod core;
mod entry;
mod keys;
mod lane;
mod link;
mod listing;
mod message;
mod nodes;
mod notes;
mod promise;
mod reply;
mod scripts;
mod servers;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use tidings_model::channel::{ChannelKey, Member};
use tidings_model::clock::{SharedClock, millis};
use tidings_model::id::AppId;
use tidings_model::policy;
use tidings_wire::{Prepared, Publication, Said};
use tokio::sync::SemaphorePermit;

use crate::broker::{
    Broker, BrokerError, Cached, ChannelFilter, ChannelState, Heard, History, HistoryRange, Join, Leave, Occupancy,
    Publish,
};
use crate::codec::{self, Speech};
use crate::told::{Control, Shards};
use crate::watch::Watch;
use core::Core;
use entry::Op;
use reply::Reply;
use scripts::{Call, Kind};
use servers::{Master, Servers, Up};
use settings::Place;
pub use settings::{RedisSettings, RedisUrlError};

/// How often is looked whether a channel is heard again.
const PAUSE: Duration = Duration::from_millis(5);

/// The broker of several nodes.
pub struct RedisBroker {
    core: Arc<Core>,
    /// Keeps it connected.
    links: tokio::task::AbortHandle,
}

impl RedisBroker {
    /// A broker that tells these shards, and this watch of what its own calls cause, and goes on to connect. Needs a tokio
    /// runtime around it.
    ///
    /// # Errors
    /// [`RedisUrlError`] when a connection could never be made.
    pub fn start(
        settings: RedisSettings,
        clock: SharedClock,
        shards: Arc<dyn Shards>,
        watch: Arc<dyn Watch>,
    ) -> Result<Self, RedisUrlError> {
        let unreadable = |error: redis::RedisError| RedisUrlError::Unreadable(error.to_string());
        let name = core::random().map_err(|_| RedisUrlError::NoRandomness)?;
        let place = settings.place.clone();
        let core = Arc::new(Core::new(settings, clock, shards, watch, name.into()));
        let weak = Arc::downgrade(&core);
        let links = match place {
            Place::Alone(server) => {
                let master = Arc::new(Master::alone(*server).map_err(unreadable)?);
                core.rearrange(Servers::alone(Arc::clone(&master)));
                tokio::spawn(link::keep(weak, master))
            }
            Place::Cluster(seeds) => tokio::spawn(cluster::keep(weak, seeds)),
        };
        Ok(Self { core, links: links.abort_handle() })
    }

    /// A place among the calls that may be under way.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, BrokerError> {
        let turn = tokio::time::timeout(self.core.settings.patience, self.core.calls.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or(BrokerError::Unavailable)
    }

    async fn ask(&self, channel: &ChannelKey, call: Call) -> Result<Reply, BrokerError> {
        let up = self.core.up(channel)?;
        let _turn = self.turn().await?;
        self.core.call(&up, channel, &call).await
    }

    /// Waits until sessions here hear the channel: just after a reconnect they do not, and what keeps nothing would pass them
    /// by though their own node says it.
    async fn is_heard_here(&self, channel: &ChannelKey) -> Result<(), BrokerError> {
        let is_deaf = || self.core.partition(channel).get(channel).is_some_and(entry::Entry::is_deaf);
        let heard = async {
            while is_deaf() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(self.core.settings.patience, heard).await.map_err(|_| BrokerError::Unavailable)
    }

    /// While Redis is away, what is said in a channel that keeps nothing reaches at least those who are here.
    fn say_here(&self, publish: Publish) -> Occupancy {
        let Publish { channel, event, except, user, .. } = publish;
        let mut entries = self.core.partition(&channel);
        let Some(entry) = entries.get_mut(&channel) else { return Occupancy::default() };
        let said = Said::Publication(Publication { event, channel: channel.clone(), position: None, user });
        entry.tell(&Arc::new(Prepared::new(said)), except, self.core.teller(&channel));
        Occupancy { subscriptions: entry.subscribers.len(), users: 0 }
    }

    async fn say(&self, up: &Up, publish: Publish) -> Result<Occupancy, BrokerError> {
        let Publish { channel, options, event, except, user, by_client } = publish;
        let call = Call::new(Kind::Publish)
            .flag(by_client)
            .number(options.history_size)
            .number(options.history_ttl.as_millis());
        let call = match options.cache_ttl {
            Some(ttl) => call.number(millis(ttl)),
            None => call.arg(""),
        };
        let call = call.arg(codec::speech(&Speech { event, user, except }));
        self.is_heard_here(&channel).await?;
        let _turn = self.turn().await?;
        let mut reply = self.core.call(up, &channel, &call).await?;
        occupancy(&mut reply).ok_or(BrokerError::Unavailable)
    }
}

impl Drop for RedisBroker {
    fn drop(&mut self) {
        self.links.abort();
        self.core.servers().all().iter().for_each(|master| self.core.disconnected(master));
    }
}

fn occupancy(reply: &mut Reply) -> Option<Occupancy> {
    Some(Occupancy { subscriptions: reply.int()?, users: reply.int()? })
}

#[async_trait]
impl Broker for RedisBroker {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn overloaded(&self) -> bool {
        self.core.shards.overloaded()
    }

    fn is_cut_off(&self) -> bool {
        self.core.ups().is_err()
    }

    async fn publish(&self, publish: Publish) -> Result<Heard, BrokerError> {
        if self.overloaded() {
            return Err(BrokerError::Overloaded);
        }
        let options = &publish.options;
        let needs_others = options.history_size > 0 || options.cache_ttl.is_some() || options.presence;
        match self.core.up(&publish.channel) {
            Ok(up) => Ok(Heard { occupancy: self.say(&up, publish).await?, only_here: false }),
            Err(error) if needs_others => Err(error),
            Err(_) => Ok(Heard { occupancy: self.say_here(publish), only_here: true }),
        }
    }

    async fn join(&self, join: Join) -> Result<(), BrokerError> {
        self.core.up(&join.channel)?;
        let _turn = self.turn().await?;
        let key = join.channel.clone();
        let (promise, waiting) = promise::promise();
        self.core.submit(&key, Op::Join(Box::new(join), promise));
        waiting.within(self.core.settings.patience).await
    }

    async fn leave(&self, leave: Leave) -> Result<(), BrokerError> {
        let key = leave.channel.clone();
        {
            let mut entries = self.core.partition(&key);
            let teller = self.core.teller(&key);
            match entries.get_mut(&key) {
                None => {
                    teller.left(&leave);
                    return Ok(());
                }
                Some(entry) if self.core.up(&key).is_err() => {
                    entry.leave_alone(leave, teller);
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        let _turn = self.turn().await?;
        let (promise, waiting) = promise::promise();
        self.core.submit(&key, Op::Leave(leave, Some(promise)));
        waiting.within(self.core.settings.patience).await
    }

    async fn channel(&self, key: &ChannelKey) -> Result<Option<ChannelState>, BrokerError> {
        let reply = self.ask(key, Call::new(Kind::State)).await?;
        listing::state(reply, key).ok_or(BrokerError::Unavailable)
    }

    async fn channels(&self, app: &AppId, filter: ChannelFilter) -> Result<Vec<ChannelState>, BrokerError> {
        let _turn = self.turn().await?;
        listing::channels(&self.core, app, filter).await
    }

    fn names_here(&self, app: &AppId) -> Vec<Arc<str>> {
        self.core.some_names(|key, entry| {
            key.app == *app && !entry.subscribers.is_empty() && !policy::is_internal(&key.name)
        })
    }

    async fn members(&self, key: &ChannelKey) -> Result<Vec<Arc<Member>>, BrokerError> {
        let mut reply = self.ask(key, Call::new(Kind::Members)).await?;
        reply.members().ok_or(BrokerError::Unavailable)
    }

    async fn history(&self, key: &ChannelKey, range: HistoryRange) -> Result<History, BrokerError> {
        let call = match &range.since {
            Some(since) => Call::new(Kind::History).arg(since.epoch.as_str()).number(since.offset),
            None => Call::new(Kind::History).arg("").number(0),
        };
        let limit = u32::try_from(range.limit).unwrap_or(u32::MAX);
        let mut reply = self.ask(key, call.flag(range.reverse).number(limit)).await?;
        let mut read = || {
            let position = reply.position()?;
            let complete = reply.int()? == 1;
            let entries = reply.entries(key, position.as_ref())?;
            let publications = entries.into_iter().map(|(prepared, _)| prepared).collect();
            Some(History { position, complete, publications })
        };
        read().ok_or(BrokerError::Unavailable)
    }

    async fn cached(&self, key: &ChannelKey) -> Result<Option<Cached>, BrokerError> {
        let mut reply = self.ask(key, Call::new(Kind::Cached)).await?;
        reply.cached(key).ok_or(BrokerError::Unavailable)
    }

    async fn control(&self, control: Control) -> Result<(), BrokerError> {
        // Any server tells it to all nodes.
        let up = self.core.servers().all().iter().find_map(|master| master.up()).ok_or(BrokerError::Unavailable)?;
        let _turn = self.turn().await?;
        let mut command = redis::cmd(up.site.say());
        command.arg(up.site.home.control()).arg(codec::control(&control));
        self.core.send(&up, &command).await.map(|_: Value| ())
    }

    fn control_here(&self, control: Control) {
        self.core.control(control);
    }

    async fn sweep(&self) {
        let owed = self.core.of_all(|key, entry| std::mem::take(&mut entry.owed).then(|| key.clone()));
        for key in owed {
            let is_owed = match self.ask(&key, Call::new(Kind::Count)).await {
                Ok(mut reply) => reply.text().as_deref() == Some("1"),
                Err(_) => true,
            };
            if is_owed && let Some(entry) = self.core.partition(&key).get_mut(&key) {
                entry.owed |= !entry.subscribers.is_empty();
            }
        }
    }
}

impl std::fmt::Debug for RedisBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisBroker").field("settings", &self.core.settings).finish_non_exhaustive()
    }
}
