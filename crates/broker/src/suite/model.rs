//! A property test: random sequences of publishes, joins, leaves, recoveries and passing time, against a model that is
//! slow and obviously right. The model keeps every publication for ever, and computes at each step which of them still
//! count.
//!
//! The model writes the messages that it would send as [`super::lines`]. After each step, the broker's messages and
//! answers must equal the model's.

use std::time::Duration;

use proptest::prelude::*;
use tidings_model::channel::{ChannelOptions, Epoch, Position};
use tidings_model::clock::{Clock as _, millis};

use super::lines::{self, Epochs};
use super::{BrokerFixture, SHARDS, World, at, key, session};
use crate::broker::{ChannelFilter, HistoryRange, Occupancy, Publish, Since};

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Publish { channel: usize, by_client: bool, except: Option<u32> },
    Join { channel: usize, n: u32, since: Wanted },
    Leave { channel: usize, n: u32 },
    Read { channel: usize, since: Wanted, reverse: bool, limit: usize },
    Pass { ms: u64 },
    Sweep,
}

/// Which earlier publications a join asks for.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    Nothing,
    Last(u32),
    /// A position that was given out, by its number, or one so far from it.
    Position(usize, i64),
    Foreign(u64),
}

/// Sequences of steps.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channel = || 0..CHANNELS.len();
    let wanted = || {
        prop_oneof![
            2 => Just(Wanted::Nothing),
            1 => (0u32..5).prop_map(Wanted::Last),
            6 => (any::<usize>(), prop_oneof![6 => Just(0i64), 1 => -2i64..3])
                .prop_map(|(n, by)| Wanted::Position(n, by)),
            1 => (0u64..5).prop_map(Wanted::Foreign),
        ]
    };
    let step = prop_oneof![
        8 => (channel(), prop::bool::weighted(0.2), prop::option::weighted(0.2, 0..SESSIONS))
            .prop_map(|(channel, by_client, except)| Step::Publish { channel, by_client, except }),
        8 => (channel(), 0..SESSIONS, wanted()).prop_map(|(channel, n, since)| Step::Join { channel, n, since }),
        6 => (channel(), 0..SESSIONS).prop_map(|(channel, n)| Step::Leave { channel, n }),
        2 => (channel(), wanted(), any::<bool>(), 0usize..5)
            .prop_map(|(channel, since, reverse, limit)| Step::Read { channel, since, reverse, limit }),
        3 => prop_oneof![3 => 1u64..60, 1 => 60u64..400].prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..80)
}

const CHANNELS: [&str; 5] = ["plain", "presence", "news", "join-leave", "all"];
const SESSIONS: u32 = 6;
/// The users of the sessions; the last session has no user.
const USERS: [&str; SESSIONS as usize] = ["ann", "ann", "bob", "zoe", "zoe", ""];

fn options(channel: &str) -> ChannelOptions {
    let all = channel == "all";
    let history = all || channel == "news";
    ChannelOptions {
        history_size: if history { 3 } else { 0 },
        history_ttl: Duration::from_millis(100),
        cache_ttl: history.then_some(Duration::from_millis(60)),
        presence: all || channel == "presence",
        join_leave: all || channel == "join-leave" || channel == "presence",
        subscription_count: all || channel == "join-leave",
        max_members: 2,
        ..ChannelOptions::default()
    }
}

/// One life of a history, with an epoch of the model's own.
#[derive(Debug)]
struct Life {
    epoch: Epoch,
    /// Every event that was published with a position, and when.
    said: Vec<(String, i64)>,
    /// When the channel was last occupied, or an event was last published.
    alive_at: i64,
}

