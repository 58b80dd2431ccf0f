//! What was said in a channel: bounded in number, age and bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_model::channel::{Epoch, Position};
use tidings_model::clock::Millis;
use tidings_wire::Prepared;

use super::Budget;
use crate::broker::{self, HistoryRange, Since};
use crate::told::Recovery;

/// One publication, for as long as it is kept.
#[derive(Debug)]
struct Kept {
    publication: Arc<Prepared>,
    expires: Millis,
    bytes: usize,
}

/// A channel's history. The newest publication has the offset `offset`, the one before it one less, without a gap.
#[derive(Debug)]
pub(super) struct History {
    epoch: Epoch,
    offset: u64,
    kept: VecDeque<Kept>,
    budget: Arc<Budget>,
    ttl: Millis,
    /// When the position too is forgotten, unless somebody is there.
    forgotten: Millis,
}

impl History {
    /// An empty history of publications that are kept for `ttl` each.
    pub(super) fn new(budget: Arc<Budget>, ttl: Millis) -> Self {
        let mut bits = [0; 8];
        // Without randomness from the system nothing else would work either; the offset alone still tells most lives apart.
        getrandom::fill(&mut bits).ok();
        let epoch = Epoch::from_random(bits);
        Self { epoch, offset: 0, kept: VecDeque::new(), budget, ttl, forgotten: 0 }
    }

    /// The position of the next publication.
    pub(super) fn next(&mut self) -> Position {
        self.offset += 1;
        self.position()
    }

    /// The position of the newest publication.
    pub(super) fn position(&self) -> Position {
        Position { offset: self.offset, epoch: self.epoch.clone() }
    }

    /// Keeps the publication at [`History::position`], and of the older ones at most `size` and what fits into the budget.
    pub(super) fn keep(&mut self, publication: Arc<Prepared>, size: usize, ttl: Millis, now: Millis) {
        let bytes = publication.said().weight();
        self.ttl = ttl;
        self.touch(now);
        self.kept.push_back(Kept { publication, expires: now.saturating_add(ttl), bytes });
        let used = self.budget.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let mut over = used.saturating_sub(self.budget.limit);
        while self.kept.len() > size || over > 0 {
            let Some(gone) = self.drop_oldest() else { break };
            over = over.saturating_sub(gone);
        }
    }

    /// Somebody may come back to this position: one who was away for as long as publications are kept, and as long again, is
    /// still told correctly what they missed.
    pub(super) fn touch(&mut self, now: Millis) {
        self.forgotten = now.saturating_add(self.ttl.saturating_mul(2));
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now: Millis) {
        while self.kept.front().is_some_and(|oldest| oldest.expires <= now) {
            self.drop_oldest();
        }
    }

    /// Whether the position itself need not be known any more.
    pub(super) fn is_forgotten(&self, now: Millis) -> bool {
        self.kept.is_empty() && self.forgotten <= now
    }

    fn drop_oldest(&mut self) -> Option<usize> {
        let oldest = self.kept.pop_front()?;
        self.budget.used.fetch_sub(oldest.bytes, Ordering::Relaxed);
        Some(oldest.bytes)
    }

    /// What a session that joins gets of the past.
    pub(super) fn since(&self, since: &Since) -> (Recovery, Vec<Arc<Prepared>>) {
        match since {
            Since::Last(count) => {
                let skipped = self.kept.len().saturating_sub(usize::try_from(*count).unwrap_or(usize::MAX));
                (Recovery::NotAsked, self.from(skipped))
            }
            Since::Position(position) => match self.behind(position) {
                Some(index) => (Recovery::Complete, self.from(index)),
                None => (Recovery::Lost, Vec::new()),
            },
        }
    }

    /// A part of the history.
    pub(super) fn read(&self, range: &HistoryRange) -> broker::History {
        let position = Some(self.position());
        let (complete, publications) = if range.reverse {
            let end = match &range.since {
                None => Some(self.kept.len()),
                // Before the position: what it names isn't among them.
                Some(since) => self.behind(since).map(|index| index.saturating_sub(1)),
            };
            let newest_first = self.kept.iter().take(end.unwrap_or(0)).rev();
            (end.is_some(), newest_first.take(range.limit).map(|kept| Arc::clone(&kept.publication)).collect())
        } else {
            let begin = range.since.as_ref().map_or(Some(0), |since| self.behind(since));
            let skipped = self.kept.iter().skip(begin.unwrap_or(self.kept.len()));
            (begin.is_some(), skipped.take(range.limit).map(|kept| Arc::clone(&kept.publication)).collect())
        };
        broker::History { position, complete, publications }
    }

    fn from(&self, index: usize) -> Vec<Arc<Prepared>> {
        self.kept.iter().skip(index).map(|kept| Arc::clone(&kept.publication)).collect()
    }

    /// Where among what is kept the publications after `position` begin; `None` when one of them is gone, or the position
    /// isn't of this history.
    fn behind(&self, position: &Position) -> Option<usize> {
        let missed = usize::try_from(self.offset.checked_sub(position.offset)?).ok()?;
        (position.epoch == self.epoch).then_some(())?;
        self.kept.len().checked_sub(missed)
    }
}

impl Drop for History {
    fn drop(&mut self) {
        while self.drop_oldest().is_some() {}
    }
}
