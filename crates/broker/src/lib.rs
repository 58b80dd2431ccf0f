//! The home of channel state: who is in a channel, what was said there, in which order; and how nodes tell each other.
//!
//! A [`Broker`] orders each channel. Publish, join and leave of one channel happen one after the other, and in that order
//! their results ([`Told`]) reach the inboxes of exactly the shards concerned ([`Shards`]): so every session sees one order,
//! and joining with recovery has no gap and no repeat.
//!
//! Called by `bus`; `live` implements [`Shards`].
#![forbid(unsafe_code)]

mod broker;
mod codec;
mod memory;
mod redis;
mod subscribers;
#[cfg(test)]
mod suite;
mod told;
mod watch;

pub use broker::{
    Broker, BrokerError, Cached, ChannelFilter, ChannelState, Heard, History, HistoryRange, Join, LOOKED_AT, Leave,
    Occupancy, Publish, Since,
};
pub use memory::{MemoryBroker, MemoryLimits, Sizes};
pub use redis::{RedisBroker, RedisSettings, RedisUrlError};
pub use told::{
    Control, DeliveryMode, JoinRefused, Joined, Left, Lost, Recovery, SessionRef, Shards, Told, Welcome, Who,
};
pub use watch::{Unwatched, Watch};
