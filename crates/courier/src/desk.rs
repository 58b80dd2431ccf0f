//! The desk (dispatcher): every destination's line, and whose turn it is.
//!
//! A destination with something to send and a free place in its window waits for a turn in one of three queues: the healthy
//! ones, those that have never answered, and those whose last attempt got no answer. Each queue goes round by app.
//!
//! The last two may use half of the turns, the failing ones alone a quarter, so however many receivers hang, half of the
//! courier is left for those that answer. Of each share an app may use no more than it leaves free to the others (three times
//! as much of the turns as a whole), so a newcomer finds room whatever another app does.
//!
//! A host has places of its own ([`crate::hosts`]); who finds none waits there.
//!
//! All of it is behind one mutex, held for a few map operations and never over I/O.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use tidings_model::clock::Millis;
use tidings_model::id::{AppId, DestinationNo};

use crate::courier::Item;
use crate::hosts::{Hosts, Place};
use crate::line::{Health, Line, Mood};
use crate::outlet::{Host, Terms};
use crate::ring::{AppNo, Ring};
use crate::settings::Settings;
use crate::usage::{Answered, Usage};

/// The right to make one attempt now. It ends with [`Desk::end`].
pub(crate) struct Turn {
    pub(crate) permit: Permit,
    /// What one request is to carry; not empty.
    pub(crate) items: Vec<Item>,
}

/// What a turn takes up.
#[derive(Clone, Copy)]
pub(crate) struct Permit {
    pub(crate) destination: DestinationNo,
    app: AppNo,
    health: Health,
    place: Option<Place>,
}

fn line<'l>(lines: &'l mut HashMap<DestinationNo, Line>, answered: &Answered, no: DestinationNo) -> &'l mut Line {
    lines.entry(no).or_insert_with(|| Line::of(answered.has(no)))
}

/// The number of an app: the next one for a new app.
fn number(numbers: &mut HashMap<AppId, AppNo>, by_app: &mut Vec<Usage>, app: &AppId) -> AppNo {
    if let Some(no) = numbers.get(app) {
        return *no;
    }
    let no = by_app.len() as AppNo;
    by_app.push(Usage::default());
    numbers.insert(app.clone(), no);
    no
}

