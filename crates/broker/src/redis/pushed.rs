//! Handles the pushes of Redis: messages of channels, orders to all nodes, and changes of the connection itself.

use std::sync::Arc;

use redis::{PushInfo, PushKind};

use super::core::Core;
use super::pubsub_message::PubsubMessage;
use super::reply::bytes;
use super::servers::RedisConnection;
use super::{keys, ops};
use crate::codec;

/// Handles a push over this connection.
pub(super) fn received(core: &Arc<Core>, conn: &RedisConnection, push: &PushInfo) {
    match push.kind {
        PushKind::Message | PushKind::SMessage => {
            if let [channel, payload] = push.data.as_slice()
                && let (Some(channel), Some(payload)) = (bytes(channel), bytes(payload))
            {
                message(core, conn, channel, payload);
            }
        }
        PushKind::SUnsubscribe => {
            let pubsub_channel =
                push.data.first().and_then(bytes).and_then(|pubsub_channel| std::str::from_utf8(pubsub_channel).ok());
            conn.unsubscribed(pubsub_channel.unwrap_or_default());
        }
        PushKind::Disconnection => conn.close("Redis or the network closed it"),
        _ => {}
    }
}

fn message(core: &Arc<Core>, conn: &RedisConnection, pubsub_channel: &[u8], payload: &[u8]) {
    let Ok(pubsub_channel) = std::str::from_utf8(pubsub_channel) else { return };
    let Some(key) = keys::channel(pubsub_channel) else {
        match codec::read_order(payload) {
            Some(order) => core.order(order),
            None => core.skipped("order"),
        }
        return;
    };
    if core.connection(&key).is_ok_and(|present| present.number != conn.number) {
        return;
    }
    let Some(message) = PubsubMessage::read(payload, &key) else {
        return conn.close("a message cannot be read");
    };
    if !message.is_understood() {
        core.skipped("message");
    }
    let (is_whole, starts) = {
        let mut channels = core.partition(&key);
        let Some(local) = channels.get_mut(&key) else { return };
        let is_whole = local.receive(message, core.notifier(&key));
        let starts = local.wants_task();
        local.has_task |= starts;
        (is_whole, starts)
    };
    if !is_whole {
        conn.close("a message is missing");
    }
    if starts {
        ops::start_task(core, key);
    }
}
