//! Checkpoints the write-ahead log into the database, off the commit path.
//!
//! A thread with its own connection makes a passive checkpoint whenever the log has grown; a passive checkpoint never
//! makes the writer wait. If writes never pause, passive checkpoints alone never let SQLite restart the log from its
//! beginning: there always is a last commit that is not in the database yet. Past [`RESTART_ABOVE`] the thread moves
//! all but the last pages and then asks the writer to move those ([`restart_log`]): only between its transactions is
//! there a moment without a commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tidings_supervisor::{Supervisor, fault};

use crate::error::StoreError;

/// The log file is truncated to this many bytes when the log is restarted. It is more than the file reaches if restarts
/// are in time: truncating takes tens of milliseconds, and no commit returns meanwhile.
pub(super) const WAL_KEPT: i64 = 192 << 20;
/// The size of the log file, in bytes, from which on a checkpoint is made.
const CHECKPOINT_FROM: u64 = 4 << 20;
/// The size of the log file, in bytes, above which the log has to be restarted.
const RESTART_ABOVE: u64 = 64 << 20;
/// About how many pages the writer may be asked to move.
const LAST_PAGES: i64 = 1_000;
/// How often the thread tries to catch up with the writer, before it asks the writer to move more than [`LAST_PAGES`].
const ROUNDS: usize = 8;
/// How often the thread looks at the log file.
const EVERY: Duration = Duration::from_millis(250);

/// The handle of the thread, which ends when this is dropped.
pub(super) struct Checkpointer {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread for the database at `path`. `ask` makes the writer call [`restart_log`].
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
    // The file keeps its size when the log is restarted, so its size alone would ask for a restart each time. So the
    // thread also checks whether the file has changed since the last checkpoint.
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
        if meta.len() < CHECKPOINT_FROM || (modified.is_some() && modified == seen) {
            continue;
        }
        seen = modified;
        let restart = meta.len() > RESTART_ABOVE;
        let mut moved = 0;
        for _ in 0..if restart { ROUNDS } else { 1 } {
            match passive(connection) {
                // How many pages are left cannot be read. But a round moves what was written during the round before
                // it: if that was little, little is left.
                Ok(until) if until - moved > LAST_PAGES => moved = until,
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "checkpoint of the write-ahead log failed");
                    break;
                }
            }
        }
        if restart {
            ask();
        }
    }
}

/// Moves the pages that can be moved without making the writer wait. Returns how many pages of the log are moved now.
fn passive(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2))?)
}

/// Moves the last pages. The writer calls it between two transactions; its next commit then restarts the log.
pub(super) fn restart_log(writer: &Connection) {
    if let Err(error) = passive(writer) {
        tracing::warn!(%error, "checkpoint of the write-ahead log failed");
    }
}
