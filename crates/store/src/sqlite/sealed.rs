//! Checks at the start that the main key is the one that the database's records are sealed with.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::db::LOCKED_FOR;
use super::meta;
use crate::error::StoreError;
use crate::fingerprint::{self, Sample};
use crate::records::{app_name, listener_name};
use crate::seal::MainKey;

/// One sealed record of each main key.
const SAMPLES: &str = "SELECT kind, app, id, sealed FROM (
        SELECT 'listener' AS kind, app, id, sealed FROM listener WHERE deleted = 0
        UNION ALL SELECT 'app', id, '', sealed FROM app WHERE deleted = 0
    ) GROUP BY substr(sealed, 1, 4)";

/// Refuses a key file that is not this database's; of one that is, records the fingerprints. In a transaction of its
/// own.
pub(super) fn check_key(db: &mut Connection, key: &MainKey) -> Result<(), StoreError> {
    let checking = db.transaction()?;
    // The lock on the file keeps other processes out.
    let alone = true;
    let corrections = fingerprint::compare(key, &meta::fingerprints(&checking)?, &samples(&checking)?, alone)?;
    meta::correct_fingerprints(&checking, &corrections)?;
    Ok(checking.commit()?)
}

fn samples(db: &Connection) -> Result<Vec<Sample>, StoreError> {
    let mut statement = db.prepare(SAMPLES)?;
    let mut rows = statement.query([])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let (kind, app, id): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let belongs_to = if kind == "app" { app_name(&app) } else { listener_name(&app, &id) };
        out.push(Sample { belongs_to, sealed: row.get(3)? });
    }
    Ok(out)
}

/// Whether the database at `path` has sealed records; `false` if there is no database.
pub(super) fn any(path: &Path) -> Result<bool, StoreError> {
    if !path.exists() {
        return Ok(false);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(LOCKED_FOR)?;
    for table in ["listener", "app"] {
        let exists: bool =
            db.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = ?1)", [table], |row| row.get(0))?;
        let sealed = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE deleted = 0)");
        if exists && db.query_row(&sealed, [], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}
