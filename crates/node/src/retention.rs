//! Forgetting what is old, and the oldest where there is too much: events with what came of them, idempotency keys, and
//! the marks of what was deleted. The space goes back to the file system.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidings_model::clock::{Millis, SharedClock, millis, rfc3339};
use tidings_store::{Store, StoreError};
use tidings_supervisor::fault;

/// How often it looks for what is too much, and gives space back.
const EVERY: Duration = Duration::from_secs(5);
/// How many looks there are between two for what is old; each goes on in slices until nothing old is left.
const AGE: u64 = 12;
/// After a slice others have their turn.
const PAUSE: Duration = Duration::from_millis(5);
/// Idempotency keys are honoured for a day.
const KEYS: Duration = Duration::from_secs(24 * 3_600);

/// Channels and members that are gone are remembered for so long, for what may still come late about them.
const GONE: Duration = Duration::from_secs(3_600);

/// What is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// For how long events are kept, with what came of them; what is still pending is kept longer.
    pub age: Duration,
    /// Bytes of the store above which the oldest events go, whatever their age.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(30 * 86_400), bytes: 10 << 30 }
    }
}

type Labels = [(&'static str, &'static str); 1];

/// Keeps to it for as long as the store is open.
pub(crate) struct Retainer {
    store: Arc<dyn Store>,
    clock: SharedClock,
    keep: Retention,
    dropped: Family<Labels, Counter>,
    /// Whether everything that is too much is pending, which has been said.
    stuck: bool,
}

impl Retainer {
    pub(crate) fn new(store: Arc<dyn Store>, clock: SharedClock, keep: Retention, registry: &mut Registry) -> Self {
        let dropped = Family::<Labels, Counter>::default();
        for reason in ["age", "bytes"] {
            drop(dropped.get_or_create(&[("reason", reason)]));
        }
        registry.register("retention_events", "events removed from the log, by why", dropped.clone());
        Self { store, clock, keep, dropped, stuck: false }
    }

    /// Runs until the store is closed.
    pub(crate) async fn run(mut self) {
        for round in 1.. {
            tokio::time::sleep(EVERY).await;
            fault::point("retention");
            match self.round(round % AGE == 0).await {
                Ok(()) => {}
                Err(StoreError::Closed) => return,
                Err(error) => tracing::warn!(%error, "retention failed; trying again"),
            }
        }
    }

    async fn round(&mut self, age: bool) -> Result<(), StoreError> {
        if age {
            self.by_age(self.clock.wall_ms()).await?;
        }
        self.by_bytes().await?;
        while self.store.shrink().await? {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn by_age(&self, now: Millis) -> Result<(), StoreError> {
        while self.store.forget_absent(now - millis(GONE)).await? {}
        let before = now - millis(self.keep.age);
        loop {
            let retired = self.store.retire(before, now - millis(KEYS)).await?;
            self.count("age", retired.events);
            if !retired.more {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        while self.store.forget_deleted(before).await? {}
        Ok(())
    }

    async fn by_bytes(&mut self) -> Result<(), StoreError> {
        let (mut events, mut newest) = (0, None);
        loop {
            let retired = self.store.retire_above(self.keep.bytes).await?;
            events += retired.events;
            newest = newest.max(retired.newest);
            self.count("bytes", retired.events);
            if !retired.more {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let (limit, bytes) = (self.keep.bytes, self.store.depth().await?.bytes);
        if events > 0 {
            let stored_until = newest.map(rfc3339);
            tracing::warn!(
                events,
                stored_until,
                bytes,
                limit,
                "the store reached retention.bytes: the oldest events were removed"
            );
        }
        let stuck = bytes > limit;
        if stuck && !self.stuck {
            tracing::warn!(bytes, limit, "the store is above retention.bytes, and everything that is left is pending");
        }
        self.stuck = stuck;
        Ok(())
    }

    fn count(&self, reason: &'static str, events: u64) {
        self.dropped.get_or_create(&[("reason", reason)]).inc_by(events);
    }
}

#[cfg(test)]
mod tests {
    use tidings_model::clock::ManualClock;
    use tidings_model::event::{Data, Event};
    use tidings_store::log::{EventFilter, Lease, LeaseToken, Log, Publish};
    use tidings_store::seal::MainKey;
    use tidings_store::sqlite::{SqliteStore, Sync};
    use tidings_supervisor::Supervisor;

    use super::*;

    const NOW: Millis = 1_795_255_000_000;

    fn publish(n: i64) -> Publish {
        let event = Event {
            id: format!("e{n}"),
            app: "1".into(),
            name: "h".to_owned(),
            channels: Vec::new(),
            data: Data::json(vec![b'1'; 50_000]),
            time: NOW,
            op: None,
            key: None,
            except: None,
        };
        Publish {
            event,
            hook_version: None,
            destinations: Vec::new(),
            not_before: None,
            catalogue_version: 0,
            idempotency: None,
            lease: Lease { token: LeaseToken(0), until: 0 },
            now: NOW,
            received_at: NOW + n,
        }
    }

    // covers: G041, G043
    #[tokio::test]
    async fn what_is_too_much_is_removed_counted_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let key = MainKey::load_or_create(&dir.path().join("main.key")).unwrap();
        let store =
            SqliteStore::open(&dir.path().join("tidings.db"), Sync::Normal, key, &Supervisor::default()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        for n in 0..100 {
            Log::publish(&*store, publish(n)).await.unwrap();
        }
        let (clock, mut registry) = (ManualClock::at(NOW) as SharedClock, Registry::default());
        let keep = Retention { age: Duration::from_secs(86_400), bytes: 2 << 20 };
        let mut retainer = Retainer::new(Arc::clone(&store), clock, keep, &mut registry);
        retainer.round(true).await.unwrap();
        assert!(store.depth().await.unwrap().bytes <= keep.bytes);
        let filter = EventFilter { limit: 1_000, ..EventFilter::default() };
        let left = store.events(&"1".into(), filter).await.unwrap().rows;
        assert!(left.len() > 20 && left[0].event.id == "e99", "{} are left", left.len());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let counted = format!("retention_events_total{{reason=\"bytes\"}} {}\n", 100 - left.len());
        assert!(text.contains(&counted) && text.contains("retention_events_total{reason=\"age\"} 0\n"), "{text}");
        assert!(!store.shrink().await.unwrap(), "there is more to give back");
    }
}
