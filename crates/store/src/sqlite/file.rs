//! The database file: locked for one process under whatever path it is opened, and checked while it is used.
//!
//! SQLite's own locks let several processes write in turns, and each of them would attempt the pending deliveries. So
//! the file also has an flock. Apart from the descriptor with the flock this process must not open and close the file
//! itself: closing any descriptor of a file releases the process's POSIX locks on it, and those are SQLite's.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::StoreError;

/// A file, by device and inode.
type Identity = (u64, u64);

/// The database file, locked for this process.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    path: PathBuf,
    wal: PathBuf,
    identity: Identity,
    /// Set at the first commit, which creates the log. It stays the same file until the last connection closes.
    wal_identity: OnceLock<Identity>,
    /// The descriptor with the flock.
    file: File,
}

impl DatabaseFile {
    /// Opens the file at `path`, or creates it (mode 0600), and locks it.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if another process has it open, under whatever path. [`StoreError::HardLink`] if it has
    /// another name: SQLite derives the name of the write-ahead log from the file's, so a process that opens the one
    /// name would not see what was written under the other.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        let file = Self::open(path)?;
        let cannot = |error| StoreError::Database(format!("{} cannot be locked: {error}", path.display()));
        match file.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = match holder(file.identity) {
                    Some(pid) if pid == std::process::id() => "this process".to_owned(),
                    Some(pid) => format!("another process (pid {pid})"),
                    // It may be in another container, where its pid has no meaning here.
                    None => "another process".to_owned(),
                };
                return Err(StoreError::Taken { path: path.display().to_string(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(cannot(error)),
        }
        match file.file.metadata().map_err(cannot)?.nlink() {
            0 | 1 => Ok(file),
            _ => Err(StoreError::HardLink(path.display().to_string())),
        }
    }

    /// Releases the lock after the last write, so that the next owner need not wait until this store is dropped.
    pub(crate) fn release(&self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "unlocking the database file failed");
        }
    }

    /// Opens the file without the lock. For tests in which an abandoned store stands for a killed process.
    #[cfg(test)]
    pub(crate) fn unlocked(path: &Path) -> Result<Self, StoreError> {
        Self::open(path)
    }

    fn open(path: &Path) -> Result<Self, StoreError> {
        let cannot = |error| StoreError::Database(format!("{} cannot be opened: {error}", path.display()));
        // Not truncated: it is the database.
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = opened.map_err(cannot)?;
        let metadata = file.metadata().map_err(cannot)?;
        // SQLite follows symbolic links before it names the write-ahead log.
        let path = path.canonicalize().map_err(cannot)?;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let wal = PathBuf::from(wal);
        Ok(Self { path, wal, identity: identity(&metadata), wal_identity: OnceLock::new(), file })
    }

    /// Its path, without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the database and its write-ahead log are still the files at their paths: writes to a file that was
    /// deleted or replaced are lost, synced or not. It needs the log, which the first commit creates. The writer calls
    /// it before each of its commits.
    ///
    /// # Errors
    /// [`StoreError::Displaced`].
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let displaced = |path: &Path| StoreError::Displaced(path.display().to_string());
        let now = |path: &Path| fs::metadata(path).ok().map(|metadata| identity(&metadata));
        if now(&self.path) != Some(self.identity) {
            return Err(displaced(&self.path));
        }
        let wal = now(&self.wal).ok_or_else(|| displaced(&self.wal))?;
        if *self.wal_identity.get_or_init(|| wal) == wal { Ok(()) } else { Err(displaced(&self.wal)) }
    }
}

/// The process that has the file locked, if Linux lists it in `/proc/locks` (proc_locks(5)).
fn holder((dev, ino): Identity) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{ino}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let fields = locks.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let mut held = fields.filter(|fields| fields.get(1) == Some(&"FLOCK") && fields.contains(&file.as_str()));
    held.find_map(|fields| fields.get(4)?.parse().ok())
}

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G121
    #[test]
    fn one_file_is_one_process_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tidings.db");
        let held = DatabaseFile::take(&path).unwrap();
        let other = tempfile::tempdir().unwrap();
        let link = other.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let hard = dir.path().join("hard.db");
        std::fs::hard_link(&path, &hard).unwrap();
        for name in [&path, &link, &hard] {
            let Err(StoreError::Taken { holder, .. }) = DatabaseFile::take(name) else { panic!("{}", name.display()) };
            assert_eq!(holder, "this process", "{}", name.display());
        }
        drop(held);
        assert!(matches!(DatabaseFile::take(&path), Err(StoreError::HardLink(_))));
        std::fs::remove_file(&hard).unwrap();
        assert_eq!(DatabaseFile::take(&link).unwrap().path(), path.canonicalize().unwrap());
    }
}
