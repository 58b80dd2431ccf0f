//! The one way in: every door publishes through [`Bus::publish`].
//!
//! The bus finds out who wants an event ([`Catalogue`]), writes it to the log exactly if something durable wants it,
//! and after the commit hands its deliveries to the courier and the event to the broker, which tells live sessions.
//! What sessions ask (to join, to leave, to say something) it answers by the one channel policy. It also changes the
//! catalogue, so that a change holds on this node before it is answered.
#![forbid(unsafe_code)]

mod apps;
mod apps_change;
mod audience;
mod bus;
mod callers;
mod catalogue;
mod channel_events;
mod error;
mod hints;
mod listener_disabled;
mod live;
mod manage;
mod metrics;
mod presence_events;
mod queries;
mod rate;
mod reconcile;
mod retry;
mod start;
mod throttle;
mod transition_queue;
mod usage;
mod webhooks;

pub use apps::{AppReader, Apps, AppsError, Spec, StoredApp, WrongField};
pub use bus::{Bus, Parts, Publication, Receipt, TEST_EVENT};
pub use callers::{AppBy, CallerError, KeyHolder, NotServed, check_served};
pub use catalogue::{Catalogue, Page};
pub use error::{ManageError, PublishError};
pub use manage::{HookChange, ListenerChange};
pub use rate::{Bucket, Rate};
pub use throttle::Throttle;
pub use transition_queue::TransitionQueue;
