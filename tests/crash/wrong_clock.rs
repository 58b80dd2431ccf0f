//! A server whose wall clock a test sets forward and back, with libfaketime; its steady clock is not changed.

use std::path::PathBuf;

use tempfile::TempDir;
use tidings_testkit::ServerBuilder;

use crate::common::local;

/// A wall clock that is wrong by so many seconds.
pub(crate) struct WrongClock {
    folder: TempDir,
}

impl WrongClock {
    /// A clock that is still right.
    pub(crate) fn new() -> Self {
        let clock = Self { folder: tempfile::tempdir().unwrap() };
        clock.set(0);
        clock
    }

    /// Sets its error to `seconds`, immediately, for all processes that use it.
    pub(crate) fn set(&self, seconds: i64) {
        // Renamed into place: the library must not read a file that is half written.
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(&new, self.file()).unwrap();
    }

    /// A server that uses it, also after restarts.
    pub(crate) fn server(&self) -> ServerBuilder {
        local()
            .env("LD_PRELOAD", &library().display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", &self.file().display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            // The machine's monotonic clock does not jump when somebody sets the time, nor do files' times.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

fn library() -> PathBuf {
    let places = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut found = places.map(|place| place.path().join("faketime/libfaketimeMT.so.1")).filter(|path| path.is_file());
    found.next().unwrap_or_else(|| panic!("no libfaketimeMT.so.1 under /usr/lib: apt-get install faketime"))
}
