//! Owns the threads and tasks that outlive a call.
//!
//! Every thread and every task of a node is started by its [`Supervisor`], under a name. The supervisor counts them,
//! notices when one of them panics or ends unexpectedly, and can end them all. Repeated work inside them, such as a
//! request, an attempt or a job of the store, is a [unit](Units): a panic fails only that unit.
#![forbid(unsafe_code)]

pub mod fault;
mod log_context;
mod panicked;
mod supervisor;
mod units;

pub use log_context::{LogContext, RequestId};
pub use panicked::Panicked;
pub use supervisor::{Failure, Supervisor};
pub use units::{Unit, Units};
