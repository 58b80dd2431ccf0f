//! Retention: removes old events with their deliveries, and the oldest ones above a size limit; expired idempotency
//! keys; and the tombstones of deleted records. Gives the freed space back to the file system.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidings_model::clock::{Millis, SharedClock, millis, rfc3339};
use tidings_store::{Store, StoreError};
use tidings_supervisor::fault;

/// How often the size is checked and space is given back.
const INTERVAL: Duration = Duration::from_secs(5);
/// After how many rounds the age is checked too. Old events are removed in slices until none is left.
const AGE_ROUNDS: u64 = 12;
/// The pause after each slice, for other users of the store.
const PAUSE: Duration = Duration::from_millis(5);
/// How long idempotency keys are kept.
const KEY_AGE: Duration = Duration::from_secs(24 * 3_600);

/// How long the presence journal keeps channels and members that are gone, for transitions that arrive late.
const ABSENT_AGE: Duration = Duration::from_secs(3_600);

/// How much of the log is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// How long events are kept, with their deliveries. Events with pending deliveries are kept longer.
    pub age: Duration,
    /// The size of the store in bytes above which the oldest events are removed, whatever their age.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { age: Duration::from_secs(30 * 86_400), bytes: 10 << 30 }
    }
}

type Labels = [(&'static str, &'static str); 1];

/// Applies the retention until the store is closed.
pub(crate) struct Retainer {
    store: Arc<dyn Store>,
    clock: SharedClock,
    keep: Retention,
    dropped: Family<Labels, Counter>,
    /// Whether the store is above its limit with pending events only, and this has been logged.
    stuck: bool,
}

impl Retainer {
    pub(crate) fn new(store: Arc<dyn Store>, clock: SharedClock, keep: Retention, registry: &mut Registry) -> Self {
        let dropped = Family::<Labels, Counter>::default();
        for reason in ["age", "bytes"] {
            drop(dropped.get_or_create(&[("reason", reason)]));
        }
        registry.register("retention_events", "events removed from the log, by reason", dropped.clone());
        Self { store, clock, keep, dropped, stuck: false }
    }

    /// Runs until the store is closed.
    pub(crate) async fn run(mut self) {
        for round in 1.. {
            tokio::time::sleep(INTERVAL).await;
            fault::point("retention");
            match self.round(round % AGE_ROUNDS == 0).await {
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
        while self.store.forget_absent(now - millis(ABSENT_AGE)).await? {}
        let before = now - millis(self.keep.age);
        loop {
            let retired = self.store.retire(before, now - millis(KEY_AGE)).await?;
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
            tracing::warn!(bytes, limit, "the store is above retention.bytes with pending events only");
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
