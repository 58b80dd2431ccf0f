//! The suite against PostgreSQL, directly and through a pooler, and tests for several nodes.

mod failover;
mod import;
mod list;
mod nodes;
mod server;

use std::sync::Arc;

use async_trait::async_trait;
use proptest::prelude::*;
use tidings_supervisor::Supervisor;
use tidings_testkit::{Database, postgres};

use super::clock::ServerClock;
use super::{Options, PostgresStore, Sizes};
use crate::Store;
use crate::seal::MainKey;
use crate::suite::{FEW_DIRECT, FEW_FANOUT, Fixture, exact, model};

mod straight {
    crate::suite::every_test!(crate::postgres::tests::Node::alone());
}

/// Behind a pooler in transaction mode: no statement may rely on a session of its own.
mod pooled {
    crate::suite::every_test!(crate::postgres::tests::Node::pooled());
}

/// A node and its database.
pub(super) struct Node {
    database: Arc<Database>,
    dir: Arc<tempfile::TempDir>,
    name: String,
    url: String,
    sizes: Sizes,
}

impl Node {
    pub(super) fn alone() -> Self {
        let database = Arc::new(postgres());
        let url = database.url();
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self { database, dir, name: "a".to_owned(), url, sizes: Sizes::default() }
    }

    pub(super) fn pooled() -> Self {
        let alone = Self::alone();
        Self { url: alone.database.pooled_url(), ..alone }
    }

    /// Another node on the same database, with the same key file.
    pub(super) fn beside(&self, name: &str) -> Self {
        let (database, dir) = (Arc::clone(&self.database), Arc::clone(&self.dir));
        Self { database, dir, name: name.to_owned(), url: self.url.clone(), sizes: self.sizes }
    }

    /// With small limits, which a few deliveries reach.
    fn small(self) -> Self {
        Self { sizes: Sizes { direct: FEW_DIRECT, fanout: FEW_FANOUT, sweep: 3 }, ..self }
    }

    pub(super) fn key(&self) -> MainKey {
        MainKey::load_or_create(&self.dir.path().join("main.key")).unwrap()
    }

    /// Opens the store with a clock that equals the callers'.
    pub(super) async fn store(&self) -> PostgresStore {
        let (options, clock) = (Options::default(), ServerClock::agreeing());
        PostgresStore::open_with(&self.url, &self.name, &options, self.key(), self.sizes, clock, &Supervisor::default())
            .await
            .unwrap()
    }
}

#[async_trait]
impl Fixture for Node {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store().await)
    }
}

proptest! {
    // Each case has a database of its own, which takes a while to make.
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_everything_owed_is_where_it_should_be(steps in model::steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Box::pin(model::check(Box::new(Node::alone().small()), steps)));
    }

    #[test]
    fn statements_decide_as_the_rules_do(steps in exact::steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Box::pin(exact::check(Box::new(Node::alone().small()), steps)));
    }
}
