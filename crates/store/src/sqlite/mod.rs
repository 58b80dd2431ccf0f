//! The embedded store: SQLite in one file, one writer with group commit, a few readers.
//!
//! Write-ahead log with `synchronous=FULL`: a commit returns after the log is synced, so acknowledged writes survive a
//! power cut. The operator may choose `normal`; then [`SqliteStore::durable`] is false, and the API tells callers.

mod apps;
mod catalogue;
mod checkpoint;
mod closed;
mod counts;
mod db;
mod fanout;
mod fault;
mod file;
mod lanes;
mod leased_batches;
mod listing;
mod log;
mod meta;
mod migrate;
mod nodes;
mod presence;
mod queue;
mod readers;
mod retire;
mod sealed;
mod sizes;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::Connection;
use tidings_model::clock::Millis;
use tidings_model::delivery::Attempt;
use tidings_model::hook::Hook;
use tidings_model::id::{AppId, DeliveryKey, DestinationNo, EventNo};
use tidings_model::listener::Listener;
use tidings_model::payload::Field;
use tidings_supervisor::{Supervisor, Units};

use crate::catalogue::{AppRecord, Catalogue, Changes};
use crate::error::StoreError;
use crate::log::{Destination, EventFilter, Lease, LeaseToken, Log, Logged, Publish, Published};
use crate::page::Page;
use crate::presence::{Applied, PresenceChange, PresenceJournal, PresenceKey, PresenceRecord};
use crate::queue::{
    AttemptRange, DeliveryFilter, DeliveryRow, Depth, Due, Expanded, FanoutTurn, Finished, Leased, Queue, Recorded,
    Recording, Retired, Retried, Skip, Wanted,
};
use crate::records::{ListenerSecrets, seal_app};
use crate::seal::MainKey;
use crate::{Store, StoreError as Error};
use counts::Counts;
use db::{Db, LOCKED_FOR};
use file::DatabaseFile;
use readers::Readers;
use sizes::Sizes;
use writer::{Class, Writer};

pub use migrate::SCHEMA_VERSION;
pub(crate) use upkeep::open_for_copy;

/// The size of the writer's page cache, in KiB.
const CACHE_KIB: i64 = 8 * 1024;
/// The number of read-only connections.
const READERS: usize = 4;
/// The number of lease tokens reserved for one incarnation; far more than it can use.
const TOKENS_PER_INCARNATION: i64 = 1 << 40;

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// When it is on disk.
    #[default]
    Full,
    /// When the operating system has it: a power cut may lose the last commits.
    Normal,
}

/// The embedded store.
pub struct SqliteStore {
    path: PathBuf,
    sync: Sync,
    key: Arc<MainKey>,
    sizes: Sizes,
    writer: Arc<Writer>,
    readers: Readers,
    counts: Arc<Counts>,
    incarnation: i64,
    next_token: AtomicI64,
    /// Runs slices of fan-out as units: a panic fails only its own row.
    fanout_units: Units,
    /// The number of the newest event. Only jobs of the writer change it.
    newest: Arc<AtomicI64>,
    /// The event number at which the next slice of retention by age begins.
    retired_to: AtomicI64,
    /// The event number at which the next slice of retention by size begins.
    dropped_to: AtomicI64,
    /// `None` once the store is closed.
    checkpointer: Mutex<Option<checkpoint::Checkpointer>>,
    /// Locked until the store is closed or dropped. The last field: its lock has to be released last.
    file: Arc<DatabaseFile>,
}

impl SqliteStore {
    /// Opens the database, or creates it, and migrates its schema. The supervisor owns its threads. Blocks: call it at
    /// the start.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] if a later version of Tidings wrote it, [`StoreError::Locked`] if another process
    /// has a lock on it, [`StoreError::Taken`] if that is a server, [`StoreError::OtherMainKey`] if `key` is not the
    /// one it is sealed with, [`StoreError::Full`] and other errors of the database.
    pub fn open(path: &Path, sync: Sync, key: MainKey, supervisor: &Supervisor) -> Result<Self, StoreError> {
        Self::on(DatabaseFile::take(path)?, sync, key, supervisor)
    }

