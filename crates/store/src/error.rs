//! The errors of a store. Their texts are for the operator: each says what to do.

use tidings_model::id::EventNo;
use tidings_supervisor::Panicked;

/// Why a call to a store failed. A failed call leaves no trace in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("the disk that holds the store is full; free some space, then repeat the request")]
    Full,
    /// Another process holds the database.
    #[error("the database is locked by another process; end that process or its transaction")]
    Locked,
    /// The queue of writes is full.
    #[error("the store's queue of writes is full; try again shortly")]
    Overloaded,
    /// A read or statement exceeded its time limit.
    #[error("the read exceeded the store's time limit; ask for a smaller page, or try again when the load is lower")]
    TooSlow,
    /// The store is being closed.
    #[error("the store is closing")]
    Closed,
    /// The record exists already.
    #[error("it exists already")]
    Exists,
    /// There is no such record.
    #[error("there is no such record")]
    Missing,
    /// The record was changed since the caller read it.
    #[error("it was changed since it was read; read it again")]
    Conflict,
    /// The text to write has a character that the database cannot store.
    #[error(
        "the database cannot store a character of this text; leave NUL characters out, and use a database whose \
        encoding is UTF8"
    )]
    Text,
    /// A stored record cannot be read.
    #[error("the store has a corrupt record: {0}")]
    Corrupt(String),
    /// The schema is of a later version than this program knows.
    #[error(
        "the database was written by a later version of Tidings (schema {found}, this program knows {known}); start \
        that version, or restore an earlier backup"
    )]
    NewerSchema {
        /// The schema's version in the database.
        found: i64,
        /// The latest version this program knows.
        known: i64,
    },
    /// A sealed secret cannot be opened.
    #[error("no key in the main key file opens a stored secret; put back the key that it was sealed with")]
    Sealed,
    /// The main key file lacks a key that the store is sealed with, or has another key under its number.
    #[error(
        "key {0} of the main key file is not the one that this store is sealed with, or is missing; put back the main \
        key file from the backup, or copy it from another node"
    )]
    OtherMainKey(u32),
    /// The database file is in use by another process, or by another store of this process.
    #[error(
        "{holder} has {path} open, perhaps under another name or from another folder; stop it, or give this one a \
        database of its own"
    )]
    Taken {
        /// The database file.
        path: String,
        /// The process that has it open, as far as the system tells.
        holder: String,
    },
    /// The database file has a second name.
    #[error(
        "{0} has another name (a hard link), and SQLite does not see under one name what was written under the other; \
        copy the file instead, and remove one of the names"
    )]
    HardLink(String),
    /// A file of the database was deleted, moved or replaced while it was in use.
    #[error(
        "{0} was deleted, moved or replaced while the server used it, so nothing can be written; put it back, or stop \
        the server and restore a backup"
    )]
    Displaced(String),
    /// Hooks and listeners cannot be read, so events cannot be matched.
    #[error("hooks and listeners cannot be read: {0}")]
    UnreadableCatalogue(String),
    /// The database server cannot be reached, or is not ready.
    #[error("the database server cannot be used now ({0}); repeat the request when it can")]
    Unreachable(String),
    /// Any other error of the database.
    #[error("the database failed: {0}")]
    Database(String),
    /// The deliveries of an event cannot be written, for a reason that lies in the event or its fan-out row.
    #[error("the deliveries of an event cannot be written: {reason}")]
    Fanout {
        /// The event's number.
        event: EventNo,
        /// The text of the error.
        reason: String,
    },
    /// The call panicked.
    #[error("a bug: the call to the store panicked ({0}); it wrote nothing")]
    Panicked(String),
}

impl StoreError {
    /// Whether the same call may succeed if it is repeated later.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Full
                | Self::Locked
                | Self::Overloaded
                | Self::TooSlow
                | Self::Displaced(_)
                | Self::UnreadableCatalogue(_)
                | Self::Unreachable(_)
        )
    }
}

impl StoreError {
    /// Turns an error of writing an event's deliveries into [`StoreError::Fanout`], unless it is temporary.
    pub(crate) fn of_fanout(self, event: EventNo) -> Self {
        if self.is_temporary() || self == Self::Closed {
            self
        } else {
            Self::Fanout { event, reason: self.to_string() }
        }
    }
}

impl From<Panicked> for StoreError {
    fn from(panicked: Panicked) -> Self {
        Self::Panicked(panicked.to_string())
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}
