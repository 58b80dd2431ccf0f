//! Removes the sessions of dead nodes.
//!
//! Any node may do it, also several at once: one script removes a session and publishes the resulting messages, and
//! the next script no longer finds it.

use std::sync::Arc;

use redis::Value;
use tidings_model::channel::ChannelKey;

use super::core::Core;
use super::keys;
use super::reply::bytes;
use super::scripts::{ScriptCall, ScriptKind};
use super::servers::RedisConnection;
use crate::broker::BrokerError;

/// Channels that are read from the index at once.
const AT_ONCE: usize = 100;

/// Removes the sessions of nodes whose leases have ended from their channels.
pub(super) async fn clear_up(core: Arc<Core>, conn: Arc<RedisConnection>, nodes: Vec<String>) {
    for node in nodes {
        tracing::info!(node, "node lease expired; removing its sessions from channels");
        if clear_up_after(&core, &conn, &node).await.is_err() {
            // A later heartbeat, of this node or another, continues.
            return;
        }
    }
    // Transitions that the dead node caused but did not record are lost.
    core.sink.reconcile();
}

async fn clear_up_after(core: &Core, conn: &RedisConnection, node: &str) -> Result<(), BrokerError> {
    loop {
        let mut command = redis::cmd("ZRANGE");
        command.arg(conn.server.keyspace.index(node)).arg(0).arg(AT_ONCE - 1);
        let Value::Array(channels) = core.send(conn, &command).await? else { return Err(BrokerError::Unavailable) };
        if channels.is_empty() {
            break;
        }
        for member in channels.iter().filter_map(bytes) {
            if let Some(key) = keys::of_index(member) {
                empty(core, &key, node).await?;
            }
            let mut command = redis::cmd("ZREM");
            command.arg(conn.server.keyspace.index(node)).arg(member);
            core.send(conn, &command).await?;
        }
    }
    let mut command = redis::cmd("ZREM");
    command.arg(conn.server.keyspace.nodes()).arg(node);
    core.send(conn, &command).await.map(drop)
}

/// Removes all sessions of the node from a channel, on the server that has the channel now: its slot may have moved
/// since the node joined.
async fn empty(core: &Core, key: &ChannelKey, node: &str) -> Result<(), BrokerError> {
    loop {
        let conn = &*core.connection(key)?;
        let command = core.command(conn, node, key, &ScriptCall::new(ScriptKind::Reap))?;
        let value = core.send(conn, &command).await?;
        let left = core.reply(value, key).and_then(|mut reply| reply.int("left")).ok_or(BrokerError::Unavailable)?;
        if left == 0 {
            return Ok(());
        }
    }
}
