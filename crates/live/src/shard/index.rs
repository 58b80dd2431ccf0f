//! Finding a shard's sessions by id and by user.
//!
//! The tables hold slots and read what they compare from the sessions themselves, so a session without a user takes
//! about ten bytes here. A session is in them for as long as it has its slot.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;
use slab::Slab;
use tidings_model::channel::SessionId;
use tidings_model::id::AppId;

use super::session::Session;

#[derive(Debug, Default)]
pub(super) struct SessionIndex {
    by_id: HashTable<u32>,
    /// The sessions of each user of an app. No list is empty.
    by_user: HashTable<Vec<u32>>,
    hasher: RandomState,
}

impl SessionIndex {
    pub(super) fn by_id(&self, sessions: &Slab<Session>, id: SessionId) -> Option<u32> {
        self.by_id.find(self.hasher.hash_one(id), |&slot| sessions[slot as usize].id == id).copied()
    }

    pub(super) fn by_user(&self, sessions: &Slab<Session>, app: &AppId, user: &str) -> &[u32] {
        let is_theirs = |slots: &Vec<u32>| owner(sessions, slots) == Some((app, user));
        self.by_user.find(self.hasher.hash_one((app, user)), is_theirs).map_or(&[], Vec::as_slice)
    }

    /// Adds a session that has no user yet.
    pub(super) fn add(&mut self, sessions: &Slab<Session>, slot: u32) {
        let hash = |&slot: &u32| self.hasher.hash_one(sessions[slot as usize].id);
        self.by_id.insert_unique(hash(&slot), slot, hash);
    }

    /// Adds a session to those of its user.
    pub(super) fn add_user(&mut self, sessions: &Slab<Session>, slot: u32) {
        let Some(key) = owner(sessions, &[slot]) else { return };
        let is_theirs = |slots: &Vec<u32>| owner(sessions, slots) == Some(key);
        let hash = |slots: &Vec<u32>| self.hasher.hash_one(owner(sessions, slots).unwrap_or(key));
        let entry = self.by_user.entry(self.hasher.hash_one(key), is_theirs, hash);
        // Most users have one session.
        entry.or_insert_with(|| Vec::with_capacity(1)).into_mut().push(slot);
    }

    /// Removes a session, before its slot is freed.
    pub(super) fn remove(&mut self, sessions: &Slab<Session>, slot: u32) {
        let hash = self.hasher.hash_one(sessions[slot as usize].id);
        if let Ok(entry) = self.by_id.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        self.remove_user(sessions, slot);
    }

    /// Removes a session from its user's, before it gets another user.
    pub(super) fn remove_user(&mut self, sessions: &Slab<Session>, slot: u32) {
        let Some(key) = owner(sessions, &[slot]) else { return };
        let is_theirs = |slots: &Vec<u32>| owner(sessions, slots) == Some(key);
        let Ok(mut entry) = self.by_user.find_entry(self.hasher.hash_one(key), is_theirs) else { return };
        let slots = entry.get_mut();
        if let Some(index) = slots.iter().position(|&other| other == slot) {
            slots.swap_remove(index);
        }
        if slots.is_empty() {
            entry.remove();
        }
    }
}

/// The user of these sessions, which is the same for all of them.
fn owner<'a>(sessions: &'a Slab<Session>, slots: &[u32]) -> Option<(&'a AppId, &'a str)> {
    let session = sessions.get(*slots.first()? as usize)?;
    Some((&session.app.id, session.user.as_deref()?))
}
