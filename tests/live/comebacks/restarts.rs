//! A single node restarts, and two nodes restart one after the other: directly, and behind common proxies.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use tidings_testkit::{Balancer, Cluster, Server, eventually, free_port, haproxy, nginx};
use tokio::time::Instant;

use super::publisher::Publisher;
use super::readers::{self, LIVE, Row, all_read, judge, print};
use super::{KEEPING, KEPT, PATIENCE};
use crate::kit::{APPS, configured, metric};

/// The timeouts of Debian's `haproxy.cfg`; nginx runs with its defaults.
const HAPROXY_TIMES: &str = "  timeout connect 5000\n  timeout client 50000\n  timeout server 50000";

/// HAProxy takes a server out after three failed checks, one every two seconds.
const NOTICED: &str = "shutdown_delay = \"7s\"\n";

#[derive(Debug, Clone, Copy)]
enum Proxied {
    Nginx,
    Haproxy,
}

impl Proxied {
    async fn before(self, servers: &[SocketAddr]) -> Balancer {
        match self {
            Self::Nginx => nginx(servers, "").await,
            Self::Haproxy => haproxy(servers, HAPROXY_TIMES).await,
        }
    }
}

/// An address that a server keeps over a restart.
fn address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

async fn node(lines: &str, address: SocketAddr) -> Server {
    configured(lines, KEEPING).alone().listen(&address.to_string()).start().await
}

fn event(n: u64) -> Value {
    json!({"name": "e", "channels": [LIVE, KEPT], "data": {"n": n}})
}

async fn a_node_alone_restarts(what: &str, proxied: Option<Proxied>) {
    let address = address();
    let mut server = node("", address).await;
    let balancer = match proxied {
        Some(proxied) => Some(proxied.before(&[address]).await),
        None => None,
    };
    let at = balancer.as_ref().map_or(address, |balancer| balancer.addr);
    let readers = readers::of_each_kind(&server, at).await;
    let publisher = Publisher::start(vec![APPS[0].api(&server)], event);
    all_read(&readers).await;
    let begun = Instant::now();
    server.terminate().await.expect_code(0);
    let stopped = begun.elapsed();
    server.restart().await;
    println!("{what}: the stop took {stopped:?}, the start {:?}", begun.elapsed() - stopped);
    let (rows, published) = readers::rows(&readers, publisher).await;
    print(what, &rows, &published);
    nothing_is_missed(what, &rows);
}

/// Asserts that all clients reconnected, and that no stream lost anything.
fn nothing_is_missed(what: &str, rows: &[Row]) {
    judge(what, rows);
    assert!(rows.iter().all(|row| !row.catches_up || row.lost == 0), "{what}: a stream lost something");
}

// covers: G401
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_back_to_a_node_that_restarts() {
    a_node_alone_restarts("a node alone restarts", None).await;
}

// covers: G402
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_back_through_nginx_to_a_node_that_restarts() {
    a_node_alone_restarts("a node alone restarts behind nginx", Some(Proxied::Nginx)).await;
}

// covers: G403
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_back_through_haproxy_to_a_node_that_restarts() {
    a_node_alone_restarts("a node alone restarts behind HAProxy", Some(Proxied::Haproxy)).await;
}

/// Restarts two nodes with these config lines, and prints the results of the clients.
async fn two_nodes_restart(what: &str, proxied: Proxied, lines: &str) -> Vec<Row> {
    let cluster = Cluster::new().await;
    let addresses = [address(), address()];
    let lines = format!("{lines}{}", cluster.lines());
    let mut nodes = [node(&lines, addresses[0]).await, node(&lines, addresses[1]).await];
    let balancer = proxied.before(&addresses).await;
    let readers = readers::of_each_kind(&nodes[0], balancer.addr).await;
    let publisher = Publisher::start(nodes.iter().map(|node| APPS[0].api(node)).collect(), event);
    all_read(&readers).await;
    for node in &mut nodes {
        let begun = Instant::now();
        node.terminate().await.expect_code(0);
        let stopped = begun.elapsed();
        node.restart().await;
        let started = begun.elapsed();
        has_sessions_of(node, &balancer).await;
        println!(
            "{what}: the stop took {stopped:?}, the start {:?}, the proxy leads there again {:?} later",
            started - stopped,
            begun.elapsed() - started
        );
    }
    let (rows, published) = readers::rows(&readers, publisher).await;
    print(what, &rows, &published);
    rows
}

/// Waits until the proxy routes new connections to a node that has just started, as an operator does before restarting
/// the next one.
async fn has_sessions_of(node: &Server, balancer: &Balancer) {
    let app = APPS[0].pusher(node);
    eventually(PATIENCE, || async {
        let session = app.session().via(balancer.addr).try_connect().await;
        let sessions = metric(node, "tidings_live_sessions").await;
        drop(session);
        (sessions > 0.0).then_some(())
    })
    .await;
}

// covers: G404
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_stay_behind_nginx_while_two_nodes_restart_in_turn() {
    const WHAT: &str = "two nodes restart in turn behind nginx";
    nothing_is_missed(WHAT, &two_nodes_restart(WHAT, Proxied::Nginx, "").await);
}

// covers: G405
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pusher_clients_stay_behind_haproxy_while_two_nodes_restart_in_turn() {
    const WHAT: &str = "two nodes restart in turn behind HAProxy";
    let rows = two_nodes_restart(WHAT, Proxied::Haproxy, "").await;
    // Until HAProxy has noticed, it answers for the node that is gone with 503, and an EventSource takes that for an
    // end.
    judge(WHAT, rows.iter().filter(|row| !row.catches_up));
}

// covers: G409
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_stay_behind_haproxy_that_has_the_time_to_notice() {
    const WHAT: &str = "two nodes with a shutdown_delay restart in turn behind HAProxy";
    nothing_is_missed(WHAT, &two_nodes_restart(WHAT, Proxied::Haproxy, NOTICED).await);
}
