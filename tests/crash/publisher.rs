//! Publishes at a steady rate, whatever happens to the server, and records what was acknowledged.
//!
//! An open loop: a publish is sent when it is due, not when the one before was answered. A publish without an answer is
//! sent again, with the same id or the same idempotency key, until it is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tidings_testkit::Api;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// The pause before a publish that was refused is sent again.
const PAUSE: Duration = Duration::from_millis(50);
/// The first backoff when the server does not answer, unless the test gives its new address. It doubles each time:
/// while a busy machine starts the server again, thousands of waiting publishes must not add load.
const GONE: Duration = Duration::from_secs(1);
/// How often the backoff is doubled at most.
const MOST_DOUBLINGS: u32 = 4;
/// The most requests in flight: when a server comes back, thousands of waiting publishes would otherwise open
/// connections at once.
const UNDER_WAY: usize = 64;

/// An event that the server has acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    /// Its number.
    pub(crate) n: u64,
    /// Its id in the server's answer.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: &'static str,
    /// When it was first sent.
    pub(crate) sent: Instant,
    /// When it was acknowledged.
    pub(crate) at: Instant,
    /// How often it was sent.
    pub(crate) tries: u32,
}

impl Acknowledged {
    /// Whether listeners with the match for one event in four get it.
    pub(crate) fn chosen(&self) -> bool {
        is_chosen(self.n)
    }
}

fn is_chosen(n: u64) -> bool {
    n.is_multiple_of(4)
}

/// A running publisher.
pub(crate) struct Publisher {
    target: watch::Sender<Api>,
    stop: Arc<AtomicBool>,
    extra: mpsc::UnboundedSender<(&'static str, u64)>,
    task: JoinHandle<Vec<Acknowledged>>,
}

impl Publisher {
    /// Starts to publish events of this name, one each `every`, numbered from 1 on.
    pub(crate) fn start(api: Api, name: &'static str, every: Duration) -> Self {
        Self::start_at(1, api, name, every)
    }

    /// The same, with numbers from `first` on.
    pub(crate) fn start_at(first: u64, api: Api, name: &'static str, every: Duration) -> Self {
        let (target, watched) = watch::channel(api);
        let (extra, orders) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(run(first, watched, orders, name, every, Arc::clone(&stop)));
        Self { target, stop, extra, task }
    }

    /// Sets the server's new address.
    pub(crate) fn aim(&self, api: Api) {
        self.target.send_replace(api);
    }

    /// Publishes `count` events of another name at once, in addition.
    pub(crate) fn burst(&self, name: &'static str, count: u64) {
        self.extra.send((name, count)).unwrap_or_else(|e| panic!("the publisher has ended: {e}"));
    }

    /// Stops, and waits until every publish is acknowledged.
    pub(crate) async fn finish(self, deadline: Duration) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::SeqCst);
        let ended = tokio::time::timeout(deadline, self.task).await;
        ended
            .unwrap_or_else(|_| panic!("some publishes are not acknowledged after {deadline:?}"))
            .unwrap_or_else(|e| panic!("the publisher failed: {e}"))
    }
}

async fn run(
    first: u64,
    target: watch::Receiver<Api>,
    mut orders: mpsc::UnboundedReceiver<(&'static str, u64)>,
    name: &'static str,
    every: Duration,
    stop: Arc<AtomicBool>,
) -> Vec<Acknowledged> {
    let mut sending = JoinSet::new();
    let turns = Arc::new(Semaphore::new(UNDER_WAY));
    let mut numbers = first..;
    let mut send = |sending: &mut JoinSet<_>, name| {
        let n = numbers.next().unwrap_or_default();
        sending.spawn(until_acknowledged(target.clone(), Arc::clone(&turns), name, n));
    };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !stop.load(Ordering::SeqCst) {
        tokio::select! {
            _ = ticks.tick() => send(&mut sending, name),
            Some((name, count)) = orders.recv() => (0..count).for_each(|_| send(&mut sending, name)),
        }
    }
    let mut all = sending.join_all().await;
    all.sort_by_key(|one: &Acknowledged| one.n);
    all
}

async fn until_acknowledged(
    mut target: watch::Receiver<Api>,
    turns: Arc<Semaphore>,
    name: &'static str,
    n: u64,
) -> Acknowledged {
    let sent = Instant::now();
    let (mut tries, mut failures) = (0, 0);
    loop {
        let turn = turns.acquire().await;
        tries += 1;
        let api = target.borrow_and_update().clone();
        let data = json!({"n": n, "chosen": is_chosen(n)});
        // Both ways of being recognised as a repeat.
        let request = if n.is_multiple_of(2) {
            api.post("/v1/events", json!({"name": name, "id": format!("e-{n}"), "data": data}))
        } else {
            api.post("/v1/events", json!({"name": name, "data": data})).header("idempotency-key", &format!("k-{n}"))
        };
        let answer = request.within(Duration::from_secs(10)).send().await;
        drop(turn);
        match answer {
            Ok(reply) if reply.status == 202 => {
                return Acknowledged { n, id: reply.text_at("id"), name, sent, at: Instant::now(), tries };
            }
            // It is stopping, or has more to do than it can: it says so, and nothing was kept.
            Ok(reply) => {
                failures = 0;
                assert_eq!(reply.status, 503, "event {n}: {}", reply.text());
                tokio::time::sleep(PAUSE).await;
            }
            // Nobody there, or gone in the middle: whether it was kept is not known.
            Err(_) => {
                let patience = GONE * 2_u32.pow(failures.min(MOST_DOUBLINGS));
                failures += 1;
                if tokio::time::timeout(patience, target.changed()).await.is_ok() {
                    failures = 0;
                }
            }
        }
    }
}
