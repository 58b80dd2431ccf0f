//! Property test: any sequence of publishes, claims, results, crashes and passing time, compared with a model that only
//! knows which deliveries are open.
//!
//! A store joins with a fixture whose limits are small (a few deliveries at once, tiny slices), and runs [`check`] over
//! [`steps`].

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{DestinationNo, EventNo};

use super::{Fixture, LEASED_FOR, World, finished};
use crate::log::{Destination, Lane, Published};
use crate::queue::{Finished, Leased, Next, Retried, Skip};

/// A step of the sequence. Its numbers select among the existing listeners or deliveries.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Publish { to: u8, fresh: u8, key: u8, later: bool },
    Claim { destination: u8, limit: usize, batch: usize },
    Finish { which: u8, outcome: u8, batch: usize },
    FinishLost { which: u8 },
    Release { which: u8 },
    Expand { fresh: usize },
    Retry { which: u8 },
    Pass { ms: i64 },
    Crash,
}

/// Sequences of steps.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1u8..64, any::<u8>(), 0u8..3, prop::bool::weighted(0.2))
            .prop_map(|(to, fresh, key, later)| Step::Publish { to, fresh, key, later }),
        4 => (0u8..6, 0usize..4, 1usize..4)
            .prop_map(|(destination, limit, batch)| Step::Claim { destination, limit, batch }),
        8 => (any::<u8>(), 0u8..6, 1usize..4)
            .prop_map(|(which, outcome, batch)| Step::Finish { which, outcome, batch }),
        1 => any::<u8>().prop_map(|which| Step::FinishLost { which }),
        2 => any::<u8>().prop_map(|which| Step::Release { which }),
        4 => (0usize..4).prop_map(|fresh| Step::Expand { fresh }),
        1 => any::<u8>().prop_map(|which| Step::Retry { which }),
        2 => prop_oneof![1i64..50, Just(LEASED_FOR + 1)].prop_map(|ms| Step::Pass { ms }),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

const LANES: [Lane; 6] = [Lane::Own, Lane::Own, Lane::Whole, Lane::Whole, Lane::Key, Lane::Key];

type At = (EventNo, DestinationNo);

/// The state of a delivery, as far as the model knows.
#[derive(Debug, Clone)]
enum Expected {
    /// Perhaps still in a fan-out row.
    Open {
        lane: Option<String>,
    },
    Closed(DeliveryState),
}

struct Model {
    world: World,
    destinations: Vec<DestinationNo>,
    expected: BTreeMap<At, Expected>,
    held: Vec<Leased>,
    lost: Vec<Leased>,
    published: usize,
}

fn choose<T>(all: &[T], which: u8) -> Option<usize> {
    (!all.is_empty()).then(|| usize::from(which) % all.len())
}

fn key_of(leased: &Leased) -> At {
    (leased.key.event, leased.key.destination)
}

/// Runs the steps; after each, every open delivery must be where it should be.
pub(crate) async fn check(at: Box<dyn Fixture>, steps: Vec<Step>) {
    let mut world = World::at(at).await;
    let destinations = world.listeners_in(&LANES).await;
    let (expected, held, lost) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut model = Model { world, destinations, expected, held, lost, published: 0 };
    for step in steps {
        model.take(&step).await;
        model.verify(&step).await;
    }
    model.drain().await;
}

