//! Moving the write-ahead log into the database, off the commit path.
//!
//! A thread with its own connection checkpoints passively whenever the log has grown; passive never makes the writer wait. If
//! writes never pause, the log cannot be started over that way and grows: past [`WAL_MUCH`] the checkpoint waits for a moment
//! in which it may (`RESTART`), which holds up the writer for as long as the last pages take.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use crate::error::StoreError;

/// The log file is cut back to this many bytes when it is started over.
pub(super) const WAL_KEPT: i64 = 64 << 20;
/// From here on a checkpoint is worth its while.
const WAL_SOME: u64 = 4 << 20;
/// From here on the log has to be started over.
const WAL_MUCH: u64 = 128 << 20;
const EVERY: Duration = Duration::from_millis(250);

/// Ends its thread when dropped.
pub(super) struct Checkpointer {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread for the database at `path`.
    pub(super) fn start(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(EVERY)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&connection, &PathBuf::from(wal), &theirs))
            .map_err(|e| StoreError::Database(e.to_string()))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn run(connection: &Connection, wal: &Path, stop: &(Mutex<bool>, Condvar)) {
    // The file keeps its size when the log is started over, so its size alone would say "much" for ever: what counts is
    // whether it has changed since the last checkpoint.
    let mut seen = None;
    loop {
        {
            let mut stopped = stop.0.lock();
            if !*stopped {
                stop.1.wait_for(&mut stopped, EVERY);
            }
            if *stopped {
                return;
            }
        }
        let Ok(meta) = std::fs::metadata(wal) else { continue };
        let modified = meta.modified().ok();
        if meta.len() < WAL_SOME || (modified.is_some() && modified == seen) {
            continue;
        }
        seen = modified;
        let how =
            if meta.len() > WAL_MUCH { "PRAGMA wal_checkpoint(RESTART)" } else { "PRAGMA wal_checkpoint(PASSIVE)" };
        if let Err(error) = connection.query_row(how, [], |_| Ok(())) {
            tracing::warn!(%error, "could not checkpoint the write-ahead log");
        }
    }
}
