//! The database file itself: locked for one process whatever name it is opened by, and watched while it is used.
//!
//! SQLite's own locks let several processes write in turns, and each of them would deliver what is pending. So the file
//! bears a lock (flock) beside those. It is never opened and closed beside the lock: closing any descriptor of a file
//! gives up the process's POSIX locks on it, which are SQLite's.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::error::StoreError;

/// A file, by device and inode.
type Identity = (u64, u64);

/// The database file, held for this process.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    path: PathBuf,
    wal: PathBuf,
    identity: Identity,
    /// Known once the first commit has made it; then it stays the same file until the last connection closes.
    wal_identity: OnceLock<Identity>,
    /// Bears the lock.
    file: File,
}

impl DatabaseFile {
    /// Opens the file at `path`, made (0600) when there is none, and locks it.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when another process has it, by whatever name; [`StoreError::HardLink`] when it has
    /// another name beside this one: the write-ahead log goes by the name, so each would miss what the other wrote.
    pub(crate) fn take(path: &Path) -> Result<Self, StoreError> {
        let file = Self::open(path)?;
        let cannot = |error| StoreError::Database(format!("{} cannot be locked: {error}", path.display()));
        match file.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = match holder(file.identity) {
                    Some(pid) if pid == std::process::id() => "this process".to_owned(),
                    Some(pid) => format!("another process (pid {pid})"),
                    // It may live where its number means nothing here, in a container.
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

    /// Gives the lock up, once nothing is written any more: the next owner need not wait until this store is gone.
    pub(crate) fn release(&self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the database file could not be unlocked");
        }
    }

    /// Without the lock: for tests in which a store that is left alone stands for a process that was killed.
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

    /// Where it is, without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether database and write-ahead log still are where they were opened: what is written to a file that was
    /// deleted or replaced is lost, synced or not. For the writer, after the first commit.
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

/// The process that has the file locked: where Linux lists locks (proc_locks(5)), and unless that lists none of ours.
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
