//! Finds matches that exceed the size limit because they were stored before there was one. For a check before a start.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;
use crate::records::{ListenerSpec, upgrade_spec};

/// A listener whose match exceeds the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeMatch {
    /// The listener's app.
    pub app: String,
    /// The listener's id.
    pub listener: String,
}

/// The large matches of a SQLite database. It is opened read-only, and may be in use.
///
/// # Errors
/// The database cannot be read, or has no table of listeners.
pub fn large_in_sqlite(path: &Path) -> Result<Vec<LargeMatch>, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    // Only a match with a regular expression can exceed the limit.
    let mut statement =
        db.prepare("SELECT app, id, spec FROM listener WHERE deleted = 0 AND spec LIKE '%\"like\"%' ORDER BY app, id")?;
    let mut rows = statement.query([])?;
    let mut large = Vec::new();
    while let Some(row) = rows.next()? {
        let spec: String = row.get(2)?;
        if is_large(&spec)? {
            large.push(LargeMatch { app: row.get(0)?, listener: row.get(1)? });
        }
    }
    Ok(large)
}

fn is_large(spec: &str) -> Result<bool, StoreError> {
    let now = upgrade_spec(spec)?;
    let spec: ListenerSpec = serde_json::from_str(now.as_deref().unwrap_or(spec))?;
    Ok(spec.filter.is_large())
}
