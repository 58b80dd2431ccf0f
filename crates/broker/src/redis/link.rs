//! The connection to a server of Redis: made, watched, made again.
//!
//! One connection carries calls and what Redis pushes (RESP3). Before anything else is done over a new one, the server
//! is asked who it is: if the data knows another server, or none, its generation becomes a new one, so that no position
//! from before a failover or a FLUSHALL is ever taken for good. Then every channel tells Redis who is here.

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

/// The first pause between two attempts to connect.
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// By how much our idea of the time of Redis is put right with a heartbeat, at most, in milliseconds: clocks drift by
/// less, and a clock that is set is followed slowly.
const SLEW: i64 = 50;
const INDEXED_AT_ONCE: usize = 1_000;

/// Why a connection cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{}", tidings_tls::told(.0))]
    Redis(#[from] RedisError),
    #[error("it does not answer")]
    Timeout,
    #[error("it is a server of another kind, or too old: 6.2 is needed, in a cluster 7.0")]
    Unsupported,
    #[error("it is a replica: its name has to lead to the master")]
    Replica,
    #[error("it belongs to a cluster: begin broker.url with redis+cluster://")]
    Clustered,
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// What this node is to a server.
#[derive(Debug)]
struct NodeState {
    /// Under which name it was last there.
    node: Arc<str>,
    /// As it was last seen.
    generation: Option<u64>,
    /// Others may have taken it for dead.
    lapsed: bool,
    /// How far the server's time is ahead of ours.
    ahead: Arc<AtomicI64>,
}

/// Keeps the node connected to a server for as long as the broker is there.
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
                // Every channel tells Redis who is here.
                ops::start_tasks(&core);
                // What was asked last over an earlier connection may have been done without an answer.
                core.sink.reconcile();
                node_state.lapsed |= serve(&core, &master).await;
                core.disconnected(&master);
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, failures, "Redis cannot be reached");
            }
        }
        core.topology_changed.notify_one();
        let pause = pause(failures, core.settings.retry);
        drop(core);
        tokio::time::sleep(pause).await;
    }
}

/// Twice as long each time, and never the same for two nodes.
fn pause(failures: u32, longest: Duration) -> Duration {
    let full = FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(longest);
    let mut bits = [0; 2];
    // Without randomness all nodes come back together, which is no reason not to come back.
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
    // A server that was demoted lets everybody in and answers what it can, and its name may lead to it for a while.
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
    if node_state.generation.is_some() && (node_state.lapsed || !beat.held) {
        // Others have taken this node for dead, and may still be at it: as somebody else it is not in their way.
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

/// Leaves what stands under a name to whoever clears up. Its index may be lost, and sessions have joined since.
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

/// Whether the server follows another one.
async fn is_replica(connection: &mut MultiplexedConnection) -> Result<bool, LinkError> {
    let info: String = redis::cmd("INFO").arg("replication").query_async(connection).await?;
    Ok(info.lines().any(|line| line.trim() == "role:slave"))
}

/// Which run of which server answers.
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

/// Shows that the node lives, for as long as the connection can be used. Whether others may have taken it for dead.
async fn serve(core: &Arc<Core>, master: &Master) -> bool {
    let Some(conn) = master.connection() else { return false };
    let mut lapsed = false;
    let mut every = tokio::time::interval(core.settings.lease / 3);
    if !conn.is_renamed {
        // The connection has begun with a heartbeat.
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
                tracing::warn!(%error, "Redis cannot be shown that this node lives");
                break;
            }
        };
        if !beat.held || beat.generation != conn.generation {
            tracing::warn!("Redis has forgotten this node, or has lost its data");
            lapsed = !beat.held;
            break;
        }
        let error = beat.now.saturating_sub(core.now(&conn));
        conn.ahead.fetch_add(error.clamp(-SLEW, SLEW), Relaxed);
        if !beat.over.is_empty() && clearing.as_ref().is_none_or(|task| task.is_finished()) {
            let clear = nodes::clear_up(Arc::clone(core), Arc::clone(&conn), beat.over);
            clearing = Some(core.supervisor.task("redis-clear-up", clear));
        }
    }
    if let Some(clearing) = clearing {
        clearing.abort();
    }
    lapsed
}

/// What Redis answers to a heartbeat.
#[derive(Debug)]
struct Heartbeat {
    now: i64,
    /// Whether the node's lease had not ended.
    held: bool,
    generation: u64,
    /// Nodes whose leases are over.
    over: Vec<String>,
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
            Some(Self { now: i64::try_from(now).ok()?, held, generation, over })
        };
        read().ok_or(LinkError::Unsupported)
    }
}
