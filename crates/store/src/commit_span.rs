//! What the lines of the log about a job of the store are written in, on whichever thread it is done.

use tidings_supervisor::LogContext;
use tracing::field::Empty;

use crate::error::StoreError;

/// The context of a job that somebody outside waits for: with a `commit` in the caller's span.
pub(crate) fn begin() -> LogContext {
    LogContext::in_span(tracing::debug_span!("commit", jobs = Empty))
}

/// Notes how a job ended that shared its transaction with others, `jobs` in all.
pub(crate) fn end<T>(context: &LogContext, jobs: usize, outcome: &Result<T, StoreError>) {
    if !context.span().has_field("jobs") {
        return;
    }
    context.span().record("jobs", jobs);
    context.run(|| match outcome {
        Ok(_) => tracing::debug!("committed"),
        Err(error) => tracing::debug!(%error, "not committed"),
    });
}
