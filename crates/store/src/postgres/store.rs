//! The traits of the store. Each method is a transaction, or a few.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use sqlx::{PgConnection, Row};
use tidings_model::clock::{Millis, Stopwatch};
use tidings_model::delivery::Attempt;
use tidings_model::hook::Hook;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};
use tidings_model::listener::Listener;
use tidings_model::payload::Field;

use super::connect::{sql, transact, view};
use super::{
    PostgresStore, apps, catalogue, events, fanout, finish, leased_batches, listing, nodes, paused, presence, queue,
    retire, sealed, upkeep,
};
use crate::Store;
use crate::catalogue::{AppRecord, Catalogue, Changes};
use crate::error::StoreError;
use crate::log::{EventFilter, Lease, LeaseToken, Log, Logged, Publish, Published};
use crate::nodes::{NodeRegistration, Nodes};
use crate::page::Page;
use crate::presence::{Applied, PresenceChange, PresenceJournal, PresenceKey, PresenceRecord};
use crate::queue::{
    AttemptRange, DeliveryFilter, DeliveryRow, Depth, Due, Expanded, FanoutTurn, Finished, Leased, Queue, Recorded,
    Recording, Retired, Retried, Skip, Wanted,
};
use crate::records::{ListenerSecrets, seal_app};

#[async_trait]
impl Store for PostgresStore {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn incarnation(&self) -> i64 {
        self.incarnation
    }

    fn durable(&self) -> bool {
        true
    }

    async fn writable(&self) -> Result<(), StoreError> {
        // No test write: frequent checks would load the disk.
        let read_only = transact!(self.connections, |db| read_only(db).await)?;
        if read_only { Err(StoreError::Unreachable("the server is read-only".to_owned())) } else { Ok(()) }
    }

    async fn close(&self) {
        self.publisher.close().await;
        *self.left.lock().await = true;
        if let Err(error) = transact!(self.connections, |db| nodes::leave(db, &self.node, self.incarnation).await) {
            tracing::warn!(%error, "removing this node from the list of nodes failed; its heartbeat expires by itself");
        }
        self.connections.pool.close().await;
    }
}

#[async_trait]
impl Nodes for PostgresStore {
    async fn register_node(&self, broker: &'static str) -> Result<NodeRegistration, StoreError> {
        let left = self.left.lock().await;
        if *left {
            return Err(StoreError::Closed);
        }
        transact!(self.connections, |db| {
            async {
                sealed::check_fingerprints(db, &self.key).await?;
                nodes::register(db, &self.node, self.incarnation, broker).await
            }
            .await
        })
    }

    async fn nodes(&self) -> Result<u64, StoreError> {
        Ok(transact!(self.connections, |db| nodes::list(db).await)?.len() as u64)
    }
}

#[async_trait]
impl Catalogue for PostgresStore {
    async fn changes(&self, since: i64) -> Result<Changes, StoreError> {
        // Secrets are opened and matches compiled after the transaction and on a blocking thread: with many listeners
        // that takes long, and would exceed a transaction's time limit or block the runtime.
        let changed = transact!(self.connections, |db| catalogue::changed(db, since).await)?;
        let key = Arc::clone(&self.key);
        tokio::task::spawn_blocking(move || changed.open(&key)).await.map_err(|_| StoreError::Closed)?
    }

    async fn create_hook(&self, hook: Hook) -> Result<(), StoreError> {
        transact!(self.connections, |db| catalogue::create_hook(db, &hook).await)
    }

    async fn replace_hook(&self, hook: Hook, expected: i64) -> Result<(), StoreError> {
        transact!(self.connections, |db| catalogue::replace_hook(db, &hook, expected).await)
    }

    async fn delete_hook(&self, app: &AppId, name: &str, now: Millis) -> Result<(), StoreError> {
        transact!(self.connections, |db| catalogue::delete_hook(db, app, name, now).await)
    }

    async fn fields_at(&self, app: &AppId, hook: &str, version: i64) -> Result<Option<Option<Vec<Field>>>, StoreError> {
        transact!(self.connections, |db| catalogue::fields_at(db, app, hook, version).await)
    }

    async fn create_listener(&self, listener: Listener) -> Result<DestinationNo, StoreError> {
        let sealed = ListenerSecrets::seal(&self.key, &listener)?;
        transact!(self.connections, |db| catalogue::create_listener(db, &listener, &sealed).await)
    }

    async fn replace_listener(&self, listener: Listener, expected: i64) -> Result<(), StoreError> {
        let sealed = ListenerSecrets::seal(&self.key, &listener)?;
        transact!(self.connections, |db| catalogue::replace_listener(db, &listener, &sealed, expected).await)
    }

    async fn delete_listener(&self, app: &AppId, id: &str, now: Millis) -> Result<(), StoreError> {
        transact!(self.connections, |db| catalogue::delete_listener(db, app, id, now).await)
    }

    async fn create_app(&self, app: AppRecord, names: Vec<String>) -> Result<(), StoreError> {
        let sealed = seal_app(&self.key, &app)?;
        transact!(self.connections, |db| apps::create(db, &app, &names, &sealed).await)
    }

