//! The listeners of a hook, indexed by their matches.
//!
//! In a large audience, most listeners match everything, or compare one field with one string (`{"customer":"c42"}`).
//! The former are kept as a ready list of destinations. The latter are found by a hash of the string, and then their
//! full match is tried. Only the rest is tried one by one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidings_model::id::DestinationNo;
use tidings_model::listener::{Listener, Order};
use tidings_model::matcher::Document;
use tidings_store::log::{Destination, Lane};

type Members = BTreeMap<DestinationNo, Arc<Listener>>;

/// The listeners of one hook.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    /// Enabled listeners whose match accepts every event.
    match_all: BTreeMap<DestinationNo, Destination>,
    /// Listeners whose match has no string to index.
    unindexed: Members,
    /// Listeners whose match requires a string at a path, by path and string.
    by_text: HashMap<Vec<String>, HashMap<String, Members>>,
}

impl Audience {
    pub(crate) fn insert(&mut self, listener: &Arc<Listener>) {
        if listener.filter.is_all() && listener.enabled() {
            self.match_all.insert(listener.no, destination(listener));
            return;
        }
        let members = match listener.filter.index_key() {
            Some((path, text)) => self.by_text.entry(path.to_vec()).or_default().entry(text.to_owned()).or_default(),
            None => &mut self.unindexed,
        };
        members.insert(listener.no, Arc::clone(listener));
    }

    /// Removes a listener, given exactly as it was inserted.
    pub(crate) fn remove(&mut self, listener: &Listener) {
        if self.match_all.remove(&listener.no).is_some() {
            return;
        }
        let Some((path, text)) = listener.filter.index_key() else {
            self.unindexed.remove(&listener.no);
            return;
        };
        let Some(texts) = self.by_text.get_mut(path) else { return };
        if let Some(members) = texts.get_mut(text) {
            members.remove(&listener.no);
            if members.is_empty() {
                texts.remove(text);
            }
        }
        if texts.is_empty() {
            self.by_text.remove(path);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.match_all.is_empty() && self.unindexed.is_empty() && self.by_text.is_empty()
    }

    /// The listeners whose match accepts the event, in ascending order of their numbers. Listeners whose matches are
    /// expensive are added to `late` instead.
    pub(crate) fn matching(&self, document: &Document<'_>, late: &mut Vec<Arc<Listener>>) -> Vec<Destination> {
        let mut found: Vec<Destination> = self.match_all.values().copied().collect();
        let mut try_all = |members: &Members| {
            for listener in members.values().filter(|listener| listener.enabled()) {
                if listener.filter.is_large() {
                    late.push(Arc::clone(listener));
                } else if listener.filter.matches(document) {
                    found.push(destination(listener));
                }
            }
        };
        try_all(&self.unindexed);
        for (path, texts) in &self.by_text {
            if let Some(members) = document.string_at(path).and_then(|text| texts.get(text)) {
                try_all(members);
            }
        }
        if !self.unindexed.is_empty() || !self.by_text.is_empty() {
            found.sort_unstable_by_key(|destination| destination.no);
        }
        found
    }
}

/// A listener as a destination.
pub(crate) fn destination(listener: &Listener) -> Destination {
    let lane = match listener.order {
        Order::None => Lane::Own,
        Order::Fifo => Lane::Whole,
        Order::Key => Lane::Key,
    };
    Destination { no: listener.no, lane, fresh: false }
}
