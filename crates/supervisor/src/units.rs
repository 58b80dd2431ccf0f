//! Units of work: a panic in a unit affects no other work.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt as _;
use prometheus_client::metrics::counter::Counter;
use tokio::task::JoinHandle;

use crate::fault;
use crate::panicked::Panicked;

/// One kind of unit: its name, and the number of its units that have panicked. Clones share the count.
///
/// State that a panicking unit leaves half changed must be dropped with it: either the closure or future owns the
/// state,
/// or the caller discards it on an error.
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

    /// The same for a future, which is polled in place.
    ///
    /// # Errors
    /// The panic, counted and logged.
    pub async fn catch_async<T>(&self, id: impl Display, work: impl Future<Output = T>) -> Result<T, Panicked> {
        let outcome = AssertUnwindSafe(async {
            fault::point_of(self.kind, &id);
            work.await
        });
        outcome.catch_unwind().await.map_err(|payload| self.record(&id, Panicked::from_payload(&*payload)))
    }

    /// Spawns one unit. It runs to its end even if the handle is dropped, so it must end by itself.
    pub fn spawn<T: Send + 'static>(
        &self,
        id: impl Display + Send + Sync + 'static,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Result<T, Panicked>> {
        let units = self.clone();
        tokio::spawn(async move { units.catch_async(id, work).await })
    }

    fn record(&self, id: &impl Display, panicked: Panicked) -> Panicked {
        self.panics.inc();
        tracing::error!(unit = self.kind, %id, panic = %panicked, "unit of work panicked: this is a bug; others go on");
        panicked
    }
}
