//! The durable way out: deliveries, attempted until each has arrived or nothing more can be done.
//!
//! The store holds the pending deliveries; this crate decides when each is attempted. The pieces, in the order a
//! delivery meets them:
//!
//! - [`Courier`] takes fresh deliveries over from a publish, already leased, and starts everything.
//! - `dispatcher` holds, in memory and bounded, what is ready for each destination, and hands out turns: fairly among
//!   apps and destinations, within each one's concurrency and rate, and within each host's places.
//! - `workers` make the attempts that are dispatched.
//! - `attempt` makes one attempt: the [`Outlet`] renders and judges, [`egress`] sends. In `guarded_attempt`, so that a
//!   panic fails its own deliveries alone.
//! - `result_writer` records results in batches, and keeps trying while the store cannot.
//! - `scheduler` fetches what is due from the store, expands fan-out rows, and sweeps up.
//!
//! What they share is in `shared`, which knows none of them but the dispatcher.
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