impl Model {
    async fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish { to, fresh, key, later } => self.publish(to, fresh, key, later).await,
            Step::Claim { destination, limit, batch } => {
                let leased = self.world.claim_together(self.destinations[usize::from(destination)], limit, batch).await;
                assert!(leased.len() <= limit);
                self.hold(leased);
            }
            Step::Finish { which, outcome, batch } => {
                if let Some(i) = choose(&self.held, which) {
                    let together = self.let_go_of(i);
                    self.end(together, outcome, batch).await;
                }
            }
            Step::FinishLost { which } => {
                if let Some(i) = choose(&self.lost, which) {
                    assert!(self.world.deliver(&self.lost[i]).await.stale);
                }
            }
            Step::Release { which } => {
                if let Some(i) = choose(&self.held, which) {
                    let mut together = self.let_go_of(i);
                    self.world.store.release(together.clone(), self.world.now).await.unwrap();
                    self.lost.append(&mut together);
                }
            }
            Step::Expand { fresh } => {
                let expanded = self.world.expand(fresh).await;
                assert!(expanded.leased.len() <= fresh);
                self.hold(expanded.leased);
            }
            Step::Retry { which } => self.retry(which).await,
            Step::Pass { ms } => {
                self.world.now += ms;
                let run_out = self.held.iter().filter(|l| l.lease.until < self.world.now).count() as u64;
                assert_eq!(self.world.store.sweep(self.world.now).await.unwrap(), run_out);
                let now = self.world.now;
                let (lost, held) = std::mem::take(&mut self.held).into_iter().partition(|l| l.lease.until < now);
                self.held = held;
                self.lost.extend::<Vec<_>>(lost);
            }
            Step::Crash => {
                assert_eq!(self.world.reopen().await, self.held.len() as u64);
                self.lost.append(&mut self.held);
            }
        }
    }

    async fn publish(&mut self, to: u8, fresh: u8, key: u8, later: bool) {
        self.published += 1;
        let mut publish = self.world.to(&format!("e{}", self.published), &[], Lane::Own).await;
        publish.event.key = (key > 0).then(|| format!("k{key}"));
        publish.not_before = later.then_some(self.world.now + 20);
        publish.destinations = (0..LANES.len())
            .filter(|i| to >> i & 1 == 1)
            .map(|i| Destination { no: self.destinations[i], lane: LANES[i], fresh: fresh >> i & 1 == 1 })
            .collect();
        let (destinations, event_key, lease) = (publish.destinations.clone(), publish.event.key.clone(), publish.lease);
        let Published::Stored { no, leased, .. } = self.world.store.publish(publish).await.unwrap() else {
            panic!("not stored")
        };
        for destination in &destinations {
            let lane = match destination.lane {
                Lane::Own => None,
                Lane::Whole => Some(String::new()),
                Lane::Key => Some(event_key.clone().unwrap_or_default()),
            };
            self.expected.insert((no, destination.no), Expected::Open { lane });
        }
        let key = |destination| tidings_model::id::DeliveryKey { app: self.world.app.clone(), event: no, destination };
        let ordered = |no| destinations.iter().any(|d| d.no == no && d.lane != Lane::Own);
        let leased = leased
            .into_iter()
            .map(|d| Leased {
                key: key(d),
                attempts: 0,
                forgiven: 0,
                ordered: ordered(d),
                follows: false,
                in_batch: !ordered(d),
                lease,
            })
            .collect();
        self.hold(leased);
    }

    fn hold(&mut self, leased: Vec<Leased>) {
        for leased in leased {
            assert!(self.held.iter().all(|h| h.key != leased.key), "leased twice: {leased:?}");
            assert!(matches!(self.expected.get(&key_of(&leased)), Some(Expected::Open { .. })), "not open: {leased:?}");
            self.held.push(leased);
        }
    }

    /// Takes a delivery out of the leased ones, with all that were leased to go in the same request.
    fn let_go_of(&mut self, which: usize) -> Vec<Leased> {
        let first = (0..=which).rev().find(|i| !self.held[*i].follows).unwrap();
        let behind = self.held[first + 1..].iter().take_while(|leased| leased.follows).count();
        self.held.drain(first..=first + behind).collect()
    }

    async fn end(&mut self, mut together: Vec<Leased>, outcome: u8, batch: usize) {
        let (next, state) = match outcome {
            0 => (Next::Retry(self.world.now + 5), None),
            1 => (Next::Undelivered, Some(DeliveryState::Undelivered)),
            2 => (Next::Canceled, Some(DeliveryState::Canceled)),
            _ => (Next::Delivered, Some(DeliveryState::Delivered)),
        };
        let ends = together.iter().map(|leased| Finished { batch, ..finished(leased, next) }).collect();
        for (leased, recorded) in together.iter().zip(self.world.finish(ends).await) {
            assert!(!recorded.stale && !recorded.disabled);
            if let Some(state) = state {
                self.expected.insert(key_of(leased), Expected::Closed(state));
            }
            self.hold(recorded.next_in_lane);
        }
        self.lost.append(&mut together);
    }

    async fn retry(&mut self, which: u8) {
        let rows = self.world.all().await;
        let Some(i) = choose(&rows, which) else { return };
        let row = &rows[i];
        let at = (row.key.event, row.key.destination);
        let held = self.held.iter().any(|h| h.key == row.key);
        let retried = self.world.store.retry(&row.key, self.world.now).await.unwrap();
        let expected = match (row.state, row.due) {
            (DeliveryState::Pending, None) if held => Retried::UnderWay,
            (DeliveryState::Pending, None) => Retried::Waiting,
            _ => Retried::Due,
        };
        assert_eq!(retried, expected);
        if row.state != DeliveryState::Pending {
            self.expected.insert(at, Expected::Open { lane: None });
        }
    }

    async fn verify(&self, step: &Step) {
        let rows = self.world.all().await;
        let stored: BTreeMap<At, _> = rows.iter().map(|row| ((row.key.event, row.key.destination), row)).collect();
        assert_eq!(stored.len(), rows.len(), "a delivery is listed twice after {step:?}");
        assert!(stored.keys().all(|at| self.expected.contains_key(at)), "a delivery out of nothing after {step:?}");
        let held: BTreeSet<At> = self.held.iter().map(key_of).collect();
        let mut lanes: BTreeMap<(DestinationNo, &str), Vec<At>> = BTreeMap::new();
        let mut in_fanout = false;
        for (at, expected) in &self.expected {
            match (expected, stored.get(at)) {
                (Expected::Open { lane }, row) => {
                    in_fanout |= row.is_none();
                    assert!(row.is_none_or(|row| row.state == DeliveryState::Pending), "{at:?} closed after {step:?}");
                    match lane {
                        Some(lane) => lanes.entry((at.1, lane)).or_default().push(*at),
                        None => {
                            let goes = row.is_none_or(|row| row.due.is_some() != held.contains(at));
                            assert!(goes, "{at:?} neither scheduled nor leased after {step:?}");
                        }
                    }
                }
                (Expected::Closed(state), Some(row)) => assert_eq!(row.state, *state, "{at:?} after {step:?}"),
                (Expected::Closed(_), None) => panic!("{at:?} is lost after {step:?}"),
            }
        }
        for (lane, open) in &lanes {
            for (i, at) in open.iter().enumerate() {
                let is_due = stored.get(at).is_some_and(|row| row.due.is_some());
                // The oldest goes as soon as it is written; nothing younger does, even while the oldest is not written
                // yet, but together with all that are older.
                if i == 0 {
                    assert_eq!(
                        is_due || held.contains(at),
                        stored.contains_key(at),
                        "{at:?}, first of {lane:?}, after {step:?}"
                    );
                } else {
                    let goes_along = held.contains(at) && held.contains(&open[i - 1]);
                    assert!(
                        !is_due && held.contains(at) == goes_along,
                        "{at:?}, place {i} of {lane:?}, after {step:?}"
                    );
                }
            }
        }
        let depth = self.world.store.depth().await.unwrap();
        let of = |state| rows.iter().filter(|row| row.state == state).count() as u64;
        let counted = (of(DeliveryState::Pending), of(DeliveryState::Undelivered), in_fanout);
        assert_eq!((depth.deliveries, depth.undelivered, depth.fanouts > 0), counted, "after {step:?}");
        let mut first_due: BTreeMap<DestinationNo, i64> = BTreeMap::new();
        for row in &rows {
            if let Some(due) = row.due {
                let first = first_due.entry(row.key.destination).or_insert(due);
                *first = due.min(*first);
            }
        }
        for (destination, due) in first_due {
            let found = self.world.store.due(due, Skip::default(), 100).await.unwrap().destinations;
            assert!(found.contains(&destination), "{destination:?} is due at {due} and not listed after {step:?}");
        }
    }

    /// Checks that, after any sequence, all deliveries end if every attempt succeeds from now on.
    async fn drain(&mut self) {
        for round in 0.. {
            assert!(round < 2_000, "deliveries that never go: {:?}", self.expected);
            while !self.held.is_empty() {
                let together = self.let_go_of(self.held.len() - 1);
                self.end(together, 9, 2).await;
            }
            if self.expected.values().all(|expected| matches!(expected, Expected::Closed(_))) {
                return;
            }
            self.world.now += 25;
            self.take(&Step::Expand { fresh: 1 }).await;
            for no in self.world.due().await.0 {
                let leased = self.world.claim_together(no, 3, 2).await;
                self.hold(leased);
            }
        }
    }
}
