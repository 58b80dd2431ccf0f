//! The home of channel state: who is in a channel, which messages it has carried, and in which order. It also carries
//! messages between nodes.
//!
//! A [`Broker`] orders each channel. Publish, join and leave of one channel happen one after the other, and in that
//! order their results ([`ShardMessage`]) reach the inboxes of exactly the shards concerned ([`Shards`]). So every
//! session sees one order, and a join with recovery misses nothing and repeats nothing.
//!
//! Called by `bus`; `live` implements [`Shards`].
#![forbid(unsafe_code)]

mod broker;
mod codec;
mod memory;
mod redis;
mod session_order;
mod shard_message;
mod subscribers;
#[cfg(test)]
mod suite;
mod transition_sink;

pub use broker::{
    Broker, BrokerError, Cached, ChannelFilter, ChannelState, History, HistoryRange, Join, Leave, MAX_NAMES_SCANNED,
    Occupancy, Publish, PublishOutcome, Since,
};
pub use memory::{MemoryBroker, MemoryLimits, Sizes};
pub use redis::{RedisBroker, RedisSettings, RedisUrlError};
pub use session_order::{Action, SessionOrder, Who};
pub use shard_message::{
    DeliveryMode, JoinRefused, Joined, Left, Lost, Recovery, SessionRef, ShardMessage, Shards, Welcome,
};
pub use transition_sink::{DiscardTransitions, TransitionSink};
