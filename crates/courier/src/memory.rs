//! What deliveries hold in memory, in bytes: for all apps together and for each.
//!
//! An app may hold no more than three times of what is free, so one alone gets three quarters of all, and a newcomer
//! finds room whatever the others do. What an app may not hold stays in the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tidings_model::id::AppId;

use crate::usage::TIMES_FREE;

/// All apps' accounts.
#[derive(Debug)]
pub(crate) struct Memory {
    most: usize,
    all: Arc<AtomicUsize>,
    apps: Mutex<HashMap<AppId, Arc<Account>>>,
}

/// What one app holds.
#[derive(Debug)]
pub(crate) struct Account {
    app: AtomicUsize,
    all: Arc<AtomicUsize>,
}

impl Memory {
    /// Memory of which so many bytes may be held.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, all: Arc::default(), apps: Mutex::default() }
    }

    /// The bytes that are held.
    pub(crate) fn held(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// An app's account.
    pub(crate) fn account(&self, app: &AppId) -> Arc<Account> {
        let mut apps = self.apps.lock();
        if let Some(account) = apps.get(app) {
            return Arc::clone(account);
        }
        let account = Arc::new(Account { app: AtomicUsize::new(0), all: Arc::clone(&self.all) });
        apps.insert(app.clone(), Arc::clone(&account));
        account
    }

    /// Whether an app holds its share.
    pub(crate) fn is_full(&self, app: &AppId) -> bool {
        let held = self.apps.lock().get(app).map_or(0, |account| account.app.load(Ordering::Relaxed));
        held >= self.share()
    }

    /// The apps that hold their share.
    pub(crate) fn full(&self) -> Vec<AppId> {
        let share = self.share();
        let apps = self.apps.lock();
        let full = apps.iter().filter(|(_, account)| account.app.load(Ordering::Relaxed) >= share);
        full.map(|(app, _)| app.clone()).collect()
    }

    fn share(&self) -> usize {
        TIMES_FREE * self.most.saturating_sub(self.held())
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
