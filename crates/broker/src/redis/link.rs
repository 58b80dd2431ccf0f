//! Connects to a Redis server, sends heartbeats, and reconnects with backoff.
//!
//! One connection carries both calls and pushes (RESP3). A new connection begins with a handshake: if the data belongs
//! to another run of the server, or is gone, it gets a new generation, so that no position from before a failover or a
//! FLUSHALL is ever continued. Then each channel registers this node's sessions again (resync).

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, RedisError, Value};
use tidings_model::channel::ChannelKey;
use tidings_model::clock::millis;
use tidings_supervisor::fault;

use super::core::{Core, random};
use super::reply::{Reply, bytes};
use super::servers::{Handshake, Master, RedisConnection, RedisServer};
use super::{keys, nodes, ops, pushed, scripts};

/// The base of the backoff between two attempts to connect.
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// The largest correction of our estimate of Redis' time per heartbeat, in milliseconds. Clocks drift by less, and a
/// clock that was set is followed slowly.
const SLEW: i64 = 50;
const INDEXED_AT_ONCE: usize = 1_000;

/// Why a connection cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{}", tidings_tls::describe(.0))]
    Redis(#[from] RedisError),
    #[error("the server did not answer in time")]
    Timeout,
    #[error("the server is not Redis, or is too old: use Redis 6.2 or later, in a cluster 7.0 or later")]
    Unsupported,
    #[error("the server is a replica: the host in broker.url must lead to the master")]
    Replica,
    #[error("the server belongs to a cluster: begin broker.url with redis+cluster://")]
    Clustered,
    #[error("the operating system provides no random numbers")]
    NoRandomness,
}

/// What a server knows of this node, as of the last connection.
#[derive(Debug)]
struct NodeState {
    /// The name under which the node is registered.
    node: Arc<str>,
    /// The generation of the data; `None` before the first connection.
    generation: Option<u64>,
    /// Whether its lease has ended, so that other nodes may have removed its sessions.
    lapsed: bool,
    /// How far the server's time is ahead of ours, in milliseconds.
    ahead: Arc<AtomicI64>,
}

/// Keeps the node connected to a server until the broker is dropped.
pub(super) async fn keep(core: Weak<Core>, master: Arc<Master>) {
    let Some(name) = core.upgrade().map(|core| core.name()) else { return };
    let mut node_state = NodeState { node: name, generation: None, lapsed: false, ahead: Arc::default() };
    let mut failures = 0;
    loop {
        let Some(core) = core.upgrade() else { return };
        let connected = tokio::time::timeout(core.settings.timeout, connect(&core, &master, &mut node_state)).await;
        match connected.unwrap_or(Err(LinkError::Timeout)) {
            Ok(conn) => {
                failures = 0;
                tracing::info!(node = %node_state.node, generation = conn.generation, "connected to Redis");
                master.set_connection(Some(conn));
                // Each channel registers this node's sessions (resync).
                ops::start_tasks(&core);
                // Redis may have executed the last calls of an earlier connection, and their answers were lost with
                // the transitions in them.
                core.sink.reconcile();
                node_state.lapsed |= serve(&core, &master).await;
                core.disconnected(&master);
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, failures, "connecting to Redis failed");
            }
        }
        core.topology_changed.notify_one();
        let pause = pause(failures, core.settings.retry);
        drop(core);
        tokio::time::sleep(pause).await;
    }
}

/// The backoff: doubles with each failure, up to `longest`, with jitter.
fn pause(failures: u32, longest: Duration) -> Duration {
    let full = FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(longest);
    let mut bits = [0; 2];
    // Without random numbers all nodes reconnect at the same time, which is better than not at all.
    getrandom::fill(&mut bits).ok();
    full.mul_f64(0.5 + 0.5 * f64::from(u16::from_be_bytes(bits)) / f64::from(u16::MAX))
}

