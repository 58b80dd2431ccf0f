//! What must survive: the catalogue, the event log, and the pending deliveries.
//!
//! The traits ([`Catalogue`], [`Log`], [`Queue`], [`Standings`], [`Nodes`], together [`Store`]) speak in the model's
//! words; SQL lives behind them and nowhere else. Whatever a method answers with `Ok` is on disk, synced.
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

/// Everything a store does.
#[async_trait::async_trait]
pub trait Store: Catalogue + Log + Queue + PresenceJournal + Nodes + std::fmt::Debug {
    /// In a word, for `/readyz` and logs: which store it is.
    fn name(&self) -> &'static str;

    /// Which start of a node this is: higher than any before it, and one higher than the last one where there is one
    /// node.
    fn incarnation(&self) -> i64;

    /// Whether what it acknowledges survives a power cut.
    fn durable(&self) -> bool;

    /// Whether it can be written now, for `/readyz`.
    async fn writable(&self) -> Result<(), StoreError>;

    /// Finishes what is waiting and ends; later calls answer [`StoreError::Closed`].
    async fn close(&self);
}
