//! Paths: the binary under test, the installed client libraries, the repository.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The `tidings` binary: `TIDINGS_BIN`, else the one built with the same profile as the running test.
pub(crate) fn tidings_binary() -> anyhow::Result<PathBuf> {
    if let Some(named) = variable("TIDINGS_BIN") {
        let path = PathBuf::from(named);
        if !path.is_file() {
            bail!("TIDINGS_BIN names {}, and there is no such file", path.display());
        }
        return Ok(path);
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
