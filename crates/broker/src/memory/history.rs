//! What was said in a channel: bounded in number, age and bytes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use tidings_model::channel::{Epoch, Position};
use tidings_model::clock::Millis;
use tidings_wire::EncodedMessage;

use super::budget::{Budget, BudgetReservation};
use crate::broker::{self, HistoryRange, Since};
use crate::shard_message::Recovery;

/// About what a channel takes that nobody is in and of which only the position is kept, in bytes.
pub(super) const POSITION_WEIGHT: usize = 512;

/// One publication, for as long as it is kept.
#[derive(Debug)]
struct StoredPublication {
    publication: Arc<EncodedMessage>,
    expires: Millis,
    /// What it takes of the budget.
    room: BudgetReservation,
}

/// A channel's history. What is kept are always the newest publications: the last of them has the offset `offset`, the
/// one before it one less, without a gap; or none is kept.
#[derive(Debug)]
pub(super) struct History {
    epoch: Epoch,
    offset: u64,
    kept: VecDeque<StoredPublication>,
    /// From here on publications may have been encoded since they were last weighed, as an offset: somebody has been
    /// given them.
    handed_out: Cell<u64>,
    budget: Arc<Budget>,
    ttl: Millis,
    /// When the position too is forgotten, unless somebody is there.
    forgotten: Millis,
    /// What the position takes while nobody is there. Without it, the position goes with what it is of: so nobody can
    /// fill the memory by joining and leaving one name after the other.
    alone: Option<BudgetReservation>,
}

