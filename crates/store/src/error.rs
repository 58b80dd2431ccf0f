//! What can go wrong with a store, in the words of whoever has to mend it.

use tidings_model::id::EventNo;
use tidings_supervisor::Panicked;

/// Why a store did not do what was asked. Nothing of a failed call is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The disk is full.
    #[error("the disk that holds the store is full; free some space, then the same request works again")]
    Full,
    /// Another process holds the database.
    #[error("the database is locked by another process; end that process or its transaction")]
    Locked,
    /// More is waiting to be written than the store takes.
    #[error("more is waiting to be written than the store takes; try again shortly")]
    Overloaded,
    /// A read took longer than a read may.
    #[error("the read took longer than a read may; ask for less at once, or try again when there is less to do")]
    TooSlow,
    /// The store is being closed.
    #[error("the store is closing")]
    Closed,
    /// The record is there already.
    #[error("it exists already")]
    Exists,
    /// There is no such record.
    #[error("there is no such record")]
    Missing,
    /// Somebody else changed the record meanwhile.
    #[error("it was changed by somebody else meanwhile; read it again")]
    Conflict,
    /// The database cannot hold a character of what is to be written.
    #[error(
        "the database cannot hold a character of this text; leave NUL characters out, and use a database whose \
        encoding is UTF8"
    )]
    Text,
    /// What is stored cannot be read as what it should be.
    #[error("the store holds something unreadable: {0}")]
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
    /// A sealed secret does not open.
    #[error("a stored secret does not open with any key in the main key file; put back the key it was sealed with")]
    Sealed,
    /// The main key file lacks a key that the store is sealed with, or has another one of its number.
    #[error(
        "key {0} of the main key file is not the one that this store is sealed with, or is missing; put back the main \
        key file from the backup, or copy it from another node"
    )]
    OtherMainKey(u32),
    /// Somebody has the database file open as its own: another process, or another store of this one.
    #[error(
        "{holder} has {path} open, perhaps by another name or from another folder; stop it, or give this one a \
        database of its own"
    )]
    Taken {
        /// The file.
        path: String,
        /// Who has it, as far as the system says.
        holder: String,
    },
    /// The database file has a second name.
    #[error(
        "{0} has another name (a hard link), and what is written under one name is missed under the other; copy the \
        file instead, and remove one of the names"
    )]
    HardLink(String),
    /// A file of the database was deleted, moved or replaced while it was in use.
    #[error(
        "{0} was deleted, moved or replaced while the server used it, so nothing can be kept; put it back, or stop the \
        server and restore a backup"
    )]
    Displaced(String),
    /// Hooks and listeners cannot be read, so it is not known who wants what.
    #[error("hooks and listeners cannot be read: {0}")]
    UnreadableCatalogue(String),
    /// The database server cannot be reached, or is not ready.
    #[error("the database server cannot be used now ({0}); the same request works again when it can")]
    Unreachable(String),
    /// Anything else the database said.
    #[error("the database refused: {0}")]
    Database(String),
    /// The deliveries of an event cannot be written, for a reason that lies in them.
    #[error("the deliveries of an event cannot be written: {reason}")]
    Fanout {
        /// Its number.
        event: EventNo,
        /// What is wrong.
        reason: String,
    },
    /// What was asked made the code panic.
    #[error("a bug: what was asked panicked ({0}); nothing of it is kept")]
    Panicked(String),
}

impl StoreError {
    /// Whether the same call may succeed a little later.
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
    /// The error of writing an event's deliveries, unless the same call may succeed a little later.
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
