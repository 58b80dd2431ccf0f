//! Paths: the binary under test, the installed client libraries, the repository.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

thread_local! {
    /// How many servers this test has started; each test has a thread of its own.
    static STARTED: Cell<usize> = const { Cell::new(0) };
}

/// The `tidings` binary of the next server. `TIDINGS_BIN` may name several, as `PATH` does: a test's servers use them
/// in turn, so that nodes of two releases share a cluster:
/// `TIDINGS_BIN=NEW:OLD cargo test -p tidings-e2e --test live nodes::`.
pub(super) fn next_server_binary() -> anyhow::Result<PathBuf> {
    tidings_binary(STARTED.replace(STARTED.get() + 1))
}

/// The `tidings` binary for commands.
pub(crate) fn command_binary() -> anyhow::Result<PathBuf> {
    tidings_binary(0)
}

/// What `TIDINGS_BIN` names, else the binary built with the same profile as the running test.
fn tidings_binary(turn: usize) -> anyhow::Result<PathBuf> {
    if let Some(named) = variable("TIDINGS_BIN") {
        let paths: Vec<PathBuf> = std::env::split_paths(&named).collect();
        let path = &paths[turn % paths.len()];
        if !path.is_file() {
            bail!("TIDINGS_BIN names {}, and there is no such file", path.display());
        }
        return Ok(path.clone());
    }
    let own = std::env::current_exe().context("who am I?")?;
    match beside_or_above(&own, "tidings", Path::is_file) {
        Some(path) => Ok(path),
        None => bail!(
            "the server is not built: no `tidings` beside {}; run `cargo build -p tidings-server` \
             (with --release for benches), or name the binary in TIDINGS_BIN",
            own.display()
        ),
    }
}

/// `target/clients`, where the client libraries from npm and PyPI are.
pub(crate) fn clients_dir() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("who am I?")?;
    match beside_or_above(&own, "clients", Path::is_dir) {
        Some(path) => Ok(path),
        None => bail!("the client libraries are not installed: run the tests with `cargo xtask test`"),
    }
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// A test lies in `target/PROFILE/deps`, a bench in `target/PROFILE`: four folders up are enough for all.
fn beside_or_above(own: &Path, name: &str, fits: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    own.ancestors().skip(1).take(4).map(|dir| dir.join(name)).find(|path| fits(path))
}

#[expect(clippy::disallowed_methods, reason = "says what to test; the server's configuration is not read here")]
pub(super) fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let deps = dir.path().join("debug/deps");
        std::fs::create_dir_all(&deps).unwrap();
        let own = deps.join("test-1");
        assert_eq!(beside_or_above(&own, "tidings", Path::is_file), None);
        let built = dir.path().join("debug/tidings");
        std::fs::write(&built, "").unwrap();
        assert_eq!(beside_or_above(&own, "tidings", Path::is_file), Some(built));
    }

    #[test]
    fn the_repository_has_our_manifest() {
        assert!(repository().join("crates/testkit/Cargo.toml").is_file());
    }
}
