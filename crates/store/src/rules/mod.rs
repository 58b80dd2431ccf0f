//! What both stores decide in the same way, as pure functions: they are given what was read, and say what is to be
//! written. A store keeps its statements, its locks and its clock.
//!
//! PostgreSQL takes some of these decisions within a statement, for a whole set of rows. `suite::exact` compares what
//! such statements do with what is decided here.

pub(crate) mod attempt;
pub(crate) mod clock;
pub(crate) mod fanout;
pub(crate) mod lane;
pub(crate) mod listing;
pub(crate) mod placement;
pub(crate) mod presence;
pub(crate) mod repeat;
