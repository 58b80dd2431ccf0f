//! Who owns the work that outlives a call.
//!
//! Every thread and every task of a node is started by its [`Supervisor`], under a name. It counts them, it notices
//! when one of them panics or ends although nobody asked it to, and it can end them all. What is done over and over
//! again inside them, a request, an attempt, a job of the store, is a [unit](Units): a panic in one costs that unit and
//! nothing else.
#![forbid(unsafe_code)]

pub mod fault;
mod log_context;
mod panicked;
mod supervisor;
mod units;

pub use log_context::{LogContext, RequestId};
pub use panicked::Panicked;
pub use supervisor::{Failure, Supervisor};
pub use units::Units;