async fn connect(
    core: &Arc<Core>,
    master: &Arc<Master>,
    node_state: &mut NodeState,
) -> Result<RedisConnection, LinkError> {
    let number = core.connection_counter.fetch_add(1, Relaxed) + 1;
    let (weak, of) = (Arc::downgrade(core), Arc::downgrade(master));
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(core.settings.timeout))
        .set_response_timeout(Some(core.settings.timeout))
        .set_push_sender(move |push: PushInfo| -> Result<(), redis::aio::SendError> {
            if let (Some(core), Some(master)) = (weak.upgrade(), of.upgrade())
                && let Some(conn) = master.connection().filter(|conn| conn.number == number)
            {
                pushed::received(&core, &conn, &push);
            }
            Ok(())
        });
    let server = &master.server;
    let mut connection = server.client.get_multiplexed_async_connection_with_config(&config).await?;
    // A demoted master still accepts connections and answers reads, and the host name may lead to it for a while.
    if is_replica(&mut connection).await? {
        return Err(LinkError::Replica);
    }
    let run_id = run_id(&mut connection, server).await?;
    scripts::load().exec_async(&mut connection).await?;
    let newest = server.newest.load(Relaxed);
    let value: Value = scripts::generation(&server.keyspace, &run_id, newest).query_async(&mut connection).await?;
    let generation = Reply::of(value).and_then(|mut reply| reply.int("generation")).ok_or(LinkError::Unsupported)?;
    server.subscribe(&mut connection, &server.keyspace.control()).await?;
    let mut name = core.name();
    let mut beat = Heartbeat::send(core, &mut connection, server, &node_state.node).await?;
    if node_state.generation.is_some() && (node_state.lapsed || !beat.lease_held) {
        // The lease has ended, and other nodes may still be removing this node's sessions. A new name keeps the new
        // registrations apart from those that they remove.
        core.rename(&node_state.node, random().map_err(|_| LinkError::NoRandomness)?.into());
        name = core.name();
    }
    let is_renamed = name != node_state.node;
    if is_renamed {
        let lapsed = std::mem::replace(&mut node_state.node, name);
        hand_over(core, &mut connection, server, &lapsed).await?;
        beat = Heartbeat::send(core, &mut connection, server, &node_state.node).await?;
    }
    if node_state.generation.is_none() {
        node_state.ahead.store(beat.now.saturating_sub(core.clock.steady_ms()), Relaxed);
    }
    let is_same_data = node_state.generation == Some(generation);
    node_state.generation = Some(generation);
    node_state.lapsed = false;
    let (node, ahead) = (Arc::clone(&node_state.node), Arc::clone(&node_state.ahead));
    let handshake = Handshake { number, generation, node, is_renamed, is_same_data, ahead };
    Ok(RedisConnection::new(Arc::clone(server), connection, handshake))
}

/// Leaves the sessions registered under an old name to the clean-up of dead nodes. First completes the name's index: it
/// may be lost, and sessions may have joined since. Then sets its lease to ended.
async fn hand_over(
    core: &Core,
    connection: &mut MultiplexedConnection,
    server: &Arc<RedisServer>,
    name: &str,
) -> Result<(), LinkError> {
    let servers = core.servers();
    let is_there = |key: &ChannelKey| servers.of(key).is_some_and(|master| Arc::ptr_eq(&master.server, server));
    let channels = core.of_all(|key, _| is_there(key).then(|| keys::indexed(key)));
    for some in channels.chunks(INDEXED_AT_ONCE) {
        let mut command = redis::cmd("ZADD");
        command.arg(server.keyspace.index(name));
        for channel in some {
            command.arg(0).arg(channel);
        }
        command.exec_async(connection).await?;
    }
    redis::cmd("ZADD").arg(server.keyspace.nodes()).arg(0).arg(name).exec_async(connection).await?;
    Ok(())
}