impl History {
    /// An empty history of publications that are kept for `ttl` each; `None` when the system has no randomness for an
    /// epoch.
    pub(super) fn new(budget: Arc<Budget>, ttl: Millis) -> Option<Self> {
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).ok()?;
        let epoch = Epoch::from_random(bits);
        Some(Self::at(Position { offset: 0, epoch }, budget, ttl))
    }

    /// The history that had this newest position, without what it kept.
    pub(super) fn restored(newest: Position, budget: &Arc<Budget>, ttl: Millis) -> Self {
        Self::at(newest, Arc::clone(budget), ttl)
    }

    fn at(Position { offset, epoch }: Position, budget: Arc<Budget>, ttl: Millis) -> Self {
        let handed_out = Cell::new(u64::MAX);
        Self { epoch, offset, kept: VecDeque::new(), handed_out, budget, ttl, forgotten: 0, alone: None }
    }

    /// Keeps again what it kept, the oldest first, as far as the budget allows.
    pub(super) fn restore(&mut self, publication: Arc<EncodedMessage>, expires: Millis) {
        if let Some(room) = self.make_room(publication.content().weight()) {
            self.kept.push_back(StoredPublication { publication, expires, room });
        }
    }

    /// What is kept, the oldest first, and until when.
    pub(super) fn kept(&self) -> impl Iterator<Item = (&Arc<EncodedMessage>, Millis)> {
        self.kept.iter().map(|kept| (&kept.publication, kept.expires))
    }

    /// For how long a publication is kept.
    pub(super) fn ttl(&self) -> Millis {
        self.ttl
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

    /// Keeps the publication at [`History::position`], and of the older ones as many as `size` and the budget allow.
    /// What is too big is not kept, nor then are those before it.
    pub(super) fn keep(&mut self, publication: Arc<EncodedMessage>, size: usize, ttl: Millis, now: Millis) {
        self.ttl = ttl;
        self.weigh(self.offset.saturating_sub(1));
        while self.kept.len() >= size.max(1) {
            self.drop_oldest();
        }
        if let Some(room) = self.make_room(publication.content().weight()) {
            self.kept.push_back(StoredPublication { publication, expires: now.saturating_add(ttl), room });
            self.handed_out.set(self.offset);
        }
    }

    /// Takes what those that were handed out weigh now, with the bytes that were made for their readers; `newest` is
    /// the offset of the last one that is kept.
    fn weigh(&mut self, newest: u64) {
        let first = (newest + 1).saturating_sub(self.kept.len() as u64);
        let from = self.handed_out.replace(u64::MAX).saturating_sub(first);
        for kept in self.kept.iter_mut().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            kept.room.grow(kept.publication.weight());
        }
    }

    /// Takes so many bytes of the budget, for which the oldest publications go if need be.
    pub(super) fn make_room(&mut self, bytes: usize) -> Option<BudgetReservation> {
        loop {
            match self.budget.take(bytes) {
                None if self.drop_oldest() => {}
                room => return room,
            }
        }
    }

    /// Nobody is there, but somebody may come back: one who was away for as long as publications are kept, and as long
    /// again, is still told correctly what they missed.
    pub(super) fn left_alone(&mut self, now: Millis) {
        self.forgotten = now.saturating_add(self.ttl.saturating_mul(2));
        if self.alone.is_none() {
            self.alone = self.budget.take(POSITION_WEIGHT);
        }
    }

    /// Somebody is there.
    pub(super) fn joined(&mut self) {
        self.alone = None;
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now: Millis) {
        while self.kept.front().is_some_and(|oldest| oldest.expires <= now) {
            self.drop_oldest();
        }
        if self.kept.is_empty() {
            // A quiet channel is not to hold what a lively one needed.
            self.kept = VecDeque::new();
        }
    }

    /// Whether the position itself need not be known any more, if nobody is there.
    pub(super) fn is_forgotten(&self, now: Millis) -> bool {
        self.kept.is_empty() && (self.forgotten <= now || self.alone.is_none())
    }

    fn drop_oldest(&mut self) -> bool {
        self.kept.pop_front().is_some()
    }

    /// What a session that joins gets of the past.
    pub(super) fn since(&self, since: &Since) -> (Recovery, Vec<Arc<EncodedMessage>>) {
        match since {
            Since::Last(count) => {
                let skipped = self.kept.len().saturating_sub(usize::try_from(*count).unwrap_or(usize::MAX));
                (Recovery::NotAsked, self.from(skipped, usize::MAX))
            }
            // Who names another life of the history has heard nothing of this one.
            Since::Position(position) if position.epoch != self.epoch => (Recovery::Lost, self.from(0, usize::MAX)),
            Since::Position(position) => match self.behind(position).and_then(|behind| behind.ok()) {
                Some(index) => (Recovery::Complete, self.from(index, usize::MAX)),
                None => (Recovery::Lost, Vec::new()),
            },
        }
    }

    /// A part of the history.
    pub(super) fn read(&self, range: &HistoryRange) -> broker::History {
        let behind = range.since.as_ref().map(|since| self.behind(since));
        let complete = matches!(behind, None | Some(Some(Ok(_))));
        let index = match behind {
            None if range.reverse => Some(self.kept.len()),
            None => Some(0),
            // Before the position: what it names isn't among them.
            Some(Some(Ok(index))) if range.reverse => Some(index.saturating_sub(1)),
            Some(Some(Ok(index))) => Some(index),
            Some(Some(Err(Gone))) => Some(0),
            Some(None) => None,
        };
        let publications = match index {
            None => Vec::new(),
            Some(end) if range.reverse => {
                let newest_first = self.kept.iter().take(end).rev();
                newest_first.take(range.limit).map(|kept| Arc::clone(&kept.publication)).collect()
            }
            Some(begin) => self.from(begin, range.limit),
        };
        broker::History { position: Some(self.position()), complete, publications }
    }

    fn from(&self, index: usize, limit: usize) -> Vec<Arc<EncodedMessage>> {
        let first = (self.offset + 1).saturating_sub(self.kept.len() as u64);
        self.handed_out.set(self.handed_out.get().min(first.saturating_add(index as u64)));
        self.kept.iter().skip(index).take(limit).map(|kept| Arc::clone(&kept.publication)).collect()
    }

    /// Where among what is kept the publications after `position` begin; `None` when the position isn't of this
    /// history.
    fn behind(&self, position: &Position) -> Option<Result<usize, Gone>> {
        let missed = self.offset.checked_sub(position.offset).filter(|_| position.epoch == self.epoch)?;
        let missed = usize::try_from(missed).unwrap_or(usize::MAX);
        Some(self.kept.len().checked_sub(missed).ok_or(Gone))
    }
}

/// Of the publications after a position, the first ones are not kept any more.
#[derive(Debug, Clone, Copy)]
struct Gone;
