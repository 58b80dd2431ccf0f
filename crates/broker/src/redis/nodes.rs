//! Clearing up after nodes that are gone.
//!
//! Any node may do it, also several at once: a session is taken out by one script, which tells what follows from it, and is
//! not there for the next one.

use std::sync::Arc;

use redis::Value;
use tidings_model::channel::ChannelKey;

use super::core::{Core, Up, random};
use super::keys;
use super::reply::{Reply, bytes};
use super::scripts::{Call, Kind};
use crate::broker::BrokerError;

/// Channels that are looked up at once.
const AT_ONCE: usize = 100;

/// Takes the sessions of nodes out of their channels whose leases are over.
pub(super) async fn clear_up(core: Arc<Core>, up: Arc<Up>, nodes: Vec<String>) {
    for node in nodes {
        tracing::info!(node, "clearing up after a node that is gone");
        if clear_up_after(&core, &up, &node).await.is_err() {
            // Whoever comes next goes on.
            return;
        }
    }
}

async fn clear_up_after(core: &Core, up: &Up, node: &str) -> Result<(), BrokerError> {
    loop {
        let mut command = redis::cmd("ZRANGE");
        command.arg(keys::index(node)).arg(0).arg(AT_ONCE - 1);
        let Value::Array(channels) = core.send(up, &command).await? else { return Err(BrokerError::Unavailable) };
        if channels.is_empty() {
            break;
        }
        for member in channels.iter().filter_map(bytes) {
            if let Some(key) = keys::of_index(member) {
                empty(core, up, &key, node).await?;
            }
            let mut command = redis::cmd("ZREM");
            command.arg(keys::index(node)).arg(member);
            core.send(up, &command).await?;
        }
    }
    let mut command = redis::cmd("ZREM");
    command.arg(keys::NODES).arg(node);
    core.send(up, &command).await.map(drop)
}

async fn empty(core: &Core, up: &Up, key: &ChannelKey, node: &str) -> Result<(), BrokerError> {
    loop {
        let call = Call::new(Kind::Reap);
        let command = call.command(&keys::voice(key), node, up.generation, core.now(), &random()?);
        let value = core.send(up, &command).await?;
        let left = Reply::of(value).and_then(|mut reply| reply.int()).ok_or(BrokerError::Unavailable)?;
        if left == 0 {
            return Ok(());
        }
    }
}
