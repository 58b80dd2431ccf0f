//! The connection to Redis: made, watched, made again.
//!
//! One connection carries calls and what Redis pushes (RESP3). Before anything else is done over a new one, the server is
//! asked who it is: if the data knows another server, or none, its generation becomes a new one, so that no position from
//! before a failover or a FLUSHALL is ever taken for good. Then every channel tells Redis who is here.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisError, Value};
use tidings_model::clock::millis;

use super::core::{Core, Up, random};
use super::reply::{Reply, bytes};
use super::{keys, nodes, scripts};

/// The first pause between two attempts to connect.
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// By how much our idea of the time of Redis is put right with a heartbeat, at most, in milliseconds: clocks drift by less,
/// and a clock that is set is followed slowly.
const SLEW: i64 = 50;
const INDEXED_AT_ONCE: usize = 1_000;

/// Why a connection cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("it does not answer")]
    Late,
    #[error("it is a server of another kind, or too old: 6.2 is needed")]
    Strange,
    #[error("the system gives no random numbers")]
    NoRandomness,
}

/// What this node is to Redis.
#[derive(Debug)]
struct Me {
    node: Arc<str>,
    /// As it was last seen.
    generation: Option<u64>,
    /// Others may have taken it for dead.
    lapsed: bool,
    connections: u64,
}

