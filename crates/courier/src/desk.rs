//! The desk: every destination's line, and whose turn it is.
//!
//! A destination with something to send and a free place in its window stands in one of two queues for a turn: the sound
//! ones, and the troubled ones whose last attempt got no answer. The troubled may use half of the turns at most, so however
//! many receivers hang, half of the courier is left for those that answer.
//!
//! All of it is behind one mutex, held for a few map operations and never over I/O.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};

use tidings_model::clock::Millis;
use tidings_model::id::DestinationNo;

use crate::courier::Item;
use crate::line::{Line, Mood};
use crate::outlet::Terms;

/// The right to make one attempt now. It ends with [`Desk::end`].
pub(crate) struct Turn {
    pub(crate) destination: DestinationNo,
    /// What one request is to carry; not empty.
    pub(crate) items: Vec<Item>,
    pub(crate) troubled: bool,
}

pub(crate) struct Desk {
    lines: HashMap<DestinationNo, Line>,
    /// Those that have something due and are not for this node.
    others: HashSet<DestinationNo>,
    sound: VecDeque<DestinationNo>,
    troubled: VecDeque<DestinationNo>,
    /// Workers at work, and how many of them for troubled destinations.
    running: usize,
    running_troubled: usize,
    max_running: usize,
    configured: u32,
    /// Lines that have to be looked at again at a time.
    wake_at: BinaryHeap<Reverse<(Millis, DestinationNo)>>,
    /// When the scheduler looks next.
    looks_at: Millis,
    /// Items to be given back to the store, with the time they are due.
    pub(crate) returns: Vec<(Item, Millis)>,
    pub(crate) stopped: bool,
}

impl Desk {
    pub(crate) fn new(max_running: usize, configured: u32) -> Self {
        Self {
            lines: HashMap::new(),
            others: HashSet::new(),
            sound: VecDeque::new(),
            troubled: VecDeque::new(),
            running: 0,
            running_troubled: 0,
            max_running: max_running.max(2),
            configured: configured.max(1),
            wake_at: BinaryHeap::new(),
            looks_at: 0,
            returns: Vec::new(),
            stopped: false,
        }
    }

    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// How many more deliveries a destination may have in memory.
    pub(crate) fn room(&self, destination: DestinationNo, terms: Terms, now: Millis) -> usize {
        if self.stopped {
            return 0;
        }
        self.lines
            .get(&destination)
            .map_or(Line::default().room(terms, self.configured, now), |line| line.room(terms, self.configured, now))
    }

    /// Takes a delivery in.
    pub(crate) fn push(&mut self, item: Item, fresh: bool, front: bool) {
        let destination = item.leased.key.destination;
        self.lines.entry(destination).or_default().push(item, fresh, front);
        self.list(destination);
    }

    /// Notes whether the store has more for a destination than was fetched.
    pub(crate) fn set_more(&mut self, destination: DestinationNo, more: bool) {
        if more {
            self.lines.entry(destination).or_default().more = true;
        } else if let Some(line) = self.lines.get_mut(&destination) {
            line.more = false;
        }
    }

    /// Notes that what is due to a destination is not for this node.
    pub(crate) fn pass_over(&mut self, destination: DestinationNo) {
        self.others.insert(destination);
    }

    /// Destinations that the store need not be asked for: they hold enough, are paused, or are not for this node. Whether the
    /// store has more for those that hold enough is not known then, so it is asked when they run low.
    pub(crate) fn full(&mut self, terms: impl Fn(DestinationNo) -> Terms, now: Millis) -> Vec<DestinationNo> {
        self.others.retain(|no| terms(*no) == Terms::Disabled);
        let configured = self.configured as usize;
        let enough =
            |line: &Line| line.paused_until > now || line.waiting() >= configured.max(line.running as usize * 2);
        let full = self.lines.iter_mut().filter(|(_, line)| enough(line));
        let full = full.map(|(no, line)| {
            line.more = true;
            *no
        });
        full.chain(self.others.iter().copied()).collect()
    }

    fn list(&mut self, destination: DestinationNo) {
        if let Some(line) = self.lines.get_mut(&destination)
            && !line.listed
            && line.waiting() > 0
        {
            line.listed = true;
            if line.troubled { self.troubled.push_back(destination) } else { self.sound.push_back(destination) }
        }
    }

