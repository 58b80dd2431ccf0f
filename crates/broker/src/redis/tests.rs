//! The suite against Redis, and tests with several nodes, lost servers, clusters and other versions.

mod cluster;
mod faults;
mod kept;
mod newer;
mod nodes;
mod version_1;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;
use tidings_model::clock::ManualClock;
use tidings_supervisor::Supervisor;
use tidings_testkit::{Redis, eventually, redis};

use super::core::Core;
use super::{RedisBroker, RedisSettings, keys};
use crate::broker::Broker;
use crate::suite::{BrokerFixture, RecordingShards, RecordingSink, World, every_test, model, threads};

every_test!(crate::redis::tests::RedisFixture::alone().await);

const PATIENCE: Duration = Duration::from_secs(20);

/// A broker on a Redis of its own, or on one that it shares.
#[derive(Clone)]
pub(crate) struct RedisFixture {
    server: Arc<tokio::sync::Mutex<Redis>>,
    settings: RedisSettings,
    broker: Arc<Mutex<Option<Arc<RedisBroker>>>>,
}

impl RedisFixture {
    /// On a server of its own. No heartbeat comes between a test and its clock.
    pub(crate) async fn alone() -> Self {
        let server = redis().await;
        let mut settings = RedisSettings::new(&server.url()).unwrap();
        settings.lease = Duration::from_secs(3_600);
        let server = Arc::new(tokio::sync::Mutex::new(server));
        Self { server, settings, broker: Arc::default() }
    }

    /// Another node on the same server.
    fn beside(&self) -> Self {
        Self { broker: Arc::default(), ..self.clone() }
    }

    async fn world(&self) -> World {
        World::at(Box::new(self.clone())).await
    }

    fn broker(&self) -> Arc<RedisBroker> {
        self.broker.lock().clone().unwrap()
    }

    /// Something that an operator does.
    async fn does(&self, words: &[&str]) -> redis::Value {
        let client = redis::Client::open(self.server.lock().await.url()).unwrap();
        let config = redis::AsyncConnectionConfig::new();
        let config = config.set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }

    async fn is_connected(&self) {
        let broker = self.broker();
        eventually(PATIENCE, || {
            let is_there = !broker.is_cut_off();
            async move { is_there.then_some(()) }
        })
        .await;
    }

    async fn is_cut_off(&self) {
        let broker = self.broker();
        eventually(PATIENCE, || {
            let is_away = broker.is_cut_off();
            async move { is_away.then_some(()) }
        })
        .await;
    }
}

#[async_trait]
impl BrokerFixture for RedisFixture {
    async fn open(
        &self,
        clock: Arc<ManualClock>,
        shards: Arc<RecordingShards>,
        sink: Arc<RecordingSink>,
    ) -> Arc<dyn Broker> {
        let broker =
            Arc::new(RedisBroker::start(self.settings.clone(), clock, shards, sink, &Supervisor::default()).unwrap());
        *self.broker.lock() = Some(Arc::clone(&broker));
        self.is_connected().await;
        broker
    }

    async fn settle(&self) {
        settle(&self.broker().core).await;
    }

    async fn is_empty(&self) -> bool {
        self.settle().await;
        let keys = |value| match value {
            redis::Value::Array(all) => all.iter().filter_map(super::reply::bytes).map(text).collect(),
            _ => Vec::new(),
        };
        forgets(&self.broker(), keys(self.does(&["KEYS", "tidings:*"]).await)).await;
        let left = keys(self.does(&["KEYS", "*"]).await);
        let none = left.iter().all(|key| is_a_servers(key));
        none && self.broker().core.of_all(|_, _| Some(())).is_empty()
    }
}

/// Waits until everything that Redis has pushed is read and delivered.
async fn settle(core: &Arc<Core>) {
    eventually(PATIENCE, || async {
        // Its answer comes behind whatever was pushed before.
        for conn in core.connections().ok()? {
            core.send(&conn, &redis::cmd("PING")).await.ok()?;
        }
        core.of_all(|_, local| (!local.is_quiet()).then_some(())).is_empty().then_some(())
    })
    .await;
}

/// Asks for each channel: expired ones are not found, and the script deletes them.
async fn forgets(broker: &RedisBroker, keys: Vec<String>) {
    for key in keys {
        let pubsub_channel = &key[..=key.rfind('}').unwrap()];
        assert_eq!(broker.channel(&keys::channel(pubsub_channel).unwrap()).await.unwrap(), None, "{key}");
    }
}

/// Whether a server keeps this though nothing is in any channel.
fn is_a_servers(key: &str) -> bool {
    key.starts_with("{tidings") && (key.ends_with("}:nodes") || key.ends_with("}:generation"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_everybody_is_told_what_the_model_says(steps in model::steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let there = RedisFixture::alone().await;
            Box::pin(model::check(Box::new(there), steps)).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_misses_or_hears_twice_while_all_publish_come_and_go() {
    let there = RedisFixture::alone().await;
    Box::pin(threads::check(Box::new(there))).await;
}
