//! A file system of a few megabytes that a test can fill.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted `tmpfs`; unmounted when dropped. Drop the processes that use it first.
pub(crate) struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one of so many MiB.
    ///
    /// # Panics
    /// When mounting is not allowed: the test cannot run without it, and must not pass.
    pub(crate) fn mount(mebibytes: u32) -> Self {
        let folder = tempfile::Builder::new().prefix("tidings-disk-").tempdir().unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0700"), "tidings-test"])
            .arg(folder.path())
            .output()
            .unwrap_or_else(|e| panic!("cannot run mount: {e}"));
        assert!(
            done.status.success(),
            "cannot mount a small file system: {}; this test needs root and CAP_SYS_ADMIN",
            String::from_utf8_lossy(&done.stderr).trim()
        );
        Self { folder }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills the free space.
    pub(crate) fn fill(&self) -> Ballast {
        let path = self.path().join("ballast");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        // Ever smaller pieces, until not a byte more goes in.
        for piece in [1 << 20, 4096, 1] {
            fill_with(&mut file, piece);
        }
        Ballast { path }
    }
}

fn fill_with(file: &mut File, piece: usize) {
    let zeros = vec![0; piece];
    loop {
        match file.write(&zeros) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return,
            Err(error) => panic!("cannot write the ballast: {error}"),
        }
    }
}

impl Drop for SmallDisk {
    #[expect(clippy::print_stderr, reason = "tells who reads the failed test what was left behind")]
    fn drop(&mut self) {
        // Lazily: a process that still ends must not keep it mounted.
        let done = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !done.as_ref().is_ok_and(std::process::ExitStatus::success) {
            eprintln!("{} could not be unmounted: {done:?}", self.path().display());
        }
    }
}

/// The file that fills the disk.
pub(crate) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// Makes room again.
    pub(crate) fn remove(self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}
