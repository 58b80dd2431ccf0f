//! Units of work: what may panic without taking anything else along.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt as _;
use prometheus_client::metrics::counter::Counter;
use tokio::task::JoinHandle;

use crate::fault;
use crate::log_context::LogContext;
use crate::panicked::Panicked;

/// One kind of unit: its name, and how many of its units have panicked. Clones share the count.
///
/// What a panicking unit left half done must be dropped with it: the closure or future owns it, or its state is one
/// that the caller throws away on an error.
#[derive(Debug, Clone)]
pub struct Units {
    kind: &'static str,
    panics: Counter,
}

impl Units {
    pub(crate) fn new(kind: &'static str, panics: Counter) -> Self {
        Self { kind, panics }
    }

    /// Does one unit of work; `id` is what it is about, for the log.
    ///
    /// # Errors
    /// The panic, counted and logged.
    pub fn catch<T>(&self, id: impl Display, work: impl FnOnce() -> T) -> Result<T, Panicked> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            fault::point_of(self.kind, &id);
            work()
        }));
        outcome.map_err(|payload| self.note(&id, Panicked::from_payload(&*payload)))
    }

    /// The same for a future, which is polled in place.
    ///
    /// # Errors
    /// The panic, counted and logged.
    pub async fn catch_async<T>(&self, id: impl Display, work: impl Future<Output = T>) -> Result<T, Panicked> {
        let outcome = AssertUnwindSafe(async {
            fault::point_of(self.kind, &id);
            work.await
        });
        outcome.catch_unwind().await.map_err(|payload| self.note(&id, Panicked::from_payload(&*payload)))
    }

    /// Spawns one unit, which goes on to its end even if nobody waits for it any more. It must have an end of its own.
    /// Its lines of the log are told by what the caller's are.
    pub fn spawn<T: Send + 'static>(
        &self,
        id: impl Display + Send + Sync + 'static,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Result<T, Panicked>> {
        let units = self.clone();
        tokio::spawn(LogContext::current().scope(async move { units.catch_async(id, work).await }))
    }

    fn note(&self, id: &impl Display, panicked: Panicked) -> Panicked {
        self.panics.inc();
        tracing::error!(unit = self.kind, %id, panic = %panicked, "a unit of work panicked: this is a bug; the others \
            go on");
        panicked
    }
}
