//! The one way in: every door publishes through [`Bus::publish`].
//!
//! The bus finds out who wants an event ([`Catalogue`]), writes it to the log exactly if something durable wants it, and hands
//! its deliveries to the courier after the commit. It also changes the catalogue, so that a change holds on this node before
//! it is answered.
#![forbid(unsafe_code)]

mod announce;
mod apps;
mod audience;
mod bus;
mod catalogue;
mod error;
mod manage;
mod metrics;

pub use apps::{Apps, AppsError};
pub use bus::{Bus, Publication, Receipt};
pub use catalogue::{Catalogue, Page};
pub use error::{ManageError, PublishError};
pub use manage::{HookChange, ListenerChange};