    /// Whose turn it is, if anybody's.
    /// `batch` says how many deliveries one request to a destination carries at most.
    pub(crate) fn start(
        &mut self,
        terms: impl Fn(DestinationNo) -> Terms,
        batch: impl Fn(DestinationNo) -> usize,
        now: Millis,
    ) -> Option<Turn> {
        while !self.stopped && self.running < self.max_running {
            let destination = match self.sound.pop_front() {
                Some(destination) => destination,
                None if self.running_troubled < self.max_running / 2 => self.troubled.pop_front()?,
                None => return None,
            };
            let Some(line) = self.lines.get_mut(&destination) else { continue };
            line.listed = false;
            let terms = terms(destination);
            if terms == Terms::Disabled {
                // What is owed stays owed: the store finds it when the destination is enabled again.
                self.returns.extend(line.drain().map(|item| (item, now)));
                continue;
            }
            if line.running >= line.limit(terms, self.configured) {
                // It is listed again when one of its attempts ends.
                continue;
            }
            if let Err(at) = line.take_token(terms, now) {
                self.wake_at.push(Reverse((at, destination)));
                continue;
            }
            let Some(first) = line.pop() else { continue };
            let mut items = vec![first];
            for _ in 1..batch(destination) {
                items.extend(line.pop());
            }
            let troubled = line.troubled;
            line.running += 1;
            self.running += 1;
            self.running_troubled += usize::from(troubled);
            self.list(destination);
            return Some(Turn { destination, items, troubled });
        }
        None
    }

    /// Ends a turn.
    pub(crate) fn end(&mut self, destination: DestinationNo, troubled: bool, now: Millis) {
        self.running = self.running.saturating_sub(1);
        self.running_troubled = self.running_troubled.saturating_sub(usize::from(troubled));
        if let Some(line) = self.lines.get_mut(&destination) {
            line.end(now);
            if line.idle(now) {
                self.lines.remove(&destination);
            }
        }
        self.list(destination);
    }

    /// Learns from an attempt. A destination that asks for less keeps nothing in memory meanwhile; answers until when.
    /// `terms` are asked for only when they matter: not by one that is and was well.
    pub(crate) fn learn(
        &mut self,
        destination: DestinationNo,
        mood: Mood,
        terms: impl Fn(DestinationNo) -> Terms,
        now: Millis,
    ) -> Option<Millis> {
        let configured = self.configured;
        let line = self.lines.get_mut(&destination)?;
        if mood == Mood::Fine && line.is_well() {
            return None;
        }
        let limit = match terms(destination) {
            Terms::Open { concurrency, .. } => concurrency.unwrap_or(configured),
            _ => 1,
        };
        line.learn(mood, limit, now);
        if line.paused_until <= now {
            return None;
        }
        let until = line.paused_until;
        self.empty(destination, until);
        matches!(mood, Mood::SlowDown(_)).then_some(until)
    }

    /// Rests a destination as another node was asked to.
    pub(crate) fn rest(&mut self, destination: DestinationNo, until: Millis, now: Millis) {
        let line = self.lines.entry(destination).or_default();
        if until > line.paused_until.max(now) {
            line.paused_until = until;
            self.empty(destination, until);
        }
    }

    /// Gives back what a destination holds that is paused, and looks at it again when that is over.
    fn empty(&mut self, destination: DestinationNo, until: Millis) {
        if let Some(line) = self.lines.get_mut(&destination) {
            self.returns.extend(line.drain().map(|item| (item, until)));
        }
        self.wake_at.push(Reverse((until, destination)));
    }

    /// Lists the lines whose time has come. Answers whether any came.
    pub(crate) fn wake(&mut self, now: Millis) -> bool {
        let mut any = false;
        while let Some(&Reverse((at, destination))) = self.wake_at.peek() {
            if at > now {
                break;
            }
            any = true;
            self.wake_at.pop();
            self.list(destination);
        }
        any
    }

    /// Notes when the scheduler looks next, if nothing happens: at `due`, or earlier when a line has to be looked at then.
    pub(crate) fn look_at(&mut self, due: Millis) -> Millis {
        self.looks_at = self.wake_at.peek().map_or(due, |Reverse((at, _))| due.min(*at));
        self.looks_at
    }

    /// Whether a line has to be looked at before the scheduler means to look: it came up meanwhile.
    pub(crate) fn is_sooner(&self) -> bool {
        self.wake_at.peek().is_some_and(|Reverse((at, _))| *at < self.looks_at)
    }

    /// Forgets lines of which nothing is worth keeping.
    pub(crate) fn forget_idle(&mut self, now: Millis) {
        self.lines.retain(|_, line| !line.idle(now));
    }

    /// Whether a destination runs low while the store has more for it.
    pub(crate) fn runs_low(&self, destination: DestinationNo) -> bool {
        self.lines.get(&destination).is_some_and(|line| line.more && line.waiting() <= line.running as usize)
    }

    /// Stops: hands back everything that waits.
    pub(crate) fn stop(&mut self, now: Millis) {
        self.stopped = true;
        for line in self.lines.values_mut() {
            self.returns.extend(line.drain().map(|item| (item, now)));
        }
    }
}