/// Whether the server is a replica.
async fn is_replica(connection: &mut MultiplexedConnection) -> Result<bool, LinkError> {
    let info: String = redis::cmd("INFO").arg("replication").query_async(connection).await?;
    Ok(info.lines().any(|line| line.trim() == "role:slave"))
}

/// Checks the server's version and mode, and returns its run id, which is new with each start of a server.
async fn run_id(connection: &mut MultiplexedConnection, server: &RedisServer) -> Result<String, LinkError> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    let line = |name: &str| {
        let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(|value| value.trim().to_owned())
    };
    let version = line("redis_version").unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < server.oldest() {
        return Err(LinkError::Unsupported);
    }
    if line("redis_mode").as_deref() == Some("cluster") && !server.is_clustered {
        return Err(LinkError::Clustered);
    }
    line("run_id").filter(|id| !id.is_empty()).ok_or(LinkError::Unsupported)
}

/// Sends heartbeats until the connection is closed. Returns whether the node's lease has ended.
async fn serve(core: &Arc<Core>, master: &Master) -> bool {
    let Some(conn) = master.connection() else { return false };
    let mut lapsed = false;
    let mut every = tokio::time::interval(core.settings.lease / 3);
    if !conn.is_renamed {
        // The handshake has sent a heartbeat already.
        every.reset();
    }
    let mut clearing: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        tokio::select! {
            () = conn.broken.notified() => break,
            _ = every.tick() => {}
        }
        fault::point("redis-link");
        let mut connection = conn.multiplexed.clone();
        let beat = Heartbeat::send(core, &mut connection, &conn.server, &conn.node);
        let beat = match tokio::time::timeout(core.settings.timeout, beat).await.unwrap_or(Err(LinkError::Timeout)) {
            Ok(beat) => beat,
            Err(error) => {
                tracing::warn!(%error, "node heartbeat to Redis failed");
                break;
            }
        };
        if !beat.lease_held || beat.generation != conn.generation {
            tracing::warn!(
                lease_held = beat.lease_held,
                generation = beat.generation,
                "node lease in Redis expired, or Redis lost its data; reconnecting"
            );
            lapsed = !beat.lease_held;
            break;
        }
        let error = beat.now.saturating_sub(core.now(&conn));
        conn.ahead.fetch_add(error.clamp(-SLEW, SLEW), Relaxed);
        if !beat.expired_nodes.is_empty() && clearing.as_ref().is_none_or(|task| task.is_finished()) {
            let clear = nodes::clear_up(Arc::clone(core), Arc::clone(&conn), beat.expired_nodes);
            clearing = Some(core.supervisor.task("redis-clear-up", clear));
        }
    }
    if let Some(clearing) = clearing {
        clearing.abort();
    }
    lapsed
}

/// The answer to a heartbeat.
#[derive(Debug)]
struct Heartbeat {
    /// Redis' time, in milliseconds.
    now: i64,
    /// Whether the node's lease was still held when the heartbeat arrived.
    lease_held: bool,
    generation: u64,
    /// Nodes whose leases have ended.
    expired_nodes: Vec<String>,
}

impl Heartbeat {
    async fn send(
        core: &Core,
        connection: &mut MultiplexedConnection,
        server: &RedisServer,
        node: &str,
    ) -> Result<Self, LinkError> {
        let value: Value =
            scripts::heartbeat(&server.keyspace, node, millis(core.settings.lease)).query_async(connection).await?;
        let mut reply = Reply::of(value).ok_or(LinkError::Unsupported)?;
        let mut read = || {
            let (now, held, generation) = (reply.int("now")?, reply.flag("held")?, reply.int("generation")?);
            let over = reply.list("over")?;
            let name = |value: &Value| Some(std::str::from_utf8(bytes(value)?).ok()?.to_owned());
            let over = over.iter().filter_map(name).filter(|other| other != node).collect();
            Some(Self { now: i64::try_from(now).ok()?, lease_held: held, generation, expired_nodes: over })
        };
        read().ok_or(LinkError::Unsupported)
    }
}