#[derive(Debug, Default)]
struct Channel {
    name: &'static str,
    options: ChannelOptions,
    there: Vec<u32>,
    /// Users who are there, with the session that came first: it shows them.
    users: Vec<(&'static str, u32)>,
    life: Option<Life>,
    /// The last publication as a line, and when it was published.
    cached: Option<(String, i64)>,
}

struct Model {
    world: World,
    channels: Vec<Channel>,
    epochs: Epochs,
    lives: u64,
    events: u32,
    received: [Vec<String>; SHARDS as usize],
    /// Every position that was the newest of its channel after some step.
    seen: Vec<String>,
}

/// Carries out the steps one by one; after each, broker and model must have sent the same and give the same answers.
pub(crate) async fn check(fixture: Box<dyn BrokerFixture>, steps: Vec<Step>) {
    let world = World::at(fixture).await;
    let channel = |name| Channel { name, options: options(name), ..Channel::default() };
    let channels = CHANNELS.into_iter().map(channel).collect();
    let (epochs, received, seen) = (Epochs::default(), Default::default(), Vec::new());
    let mut model = Model { world, channels, epochs, lives: 0, events: 0, received, seen };
    for step in &steps {
        let now = model.now();
        model.channels.iter_mut().for_each(|channel| channel.forget(now));
        match step.clone() {
            Step::Publish { channel, by_client, except } => model.publish(channel, by_client, except).await,
            Step::Join { channel, n, since } => model.join(channel, n, since).await,
            Step::Leave { channel, n } => model.leave(channel, n).await,
            Step::Read { channel, since, reverse, limit } => model.read(channel, since, reverse, limit).await,
            Step::Pass { ms } => model.world.pass(ms),
            Step::Sweep => model.world.sweep().await,
        }
        model.verify(step).await;
    }
    model.world.ends_empty().await;
}

impl Channel {
    /// What of the history still counts: events with their offsets.
    fn kept(&self, now: i64) -> Vec<(String, u64)> {
        let Some(life) = &self.life else { return Vec::new() };
        let first = life.said.len().saturating_sub(self.options.history_size as usize);
        let fresh = |at: i64| at + millis(self.options.history_ttl) > now;
        let numbered = life.said.iter().enumerate().skip(first).filter(|(_, (_, at))| fresh(*at));
        numbered.map(|(index, (id, _))| (id.clone(), index as u64 + 1)).collect()
    }

    /// Whether a position is of this history, and everything after it is still there.
    fn is_whole(&self, position: &Position, now: i64) -> bool {
        let Some(life) = self.life.as_ref().filter(|life| life.epoch == position.epoch) else { return false };
        let newest = life.said.len() as u64;
        let kept = self.kept(now);
        position.offset <= newest && (position.offset + 1..=newest).all(|offset| kept.iter().any(|(_, o)| *o == offset))
    }

    fn forget(&mut self, now: i64) {
        let is_quiet = self.there.is_empty() && self.kept(now).is_empty();
        let forgotten = 2 * millis(self.options.history_ttl);
        self.life.take_if(|life| is_quiet && life.alive_at + forgotten <= now);
        let ttl = self.options.cache_ttl.map_or(0, millis);
        self.cached.take_if(|(_, at)| *at + ttl <= now);
    }

    fn members(&self) -> String {
        let mut users = self.users.clone();
        users.sort_unstable();
        let listed = users.iter().filter(|_| self.options.presence);
        listed.map(|(user, n)| format!("{user}/{n}")).collect::<Vec<_>>().join(" ")
    }

    fn occupancy(&self) -> Occupancy {
        let users = if self.options.presence { self.users.len() as u64 } else { 0 };
        Occupancy { subscriptions: self.there.len() as u64, users }
    }
}

impl Model {
    fn now(&self) -> i64 {
        self.world.clock.steady_ms()
    }

    fn tell(&mut self, index: usize, line: &str) {
        let Channel { name, there, .. } = &self.channels[index];
        for (shard, received) in self.received.iter_mut().enumerate() {
            if there.iter().any(|n| usize::from(at(*n).shard) == shard) {
                received.push(format!("{name}: {line}"));
            }
        }
    }

    fn tell_one(&mut self, index: usize, n: u32, line: &str) {
        self.received[usize::from(at(n).shard)].push(format!("{}: s{n} {line}", self.channels[index].name));
    }

    fn tell_count(&mut self, index: usize) {
        if self.channels[index].options.subscription_count {
            self.tell(index, &format!("{} are here", self.channels[index].there.len()));
        }
    }

    fn begin_life(&mut self, index: usize) {
        if self.channels[index].options.history_size > 0 && self.channels[index].life.is_none() {
            self.lives += 1;
            let epoch = Epoch::from_random(self.lives.to_be_bytes());
            self.channels[index].life = Some(Life { epoch, said: Vec::new(), alive_at: self.now() });
        }
    }

    /// An event at an offset, as it is written.
    fn written(&mut self, index: usize, id: &str, offset: u64) -> String {
        let epoch = self.channels[index].life.as_ref().unwrap().epoch.clone();
        format!("{id}@{}", lines::position(&Position { offset, epoch }, &mut self.epochs))
    }