    fn on(file: DatabaseFile, sync: Sync, key: MainKey, supervisor: &Supervisor) -> Result<Self, StoreError> {
        let file = Arc::new(file);
        let path = file.path();
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(LOCKED_FOR)?;
        migrate::check(&connection)?;
        // SQLite accepts this only before the first table is created, so it comes first.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", if sync == Sync::Full { "FULL" } else { "NORMAL" })?;
        connection.pragma_update(None, "journal_size_limit", checkpoint::WAL_KEPT)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        // Large enough for the pages of a group, so that none is read again, or written before the commit.
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(128);
        migrate::migrate(&mut connection)?;
        sealed::check_key(&mut connection, &key)?;
        let incarnation = upkeep::incarnate(&connection)?;
        let newest = Arc::new(AtomicI64::new(log::newest(&connection)?));
        let counts = Arc::new(Counts::load(&connection)?);
        let readers = Readers::open(path, READERS, supervisor)?;
        let writer = Writer::start(Db::new(connection), Arc::clone(&counts), Arc::clone(&file), supervisor)
            .map_err(|e| StoreError::Database(e.to_string()))?;
        Ok(Self {
            checkpointer: Mutex::new(Some(checkpoint::Checkpointer::start(path, writer.log_restarter(), supervisor)?)),
            path: path.to_owned(),
            sync,
            key: Arc::new(key),
            sizes: Sizes::default(),
            writer: Arc::new(writer),
            readers,
            counts,
            incarnation,
            next_token: AtomicI64::new(incarnation * TOKENS_PER_INCARNATION),
            fanout_units: supervisor.units("fanout-slice"),
            newest,
            retired_to: AtomicI64::new(0),
            dropped_to: AtomicI64::new(0),
            file,
        })
    }

    /// Whether the database at `path` has data, as it does once it was opened.
    pub fn holds_data(path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|file| file.len() > 0)
    }

    /// Whether the database at `path` has secrets, so that it needs its main key.
    ///
    /// # Errors
    /// The database exists and cannot be read.
    pub fn holds_secrets(path: &Path) -> Result<bool, StoreError> {
        sealed::any(path)
    }

    async fn ack<T: Send + 'static>(
        &self,
        work: impl Fn(&Db) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.writer.call(Class::Ack, work).await
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn incarnation(&self) -> i64 {
        self.incarnation
    }

    fn durable(&self) -> bool {
        self.sync == Sync::Full
    }

    async fn writable(&self) -> Result<(), StoreError> {
        // No test write: frequent checks would load the disk. After a failure the writer probes by itself.
        self.writer.trouble().map_or(Ok(()), Err)
    }

    async fn close(&self) {
        self.readers.close();
        let (writer, checkpointer) = (Arc::clone(&self.writer), self.checkpointer.lock().take());
        // Writing the waiting jobs may take a while, and must not block the caller's thread.
        let closed = tokio::task::spawn_blocking(move || {
            drop(checkpointer);
            writer.close();
        });
        if closed.await.is_err() {
            tracing::error!("closing the store's writer failed");
        }
        self.file.release();
    }
}

#[async_trait]
impl Catalogue for SqliteStore {
    async fn changes(&self, since: i64) -> Result<Changes, StoreError> {
        let read = |progress| {
            let key = Arc::clone(&self.key);
            self.readers.read(move |db| catalogue::changes(db, &key, since, progress))
        };
        let (mut all, mut more) = read(catalogue::Progress::after(since)).await?;
        // The version stays that of the first slice. Records that change while the rest is read are returned again by
        // the next call, which does no harm.
        while let Some(progress) = more {
            let (slice, further) = read(progress).await?;
            all.hooks.extend(slice.hooks);
            all.listeners.extend(slice.listeners);
            more = further;
        }
        let key = Arc::clone(&self.key);
        all.apps = self.readers.read(move |db| apps::changes(db, &key, since)).await?;
        Ok(all)
    }

    async fn create_hook(&self, hook: Hook) -> Result<(), StoreError> {
        self.ack(move |db| catalogue::create_hook(db, &hook)).await
    }

    async fn replace_hook(&self, hook: Hook, expected: i64) -> Result<(), StoreError> {
        self.ack(move |db| catalogue::replace_hook(db, &hook, expected)).await
    }

    async fn delete_hook(&self, app: &AppId, name: &str, now: Millis) -> Result<(), StoreError> {
        let (app, name) = (app.clone(), name.to_owned());
        self.ack(move |db| catalogue::delete_hook(db, &app, &name, now)).await
    }

    async fn fields_at(&self, app: &AppId, hook: &str, version: i64) -> Result<Option<Option<Vec<Field>>>, StoreError> {
        let (app, hook) = (app.clone(), hook.to_owned());
        self.readers.read(move |db| catalogue::fields_at(db, &app, &hook, version)).await
    }

    async fn create_listener(&self, listener: Listener) -> Result<DestinationNo, StoreError> {
        let sealed = ListenerSecrets::seal(&self.key, &listener)?;
        self.ack(move |db| catalogue::create_listener(db, &listener, &sealed)).await
    }

    async fn replace_listener(&self, listener: Listener, expected: i64) -> Result<(), StoreError> {
        let sealed = ListenerSecrets::seal(&self.key, &listener)?;
        self.ack(move |db| catalogue::replace_listener(db, &listener, &sealed, expected)).await
    }

    async fn delete_listener(&self, app: &AppId, id: &str, now: Millis) -> Result<(), StoreError> {
        let (app, id) = (app.clone(), id.to_owned());
        self.ack(move |db| catalogue::delete_listener(db, &app, &id, now)).await
    }

