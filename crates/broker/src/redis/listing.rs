//! Lists an app's occupied channels.
//!
//! Every node keeps an index of the channels in which it may have sessions. Whether a channel is occupied is read from
//! the channel itself.

use std::collections::BTreeSet;

use redis::{RedisError, Value};
use tidings_model::channel::ChannelKey;
use tidings_model::id::AppId;
use tidings_model::policy::AFTER_INTERNAL;

use super::core::Core;
use super::keys;
use super::reply::{Reply, bytes};
use super::scripts::{ScriptCall, ScriptKind};
use crate::broker::{BrokerError, ChannelFilter, ChannelState};

/// Channels per page.
const PAGE: usize = 500;

/// Reads a channel's state; the inner `None` says that the channel does not exist. The outer one: the answer is
/// malformed.
pub(super) fn state(mut reply: Reply, key: &ChannelKey) -> Option<Option<ChannelState>> {
    let is_there = reply.flag("exists")?;
    let occupancy = reply.occupancy()?;
    let position = reply.position()?;
    Some(is_there.then(|| ChannelState { name: key.name.clone(), occupancy, position }))
}

/// The occupied channels of an app, in the order of their names.
pub(super) async fn channels(
    core: &Core,
    app: &AppId,
    filter: ChannelFilter,
) -> Result<Vec<ChannelState>, BrokerError> {
    let ChannelFilter { prefix, after, limit } = filter;
    let mut after = Some(after.unwrap_or_default().max(AFTER_INTERNAL.to_owned()));
    let mut found = Vec::new();
    while found.len() < limit {
        let page = page(core, app, &prefix, after.as_deref()).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.as_ref().to_owned());
        let is_last = page.len() < PAGE;
        found.extend(states(core, &page).await?);
        if is_last {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The next page of channels in which some node may have sessions.
async fn page(core: &Core, app: &AppId, prefix: &str, after: Option<&str>) -> Result<Vec<ChannelKey>, BrokerError> {
    let begin = match after {
        Some(after) if after >= prefix => [b"(".as_slice(), &keys::in_index(app, after)].concat(),
        _ => [b"[".as_slice(), &keys::in_index(app, prefix)].concat(),
    };
    // Names are UTF-8 and never contain the byte 0xff, so all names with this prefix sort before it.
    let end = [b"(".as_slice(), &keys::in_index(app, prefix), b"\xff"].concat();
    let mut all = BTreeSet::new();
    for conn in core.connections()? {
        let keyspace = &conn.server.keyspace;
        let mut nodes = redis::cmd("ZRANGE");
        nodes.arg(keyspace.nodes()).arg(0).arg(-1);
        let Value::Array(nodes) = core.send(&conn, &nodes).await? else { return Err(BrokerError::Unavailable) };
        for node in nodes.iter().filter_map(bytes).filter_map(|node| std::str::from_utf8(node).ok()) {
            let mut command = redis::cmd("ZRANGEBYLEX");
            command.arg(keyspace.index(node)).arg(&begin).arg(&end).arg("LIMIT").arg(0).arg(PAGE);
            let Value::Array(members) = core.send(&conn, &command).await? else { return Err(BrokerError::Unavailable) };
            all.extend(members.iter().filter_map(bytes).filter_map(keys::of_index));
        }
    }
    Ok(all.into_iter().take(PAGE).collect())
}

/// The states of the page's occupied channels, in the page's order.
async fn states(core: &Core, page: &[ChannelKey]) -> Result<Vec<ChannelState>, BrokerError> {
    let mut found: Vec<Option<ChannelState>> = vec![None; page.len()];
    for conn in core.connections()? {
        let mut batch = redis::pipe();
        let mut asked = Vec::new();
        for (place, key) in page.iter().enumerate() {
            if core.connection(key)?.number == conn.number {
                batch.add_command(core.command(&conn, &conn.node, key, &ScriptCall::new(ScriptKind::State))?);
                asked.push((place, key));
            }
        }
        if asked.is_empty() {
            continue;
        }
        let mut connection = conn.multiplexed.clone();
        let answer = batch.query_async::<Vec<Value>>(&mut connection);
        let answer: Result<Vec<Value>, RedisError> =
            tokio::time::timeout(core.settings.timeout, answer).await.map_err(|_| BrokerError::Unavailable)?;
        let values = answer.map_err(|error| core.failed(&conn, &error)).map_err(|()| BrokerError::Unavailable)?;
        for (value, (place, key)) in values.into_iter().zip(asked) {
            let state = Reply::of(value).and_then(|reply| state(reply, key)).ok_or(BrokerError::Unavailable)?;
            found[place] = state.filter(|state| state.occupancy.subscriptions > 0);
        }
    }
    Ok(found.into_iter().flatten().collect())
}