    async fn publish(&mut self, index: usize, by_client: bool, except: Option<u32>) {
        self.events += 1;
        let (id, now) = (format!("e{}", self.events), self.now());
        let mut line = id.clone();
        if !by_client && self.channels[index].options.history_size > 0 {
            self.begin_life(index);
            let life = self.channels[index].life.as_mut().unwrap();
            life.said.push((id.clone(), now));
            life.alive_at = now;
            let offset = life.said.len() as u64;
            // The first received message with an epoch gives it its letter. A publication that no session receives
            // gives none.
            if !self.channels[index].there.is_empty() {
                line = self.written(index, &id, offset);
            }
        }
        if !by_client && self.channels[index].options.cache_ttl.is_some() {
            self.channels[index].cached = Some((id.clone(), now));
        }
        if let Some(n) = except {
            line += &format!(" except s{n}");
        }
        self.tell(index, &line);
        let mut publish = self.world.to_publish(self.channels[index].name, &id);
        publish.options = self.channels[index].options.clone().into();
        let publish = Publish { by_client, except: except.map(session), ..publish };
        let said = self.world.broker.publish(publish).await.unwrap();
        assert_eq!(said.occupancy, self.channels[index].occupancy());
    }

    /// A position for the model and the same one for the broker.
    fn wanted(&self, wanted: Wanted) -> Option<(Since, Since)> {
        match wanted {
            Wanted::Nothing => None,
            Wanted::Last(count) => Some((Since::Last(count), Since::Last(count))),
            Wanted::Foreign(offset) => {
                let position = Position { offset, epoch: Epoch::parse("foreign").unwrap() };
                Some((Since::Position(position.clone()), Since::Position(position)))
            }
            Wanted::Position(n, by) => {
                let text = self.seen.get(n.checked_rem(self.seen.len())?)?;
                let moved = |epochs: &Epochs| {
                    let position = epochs.position(text);
                    Since::Position(Position { offset: position.offset.saturating_add_signed(by), ..position })
                };
                Some((moved(&self.epochs), moved(&self.world.epochs)))
            }
        }
    }

    async fn join(&mut self, index: usize, n: u32, since: Wanted) {
        let user = USERS[n as usize];
        let since = self.wanted(since);
        let channel = &mut self.channels[index];
        let (is_new, options) = (!channel.there.contains(&n), channel.options.clone());
        let is_first = !user.is_empty() && !channel.users.iter().any(|(known, _)| *known == user);
        if is_new && is_first && options.presence && channel.users.len() >= options.max_members {
            self.tell_one(index, n, "not in: TooManyMembers");
        } else {
            if is_new {
                channel.there.push(n);
                if is_first {
                    channel.users.push((user, n));
                }
            }
            self.begin_life(index);
            let welcome = self.welcome(index, since.as_ref().map(|(model, _)| model));
            self.tell_one(index, n, &welcome);
            if is_new && options.join_leave && !user.is_empty() {
                let first = if is_first { " first" } else { "" };
                self.tell(index, &format!("+{user}/{n}{first} except s{n}"));
            }
            if is_new {
                self.tell_count(index);
            }
        }
        self.world.options = options;
        self.world.join_in(CHANNELS[index], n, user, since.map(|(_, broker)| broker)).await;
    }

    fn welcome(&mut self, index: usize, since: Option<&Since>) -> String {
        let now = self.now();
        let channel = &self.channels[index];
        let mut line = format!("in, {} here", channel.there.len());
        let (kept, members, cached) = (channel.kept(now), channel.members(), channel.cached.clone());
        let is_whole = matches!(since, Some(Since::Position(position)) if channel.is_whole(position, now));
        let newest =
            channel.life.as_ref().map(|life| Position { offset: life.said.len() as u64, epoch: life.epoch.clone() });
        let skipped = match since {
            None => kept.len(),
            Some(Since::Last(count)) => kept.len().saturating_sub(*count as usize),
            Some(Since::Position(position)) if is_whole => kept.iter().filter(|(_, o)| *o <= position.offset).count(),
            // Of another life all of it is missed.
            Some(Since::Position(position)) if newest.as_ref().is_some_and(|newest| newest.epoch != position.epoch) => {
                0
            }
            Some(Since::Position(_)) => kept.len(),
        };
        if let Some(newest) = &newest {
            line += &format!(" @{}", lines::position(newest, &mut self.epochs));
        }
        if let Some(Since::Position(_)) = since {
            line += if is_whole { " Complete" } else { " Lost" };
        }
        let missed: Vec<_> = kept[skipped..].iter().map(|(id, offset)| self.written(index, id, *offset)).collect();
        if !missed.is_empty() {
            line += &format!(" [{}]", missed.join(" "));
        }
        if !members.is_empty() {
            line += &format!(" {{{members}}}");
        }
        if let Some((id, _)) = cached {
            line += &format!(" cached {}", self.cached(index, &id));
        }
        line
    }

