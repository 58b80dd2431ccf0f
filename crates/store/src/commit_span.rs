//! The span of a commit, and the log context of a job of the store, on whichever thread it runs.

use tidings_supervisor::LogContext;
use tracing::field::Empty;

use crate::error::StoreError;

/// The context of a job that a caller waits for: a `commit` span inside the caller's.
pub(crate) fn begin() -> LogContext {
    LogContext::in_span(tracing::debug_span!("commit", jobs = Empty))
}

/// Logs how a job ended. `jobs` is how many shared its transaction.
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
