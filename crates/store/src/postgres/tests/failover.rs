//! A failover: the primary is demoted and keeps its connections, and its host name moves at any time.

use std::sync::Arc;
use std::time::Duration;

use tidings_model::listener::Order;
use tidings_supervisor::Supervisor;
use tidings_testkit::{Cut, Proxy, Standby, eventually, postgres_alone, proxy};

use super::{Node, Options, PostgresStore};
use crate::error::StoreError;
use crate::log::{Lane, Publish, Published};
use crate::suite::World;

/// The longest wait of a test. If the failover is not noticed it takes ten minutes, until idle connections end.
const SOON: Duration = Duration::from_secs(60);

/// A store that reaches its server by a host name, and a standby with the same data.
struct Setup {
    world: World,
    /// The host name's target, which can be changed.
    name: Proxy,
    node: Node,
    standby: Standby,
}

async fn setup() -> Setup {
    let node = Node { database: Arc::new(postgres_alone()), ..Node::alone() };
    let name = proxy(node.database.address());
    let options = Options { acquire_timeout: Duration::from_millis(500), ..Options::default() };
    let url = node.database.url_at(name.addr());
    let store = PostgresStore::open(&url, "a", &options, node.key(), &Supervisor::default()).await.unwrap();
    let mut world = World::around(Box::new(node.beside("a")), Arc::new(store));
    world.listener(Order::None).await;
    // Each connection of the pool is in use once.
    let reads: Vec<_> = (0..30)
        .map(|_| {
            let store = Arc::clone(&world.store);
            tokio::spawn(async move { store.changes(0).await })
        })
        .collect();
    for read in reads {
        read.await.unwrap().unwrap();
    }
    assert!(name.connections() > 3, "{} connections", name.connections());
    let standby = node.database.standby();
    Setup { world, name, node, standby }
}

impl Setup {
    async fn publish(&self, publish: &Publish) -> Result<Published, StoreError> {
        self.world.store.publish(publish.clone()).await
    }

    async fn refused(&self, publish: &Publish) {
        let refused = eventually(SOON, async || self.publish(publish).await.err()).await;
        assert!(matches!(refused, StoreError::Unreachable(_)), "{refused:?}");
    }

    /// Waits until a write succeeds, and checks that only the standby has it.
    async fn written(&self, publish: &Publish) {
        eventually(SOON, async || self.publish(publish).await.ok()).await;
        let count = format!("SELECT count(*) FROM event WHERE id = '{}'", publish.event.id);
        assert_eq!((self.standby.run(&count), self.node.database.run(&count)), ("1".to_owned(), "0".to_owned()));
        assert_eq!(self.world.store.writable().await, Ok(()));
    }

    /// Waits until the standby has all data of the primary.
    async fn in_step(&self) {
        let count = "SELECT count(*) FROM listener";
        eventually(SOON, async || (self.standby.run(count) == self.node.database.run(count)).then_some(())).await;
    }
}

// covers: G071
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_server_that_keeps_its_connections_is_left() {
    let setup = setup().await;
    setup.in_step().await;
    let publish = setup.world.to("after", &[], Lane::Own).await;
    setup.standby.promote();
    setup.node.database.demote();
    setup.refused(&publish).await;
    // The name moves late: until then nothing can be written, and it is said.
    for _ in 0..5 {
        setup.refused(&publish).await;
        assert!(setup.world.store.writable().await.is_err());
    }
    setup.name.retarget(setup.standby.address());
    setup.written(&publish).await;
    // None of those from before is used again, for reading either.
    for n in 0..20 {
        setup.written(&setup.world.to(&format!("after{n}"), &[], Lane::Own).await).await;
    }
}

// covers: G071
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_moves_before_the_standby_is_promoted_is_waited_for() {
    let setup = setup().await;
    setup.in_step().await;
    let publish = setup.world.to("after", &[], Lane::Own).await;
    setup.name.retarget(setup.standby.address());
    setup.name.cut(Cut::Reset);
    setup.refused(&publish).await;
    let refused = eventually(SOON, async || setup.publish(&publish).await.err()).await;
    assert!(refused.to_string().contains("standby"), "it does not say what it is waiting for: {refused}");
    // What reads finds no other server either: it would read what is out of date.
    assert!(setup.world.store.changes(0).await.is_err());
    setup.standby.promote();
    setup.written(&publish).await;
}

// covers: G071
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_without_a_word_is_not_waited_for_long() {
    let node = Node::alone();
    let name = proxy(node.database.address());
    let options = Options {
        acquire_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let store =
        PostgresStore::open(&node.database.url_at(name.addr()), "a", &options, node.key(), &Supervisor::default())
            .await
            .unwrap();
    let world = World::around(Box::new(node.beside("a")), Arc::new(store));
    let publish = world.to("after", &[], Lane::Own).await;
    name.go_silent();
    let refused = eventually(SOON, async || world.store.publish(publish.clone()).await.err()).await;
    assert!(refused.is_temporary(), "{refused:?}");
    name.come_back();
    eventually(SOON, async || world.store.publish(publish.clone()).await.ok()).await;
}
