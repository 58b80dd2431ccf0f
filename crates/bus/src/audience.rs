//! Who wants a hook's events: an index over the matches of its listeners.
//!
//! A large audience wants everything, or holds one field to one text (`{"customer":"c42"}`). The former is kept ready
//! as what an event is owed to; the latter is found by a hash of the text, and then tried in full. Only the rest is
//! tried one by one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidings_model::id::DestinationNo;
use tidings_model::listener::{Listener, Order};
use tidings_model::matcher::Document;
use tidings_store::log::{Destination, Lane};

type Members = BTreeMap<DestinationNo, Arc<Listener>>;

/// The listeners that want one hook's events.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    /// Those that are enabled and want every event.
    everyone: BTreeMap<DestinationNo, Destination>,
    /// Those whose match has no text to look up.
    others: Members,
    /// Those whose match wants a text at a path.
    by_text: HashMap<Vec<String>, HashMap<String, Members>>,
}

impl Audience {
    pub(crate) fn insert(&mut self, listener: &Arc<Listener>) {
        if listener.filter.is_all() && listener.enabled() {
            self.everyone.insert(listener.no, destination(listener));
            return;
        }
        let members = match listener.filter.index_key() {
            Some((path, text)) => self.by_text.entry(path.to_vec()).or_default().entry(text.to_owned()).or_default(),
            None => &mut self.others,
        };
        members.insert(listener.no, Arc::clone(listener));
    }

    /// Takes out a listener as it was put in.
    pub(crate) fn remove(&mut self, listener: &Listener) {
        if self.everyone.remove(&listener.no).is_some() {
            return;
        }
        let Some((path, text)) = listener.filter.index_key() else {
            self.others.remove(&listener.no);
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
        self.everyone.is_empty() && self.others.is_empty() && self.by_text.is_empty()
    }

    /// Those that want this event, in ascending order of their numbers. Those whose matches take long are left to
    /// `late`.
    pub(crate) fn matching(&self, document: &Document<'_>, late: &mut Vec<Arc<Listener>>) -> Vec<Destination> {
        let mut found: Vec<Destination> = self.everyone.values().copied().collect();
        let mut look = |members: &Members| {
            for listener in members.values().filter(|listener| listener.enabled()) {
                if listener.filter.is_large() {
                    late.push(Arc::clone(listener));
                } else if listener.filter.matches(document) {
                    found.push(destination(listener));
                }
            }
        };
        look(&self.others);
        for (path, texts) in &self.by_text {
            if let Some(members) = document.string_at(path).and_then(|text| texts.get(text)) {
                look(members);
            }
        }
        if !self.others.is_empty() || !self.by_text.is_empty() {
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
