//! What a publish with one delivery and its end costs: `cargo run --release -p tidings-store --example cycle [callers]
//! [seconds] [batch]`. Compare runs on one machine with each other; the numbers say nothing across machines.
#![allow(clippy::print_stdout, clippy::expect_used, clippy::unwrap_used, reason = "a measurement for the terminal")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_model::clock::Stopwatch;
use tidings_model::delivery::Attempt;
use tidings_model::event::{Data, Event};
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, new_id};
use tidings_model::listener::{Format, Listener, Order};
use tidings_model::matcher::Match;
use tidings_model::signature::{KeyRing, Secret};
use tidings_store::log::{Destination, Lane, Lease, Publish, Published};
use tidings_store::queue::{Finished, Leased, Next, Recording};
use tidings_store::seal::MainKey;
use tidings_store::sqlite::{SqliteStore, Sync};
use tidings_store::{Catalogue, Queue, Store};
use tidings_supervisor::Supervisor;

const NOW: i64 = 1_763_719_000_000;

fn main() {
    let argument = |n: usize, default: u64| std::env::args().nth(n).map_or(default, |a| a.parse().expect("a number"));
    let (callers, seconds, batch) = (argument(1, 64), argument(2, 5), argument(3, 16));
    let dir = tempfile::tempdir().unwrap();
    let key = MainKey::load_or_create(&dir.path().join("main.key")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(
            SqliteStore::open(&dir.path().join("tidings.db"), Sync::Full, key, &Supervisor::default()).unwrap(),
        );
        let no = store.create_listener(listener()).await.unwrap();
        let (results, ends) = tokio::sync::mpsc::channel::<Finished>(4_096);
        let reporter = tokio::spawn(report(Arc::clone(&store), ends, usize::try_from(batch).unwrap()));
        let (cpu, began) = (cpu_us(), Stopwatch::start());
        let done = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (store, results, done) = (Arc::clone(&store), results.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    while began.elapsed() < Duration::from_secs(seconds) {
                        let leased = publish(&*store, no, &new_id("evt")).await;
                        results.send(delivered(leased)).await.unwrap();
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        drop(results);
        for task in tasks {
            task.await.unwrap();
        }
        reporter.await.unwrap();
        let (cycles, cpu, took) = (done.load(Ordering::Relaxed), cpu_us() - cpu, began.elapsed());
        println!(
            "{callers} callers: {cycles} cycles, {:.0}/s, {:.1} µs CPU each",
            cycles as f64 / took.as_secs_f64(),
            cpu as f64 / cycles as f64
        );
        store.close().await;
    });
}

async fn publish(store: &dyn Store, no: DestinationNo, id: &str) -> Leased {
    let app = AppId::from("1");
    let lease = Lease { token: store.new_token(), until: NOW + 30_000 };
    let event = Event {
        id: id.to_owned(),
        app: app.clone(),
        name: "person.created".to_owned(),
        channels: Vec::new(),
        data: Data::json(vec![b'1'; 300]),
        time: NOW,
        op: None,
        key: None,
        except: None,
    };
    let publish = Publish {
        event,
        hook_version: None,
        destinations: vec![Destination { no, lane: Lane::Own, fresh: true }],
        not_before: None,
        catalogue_version: 1,
        idempotency: None,
        lease,
        now: NOW,
        received_at: NOW,
    };
    let Published::Stored { no: event, .. } = store.publish(publish).await.unwrap() else { panic!("not stored") };
    let key = DeliveryKey { app, event, destination: no };
    Leased { key, attempts: 0, forgiven: 0, ordered: false, follows: false, in_batch: true, lease }
}

fn delivered(delivery: Leased) -> Finished {
    let attempt = Attempt {
        n: 1,
        started_at: NOW,
        duration: Duration::from_millis(3),
        outcome: "delivered".to_owned(),
        status: Some(200),
        error: None,
        remote: Some("203.0.113.7:443".to_owned()),
        response_headers: None,
        response_body: b"ok".to_vec(),
        next_at: None,
    };
    Finished {
        delivery,
        attempt: Some(attempt),
        next: Next::Delivered,
        disable: None,
        was_failing: false,
        pause: None,
        batch: 1,
    }
}

/// Records what has ended, as courier does: whatever is there, at most `batch` at once.
async fn report(store: Arc<SqliteStore>, mut ends: tokio::sync::mpsc::Receiver<Finished>, batch: usize) {
    let mut ready = Vec::new();
    while ends.recv_many(&mut ready, batch).await > 0 {
        let lease = Lease { token: store.new_token(), until: NOW + 30_000 };
        let recording = Recording { now: NOW, wall: NOW, lease, soon: true, gather: 0, disable_failing_since: 0 };
        let recorded = store.finish(Arc::new(std::mem::take(&mut ready)), recording).await.unwrap();
        assert!(recorded.iter().all(|r| !r.stale));
    }
}

fn listener() -> Listener {
    Listener {
        app: AppId::from("1"),
        id: "lst".to_owned(),
        no: DestinationNo(0),
        url: "https://receiver.example/hook".parse().unwrap(),
        description: String::new(),
        hooks: Vec::new(),
        filter: Match::all(),
        keys: KeyRing::new(Secret::generate().unwrap()),
        headers: Vec::new(),
        rate: None,
        concurrency: None,
        order: Order::None,
        format: Format::default(),
        batch: 1,
        timeout: None,
        schedule: None,
        disabled: None,
        owner: None,
        version: 0,
        created_at: NOW,
        updated_at: NOW,
    }
}

/// CPU time of the process so far, as Linux tells it in hundredths of a second.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10_000
}