pub(crate) struct Desk {
    lines: HashMap<DestinationNo, Line>,
    /// Those that have something due and are not for this node.
    others: HashSet<DestinationNo>,
    answered: Answered,
    /// Who waits for a turn, by health.
    healthy: Ring,
    untried: Ring,
    failing: Ring,
    /// Counts the turns that were asked for, so that no queue waits for ever.
    round: usize,
    hosts: Hosts,
    app_numbers: HashMap<AppId, AppNo>,
    /// By app number.
    by_app: Vec<Usage>,
    in_use: Usage,
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
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            lines: HashMap::new(),
            others: HashSet::new(),
            answered: Answered::default(),
            healthy: Ring::default(),
            untried: Ring::default(),
            failing: Ring::default(),
            round: 0,
            hosts: Hosts::new(settings.per_host),
            app_numbers: HashMap::new(),
            by_app: Vec::new(),
            in_use: Usage::default(),
            max_running: settings.max_in_flight.max(2),
            configured: settings.concurrency.max(1),
            wake_at: BinaryHeap::new(),
            looks_at: 0,
            returns: Vec::new(),
            stopped: false,
        }
    }

    pub(crate) fn running(&self) -> usize {
        self.in_use.all
    }

    fn line(&mut self, destination: DestinationNo) -> &mut Line {
        line(&mut self.lines, &self.answered, destination)
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

    /// Takes a delivery in, with those of its lane that go together with it.
    pub(crate) fn push(&mut self, item: Item, fresh: bool, front: bool) {
        let destination = item.leased.key.destination;
        let line = line(&mut self.lines, &self.answered, destination);
        if line.app.is_none() {
            line.app = Some(number(&mut self.app_numbers, &mut self.by_app, &item.leased.key.app));
        }
        line.push(item, fresh, front);
        self.list(destination);
    }

    /// Puts back what an attempt could not be made of, until a time.
    pub(crate) fn put_back(&mut self, destination: DestinationNo, items: Vec<Item>, until: Millis) {
        if self.stopped {
            self.returns.extend(items.into_iter().map(|item| (item, until)));
            return;
        }
        let line = self.line(destination);
        Item::together(items).into_iter().rev().for_each(|item| line.put_back(item));
        line.paused_until = line.paused_until.max(until);
        self.wake_at.push(Reverse((until, destination)));
    }

    /// Notes whether the store has more for a destination than was fetched.
    pub(crate) fn set_more(&mut self, destination: DestinationNo, more: bool) {
        if more {
            self.line(destination).more = true;
        } else if let Some(line) = self.lines.get_mut(&destination) {
            line.more = false;
        }
    }

    /// Notes that what is due to a destination is not for this node.
    pub(crate) fn pass_over(&mut self, destination: DestinationNo) {
        self.others.insert(destination);
    }

    /// Destinations that the store need not be asked for: they hold enough, are paused, or are not for this node. Whether the
    /// store has more for those that hold enough is not known then, so it is asked when they run low. Those of `apps`, which are
    /// not asked for at all, are left out.
    pub(crate) fn full(
        &mut self,
        terms: impl Fn(DestinationNo) -> Terms,
        apps: &[AppId],
        now: Millis,
    ) -> Vec<DestinationNo> {
        let apps: Vec<AppNo> = apps.iter().filter_map(|app| self.app_numbers.get(app).copied()).collect();
        self.others.retain(|no| terms(*no) == Terms::Disabled);
        let configured = self.configured as usize;
        let enough =
            |line: &Line| line.paused_until > now || line.waiting() >= configured.max(line.running as usize * 2);
        let full = self.lines.iter_mut().filter(|(_, line)| enough(line));
        let full = full.filter_map(|(no, line)| {
            line.more = true;
            (!line.app.is_some_and(|app| apps.contains(&app))).then_some(*no)
        });
        full.chain(self.others.iter().copied()).collect()
    }

    fn list(&mut self, destination: DestinationNo) {
        if let Some(line) = self.lines.get_mut(&destination)
            && !line.listed
            && line.waiting() > 0
        {
            line.listed = true;
            let Some(app) = line.app else { return };
            match line.health() {
                Health::Healthy => self.healthy.push(app, destination),
                Health::Untried => self.untried.push(app, destination),
                Health::Failing => self.failing.push(app, destination),
            }
        }
    }

    /// The next in the queues, by what each share and each app has left.
    fn next(&mut self) -> Option<DestinationNo> {
        let (usage, by_app) = (self.in_use, &self.by_app);
        let half = self.max_running / 2;
        let free = self.max_running - usage.all;
        let unproven_free = half.saturating_sub(usage.unproven);
        let failing_free = half.div_ceil(2).saturating_sub(usage.failing);
        let of = |app: AppNo| by_app.get(app as usize).copied().unwrap_or_default();
        let may = |app| of(app).all < 3 * free;
        let may_untried = |app| may(app) && of(app).unproven < unproven_free;
        let may_failing = |app| may_untried(app) && of(app).failing < failing_free;
        // Each of them comes first at times, so that none starves while another could use every turn.
        self.round = self.round.wrapping_add(1);
        let healthy_first = !self.round.is_multiple_of(4);
        if healthy_first && let Some(destination) = self.healthy.pop(may) {
            return Some(destination);
        }
        let unproven = if self.round.is_multiple_of(2) {
            self.untried.pop(may_untried).or_else(|| self.failing.pop(may_failing))
        } else {
            self.failing.pop(may_failing).or_else(|| self.untried.pop(may_untried))
        };
        unproven.or_else(|| if healthy_first { None } else { self.healthy.pop(may) })
    }

    /// Whose turn it is, if anybody's.
    /// `batch` says how many deliveries one request to a destination carries at most.
    pub(crate) fn start(
        &mut self,
        terms: impl Fn(DestinationNo) -> Terms,
        batch: impl Fn(DestinationNo) -> usize,
        now: Millis,
    ) -> Option<Turn> {
        while !self.stopped && self.in_use.all < self.max_running {
            let destination = self.next()?;
            let Some(line) = self.lines.get_mut(&destination) else { continue };
            line.listed = false;
            let reserved = line.reserved.take();
            let turn = self.begin(destination, reserved, &terms, &batch, now);
            if turn.is_some() {
                self.list(destination);
                return turn;
            }
            if let Some(host) = reserved {
                self.hosts.forgo(host);
                self.admit(host, now);
            }
        }
        None
    }

    /// Begins a turn of a destination, if nothing of its own stands in the way. `reserved`: a place at this host was kept.
    fn begin(
        &mut self,
        destination: DestinationNo,
        reserved: Option<Host>,
        terms: &impl Fn(DestinationNo) -> Terms,
        batch: &impl Fn(DestinationNo) -> usize,
        now: Millis,
    ) -> Option<Turn> {
        let line = self.lines.get_mut(&destination)?;
        let app = line.app?;
        let terms = terms(destination);
        if terms == Terms::Disabled {
            // What is owed stays owed: the store finds it when the destination is enabled again.
            self.returns.extend(line.drain().map(|item| (item, now)));
            return None;
        }
        if line.waiting() == 0 || line.running >= line.limit(terms, self.configured) {
            // It is listed again when one of its attempts ends.
            return None;
        }
        let host = if let Terms::Open { host, .. } = terms { host } else { None };
        let is_kept = reserved.is_some() && reserved == host;
        if let Some(host) = host
            && !self.hosts.has_place(host, is_kept, app, destination, now)
        {
            line.listed = true;
            return None;
        }
        if let Err(at) = line.take_token(terms, now) {
            self.wake_at.push(Reverse((at, destination)));
            return None;
        }
        let most = batch(destination).max(1);
        let mut first = line.pop()?;
        let behind = std::mem::take(&mut first.behind);
        let mut items = vec![first];
        items.extend(behind);
        if items.len() > most {
            // It takes fewer than when they were fetched. Those that stay behind wait in their lane, in the store.
            self.returns.extend(items.drain(most..).map(|item| (item, now)));
        }
        while items.len() < most
            && let Some(next) = line.pop()
        {
            if items.len() + 1 + next.behind.len() > most {
                line.put_back(next);
                break;
            }
            items.extend(next.apart());
        }
        let health = line.health();
        line.running += 1;
        self.in_use.count(health, |turns| *turns += 1);
        if let Some(usage) = self.by_app.get_mut(app as usize) {
            usage.count(health, |turns| *turns += 1);
        }
        let place = host.map(|host| self.hosts.take(host, is_kept, now));
        if let Some(other) = reserved.filter(|_| !is_kept) {
            self.hosts.forgo(other);
            self.admit(other, now);
        }
        Some(Turn { permit: Permit { destination, app, health, place }, items })
    }

    /// Lists those that wait for a place at a host, as far as there are places; answers how many.
    fn admit(&mut self, host: Host, now: Millis) -> usize {
        let mut admitted = 0;
        while let Some(destination) = self.hosts.next(host, now) {
            match self.lines.get_mut(&destination) {
                Some(line) if line.waiting() > 0 && line.reserved.is_none() => {
                    line.reserved = Some(host);
                    line.listed = false;
                    self.list(destination);
                    admitted += 1;
                }
                other => {
                    if let Some(line) = other {
                        line.listed = false;
                    }
                    self.hosts.forgo(host);
                }
            }
        }
        admitted
    }

    /// Ends a turn. Answers whether more than one other may begin by that.
    pub(crate) fn end(&mut self, permit: Permit, now: Millis) -> bool {
        let Permit { destination, app, health, place } = permit;
        let less = |turns: &mut usize| *turns = turns.saturating_sub(1);
        self.in_use.count(health, less);
        if let Some(usage) = self.by_app.get_mut(app as usize) {
            usage.count(health, less);
        }
        if let Some(line) = self.lines.get_mut(&destination) {
            line.end(now);
            if line.idle(now) {
                self.lines.remove(&destination);
            }
        }
        self.list(destination);
        place.is_some_and(|place| {
            let host = self.hosts.end(place);
            self.admit(host, now) > 1
        })
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
        let answered = line.answered;
        line.learn(mood, limit, now);
        if line.answered && !answered {
            self.answered.add(destination);
        }
        if line.paused_until <= now {
            return None;
        }
        let until = line.paused_until;
        self.empty(destination, until);
        matches!(mood, Mood::SlowDown(_)).then_some(until)
    }

    /// Rests a destination as another node was asked to.
    pub(crate) fn rest(&mut self, destination: DestinationNo, until: Millis, now: Millis) {
        let line = self.line(destination);
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

    /// Lists the lines whose time has come. Answers whether any came that may have to be looked for in the store.
    pub(crate) fn wake(&mut self, now: Millis) -> bool {
        while let Some(host) = self.hosts.due(now) {
            self.admit(host, now);
        }
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

    /// When a line or a host has to be looked at.
    fn next_wake(&self) -> Option<Millis> {
        let line = self.wake_at.peek().map(|Reverse((at, _))| *at);
        line.into_iter().chain(self.hosts.next_due()).min()
    }

    /// Notes when the scheduler looks next, if nothing happens: at `due`, or earlier when a line has to be looked at then.
    pub(crate) fn look_at(&mut self, due: Millis) -> Millis {
        self.looks_at = self.next_wake().map_or(due, |at| due.min(at));
        self.looks_at
    }

    /// Whether a line has to be looked at before the scheduler means to look: it came up meanwhile.
    pub(crate) fn is_sooner(&self) -> bool {
        self.next_wake().is_some_and(|at| at < self.looks_at)
    }

    /// Forgets lines and hosts of which nothing is worth keeping.
    pub(crate) fn forget_idle(&mut self, now: Millis) {
        self.lines.retain(|_, line| !line.idle(now));
        self.hosts.forget_idle(now);
        [&mut self.healthy, &mut self.untried, &mut self.failing].into_iter().for_each(Ring::shrink);
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

#[cfg(test)]
mod tests;
