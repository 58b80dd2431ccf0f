//! A channel's publications, bounded in number, age and bytes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use tidings_model::channel::{Epoch, Position};
use tidings_model::clock::Millis;
use tidings_wire::EncodedMessage;

use super::budget::{Budget, BudgetReservation};
use crate::broker::{self, HistoryRange, Since};
use crate::shard_message::Recovery;

/// About how many bytes a channel takes that has no subscription and keeps only its position.
pub(super) const POSITION_WEIGHT: usize = 512;

/// One publication, for as long as it is kept.
#[derive(Debug)]
struct StoredPublication {
    publication: Arc<EncodedMessage>,
    expires: Millis,
    /// Its share of the app's budget.
    room: BudgetReservation,
}

/// A channel's history. It keeps the newest publications, without a gap: the last one has the offset `offset`, the one
/// before it one less, and so on. It may be empty.
#[derive(Debug)]
pub(super) struct History {
    epoch: Epoch,
    offset: u64,
    kept: VecDeque<StoredPublication>,
    /// An offset: publications from here on have been handed to readers, who may have encoded them since they were last
    /// weighed.
    handed_out: Cell<u64>,
    budget: Arc<Budget>,
    ttl: Millis,
    /// When the position expires too, if the channel has no subscription then.
    position_expires: Millis,
    /// The position's share of the budget while the channel has no subscription. If the budget has no room for it, the
    /// position expires with the last publication. So a client cannot fill the memory by joining and leaving one
    /// channel after the other.
    position_room: Option<BudgetReservation>,
}

impl History {
    /// An empty history that keeps each publication for `ttl`; `None` when the system has no random numbers for the
    /// epoch.
    pub(super) fn new(budget: Arc<Budget>, ttl: Millis) -> Option<Self> {
        let mut bits = [0; 8];
        getrandom::fill(&mut bits).ok()?;
        let epoch = Epoch::from_random(bits);
        Some(Self::at(Position { offset: 0, epoch }, budget, ttl))
    }

    /// A restored history with this newest position; its publications follow by [`History::restore`].
    pub(super) fn restored(newest: Position, budget: &Arc<Budget>, ttl: Millis) -> Self {
        Self::at(newest, Arc::clone(budget), ttl)
    }

    fn at(Position { offset, epoch }: Position, budget: Arc<Budget>, ttl: Millis) -> Self {
        let handed_out = Cell::new(u64::MAX);
        Self { epoch, offset, kept: VecDeque::new(), handed_out, budget, ttl, position_expires: 0, position_room: None }
    }

    /// Restores one publication, as far as the budget allows. Called for the oldest first.
    pub(super) fn restore(&mut self, publication: Arc<EncodedMessage>, expires: Millis) {
        if let Some(room) = self.make_room(publication.content().weight()) {
            self.kept.push_back(StoredPublication { publication, expires, room });
        }
    }

    /// The publications, the oldest first, and when each expires.
    pub(super) fn kept(&self) -> impl Iterator<Item = (&Arc<EncodedMessage>, Millis)> {
        self.kept.iter().map(|kept| (&kept.publication, kept.expires))
    }

    /// How long a publication is kept.
    pub(super) fn ttl(&self) -> Millis {
        self.ttl
    }

    /// Advances to the next publication, and returns its position.
    pub(super) fn next(&mut self) -> Position {
        self.offset += 1;
        self.position()
    }

    /// The position of the newest publication.
    pub(super) fn position(&self) -> Position {
        Position { offset: self.offset, epoch: self.epoch.clone() }
    }

    /// Keeps the publication at [`History::position`], and as many of the older ones as `size` and the budget allow. A
    /// publication that is too big is not kept, and then neither are those before it.
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

    /// Charges the budget with the present weight of publications that were handed out: encodings for readers may have
    /// been added. `newest` is the offset of the last publication that is kept.
    fn weigh(&mut self, newest: u64) {
        let first = (newest + 1).saturating_sub(self.kept.len() as u64);
        let from = self.handed_out.replace(u64::MAX).saturating_sub(first);
        for kept in self.kept.iter_mut().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            kept.room.grow(kept.publication.weight());
        }
    }

    /// Takes this many bytes of the budget, and drops the oldest publications if there is no room.
    pub(super) fn make_room(&mut self, bytes: usize) -> Option<BudgetReservation> {
        loop {
            match self.budget.take(bytes) {
                None if self.drop_oldest() => {}
                room => return room,
            }
        }
    }

    /// The last subscription has ended. The position is kept for twice the time that publications are kept, so that a
    /// session that comes back within it learns correctly whether it has missed anything.
    pub(super) fn vacated(&mut self, now: Millis) {
        self.position_expires = now.saturating_add(self.ttl.saturating_mul(2));
        if self.position_room.is_none() {
            self.position_room = self.budget.take(POSITION_WEIGHT);
        }
    }

    /// The channel has a subscription.
    pub(super) fn occupied(&mut self) {
        self.position_room = None;
    }

    /// Drops expired publications.
    pub(super) fn expire(&mut self, now: Millis) {
        while self.kept.front().is_some_and(|oldest| oldest.expires <= now) {
            self.drop_oldest();
        }
        if self.kept.is_empty() {
            // Frees the buffer, which was sized for a busy time.
            self.kept = VecDeque::new();
        }
    }

    /// Whether the position itself has expired, provided that the channel has no subscription.
    pub(super) fn is_position_expired(&self, now: Millis) -> bool {
        self.kept.is_empty() && (self.position_expires <= now || self.position_room.is_none())
    }

    fn drop_oldest(&mut self) -> bool {
        self.kept.pop_front().is_some()
    }

    /// The publications that a joining session asks for.
    pub(super) fn since(&self, since: &Since) -> (Recovery, Vec<Arc<EncodedMessage>>) {
        match since {
            Since::Last(count) => {
                let skipped = self.kept.len().saturating_sub(usize::try_from(*count).unwrap_or(usize::MAX));
                (Recovery::NotAsked, self.from(skipped, usize::MAX))
            }
            // The position is of another epoch, so the session has received nothing of this one.
            Since::Position(position) if position.epoch != self.epoch => (Recovery::Lost, self.from(0, usize::MAX)),
            Since::Position(position) => match self.index_after(position).and_then(|behind| behind.ok()) {
                Some(index) => (Recovery::Complete, self.from(index, usize::MAX)),
                None => (Recovery::Lost, Vec::new()),
            },
        }
    }

    /// A part of the history.
    pub(super) fn read(&self, range: &HistoryRange) -> broker::History {
        let behind = range.since.as_ref().map(|since| self.index_after(since));
        let complete = matches!(behind, None | Some(Some(Ok(_))));
        let index = match behind {
            None if range.reverse => Some(self.kept.len()),
            None => Some(0),
            // The publication at the position itself is excluded.
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

    /// The index of the first kept publication after `position`; `None` when the position does not belong to this
    /// history.
    fn index_after(&self, position: &Position) -> Option<Result<usize, Gone>> {
        let missed = self.offset.checked_sub(position.offset).filter(|_| position.epoch == self.epoch)?;
        let missed = usize::try_from(missed).unwrap_or(usize::MAX);
        Some(self.kept.len().checked_sub(missed).ok_or(Gone))
    }
}

/// The first publications after a position are no longer kept.
#[derive(Debug, Clone, Copy)]
struct Gone;
