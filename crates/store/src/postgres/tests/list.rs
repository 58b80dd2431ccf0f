//! The list of nodes: which nodes may register together, and which are removed.

use std::sync::Arc;

use tidings_model::listener::Order;

use super::{Node, PostgresStore};
use crate::Store;
use crate::error::StoreError;
use crate::log::Lane;
use crate::nodes::{NodeRegistration, Nodes};
use crate::queue::Queue;
use crate::suite::{START, World};

#[track_caller]
fn refused_by(presence: NodeRegistration) -> (String, String) {
    match presence {
        NodeRegistration::Incompatible(other) => (other.name, other.broker),
        NodeRegistration::Registered => panic!("let in"),
    }
}

async fn enters(store: &PostgresStore, broker: &'static str) {
    assert_eq!(store.register_node(broker).await.unwrap(), NodeRegistration::Registered);
}

// covers: N05
#[tokio::test]
async fn a_node_with_a_broker_of_its_own_is_beside_nobody() {
    let fixture = Node::alone();
    let (a, b, c) = (fixture.store().await, fixture.beside("b").store().await, fixture.beside("c").store().await);
    enters(&a, "memory").await;
    enters(&a, "memory").await;
    for broker in ["memory", "redis"] {
        assert_eq!(refused_by(b.register_node(broker).await.unwrap()), ("a".into(), "memory".into()));
    }
    assert_eq!(b.nodes().await.unwrap(), 1);
    a.close().await;
    assert_eq!(a.register_node("memory").await, Err(StoreError::Closed));
    assert_eq!(b.nodes().await.unwrap(), 0);
    enters(&b, "redis").await;
    enters(&c, "redis").await;
    assert_eq!(b.nodes().await.unwrap(), 2);
    let a = fixture.store().await;
    assert_eq!(refused_by(a.register_node("memory").await.unwrap()).1, "redis");
}

// covers: N05
#[tokio::test]
async fn of_those_that_come_at_once_one_is_let_in() {
    let fixture = Node::alone();
    let mut tasks = Vec::new();
    for i in 0..6 {
        let store = fixture.beside(&format!("n{i}")).store().await;
        // The store goes with the outcome: closed, it would make room for the next.
        tasks.push(tokio::spawn(async move { (store.register_node("memory").await, store) }));
    }
    let mut entered = 0;
    let mut stores = Vec::new();
    for task in tasks {
        let (presence, store) = task.await.unwrap();
        entered += usize::from(presence.unwrap() == NodeRegistration::Registered);
        stores.push(store);
    }
    assert_eq!(entered, 1);
}

// covers: N05
#[tokio::test]
async fn a_node_that_is_not_heard_is_struck_off() {
    let fixture = Node::alone();
    let (a, b) = (fixture.store().await, fixture.beside("b").store().await);
    for past in ["11 seconds", "-1 hour"] {
        enters(&a, "memory").await;
        refused_by(b.register_node("redis").await.unwrap());
        fixture.database.run(&format!("UPDATE node SET seen_at = seen_at - interval '{past}'"));
        assert_eq!(b.nodes().await.unwrap(), 0, "{past}");
        enters(&b, "redis").await;
        assert_eq!(fixture.database.run("SELECT name FROM node"), "b", "{past}");
        // It was only slow, and comes back: it is told who is there now.
        assert_eq!(refused_by(a.register_node("memory").await.unwrap()).0, "b");
        fixture.database.run("DELETE FROM node");
    }
}

#[tokio::test]
async fn starts_of_long_ago_are_forgotten_unless_something_hangs_on_them() {
    let fixture = Node::alone();
    let mut world = World::at(Box::new(fixture.beside("gone"))).await;
    let listener = world.listener(Order::None).await;
    // It dies with a lease; those of the name that is there come back at once.
    let holder = fixture.beside("holder").store().await;
    let holder = World::around(Box::new(fixture.beside("holder")), Arc::new(holder));
    holder.publish("e", &[listener], Lane::Own).await;
    world.store.writable().await.unwrap();
    let stays = fixture.beside("stays").store().await;
    enters(&stays, "redis").await;
    fixture.store().await;
    fixture.database.run("UPDATE incarnation SET started_at = started_at - interval '8 days' WHERE node <> 'a'");
    stays.retire(START, START).await.unwrap();
    let left = fixture.database.run("SELECT string_agg(node, ' ' ORDER BY node) FROM incarnation");
    assert_eq!(left, "a holder stays");
    assert_eq!(fixture.database.run("SELECT count(*) FROM written"), "0");
}
