//! How many bytes of history and cached events an app's channels keep.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;
use tidings_model::app::AppLimits;
use tidings_model::id::AppId;

/// How many bytes of history and cached events apps may keep in memory ([`AppLimits::history`]).
#[derive(Debug, Clone)]
pub struct MemoryLimits {
    /// By app.
    pub apps: HashMap<AppId, usize>,
    /// For each app that isn't among them.
    pub default: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { apps: HashMap::new(), default: AppLimits::default().history }
    }
}

/// One app's bytes.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

/// Bytes taken from a budget, and given back on drop.
#[derive(Debug)]
pub(super) struct BudgetReservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// Takes this many bytes, if the limit allows.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Option<BudgetReservation> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(BudgetReservation { budget: Arc::clone(self), bytes })
    }
}

impl BudgetReservation {
    /// Grows to this many bytes in all, even above the limit: the memory is in use already. The next `take` then has to
    /// make room.
    pub(super) fn grow(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        self.budget.used.fetch_add(more, Ordering::Relaxed);
    }
}

impl Drop for BudgetReservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Every app's budget.
#[derive(Debug)]
pub(super) struct Budgets {
    limits: MemoryLimits,
    known: RwLock<HashMap<AppId, Arc<Budget>>>,
}

impl Budgets {
    pub(super) fn new(limits: MemoryLimits) -> Self {
        Self { limits, known: RwLock::default() }
    }

    pub(super) fn of(&self, app: &AppId) -> Arc<Budget> {
        if let Some(budget) = self.known.read().get(app) {
            return Arc::clone(budget);
        }
        let limit = self.limits.apps.get(app).copied().unwrap_or(self.limits.default);
        let fresh = || Arc::new(Budget { used: AtomicUsize::new(0), limit });
        Arc::clone(self.known.write().entry(app.clone()).or_insert_with(fresh))
    }

    /// Bytes taken by all apps.
    pub(super) fn used(&self) -> usize {
        self.known.read().values().map(|budget| budget.used.load(Ordering::Relaxed)).sum()
    }
}
