//! A pool of read-only connections. Each read runs on a blocking thread, and for at most [`MAX_READ`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tidings_model::clock::Stopwatch;
use tidings_supervisor::{Supervisor, Units};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::StoreError;

/// The longest time of a read; then it is interrupted. A reader's old snapshot keeps the write-ahead log from being
/// restarted.
const MAX_READ: Duration = Duration::from_secs(1);
/// How many steps of SQLite's virtual machine pass between two checks of the time.
const STEPS_BETWEEN_CHECKS: i32 = 10_000;

/// A pool of read-only connections.
#[derive(Clone)]
pub(crate) struct Readers {
    free: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    units: Units,
}

impl Readers {
    /// Opens `count` connections.
    pub(crate) fn open(path: &Path, count: usize, supervisor: &Supervisor) -> Result<Self, StoreError> {
        let connections = (0..count.max(1)).map(|_| open_one(path)).collect::<Result<Vec<_>, _>>()?;
        let permits = Arc::new(Semaphore::new(connections.len()));
        Ok(Self { permits, free: Arc::new(Mutex::new(connections)), units: supervisor.units("store-read") })
    }

    /// Reads from one snapshot.
    pub(crate) async fn read<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        W: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (free, permits, units) = (Arc::clone(&self.free), Arc::clone(&self.permits), self.units.clone());
        let read = tokio::task::spawn_blocking(move || {
            let connection = free.lock().pop().ok_or(StoreError::Closed)?;
            let borrowed = Borrowed { connection: Some(connection), free, permits, _permit: permit };
            let connection = borrowed.connection.as_ref().ok_or(StoreError::Closed)?;
            units.catch("", || in_snapshot(connection, work))?
        });
        read.await.map_err(|_| StoreError::Closed)?
    }

    /// Closes the pool: later reads return [`StoreError::Closed`]. Connections in use close when their read ends.
    pub(crate) fn close(&self) {
        self.permits.close();
        let free = std::mem::take(&mut *self.free.lock());
        drop(free);
    }
}

/// A connection in use. When it is dropped the connection returns to the pool, before its permit is released.
struct Borrowed {
    connection: Option<Connection>,
    free: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && !self.permits.is_closed()
        {
            self.free.lock().push(connection);
        }
    }
}

fn open_one(path: &Path) -> Result<Connection, StoreError> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(MAX_READ)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn in_snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let started = Stopwatch::start();
    connection.progress_handler(STEPS_BETWEEN_CHECKS, Some(move || started.elapsed() > MAX_READ))?;
    // The transaction ends when it is dropped, whatever happens. It writes nothing, so a rollback loses nothing.
    let snapshot = connection.unchecked_transaction()?;
    work(&snapshot)
}
