//! Bytes of memory that deliveries hold, for all apps together and for each.
//!
//! An app may hold at most three times as much as is free. So an app alone gets three quarters of the memory, and an
//! app that has just begun to publish always finds room. Deliveries beyond an app's share stay in the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidings_model::id::AppId;

use crate::usage::TIMES_FREE;

/// The memory of all apps: the bound, and an account for each.
#[derive(Debug)]
pub(crate) struct Memory {
    max: usize,
    all: Arc<AtomicUsize>,
    apps: Mutex<HashMap<AppId, Arc<Account>>>,
}

/// The bytes that one app holds, and a handle to the total.
#[derive(Debug)]
pub(crate) struct Account {
    app: AtomicUsize,
    all: Arc<AtomicUsize>,
}

impl Memory {
    /// Memory with a bound of `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, all: Arc::default(), apps: Mutex::default() }
    }

    /// The bytes that all apps hold.
    pub(crate) fn held(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// An app's account; a new one if it holds nothing yet.
    pub(crate) fn account(&self, app: &AppId) -> Arc<Account> {
        let mut apps = self.apps.lock();
        if let Some(account) = apps.get(app) {
            return Arc::clone(account);
        }
        let account = Arc::new(Account { app: AtomicUsize::new(0), all: Arc::clone(&self.all) });
        apps.insert(app.clone(), Arc::clone(&account));
        account
    }

    /// Whether an app holds its share or more.
    pub(crate) fn is_full(&self, app: &AppId) -> bool {
        let held = self.apps.lock().get(app).map_or(0, |account| account.app.load(Ordering::Relaxed));
        held >= self.share()
    }

    /// The apps that hold their share or more.
    pub(crate) fn full(&self) -> Vec<AppId> {
        let share = self.share();
        let apps = self.apps.lock();
        let full = apps.iter().filter(|(_, account)| account.app.load(Ordering::Relaxed) >= share);
        full.map(|(app, _)| app.clone()).collect()
    }

    /// The bytes that one app may hold now.
    fn share(&self) -> usize {
        TIMES_FREE * self.max.saturating_sub(self.held())
    }

    /// Forgets the accounts of apps that hold nothing.
    pub(crate) fn forget_empty(&self) {
        self.apps.lock().retain(|_, account| Arc::strong_count(account) > 1);
    }
}

/// Bytes reserved from the memory bound; dropping it returns them.
#[derive(Debug)]
pub(crate) struct MemoryReservation {
    account: Arc<Account>,
    bytes: usize,
}

impl MemoryReservation {
    pub(crate) fn new(account: &Arc<Account>, bytes: usize) -> Self {
        account.app.fetch_add(bytes, Ordering::Relaxed);
        account.all.fetch_add(bytes, Ordering::Relaxed);
        Self { account: Arc::clone(account), bytes }
    }

    /// The account that it is reserved from.
    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.account.app.fetch_sub(self.bytes, Ordering::Relaxed);
        self.account.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G054
    #[test]
    fn one_app_gets_three_quarters_and_leaves_room_to_any_other() {
        let memory = Memory::new(100_000);
        let mut reservations = Vec::new();
        let mut fill = |app: &str| {
            let app = AppId::from(app);
            let mut taken = 0;
            while !memory.is_full(&app) {
                reservations.push(MemoryReservation::new(&memory.account(&app), 10));
                taken += 10;
            }
            taken
        };
        let taken = ["a", "b", "c", "d"].map(&mut fill);
        assert_eq!(taken[0], 75_000);
        assert!(taken.iter().all(|bytes| *bytes > 0), "{taken:?}");
        assert!(memory.held() < 100_000);
        assert!(memory.full().contains(&AppId::from("a")));
        reservations.clear();
        memory.forget_empty();
        assert_eq!((memory.held(), memory.full(), memory.apps.lock().len()), (0, Vec::new(), 0));
    }
}
