//! The masters of a cluster: which slots each has, a connection to each, and keeping up with changes.
//!
//! Each master is to this node what a single server is: it has a generation, a heartbeat, an index and orders of its
//! own, so that a failover of one of them concerns its channels alone. What is sent over a connection is about channels
//! of its master; where one has moved, the master says so, and the cluster is asked anew.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ConnectionInfo, Value};
use tokio::task::JoinHandle;

use super::core::Core;
use super::reply::bytes;
use super::servers::{Master, Servers};
use super::{link, ops, settings};

/// How often the cluster is asked though nothing looks wrong.
const EVERY: Duration = Duration::from_secs(10);
/// The shortest time between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// A master, and what keeps the node connected to it.
struct Linked {
    master: Arc<Master>,
    link: JoinHandle<()>,
}

impl Drop for Linked {
    fn drop(&mut self) {
        self.link.abort();
    }
}

/// First and last slot, and the address of the master that has them.
type Range = (u16, u16, (String, u16));

/// Keeps the node connected to all masters for as long as the broker is there.
pub(super) async fn keep(core: Weak<Core>, seeds: Vec<ConnectionInfo>) {
    let Some(seed) = seeds.first().cloned() else { return };
    let mut linked: Vec<Linked> = Vec::new();
    loop {
        let Some(strong) = core.upgrade() else { return };
        match ask(&strong, &seeds).await {
            Some(ranges) => arrange(&strong, &core, &seed, &mut linked, &ranges),
            None => tracing::warn!("none of the cluster's servers says which of them has what"),
        }
        let topology_changed = Arc::clone(&strong.topology_changed);
        drop(strong);
        tokio::time::sleep(PAUSE).await;
        tokio::time::timeout(EVERY, topology_changed.notified()).await.ok();
    }
}

/// Has the masters that these slots are of, and no others.
fn arrange(core: &Arc<Core>, weak: &Weak<Core>, seed: &ConnectionInfo, linked: &mut Vec<Linked>, ranges: &[Range]) {
    let mut of_master: BTreeMap<&(String, u16), Vec<(u16, u16)>> = BTreeMap::new();
    for (first, last, addr) in ranges {
        of_master.entry(addr).or_default().push((*first, *last));
    }
    let (mut now, mut theirs, mut is_other) = (Vec::new(), Vec::new(), of_master.len() != linked.len());
    for ((host, port), ranges) in of_master {
        let Some(lowest) = ranges.iter().map(|(first, _)| *first).min() else { continue };
        let Ok(master) = Master::of_cluster(settings::at(seed, host, *port), lowest) else { continue };
        theirs.extend(ranges.into_iter().map(|(first, last)| (first, last, now.len())));
        let known = linked.iter().position(|linked| linked.master.is_as(&master));
        is_other |= known.is_none();
        now.push(known.map_or_else(
            || {
                let master = Arc::new(master);
                // It ends with the master, so its end is no failure.
                let link = core.supervisor.task("redis-link", link::keep(Weak::clone(weak), Arc::clone(&master)));
                Linked { master, link }
            },
            |place| linked.swap_remove(place),
        ));
    }
    if is_other {
        tracing::info!(masters = now.len(), "the cluster's channels are with these masters now");
    }
    core.rearrange(Servers::cluster(now.iter().map(|linked| Arc::clone(&linked.master)).collect(), theirs));
    ops::start_tasks(core);
    for gone in std::mem::replace(linked, now) {
        gone.link.abort();
        core.disconnected(&gone.master);
    }
}

/// Asks whoever is connected, then those that the configuration names.
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
                let error = tidings_tls::told(&error);
                tracing::warn!(error, "a server of the cluster cannot be reached");
            }
            Ok(mut connection) => match question().query_async::<Value>(&mut connection).await {
                Err(error) => tracing::warn!(%error, "a server does not say which masters its cluster has"),
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

/// Reads an answer to `CLUSTER SLOTS`: first and last slot, then the servers that have them, the master before its
/// replicas. One without an address is at that of whoever answers. `None` when it is no such answer, or nobody has any
/// slot.
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