    async fn create_app(&self, app: AppRecord, names: Vec<String>) -> Result<(), StoreError> {
        let sealed = seal_app(&self.key, &app)?;
        self.ack(move |db| apps::create(db, &app, &names, &sealed)).await
    }

    async fn replace_app(&self, app: AppRecord, names: Vec<String>, expected: i64) -> Result<(), StoreError> {
        let sealed = seal_app(&self.key, &app)?;
        self.ack(move |db| apps::replace(db, &app, &names, &sealed, expected)).await
    }

    async fn delete_app(&self, id: &str, now: Millis) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.ack(move |db| apps::delete(db, &id, now)).await
    }

    async fn unannounced(&self) -> Result<Vec<(AppId, String)>, StoreError> {
        self.readers.read(catalogue::unannounced).await
    }

    async fn announced(&self, app: &AppId, listener: &str) -> Result<(), StoreError> {
        let (app, listener) = (app.clone(), listener.to_owned());
        self.ack(move |db| catalogue::announced(db, &app, &listener)).await
    }
}

#[async_trait]
impl Log for SqliteStore {
    async fn publish(&self, publish: Publish) -> Result<Published, StoreError> {
        let digest = publish.event.digest();
        let direct = self.sizes.direct;
        let weight = publish.event.weight() + publish.destinations.len() * size_of::<Destination>();
        let newest = Arc::clone(&self.newest);
        let work = move |db: &Db| log::publish(db, &publish, &digest, direct, &newest);
        self.writer.call_holding(weight, Class::Ack, work).await
    }

    async fn event(&self, app: &AppId, id: &str) -> Result<Option<Logged>, StoreError> {
        let (app, id) = (app.clone(), id.to_owned());
        self.readers.read(move |db| log::event(db, &app, &id)).await
    }

    async fn events(&self, app: &AppId, filter: EventFilter) -> Result<Page<Logged>, StoreError> {
        let app = app.clone();
        self.readers.read(move |db| log::events(db, &app, &filter)).await
    }

    async fn events_at(&self, places: Vec<EventNo>) -> Result<Vec<Logged>, StoreError> {
        self.readers.read(move |db| log::events_at(db, &places)).await
    }
}

#[async_trait]
impl PresenceJournal for SqliteStore {
    async fn apply_change(&self, change: PresenceChange) -> Result<Applied, StoreError> {
        self.ack(move |db| presence::apply(db, &change)).await
    }

    async fn mark_announced(&self, key: &PresenceKey, number: i64) -> Result<(), StoreError> {
        let key = key.clone();
        self.writer.call(Class::RideAlong, move |db| presence::mark_announced(db, &key, number)).await
    }

    async fn presence_records(
        &self,
        after: Option<PresenceKey>,
        limit: usize,
    ) -> Result<Vec<PresenceRecord>, StoreError> {
        self.readers.read(move |db| presence::records(db, after.as_ref(), limit)).await
    }

    async fn last_presence_number(&self) -> Result<i64, StoreError> {
        self.readers.read(presence::last).await
    }

    async fn forget_absent(&self, before: Millis) -> Result<bool, StoreError> {
        self.writer.call(Class::Upkeep, move |db| presence::forget(db, before)).await
    }
}

#[async_trait]
impl Queue for SqliteStore {
    async fn recover(&self, now: Millis) -> Result<u64, StoreError> {
        self.ack(move |db| upkeep::recover(db, now)).await
    }

    fn new_token(&self) -> LeaseToken {
        LeaseToken(self.next_token.fetch_add(1, Ordering::Relaxed))
    }

    async fn due(&self, now: Millis, skip: Skip, limit: usize) -> Result<Due, StoreError> {
        self.readers.read(move |db| queue::due(db, now, &skip, limit)).await
    }

    async fn claim(&self, wanted: Vec<Wanted>, now: Millis, lease: Lease) -> Result<Vec<Leased>, StoreError> {
        self.writer.call(Class::Work, move |db| queue::claim(db, &wanted, now, lease)).await
    }

    async fn finish(&self, batch: Arc<Vec<Finished>>, recording: Recording) -> Result<Vec<Recorded>, StoreError> {
        let class = if recording.soon { Class::Result } else { Class::RideAlong };
        self.writer.call(class, move |db| queue::finish(db, &batch, recording)).await
    }

    async fn release(&self, batch: Vec<Leased>, due: Millis) -> Result<(), StoreError> {
        self.writer.call(Class::Result, move |db| queue::release(db, &batch, due)).await
    }

    async fn expand(&self, now: Millis, turn: FanoutTurn, lease: Lease) -> Result<Expanded, StoreError> {
        let (slice, units) = (self.sizes.fanout, self.fanout_units.clone());
        self.writer.call(Class::Work, move |db| fanout::expand(db, now, &turn, lease, slice, &units)).await
    }