    /// The cached event, as it is written. It was said in this life: a position is kept for longer than it.
    fn cached(&mut self, index: usize, id: &str) -> String {
        let said = &self.channels[index].life.as_ref().unwrap().said;
        let offset = said.iter().position(|(known, _)| known == id).unwrap() as u64 + 1;
        self.written(index, id, offset)
    }

    async fn leave(&mut self, index: usize, n: u32) {
        let (user, now) = (USERS[n as usize], self.now());
        self.tell_one(index, n, "out");
        let channel = &mut self.channels[index];
        if let Some(place) = channel.there.iter().position(|other| *other == n) {
            channel.there.remove(place);
            let is_last = !channel.there.iter().any(|other| USERS[*other as usize] == user);
            if is_last {
                channel.users.retain(|(known, _)| *known != user);
            }
            if let Some(life) = &mut channel.life {
                life.alive_at = now;
            }
            if channel.options.join_leave && !user.is_empty() {
                self.tell(index, &format!("-{user}/{n}{}", if is_last { " last" } else { "" }));
            }
            self.tell_count(index);
        }
        self.world.leave_in(CHANNELS[index], n).await;
    }

    async fn read(&mut self, index: usize, since: Wanted, reverse: bool, limit: usize) {
        let now = self.now();
        let positions = match self.wanted(since) {
            Some((Since::Position(model), Since::Position(broker))) => Some((model, broker)),
            _ => None,
        };
        let since = positions.as_ref().map(|(_, broker)| broker.clone());
        let read =
            self.world.broker.history(&key(CHANNELS[index]), HistoryRange { since, reverse, limit }).await.unwrap();
        let channel = &self.channels[index];
        let mut found = channel.kept(now);
        let complete = positions.as_ref().is_none_or(|(position, _)| channel.is_whole(position, now));
        if let Some((position, _)) = &positions {
            let newest =
                channel.life.as_ref().filter(|life| life.epoch == position.epoch).map(|life| life.said.len() as u64);
            let is_known = newest.is_some_and(|newest| position.offset <= newest);
            let is_beyond = |o: u64| if reverse { o < position.offset } else { o > position.offset };
            found.retain(|(_, offset)| is_known && is_beyond(*offset));
        }
        if reverse {
            found.reverse();
        }
        found.truncate(limit);
        let found: Vec<_> = found.iter().map(|(id, offset)| self.written(index, id, *offset)).collect();
        let publications = lines::publications(&read.publications, &mut self.world.epochs);
        assert_eq!((publications, read.complete), (found.join(" "), complete));
    }

    async fn verify(&mut self, step: &Step) {
        let received = self.world.received().await;
        assert_eq!(received, std::mem::take(&mut self.received), "after {step:?}");
        let now = self.now();
        let mut occupied = Vec::new();
        for (index, name) in CHANNELS.into_iter().enumerate() {
            self.channels[index].forget(now);
            let channel = &self.channels[index];
            let life = channel.life.as_ref().map(|life| (life.said.len() as u64, life.epoch.clone()));
            let newest = life.map(|(offset, epoch)| lines::position(&Position { offset, epoch }, &mut self.epochs));
            let is_there = !channel.there.is_empty() || newest.is_some() || channel.cached.is_some();
            let expected = is_there.then(|| (channel.occupancy(), newest.clone()));
            let state = self.world.broker.channel(&key(name)).await.unwrap();
            let state = state.map(|state| {
                let newest = state.position.map(|at| lines::position(&at, &mut self.world.epochs));
                (state.occupancy, newest)
            });
            assert_eq!(state, expected, "{name} after {step:?}");
            self.seen.extend(newest.filter(|newest| !self.seen.contains(newest)));
            let members = self.world.broker.members(&key(name)).await.unwrap();
            assert_eq!(lines::members(&members), channel.members(), "{name} after {step:?}");
            if !channel.there.is_empty() {
                occupied.push(name);
            }
            let cached = channel.cached.as_ref().map(|(id, _)| id.clone()).map(|id| self.cached(index, &id));
            let found = self.world.broker.cached(&key(name)).await.unwrap();
            let found = found.map(|found| lines::publication(&found.publication, &mut self.world.epochs));
            assert_eq!(found, cached, "{name} after {step:?}");
        }
        occupied.sort_unstable();
        let filter = ChannelFilter { limit: 9, ..ChannelFilter::default() };
        let listed = self.world.broker.channels(&"1".into(), filter).await.unwrap();
        assert_eq!(listed.iter().map(|state| &*state.name).collect::<Vec<_>>(), occupied, "after {step:?}");
    }
}
