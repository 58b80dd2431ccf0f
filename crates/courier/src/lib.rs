//! The durable way out: attempts each delivery until it is delivered, or its schedule is exhausted.
//!
//! The store holds the pending deliveries; this crate decides when each is attempted. The pieces, in the order a
//! delivery passes through them:
//!
//! - [`Courier`] starts everything, and takes over the fresh deliveries of a publish, which are already leased.
//! - `dispatcher` has a queue for each destination, bounded and in memory. It chooses whose attempt starts next: fairly
//!   among apps and destinations, within each destination's concurrency and rate, and within each host's slots.
//! - `workers` make the attempts that are dispatched.
//! - `attempt` makes one attempt: the [`Outlet`] renders the request and judges the response, [`egress`] sends.
//!   `guarded_attempt` wraps it, so that a panic fails only its own deliveries.
//! - `result_writer` writes results to the store in batches, and retries while the store fails.
//! - `scheduler` claims due deliveries from the store, expands fan-out rows, and recovers expired leases.
//!
//! Their common state is in `shared`, which uses none of them but the dispatcher.
//!
//! Called by `bus` (fresh deliveries) and by doors (as outlets). Delivery is at least once: leases only save work.
#![forbid(unsafe_code)]

mod attempt;
mod claims;
mod courier;
mod destination_queue;
mod dispatcher;
mod duty_cycle;
pub mod egress;
mod guarded_attempt;
mod health;
mod health_log;
mod hosts;
mod memory;
mod metrics;
mod outlet;
mod queued_delivery;
mod recent_publishers;
mod result_writer;
mod ring;
mod scheduler;
mod settings;
mod shared;
mod shared_payload;
mod usage;
mod workers;

pub use courier::Courier;
pub use outlet::{Delivery, DestinationPolicy, Host, Outcome, Outlet, PreparedRequest};
pub use settings::{KeepAnswers, Settings};
pub use shared::Notice;
pub use shared_payload::SharedPayload;
