//! Property test: any sequence of publishes, claims, results and passing time, compared with what [`crate::rules`]
//! decides for each delivery.
//!
//! [`super::model`] checks what must hold whatever a store decides. This test predicts every placement, time, lease and
//! order: with the functions that the stores use, and with those whose decisions SQL statements make themselves.
//!
//! A store joins with a fixture whose limits are [`super::FEW_DIRECT`] and [`super::FEW_FANOUT`], and runs [`check`]
//! over [`steps`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use tidings_model::clock::Millis;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{DeliveryKey, DestinationNo, EventNo};

use super::{FEW_DIRECT, FEW_FANOUT, Fixture, GATHERS, LEASED_FOR, World, finished, wanted};
use crate::destinations;
use crate::log::{Destination, Lane, Lease, Published};
use crate::queue::{Expanded, FanoutTurn, Finished, Leased, Next, Recorded, Recording, Wanted};
use crate::rules::attempt::{self, DeliveryChange, DestinationStatus};
use crate::rules::fanout::{Expansion, FanoutRow, Slice};
use crate::rules::lane::{self, Advance, AdvanceTerms, ClaimRoom, InLane};
use crate::rules::placement::{self, NewDelivery, Placement, PublishPlan};

/// A step of the sequence. Its numbers select among the existing listeners or deliveries.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Publish {
        to: u8,
        fresh: u8,
        key: bool,
        later: bool,
    },
    Expand {
        fresh: usize,
    },
    Claim {
        destination: u8,
        most: usize,
        batch: usize,
    },
    /// Finishes all deliveries of one request, each with its own outcome.
    Finish {
        which: u8,
        outcomes: [u8; 4],
        batch: usize,
    },
    Release {
        which: u8,
    },
    Retry {
        which: u8,
    },
    Pass {
        ms: Millis,
    },
    Crash,
}

/// Sequences of steps.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1u8..32, any::<u8>(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(to, fresh, key, later)| Step::Publish { to, fresh, key, later }),
        3 => (0usize..4).prop_map(|fresh| Step::Expand { fresh }),
        4 => (0u8..5, 0usize..5, 1usize..4)
            .prop_map(|(destination, most, batch)| Step::Claim { destination, most, batch }),
        8 => (any::<u8>(), any::<[u8; 4]>(), 1usize..4)
            .prop_map(|(which, outcomes, batch)| Step::Finish { which, outcomes, batch }),
        2 => any::<u8>().prop_map(|which| Step::Release { which }),
        1 => any::<u8>().prop_map(|which| Step::Retry { which }),
        4 => prop_oneof![1i64..50, Just(GATHERS), Just(LEASED_FOR + 1)].prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 30..90)
}

const LANES: [Lane; 5] = [Lane::Own, Lane::Whole, Lane::Own, Lane::Key, Lane::Whole];

type At = (EventNo, DestinationNo);

/// An open delivery.
#[derive(Debug, Clone)]
struct Open {
    lane: Option<String>,
    not_before: Option<Millis>,
    attempts: u32,
    placement: Placement,
    in_batch: bool,
}

struct Exact {
    world: World,
    destinations: Vec<DestinationNo>,
    open: BTreeMap<At, Open>,
    fanouts: VecDeque<FanoutRow>,
    held: Vec<Leased>,
    published: usize,
}

/// Runs the steps; after each, every open delivery must be where the rules place it.
pub(crate) async fn check(at: Box<dyn Fixture>, steps: Vec<Step>) {
    let mut world = World::at(at).await;
    let destinations = world.listeners_in(&LANES).await;
    let (open, fanouts, held) = (BTreeMap::new(), VecDeque::new(), Vec::new());
    let mut exact = Exact { world, destinations, open, fanouts, held, published: 0 };
    for step in &steps {
        exact.take(step).await;
        exact.verify(step).await;
    }
}

