//! The decisions that both stores make in the same way, as pure functions: from what was read to what has to be
//! written. Statements, locks and the clock are each store's own.
//!
//! Some SQL statements make such a decision themselves, for a whole set of rows. `suite::exact` compares their results
//! with those of these functions.

pub(crate) mod attempt;
pub(crate) mod clock;
pub(crate) mod fanout;
pub(crate) mod lane;
pub(crate) mod listing;
pub(crate) mod placement;
pub(crate) mod presence;
pub(crate) mod repeat;
