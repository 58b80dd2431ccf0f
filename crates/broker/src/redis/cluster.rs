//! The masters of a cluster: their slots, a connection to each, and changes of the topology.
//!
//! The node treats each master like a single server: with its own generation, heartbeat, index and orders. So a
//! failover of one master affects only its channels. A connection carries only calls for channels of its master. When
//! a channel's slot has moved, the master answers with a redirect, and the node asks for the slots again.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ConnectionInfo, Value};
use tokio::task::JoinHandle;

use super::core::Core;
use super::reply::bytes;
use super::servers::{Master, Servers};
use super::{link, ops, settings};

/// How often the node asks for the slots even if nothing looks wrong.
const EVERY: Duration = Duration::from_secs(10);
/// The shortest time between two such questions.
const PAUSE: Duration = Duration::from_millis(200);

/// A master, and the task that keeps the node connected to it.
struct LinkedMaster {
    master: Arc<Master>,
    link: JoinHandle<()>,
}

impl Drop for LinkedMaster {
    fn drop(&mut self) {
        self.link.abort();
    }
}

/// First and last slot, and the address of their master.
type Range = (u16, u16, (String, u16));

/// Keeps the node connected to all masters until the broker is dropped.
pub(super) async fn keep(core: Weak<Core>, seeds: Vec<ConnectionInfo>) {
    let Some(seed) = seeds.first().cloned() else { return };
    let mut linked: Vec<LinkedMaster> = Vec::new();
    loop {
        let Some(strong) = core.upgrade() else { return };
        match ask(&strong, &seeds).await {
            Some(ranges) => update_masters(&strong, &core, &seed, &mut linked, &ranges),
            None => tracing::warn!("no server of the Redis Cluster tells its slots (CLUSTER SLOTS)"),
        }
        let topology_changed = Arc::clone(&strong.topology_changed);
        drop(strong);
        tokio::time::sleep(PAUSE).await;
        tokio::time::timeout(EVERY, topology_changed.notified()).await.ok();
    }
}

/// Connects to the masters that have these slots, and disconnects from all others.
fn update_masters(
    core: &Arc<Core>,
    weak: &Weak<Core>,
    seed: &ConnectionInfo,
    linked: &mut Vec<LinkedMaster>,
    ranges: &[Range],
) {
    let mut of_master: BTreeMap<&(String, u16), Vec<(u16, u16)>> = BTreeMap::new();
    for (first, last, addr) in ranges {
        of_master.entry(addr).or_default().push((*first, *last));
    }
    let (mut now, mut theirs, mut is_other) = (Vec::new(), Vec::new(), of_master.len() != linked.len());
    for ((host, port), ranges) in of_master {
        let Some(lowest) = ranges.iter().map(|(first, _)| *first).min() else { continue };
        let Ok(master) = Master::of_cluster(settings::at(seed, host, *port), lowest) else { continue };
        theirs.extend(ranges.into_iter().map(|(first, last)| (first, last, now.len())));
        let known = linked.iter().position(|linked| linked.master.is_same_server(&master));
        is_other |= known.is_none();
        now.push(known.map_or_else(
            || {
                let master = Arc::new(master);
                // A task, not a service: it ends with its master, and that is no failure.
                let link = core.supervisor.task("redis-link", link::keep(Weak::clone(weak), Arc::clone(&master)));
                LinkedMaster { master, link }
            },
            |place| linked.swap_remove(place),
        ));
    }
    if is_other {
        tracing::info!(masters = now.len(), "Redis Cluster topology changed");
    }
    core.set_servers(Servers::cluster(now.iter().map(|linked| Arc::clone(&linked.master)).collect(), theirs));
    ops::start_tasks(core);
    for gone in std::mem::replace(linked, now) {
        gone.link.abort();
        core.disconnected(&gone.master);
    }
}

/// Asks for the slots: first the connected masters, then the servers that the configuration names.
async fn ask(core: &Core, seeds: &[ConnectionInfo]) -> Option<Vec<Range>> {
    let question = || {
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        command
    };
    for master in core.servers().all() {
        let Some(conn) = master.connection() else { continue };
        let (host, _) = host_and_port(master.server.client.get_connection_info());
        if let Ok(answer) = core.send(&conn, &question()).await
            && let Some(ranges) = read(&answer, &host)
        {
            return Some(ranges);
        }
    }
    for seed in seeds {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(core.settings.timeout))
            .set_response_timeout(Some(core.settings.timeout));
        let Ok(client) = Client::open(seed.clone()) else { continue };
        match client.get_multiplexed_async_connection_with_config(&config).await {
            Err(error) => {
                let error = tidings_tls::describe(&error);
                tracing::warn!(error, "connecting to a server of the Redis Cluster failed");
            }
            Ok(mut connection) => match question().query_async::<Value>(&mut connection).await {
                Err(error) => tracing::warn!(%error, "CLUSTER SLOTS failed"),
                Ok(answer) => {
                    if let Some(ranges) = read(&answer, &host_and_port(seed).0) {
                        return Some(ranges);
                    }
                }
            },
        }
    }
    None
}

fn host_and_port(server: &ConnectionInfo) -> (String, u16) {
    match server.addr() {
        redis::ConnectionAddr::Tcp(host, port) | redis::ConnectionAddr::TcpTls { host, port, .. } => {
            (host.clone(), *port)
        }
        _ => (String::new(), 0),
    }
}

/// Reads an answer to `CLUSTER SLOTS`: for each range the first and last slot, then its servers, the master before its
/// replicas. A server without an address has that of the server which was asked (`asked`). `None` when the answer has
/// another form, or lists no slots.
fn read(answer: &Value, asked: &str) -> Option<Vec<Range>> {
    let Value::Array(all) = answer else { return None };
    let number = |value: &Value| match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    };
    let range = |value: &Value| {
        let Value::Array(range) = value else { return None };
        let [first, last, Value::Array(master), ..] = range.as_slice() else { return None };
        let host = master.first().and_then(bytes).and_then(|host| std::str::from_utf8(host).ok());
        let host = host.filter(|host| !host.is_empty() && *host != "?").unwrap_or(asked);
        Some((number(first)?, number(last)?, (host.to_owned(), number(master.get(1)?)?)))
    };
    all.iter().map(range).collect::<Option<Vec<_>>>().filter(|ranges| !ranges.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_nonsense_is_not() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let server = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])]);
        let range = |first, last, servers: Vec<Value>| {
            Value::Array([vec![Value::Int(first), Value::Int(last)], servers].concat())
        };
        let answer = Value::Array(vec![
            range(0, 99, vec![server(text("10.0.0.1"), 7000), server(text("10.0.0.2"), 7001)]),
            range(100, 16_383, vec![server(Value::Nil, 7002)]),
        ]);
        let expected = [(0, 99, ("10.0.0.1".to_owned(), 7000)), (100, 16_383, ("me".to_owned(), 7002))];
        assert_eq!(read(&answer, "me").unwrap(), expected);
        for other in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![range(0, 1, vec![])]),
            Value::Array(vec![range(0, 70_000, vec![server(text("a"), 1)])]),
        ] {
            assert_eq!(read(&other, "me"), None, "{other:?}");
        }
    }
}