impl Exact {
    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish { to, fresh, key, later } => self.publish(to, fresh, key, later).await,
            Step::Expand { fresh } => self.expand(fresh).await,
            Step::Claim { destination, most, batch } => {
                let destination = self.destinations[usize::from(destination)];
                self.claim(Wanted { batch, ..wanted(destination, most) }).await;
            }
            Step::Finish { which, outcomes, batch } => {
                let group = self.let_go_of(which);
                self.finish(&group, outcomes, batch).await;
            }
            Step::Release { which } => {
                let group = self.let_go_of(which);
                self.world.store.release(group.clone(), self.world.now).await.unwrap();
                group.iter().for_each(|leased| self.give_back(at(leased), self.world.now));
            }
            Step::Retry { which } => self.retry(which).await,
            Step::Pass { ms } => {
                self.world.now += ms;
                let now = self.world.now;
                let lost = self.held.extract_if(.., |leased| leased.lease.until < now).collect();
                assert_eq!(self.world.store.sweep(now).await.unwrap(), self.take_back(lost));
            }
            Step::Crash => {
                let taken_back = self.world.reopen().await;
                let lost = std::mem::take(&mut self.held);
                assert_eq!(taken_back, self.take_back(lost));
            }
        }
    }

    async fn publish(&mut self, to: u8, fresh: u8, key: bool, later: bool) {
        self.published += 1;
        let mut publish = self.world.to(&format!("e{}", self.published), &[], Lane::Own).await;
        publish.event.key = key.then(|| "joe".to_owned());
        publish.not_before = later.then_some(self.world.now + 20);
        publish.destinations = (0..LANES.len())
            .filter(|i| to >> i & 1 == 1)
            .map(|i| Destination { no: self.destinations[i], lane: LANES[i], fresh: fresh >> i & 1 == 1 })
            .collect();
        let plan = PublishPlan::new(&publish, FEW_DIRECT, !self.fanouts.is_empty());
        let published = self.world.store.publish(publish.clone()).await.unwrap();
        let Published::Stored { no, .. } = published else { panic!("not stored but {published:?}") };
        let (app, key, not_before) = (&publish.event.app, publish.event.key.as_deref(), publish.not_before);
        for destination in &plan.batch {
            let placement = Placement::Leased(publish.lease);
            self.open.insert(
                (no, *destination),
                Open { lane: None, not_before: None, attempts: 0, placement, in_batch: true },
            );
        }
        let (mut leased, mut queued) = (plan.batch, !plan.later.is_empty());
        for Destination { no: destination, lane, fresh } in plan.rows {
            let (lane, lease, now) = (lane.name(key), fresh.then_some(publish.lease), publish.now);
            let placement = self.insert(&NewDelivery { app, event: no, destination, lane, not_before, lease, now });
            queued |= placement.due().is_some();
            leased.extend(placement.lease().map(|_| destination));
        }
        leased.sort_unstable();
        assert_eq!(published, Published::Stored { no, leased: leased.clone(), queued });
        if !plan.later.is_empty() {
            let destinations = destinations::encode(plan.later.into_iter());
            let (app, key) = (app.clone(), publish.event.key.clone());
            self.fanouts.push_back(FanoutRow { event: no, app, key, not_before, cursor: 0, destinations });
        }
        for destination in leased {
            let leased = self.leased((no, destination), publish.lease);
            self.held.push(leased);
        }
    }

    async fn expand(&mut self, fresh: usize) {
        let (turn, lease) = (FanoutTurn { fresh, ..FanoutTurn::default() }, self.world.lease());
        let expanded = self.world.store.expand(self.world.now, turn.clone(), lease).await.unwrap();
        let Some(mut row) = self.fanouts.pop_front() else { return assert_eq!(expanded, Expanded::default()) };
        let slice = Slice::of(&row, FEW_FANOUT).unwrap();
        let mut expansion = Expansion::new(&row, &turn, lease, &slice);
        for one in slice.part {
            let placement = self.insert(&expansion.delivery(one, self.world.now));
            expansion.placed(one, placement);
        }
        assert_eq!(expanded, expansion.end(slice.next.is_some() || !self.fanouts.is_empty()));
        self.held.extend(expanded.leased);
        if let Some(next) = slice.next {
            row.cursor = next;
            self.fanouts.push_front(row);
        }
    }

    async fn claim(&mut self, wanted: Wanted) {
        let (now, lease) = (self.world.now, self.world.lease());
        let claimed = self.world.store.claim(vec![wanted], now, lease).await.unwrap();
        let due = |at: At| self.open[&at].placement.due().filter(|due| at.1 == wanted.destination && *due <= now);
        // The longest due go first. Among those due at the same time a store may choose any.
        let heads: Vec<At> = claimed.iter().filter(|leased| !leased.follows).map(at).collect();
        let mut all: Vec<Millis> = self.open.keys().filter_map(|at| due(*at)).collect();
        all.sort_unstable();
        all.truncate(wanted.most);
        assert_eq!(heads.iter().map(|at| due(*at).expect("not due")).collect::<Vec<_>>(), all);
        for head in &heads {
            self.place(*head, Placement::Leased(lease));
        }
        let (mut expected, mut room) = (Vec::new(), ClaimRoom::after(&wanted, heads.len()));
        for head in heads {
            expected.push(self.leased(head, lease));
            let Some(lane) = self.open[&head].lane.clone() else { continue };
            let behind = self.lane(head.1, &lane, Some(head.0), room.behind_head());
            let follows = lane::follow(&behind, now, lease);
            follows.iter().for_each(|leased| self.place(at(leased), Placement::Leased(lease)));
            room.take(follows.len());
            expected.extend(follows);
        }
        assert_eq!(claimed, expected);
        self.held.extend(claimed);
    }

    async fn finish(&mut self, group: &[Leased], outcomes: [u8; 4], batch: usize) {
        let next = |i: usize| match outcomes[i % outcomes.len()] % 6 {
            0 => Next::Retry(self.world.now + 5),
            1 => Next::Undelivered,
            2 => Next::Canceled,
            _ => Next::Delivered,
        };
        let ends: Vec<Finished> =
            group.iter().enumerate().map(|(i, one)| Finished { batch, ..finished(one, next(i)) }).collect();
        let (now, lease) = (self.world.now, self.world.lease());
        let recording = Recording { now, wall: now, lease, soon: true, gather: GATHERS, disable_failing_since: 0 };
        let expected: Vec<Recorded> = ends.iter().map(|end| self.end(end, &recording)).collect();
        let recorded = self.world.store.finish(Arc::new(ends), recording).await.unwrap();
        assert_eq!(recorded, expected);
        self.held.extend(recorded.into_iter().flat_map(|one| one.next_in_lane));
    }

    /// Ends one delivery, and advances its lane.
    fn end(&mut self, end: &Finished, recording: &Recording) -> Recorded {
        let (key, after) = (at(&end.delivery), attempt::after(end));
        let advance = match after.delivery {
            DeliveryChange::Reopen(due) => {
                self.give_back(key, due);
                self.open.get_mut(&key).unwrap().attempts = after.attempts;
                Advance::Nothing
            }
            DeliveryChange::Close { .. } => match self.open.remove(&key).unwrap().lane {
                Some(lane) => {
                    let terms = AdvanceTerms::after(end, recording, true);
                    let oldest = self.lane(key.1, &lane, None, 1);
                    let known = 1 + terms.behind_oldest(oldest.first());
                    lane::advance(&self.lane(key.1, &lane, None, known), &terms)
                }
                None => Advance::Nothing,
            },
        };
        match &advance {
            Advance::Nothing => {}
            Advance::Lease(all) => all.iter().for_each(|one| self.place(at(one), Placement::Leased(recording.lease))),
            Advance::Schedule(next, due) => self.place((next.event, next.destination), Placement::Scheduled(*due)),
        }
        attempt::recorded(DestinationStatus::Enabled, advance)
    }

    async fn retry(&mut self, which: u8) {
        let Some(i) = choose(self.open.len(), which) else { return };
        let (at, placement) = self.open.iter().nth(i).map(|(at, open)| (*at, open.placement)).unwrap();
        let retried = self.world.store.retry(&self.key(at), self.world.now).await.unwrap();
        assert_eq!(retried, placement::retry(placement.due().is_some(), placement.lease().is_some()));
        if placement.due().is_some() {
            self.place(at, Placement::Scheduled(self.world.now));
        }
    }

    /// Writes a new delivery.
    fn insert(&mut self, new: &NewDelivery<'_>) -> Placement {
        let is_behind = new.lane.is_some_and(|lane| !self.lane(new.destination, lane, None, 1).is_empty());
        let (placement, lane) = (new.place(is_behind), new.lane.map(str::to_owned));
        let open = Open { lane, not_before: new.not_before, attempts: 0, placement, in_batch: false };
        assert!(self.open.insert((new.event, new.destination), open).is_none());
        placement
    }

    /// Ends a delivery's lease. It is due at that time if no older one of its lane is open.
    fn give_back(&mut self, at: At, due: Millis) {
        let lane = self.open[&at].lane.clone();
        let oldest = lane.and_then(|lane| self.lane(at.1, &lane, None, 1).pop());
        let is_behind = oldest.is_some_and(|oldest| oldest.key.event != at.0);
        self.place(at, placement::place(is_behind, due, self.world.now, None));
        self.open.get_mut(&at).unwrap().in_batch = false;
    }

    fn take_back(&mut self, lost: Vec<Leased>) -> u64 {
        lost.iter().for_each(|leased| self.give_back(at(leased), self.world.now));
        lost.len() as u64
    }

    fn place(&mut self, at: At, placement: Placement) {
        self.open.get_mut(&at).unwrap().placement = placement;
    }

    /// The first open deliveries of a lane after an event, the oldest first.
    fn lane(&self, destination: DestinationNo, lane: &str, after: Option<EventNo>, most: usize) -> Vec<InLane> {
        let of_lane = self.open.iter().filter(|(at, open)| at.1 == destination && open.lane.as_deref() == Some(lane));
        let in_lane = |(at, open): (&At, &Open)| InLane {
            key: self.key(*at),
            attempts: open.attempts,
            forgiven: 0,
            not_before: open.not_before,
            waits: open.placement == Placement::Waiting,
        };
        of_lane.filter(|(at, _)| after.is_none_or(|after| at.0 > after)).take(most).map(in_lane).collect()
    }

    /// An open delivery as it is leased.
    fn leased(&self, at: At, lease: Lease) -> Leased {
        let Open { lane, attempts, in_batch, .. } = &self.open[&at];
        let (attempts, ordered, in_batch) = (*attempts, lane.is_some(), *in_batch);
        Leased { key: self.key(at), attempts, forgiven: 0, ordered, follows: false, in_batch, lease }
    }

    fn key(&self, (event, destination): At) -> DeliveryKey {
        DeliveryKey { app: self.world.app.clone(), event, destination }
    }

    /// Takes a delivery out of the leased ones, with all that were leased to go in the same request.
    fn let_go_of(&mut self, which: u8) -> Vec<Leased> {
        let Some(which) = choose(self.held.len(), which) else { return Vec::new() };
        let first = (0..=which).rev().find(|i| !self.held[*i].follows).unwrap();
        let behind = self.held[first + 1..].iter().take_while(|leased| leased.follows).count();
        self.held.drain(first..=first + behind).collect()
    }

    async fn verify(&self, step: &Step) {
        let rows = self.world.all().await.into_iter().filter(|row| row.state == DeliveryState::Pending);
        let stored: BTreeMap<At, _> =
            rows.map(|row| ((row.key.event, row.key.destination), (row.due, row.attempts))).collect();
        let expected: BTreeMap<At, _> =
            self.open.iter().map(|(at, open)| (*at, (open.placement.due(), open.attempts))).collect();
        assert_eq!(stored, expected, "due and attempts after {step:?}");
    }
}

fn at(leased: &Leased) -> At {
    (leased.key.event, leased.key.destination)
}

fn choose(count: usize, which: u8) -> Option<usize> {
    (count > 0).then(|| usize::from(which) % count)
}
