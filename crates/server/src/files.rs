//! Makes files and folders that only their owner may read, and syncs them to disk before returning.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes the folder (0700) and its missing parents.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_private_dir(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_folder_of(path),
        // Another process made it first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a new file (0600). Fails with [`io::ErrorKind::AlreadyExists`] if it exists.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_folder_of(path)
}

/// Replaces a file (0600) atomically: a reader sees the old one or the new one, never a part.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    // A leftover temporary file keeps its mode when it is opened, so the mode is set again.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_folder_of(path)
}

/// Syncs the folder of a file: the file's name is on disk only then.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A warning for a file with secrets that every user of the machine may read or change; `None` if only its owner and
/// group may, or if it does not exist. It is no error, because platforms often mount files like this.
pub(crate) fn exposed(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let verb = match mode & 0o006 {
        0 => return None,
        0o004 => "read",
        _ => "change",
    };
    let file = path.display();
    Some(format!(
        "every user of this machine may {verb} {file} (mode {mode:04o}), which holds secrets: `chmod 600 {file}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    // covers: G125
    #[test]
    fn what_others_may_read_is_told_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("main.key");
        assert_eq!(exposed(&path), None);
        create_private(&path, b"x").unwrap();
        assert_eq!(exposed(&path), None);
        for (mode, words) in [(0o640, None), (0o644, Some("read")), (0o666, Some("change"))] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let told = exposed(&path);
            assert_eq!(told.is_some(), words.is_some(), "{mode:o}");
            assert!(told.is_none_or(|told| told.contains(words.unwrap()) && told.contains("chmod 600")), "{mode:o}");
        }
    }

    #[test]
    fn folders_are_made_with_those_above_them() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        make_private_dir(&deep).unwrap();
        make_private_dir(&deep).unwrap();
        assert_eq!(fs::metadata(&deep).unwrap().permissions().mode() & 0o777, 0o700);
        create_private(&dir.path().join("file"), b"").unwrap();
        assert!(make_private_dir(&dir.path().join("file")).is_err());
    }
}
