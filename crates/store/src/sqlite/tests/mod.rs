//! The suite against SQLite, and tests for SQLite alone.

mod disk;
mod fanout;
mod plans;
mod readers;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use proptest::prelude::*;
use tidings_supervisor::Supervisor;

use super::file::DatabaseFile;
use super::{Sizes, SqliteStore, Sync};
use crate::Store;
use crate::seal::MainKey;
use crate::suite::{FEW_DIRECT, FEW_FANOUT, Fixture, every_test, exact, model};

every_test!(crate::sqlite::tests::Dir::new());

/// A database in a temporary directory, deleted with it.
pub(crate) struct Dir {
    dir: tempfile::TempDir,
    sizes: Sizes,
    sync: Sync,
}

impl Dir {
    /// Without syncing: the suite tests crashes of the program, not of the machine.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), sizes: Sizes::default(), sync: Sync::Full }
    }

    /// With small limits, which a few deliveries reach.
    fn small() -> Self {
        let sizes = Sizes { direct: FEW_DIRECT, fanout: FEW_FANOUT, sweep: 3 };
        Self { sizes, sync: Sync::Normal, ..Self::new() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("tidings.db")
    }

    fn store(&self) -> SqliteStore {
        let key = MainKey::load_or_create(&self.dir.path().join("main.key")).unwrap();
        let file = DatabaseFile::unlocked(&self.path()).unwrap();
        let mut store = SqliteStore::on(file, self.sync, key, &Supervisor::default()).unwrap();
        store.sizes = self.sizes;
        store
    }
}

#[async_trait]
impl Fixture for Dir {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_everything_owed_is_where_it_should_be(steps in model::steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Box::pin(model::check(Box::new(Dir::small()), steps)));
    }

    #[test]
    fn statements_decide_as_the_rules_do(steps in exact::steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Box::pin(exact::check(Box::new(Dir::small()), steps)));
    }
}
