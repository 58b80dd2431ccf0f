//! The data folder, and the lock that keeps a second server out of it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::files;
use crate::keys::random_key;

/// A locked data folder. The kernel releases the lock when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    lock: File,
}

impl DataDir {
    /// Makes the folder if it is missing, and locks it.
    ///
    /// # Errors
    /// When another server holds the lock: the error says which.
    pub(crate) fn take(path: &Path) -> anyhow::Result<Self> {
        files::make_private_dir(path).with_context(|| format!("cannot make the data folder {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("cannot find the data folder {}", path.display()))?;
        let file = path.join("lock");
        // Not truncated: until we hold the lock, the content belongs to the server that holds it.
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file);
        let mut lock = opened.with_context(|| format!("cannot open {}", file.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("{} has {}; stop it, or start this one in another folder", holder(&mut lock), path.display())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", file.display())),
        }
    }

    /// The absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The unique name of this node, made at its first start.
    pub(crate) fn node(&self) -> anyhow::Result<String> {
        let file = self.path.join("node");
        match std::fs::read_to_string(&file) {
            Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
        let name = random_key()?;
        files::replace_private(&file, format!("{name}\n").as_bytes())
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(name)
    }

    /// Writes our process id and URL into the lock file, for the error message of a second server.
    pub(crate) fn sign(&mut self, url: &str) -> anyhow::Result<()> {
        let text = format!("pid {}, {url}\n", std::process::id());
        let written =
            self.lock.set_len(0).and_then(|()| self.lock.rewind()).and_then(|()| self.lock.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", self.path.join("lock").display()))
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    // The other server may not have signed yet.
    match lock.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("another server ({})", text.trim()),
        Ok(_) | Err(_) => "another server".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_server_says_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tidings-data");
        let mut first = DataDir::take(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let unsigned = DataDir::take(&path).unwrap_err().to_string();
        assert!(unsigned.starts_with("another server has "), "{unsigned}");
        first.sign("http://127.0.0.1:8000").unwrap();
        let refused = DataDir::take(&path).unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("another server (pid {}, http://127.0.0.1:8000) has ", std::process::id())),
            "{refused}"
        );
        drop(first);
        DataDir::take(&path).unwrap();
    }
}