    async fn replace_app(&self, app: AppRecord, names: Vec<String>, expected: i64) -> Result<(), StoreError> {
        let sealed = seal_app(&self.key, &app)?;
        transact!(self.connections, |db| apps::replace(db, &app, &names, &sealed, expected).await)
    }

    async fn delete_app(&self, id: &str, now: Millis) -> Result<(), StoreError> {
        transact!(self.connections, |db| apps::delete(db, id, now).await)
    }

    async fn unannounced(&self) -> Result<Vec<(AppId, String)>, StoreError> {
        transact!(self.connections, |db| catalogue::unannounced(db).await)
    }

    async fn announced(&self, app: &AppId, listener: &str) -> Result<(), StoreError> {
        transact!(self.connections, |db| catalogue::announced(db, app, listener).await)
    }
}

#[async_trait]
impl Log for PostgresStore {
    async fn publish(&self, publish: Publish) -> Result<Published, StoreError> {
        self.publisher.publish(publish).await
    }

    async fn event(&self, app: &AppId, id: &str) -> Result<Option<Logged>, StoreError> {
        transact!(self.connections, |db| events::event(db, app, id).await)
    }

    async fn events(&self, app: &AppId, filter: EventFilter) -> Result<Page<Logged>, StoreError> {
        transact!(self.connections, |db| events::events(db, app, &filter).await)
    }

    async fn events_at(&self, places: Vec<EventNo>) -> Result<Vec<Logged>, StoreError> {
        transact!(self.connections, |db| events::events_at(db, &places).await)
    }
}

#[async_trait]
impl PresenceJournal for PostgresStore {
    async fn apply_change(&self, change: PresenceChange) -> Result<Applied, StoreError> {
        let change = PresenceChange { now: self.clock.server(change.now), ..change };
        transact!(self.connections, |db| presence::apply(db, &change).await)
    }

    async fn mark_announced(&self, key: &PresenceKey, number: i64) -> Result<(), StoreError> {
        transact!(self.connections, |db| presence::mark_announced(db, key, number).await)
    }

    async fn presence_records(
        &self,
        after: Option<PresenceKey>,
        limit: usize,
    ) -> Result<Vec<PresenceRecord>, StoreError> {
        transact!(self.connections, |db| presence::records(db, after.as_ref(), limit).await)
    }

    async fn last_presence_number(&self) -> Result<i64, StoreError> {
        transact!(self.connections, |db| presence::last(db).await)
    }

    async fn forget_absent(&self, before: Millis) -> Result<bool, StoreError> {
        transact!(self.connections, |db| presence::forget(db, before).await)
    }
}

#[async_trait]
impl Queue for PostgresStore {
    async fn recover(&self, now: Millis) -> Result<u64, StoreError> {
        let since = Stopwatch::start();
        transact!(self.connections, |db| self.clock.compare(db, now, &since).await)?;
        let now = self.clock.server(now);
        transact!(self.connections, |db| upkeep::adjust_to_clock(db, now).await)?;
        let earlier = transact!(self.connections, |db| upkeep::earlier(db, &self.node, self.incarnation).await)?;
        let mut ended = transact!(self.connections, |db| upkeep::end_leases_of(db, &earlier, now).await)?;
        loop {
            let (count, more) = transact!(self.connections, |db| leased_batches::dissolve(
                db,
                leased_batches::Which::LeasedBy(&earlier),
                now
            )
            .await)?;
            ended += count;
            if !more {
                return Ok(ended);
            }
        }
    }

    fn new_token(&self) -> LeaseToken {
        LeaseToken(self.next_token.fetch_add(1, Ordering::Relaxed))
    }

    async fn due(&self, now: Millis, skip: Skip, limit: usize) -> Result<Due, StoreError> {
        let now = self.clock.server(now);
        let mut due = transact!(self.connections, |db| queue::due(db, now, &skip, limit, self.incarnation).await)?;
        due.next = due.next.map(|time| self.clock.caller(time));
        due.paused.iter_mut().for_each(|(_, until)| *until = self.clock.caller(*until));
        Ok(due)
    }

    async fn claim(&self, wanted: Vec<Wanted>, now: Millis, lease: Lease) -> Result<Vec<Leased>, StoreError> {
        let (now, until) = (self.clock.server(now), self.clock.server(lease.until));
        let claimed = transact!(self.connections, |db| queue::claim(db, &wanted, now, lease, until).await)?;
        if !queue::may_follow(&wanted, &claimed) {
            return Ok(claimed);
        }
        let with_followers = transact!(self.connections, |db| queue::follow(db, &wanted, &claimed, now, until).await);
        Ok(with_followers.unwrap_or_else(|error| {
            tracing::warn!(%error, "claiming batches of ordered deliveries failed; they go one by one");
            claimed
        }))
    }

    async fn finish(&self, batch: Arc<Vec<Finished>>, recording: Recording) -> Result<Vec<Recorded>, StoreError> {
        let changes = AtomicBool::new(batch.iter().any(|end| end.disable.is_some()));
        transact!(self.connections, |db| finish::finish(db, &batch, recording, &self.clock, &changes).await)
    }

