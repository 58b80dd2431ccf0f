//! Moving the write-ahead log into the database, off the commit path.
//!
//! A thread with its own connection checkpoints passively whenever the log has grown; passive never makes the writer
//! wait. If writes never pause, the log cannot be started over that way: there always is a last commit that is not in
//! the database yet. Past [`WAL_MUCH`] the thread gets the log moved but for the last pages and then asks the writer,
//! who alone can find a moment without a commit, to move those ([`start_over`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tidings_supervisor::{Supervisor, fault};

use crate::error::StoreError;

/// The log file is cut back to this many bytes when it is started over: more than it reaches when that is done in time,
/// because cutting takes tens of milliseconds in which nobody is answered.
pub(super) const WAL_KEPT: i64 = 192 << 20;
/// From here on a checkpoint is worth its while.
const WAL_SOME: u64 = 4 << 20;
/// From here on the log has to be started over.
const WAL_MUCH: u64 = 64 << 20;
/// About so many pages the writer may be asked to move.
const LAST_PAGES: i64 = 1_000;
/// So often the thread tries to get ahead of the writer, before it asks for more than [`LAST_PAGES`].
const ROUNDS: usize = 8;
const EVERY: Duration = Duration::from_millis(250);

/// Ends its thread when dropped.
pub(super) struct Checkpointer {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread for the database at `path`; `ask` has the writer [`start_over`].
    pub(super) fn start(
        path: &Path,
        ask: impl Fn() + Send + 'static,
        supervisor: &Supervisor,
    ) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(EVERY)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = Arc::clone(&stop);
        let thread = supervisor
            .thread("store-checkpoint", move || run(&connection, &PathBuf::from(wal), &theirs, &ask))
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

fn run(connection: &Connection, wal: &Path, stop: &(Mutex<bool>, Condvar), ask: &dyn Fn()) {
    // The file keeps its size when the log is started over, so its size alone would say "much" for ever: what counts is
    // whether it has changed since the last checkpoint.
    let mut seen = None;
    loop {
        fault::point("store-checkpoint");
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
        let much = meta.len() > WAL_MUCH;
        let mut moved = 0;
        for _ in 0..if much { ROUNDS } else { 1 } {
            match passive(connection) {
                // What is left cannot be seen: the log counts as long as it was when the round began. But a round moves
                // what was written during the one before it.
                Ok(until) if until - moved > LAST_PAGES => moved = until,
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "could not checkpoint the write-ahead log");
                    break;
                }
            }
        }
        if much {
            ask();
        }
    }
}

/// Moves what can be moved without making anyone wait; answers up to which page of the log.
fn passive(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2))?)
}

/// Moves the last pages, by the writer between two transactions: its next commit then starts the log over.
pub(super) fn start_over(writer: &Connection) {
    if let Err(error) = passive(writer) {
        tracing::warn!(%error, "could not checkpoint the write-ahead log");
    }
}