/// Keeps the node connected for as long as the broker is there.
pub(super) async fn keep(core: Weak<Core>, client: Client) {
    let Ok(node) = random() else {
        tracing::error!("the node cannot be given an id: the system gives no random numbers");
        return;
    };
    let mut me = Me { node: node.into(), generation: None, lapsed: false, connections: 0 };
    let mut failures = 0;
    loop {
        let Some(core) = core.upgrade() else { return };
        let connected = tokio::time::timeout(core.settings.patience, connect(&core, &client, &mut me)).await;
        match connected.unwrap_or(Err(LinkError::Late)) {
            Ok(up) => {
                failures = 0;
                tracing::info!(node = %me.node, generation = up.generation, "connected to Redis");
                core.connected(up);
                me.lapsed |= serve(&core).await;
                core.disconnected();
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(%error, failures, "Redis cannot be reached");
            }
        }
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

async fn connect(core: &Arc<Core>, client: &Client, me: &mut Me) -> Result<Up, LinkError> {
    me.connections += 1;
    let number = me.connections;
    let weak = Arc::downgrade(core);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(core.settings.patience))
        .set_response_timeout(Some(core.settings.patience))
        .set_push_sender(move |push: PushInfo| -> Result<(), redis::aio::SendError> {
            if let Some(core) = weak.upgrade() {
                pushed(&core, number, &push);
            }
            Ok(())
        });
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let run_id = run_id(&mut connection).await?;
    scripts::load().exec_async(&mut connection).await?;
    let generation: String = scripts::generation(&run_id).query_async(&mut connection).await?;
    let generation = generation.parse().map_err(|_| LinkError::Strange)?;
    connection.subscribe(keys::CONTROL).await?;
    let mut beat = Beat::send(core, &mut connection, &me.node).await?;
    let is_renamed = me.generation.is_some() && (me.lapsed || !beat.held);
    if is_renamed {
        // Others have taken this node for dead, and may still be at it: as somebody else it is not in their way.
        let lapsed = std::mem::replace(&mut me.node, random().map_err(|_| LinkError::NoRandomness)?.into());
        bequeath(core, &mut connection, &lapsed).await?;
        beat = Beat::send(core, &mut connection, &me.node).await?;
    }
    if me.generation.is_none() {
        core.ahead.store(beat.now.saturating_sub(core.clock.steady_ms()), Relaxed);
    }
    let is_same_data = me.generation == Some(generation);
    me.generation = Some(generation);
    me.lapsed = false;
    Ok(Up { number, connection, generation, node: Arc::clone(&me.node), is_renamed, is_same_data })
}

/// Leaves what stands under a name to whoever clears up. Its index may be lost, and sessions have joined since.
async fn bequeath(core: &Core, connection: &mut MultiplexedConnection, name: &str) -> Result<(), LinkError> {
    let channels = core.of_all(|key, _| Some(keys::indexed(key)));
    for some in channels.chunks(INDEXED_AT_ONCE) {
        let mut command = redis::cmd("ZADD");
        command.arg(keys::index(name));
        for channel in some {
            command.arg(0).arg(channel);
        }
        command.exec_async(connection).await?;
    }
    redis::cmd("ZADD").arg(keys::NODES).arg(0).arg(name).exec_async(connection).await?;
    Ok(())
}

/// Which run of which server answers.
async fn run_id(connection: &mut MultiplexedConnection) -> Result<String, LinkError> {
    let info: String = redis::cmd("INFO").arg("server").query_async(connection).await?;
    let line = |name: &str| {
        let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(|value| value.trim().to_owned())
    };
    let version = line("redis_version").unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < (6, 2) {
        return Err(LinkError::Strange);
    }
    line("run_id").filter(|id| !id.is_empty()).ok_or(LinkError::Strange)
}

fn pushed(core: &Arc<Core>, number: u64, push: &PushInfo) {
    match push.kind {
        PushKind::Message => {
            if let [channel, payload] = push.data.as_slice()
                && let (Some(channel), Some(payload)) = (bytes(channel), bytes(payload))
                && core.up().is_ok_and(|up| up.number == number)
            {
                core.pushed(number, channel, payload);
            }
        }
        PushKind::Disconnection => core.give_up(number, "it was closed"),
        _ => {}
    }
}

/// Shows that the node lives, for as long as the connection can be used. Whether others may have taken it for dead.
async fn serve(core: &Arc<Core>) -> bool {
    let Ok(up) = core.up() else { return false };
    let mut lapsed = false;
    let mut every = tokio::time::interval(core.settings.lease / 3);
    if !up.is_renamed {
        // The connection has begun with a heartbeat.
        every.reset();
    }
    let mut clearing: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        tokio::select! {
            () = core.broken.notified() => {
                if core.given_up.load(Relaxed) == up.number {
                    break;
                }
                continue;
            }
            _ = every.tick() => {}
        }
        let mut connection = up.connection.clone();
        let beat = Beat::send(core, &mut connection, &up.node);
        let beat = match tokio::time::timeout(core.settings.patience, beat).await.unwrap_or(Err(LinkError::Late)) {
            Ok(beat) => beat,
            Err(error) => {
                tracing::warn!(%error, "Redis cannot be shown that this node lives");
                break;
            }
        };
        if !beat.held || beat.generation != up.generation {
            tracing::warn!("Redis has forgotten this node, or has lost its data");
            lapsed = !beat.held;
            break;
        }
        let error = beat.now.saturating_sub(core.now());
        core.ahead.fetch_add(error.clamp(-SLEW, SLEW), Relaxed);
        if !beat.over.is_empty() && clearing.as_ref().is_none_or(|task| task.is_finished()) {
            clearing = Some(tokio::spawn(nodes::clear_up(Arc::clone(core), Arc::clone(&up), beat.over)));
        }
    }
    if let Some(clearing) = clearing {
        clearing.abort();
    }
    lapsed
}

/// What Redis answers to a heartbeat.
#[derive(Debug)]
struct Beat {
    now: i64,
    /// Whether the node's lease had not ended.
    held: bool,
    generation: u64,
    /// Nodes whose leases are over.
    over: Vec<String>,
}

impl Beat {
    async fn send(core: &Core, connection: &mut MultiplexedConnection, node: &str) -> Result<Self, LinkError> {
        let value: Value = scripts::beat(node, millis(core.settings.lease)).query_async(connection).await?;
        let mut reply = Reply::of(value).ok_or(LinkError::Strange)?;
        let mut read = || {
            let (now, held, generation) = (reply.int()?, reply.int()? == 1, reply.int()?);
            let over = reply.list()?;
            let name = |value: &Value| Some(std::str::from_utf8(bytes(value)?).ok()?.to_owned());
            let over = over.iter().filter_map(name).filter(|other| other != node).collect();
            Some(Self { now: i64::try_from(now).ok()?, held, generation, over })
        };
        read().ok_or(LinkError::Strange)
    }
}