    async fn sweep(&self, now: Millis) -> Result<u64, StoreError> {
        let slice = self.sizes.sweep;
        let (mut taken, mut after) = (0, None);
        loop {
            let from = after.take();
            let (expired, next) = self.readers.read(move |db| upkeep::expired(db, now, from.as_ref(), slice)).await?;
            // In slices: however many have expired, a publisher waits for one slice at most.
            for chunk in expired.chunks(upkeep::SLICE) {
                let chunk = chunk.to_vec();
                taken += self.writer.call(Class::Upkeep, move |db| upkeep::end_expired(db, &chunk, now)).await?;
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        let mut after = Some(EventNo(i64::MIN));
        while let Some(from) = after {
            let (expired, next) = self.readers.read(move |db| leased_batches::expired(db, now, from, slice)).await?;
            for chunk in expired.chunks(leased_batches::SLICE) {
                let chunk = chunk.to_vec();
                taken +=
                    self.writer.call(Class::Upkeep, move |db| leased_batches::dissolve_all(db, &chunk, now)).await?;
            }
            after = next;
        }
        let idle = self.readers.read(upkeep::idle).await?;
        if !idle.is_empty() {
            self.writer.call(Class::Upkeep, move |db| upkeep::unlist(db, &idle)).await?;
        }
        Ok(taken)
    }

    async fn cancel_orphans(&self, wall: Millis) -> Result<bool, StoreError> {
        self.writer.call(Class::Upkeep, move |db| upkeep::cancel_orphans(db, wall)).await
    }

    async fn failing(&self) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
        self.readers.read(queue::failing).await
    }

    async fn failing_of(&self, destinations: Vec<DestinationNo>) -> Result<Vec<(DestinationNo, Millis)>, StoreError> {
        self.readers.read(move |db| queue::failing_of(db, &destinations)).await
    }

    async fn deliveries(&self, app: &AppId, filter: DeliveryFilter) -> Result<Vec<DeliveryRow>, StoreError> {
        let app = app.clone();
        self.readers.read(move |db| listing::deliveries(db, &app, &filter)).await
    }

    async fn delivery(&self, key: &DeliveryKey) -> Result<Option<DeliveryRow>, StoreError> {
        let key = key.clone();
        self.readers.read(move |db| listing::delivery(db, &key)).await
    }

    async fn attempts(&self, key: &DeliveryKey, range: AttemptRange) -> Result<Page<Attempt>, StoreError> {
        let key = key.clone();
        self.readers.read(move |db| listing::attempts(db, &key, range)).await
    }

    async fn retry(&self, key: &DeliveryKey, now: Millis) -> Result<Retried, StoreError> {
        let key = key.clone();
        self.ack(move |db| listing::retry(db, &key, now)).await
    }

    async fn depth(&self) -> Result<Depth, StoreError> {
        Ok(self.counts.depth())
    }

    async fn retire(&self, events_before: Millis, keys_before: Millis) -> Result<Retired, StoreError> {
        let (from, until) = (EventNo(self.retired_to.load(Ordering::Relaxed)), EventNo::first_of(events_before));
        let ((retired, next), more_keys) = self
            .writer
            .call(Class::Upkeep, move |db| Ok((retire::events(db, from, until, None)?, retire::keys(db, keys_before)?)))
            .await?;
        // Events that are kept because of open work are skipped until the next round.
        self.retired_to.store(next.map_or(0, |no| no.0), Ordering::Relaxed);
        if next.is_none() {
            self.dropped_to.store(0, Ordering::Relaxed);
        }
        Ok(Retired { more: next.is_some() || more_keys, ..retired })
    }

    async fn retire_above(&self, most: u64) -> Result<Retired, StoreError> {
        let from = EventNo(self.dropped_to.load(Ordering::Relaxed));
        let counts = Arc::clone(&self.counts);
        let work = move |db: &Db| {
            if counts.measure(db)? <= most {
                return Ok((Retired::default(), Some(from)));
            }
            let (retired, next) = retire::events(db, from, EventNo(i64::MAX), Some(most))?;
            counts.measure(db)?;
            Ok((Retired { more: next.is_some(), ..retired }, next))
        };
        let (retired, next) = self.writer.call(Class::Upkeep, work).await?;
        self.dropped_to.store(next.map_or(0, |no| no.0), Ordering::Relaxed);
        Ok(retired)
    }

    async fn forget_deleted(&self, before: Millis) -> Result<bool, StoreError> {
        self.writer.call(Class::Upkeep, move |db| retire::deleted(db, before)).await
    }

    async fn shrink(&self) -> Result<bool, StoreError> {
        self.writer.call(Class::Upkeep, |db| retire::shrink(db)).await
    }
}