    async fn release(&self, batch: Vec<Leased>, due: Millis) -> Result<(), StoreError> {
        let due = self.clock.server(due);
        transact!(self.connections, |db| queue::release(db, &batch, due).await)
    }

    async fn expand(&self, now: Millis, turn: FanoutTurn, lease: Lease) -> Result<Expanded, StoreError> {
        let (now, until) = (self.clock.server(now), self.clock.server(lease.until));
        let slice = self.sizes.fanout;
        transact!(self.connections, |db| fanout::expand(db, now, &turn, lease, until, slice, &self.fanout_units).await)
    }

    async fn sweep(&self, now: Millis) -> Result<u64, StoreError> {
        let since = Stopwatch::start();
        transact!(self.connections, |db| self.clock.compare(db, now, &since).await)?;
        let (now, slice) = (self.clock.server(now), self.sizes.sweep);
        let mut ended = 0;
        loop {
            let count = transact!(self.connections, |db| upkeep::end_expired(db, now, slice).await)?;
            ended += count;
            if count < slice as u64 {
                break;
            }
        }
        loop {
            let (count, more) = transact!(self.connections, |db| leased_batches::dissolve(
                db,
                leased_batches::Which::Expired(now),
                now
            )
            .await)?;
            ended += count;
            if !more {
                break;
            }
        }
        transact!(self.connections, |db| upkeep::unlist_idle(db).await)?;
        transact!(self.connections, |db| paused::forget(db, now).await)?;
        Ok(ended)
    }

    async fn cancel_orphans(&self, wall: Millis) -> Result<bool, StoreError> {
        transact!(self.connections, |db| upkeep::cancel_orphans(db, wall).await)
    }

    async fn failing(&self) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
        transact!(self.connections, |db| queue::failing(db).await)
    }

    async fn failing_of(&self, destinations: Vec<DestinationNo>) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
        transact!(self.connections, |db| queue::failing_of(db, &destinations).await)
    }

    async fn deliveries(&self, app: &AppId, filter: DeliveryFilter) -> Result<Vec<DeliveryRow>, StoreError> {
        let rows = view!(self.connections, |db| listing::deliveries(db, app, &filter).await)?;
        Ok(rows.into_iter().map(|row| self.in_callers_time(row)).collect())
    }

    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
        let row = view!(self.connections, |db| listing::delivery(db, key).await)?;
        Ok(row.map(|row| self.in_callers_time(row)))
    }

    async fn attempts(&self, key: &DeliveryKey, range: AttemptRange) -> Result<Page<Attempt>, StoreError> {
        let mut all = view!(self.connections, |db| listing::attempts(db, key, range).await)?;
        all.rows.iter_mut().for_each(|attempt| attempt.next_at = attempt.next_at.map(|time| self.clock.caller(time)));
        Ok(all)
    }

    async fn retry(&self, key: &DeliveryKey, now: Millis) -> Result<Retried, StoreError> {
        let now = self.clock.server(now);
        transact!(self.connections, |db| listing::retry(db, key, now).await)
    }

    async fn retire(&self, events_before: Millis, keys_before: Millis) -> Result<Retired, StoreError> {
        let (from, until) = (EventNo(self.retired_to.load(Ordering::Relaxed)), EventNo::first_of(events_before));
        let (retired, next) = transact!(self.connections, |db| retire::events(db, from, until, None).await)?;
        let more_keys = transact!(self.connections, |db| retire::keys(db, keys_before).await)?;
        transact!(self.connections, |db| nodes::forget_incarnations(db).await)?;
        transact!(self.connections, |db| retire::sum_up(db).await)?;
        // Events that are kept because of open work are skipped until the next round.
        self.retired_to.store(next.map_or(0, |no| no.0), Ordering::Relaxed);
        Ok(Retired { more: next.is_some() || more_keys, ..retired })
    }

    async fn retire_above(&self, most: u64) -> Result<Retired, StoreError> {
        let from = EventNo(self.dropped_to.load(Ordering::Relaxed));
        let (retired, next) = transact!(self.connections, |db| retire::above(db, from, most).await)?;
        self.dropped_to.store(next.map_or(0, |no| no.0), Ordering::Relaxed);
        Ok(Retired { more: next.is_some(), ..retired })
    }

    async fn forget_deleted(&self, before: Millis) -> Result<bool, StoreError> {
        transact!(self.connections, |db| retire::deleted(db, before).await)
    }

    async fn shrink(&self) -> Result<bool, StoreError> {
        // The server reuses free space by itself.
        Ok(false)
    }

    async fn depth(&self) -> Result<Depth, StoreError> {
        view!(self.connections, |db| listing::depth(db).await)
    }
}

/// Whether the server that a transaction runs on is read-only.
async fn read_only(db: &mut PgConnection) -> Result<bool, StoreError> {
    let row = sql("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean");
    Ok(row.fetch_one(db).await?.try_get(0)?)
}

impl PostgresStore {
    fn in_callers_time(&self, row: DeliveryRow) -> DeliveryRow {
        DeliveryRow { due: row.due.map(|time| self.clock.caller(time)), ..row }
    }
}
