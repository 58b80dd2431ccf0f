//! The one way in: every door publishes through [`Bus::publish`].
//!
//! The bus finds the listeners of an event ([`Catalogue`]). It writes the event to the log if its name is a hook or the
//! caller gave an idempotency key. After the commit it hands the deliveries to the courier and the event to the broker,
//! which sends it to live sessions. It answers sessions' requests (join, leave, publish) by the one channel policy. It
//! also changes the catalogue, so that a change is effective on this node before its caller gets an answer.
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
