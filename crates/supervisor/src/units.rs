//! Units of work: a panic in a unit affects no other work.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use prometheus_client::metrics::counter::Counter;
use tokio::task::JoinHandle;

use crate::fault;
use crate::log_context::LogContext;
use crate::panicked::Panicked;

/// One kind of unit: its name, and the number of its units that have panicked. Clones share the count.
///
/// State that a panicking unit leaves half changed must be dropped with it: either the closure or future owns it, or
/// the caller discards it on an error.
#[derive(Debug, Clone)]
pub struct Units {
    kind: &'static str,
    panics: Counter,
}

impl Units {
    pub(crate) fn new(kind: &'static str, panics: Counter) -> Self {
        Self { kind, panics }
    }

    /// Runs one unit of work; `id` identifies it in the log.
    ///
    /// # Errors
    /// The panic, counted and logged.
    pub fn catch<T>(&self, id: impl Display, work: impl FnOnce() -> T) -> Result<T, Panicked> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            fault::point_of(self.kind, &id);
            work()
        }));
        outcome.map_err(|payload| self.record(&id, Panicked::from_payload(&*payload)))
    }

    /// The same for a future.
    pub fn catch_async<I: Display, F: Future>(&self, id: I, work: F) -> Unit<I, F> {
        Unit { units: self.clone(), id, has_begun: false, work }
    }

    /// Spawns one unit, in the caller's log context. It runs to its end even if the handle is dropped, so it must end
    /// by itself.
    pub fn spawn<T: Send + 'static>(
        &self,
        id: impl Display + Send + 'static,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Result<T, Panicked>> {
        // Boxed, because each wrapper around a future copies it.
        tokio::spawn(LogContext::current().scope(self.catch_async(id, Box::pin(work))))
    }

    fn record(&self, id: &impl Display, panicked: Panicked) -> Panicked {
        self.panics.inc();
        tracing::error!(unit = self.kind, %id, panic = %panicked, "unit of work panicked: this is a bug; others go on");
        panicked
    }
}

pin_project! {
    /// A unit of work that is a future. Its output is an error if the work panics, which is counted and logged.
    ///
    /// A type of its own because futures are moved by copying: each `async` block around a future holds it twice, as
    /// what it was given and as what it waits for.
    #[must_use = "futures do nothing unless polled"]
    pub struct Unit<I, F> {
        units: Units,
        id: I,
        has_begun: bool,
        #[pin]
        work: F,
    }
}

impl<I: Display, F: Future> Future for Unit<I, F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let unit = self.project();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if !std::mem::replace(unit.has_begun, true) {
                fault::point_of(unit.units.kind, unit.id);
            }
            unit.work.poll(cx)
        }));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(unit.units.record(unit.id, Panicked::from_payload(&*payload)))),
        }
    }
}
