//! What the lines of the log about a job of the store are written in, on whichever thread it is done.

use tracing::Span;
use tracing::field::Empty;

use crate::error::StoreError;

/// The span of a job that somebody outside waits for: a `commit` in the caller's span or, where nobody listens to that,
/// the caller's own.
pub(crate) fn begin() -> Span {
    let span = tracing::debug_span!("commit", jobs = Empty);
    if span.is_disabled() { Span::current() } else { span }
}

/// Notes how a job ended that shared its transaction with others, `jobs` in all.
pub(crate) fn end<T>(span: &Span, jobs: usize, outcome: &Result<T, StoreError>) {
    if !span.has_field("jobs") {
        return;
    }
    span.record("jobs", jobs);
    span.in_scope(|| match outcome {
        Ok(_) => tracing::debug!("committed"),
        Err(error) => tracing::debug!(%error, "not committed"),
    });
}
