//! Matches that were stored before there was a limit and are beyond it, for whoever wants to know before a start.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;
use crate::records::{ListenerSpec, upgrade_spec};

/// A listener whose match is beyond the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeMatch {
    /// Whose it is.
    pub app: String,
    /// The listener's id.
    pub listener: String,
}

/// Those of a SQLite database, which is only read, and may be in use.
///
/// # Errors
/// When it cannot be read, or does not hold listeners.
pub fn large_in_sqlite(path: &Path) -> Result<Vec<LargeMatch>, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    // Without a regular expression no match is too large.
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
