//! Durable state: the catalogue, the event log, the pending deliveries, and the presence journal.
//!
//! The traits ([`Catalogue`], [`Log`], [`Queue`], [`PresenceJournal`], [`Nodes`], together [`Store`]) use the model's
//! types; SQL is behind them and nowhere else. When a method returns `Ok`, its writes are synced to disk.
//!
//! Called by `bus` (catalogue and log) and `courier` (queue). One suite of tests runs against every implementation.
#![forbid(unsafe_code)]

pub mod catalogue;
mod commit_span;
mod destinations;
pub mod error;
mod fingerprint;
pub mod log;
pub mod matches;
pub mod nodes;
pub mod page;
pub mod postgres;
pub mod presence;
pub mod queue;
mod records;
mod rows;
mod rules;
pub mod seal;
pub mod sqlite;
#[cfg(test)]
mod suite;

pub use catalogue::Catalogue;
pub use error::StoreError;
pub use log::Log;
pub use nodes::Nodes;
pub use presence::PresenceJournal;
pub use queue::Queue;

/// A store: all its traits, and its life cycle.
#[async_trait::async_trait]
pub trait Store: Catalogue + Log + Queue + PresenceJournal + Nodes + std::fmt::Debug {
    /// The store's kind, for `/readyz` and logs: `sqlite` or `postgres`.
    fn name(&self) -> &'static str;

    /// The number of this start of the node. It is higher than that of any earlier start; with one node, by one.
    fn incarnation(&self) -> i64;

    /// Whether acknowledged writes survive a power cut.
    fn durable(&self) -> bool;

    /// Whether it accepts writes now, for `/readyz`.
    async fn writable(&self) -> Result<(), StoreError>;

    /// Finishes the calls that wait, and closes. Later calls return [`StoreError::Closed`].
    async fn close(&self);
}
