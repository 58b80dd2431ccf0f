//! Begins and continues walks.

use std::sync::Arc;

use tidings_broker::{DeliveryMode, ShardMessage};
use tidings_model::channel::SessionId;
use tidings_wire::{ChannelMessage, EncodedMessage};

use super::Shard;
use super::subscriber_walk::SubscriberWalk;
use crate::inbox::InboxMessage;
use crate::transport::WriteOutcome;

/// Messages are batched up to about this many bytes.
const BATCH_BYTES: usize = 64 << 10;

/// About how many bytes the message takes on a socket.
fn estimated_length(message: &ChannelMessage) -> usize {
    match message {
        ChannelMessage::Publication(publication) => 128 + publication.event.data.bytes.len(),
        _ => 256,
    }
}

impl Shard {
    /// Begins a walk with a message that was just taken from the batch, and with those that follow it there directly in
    /// the same channel.
    pub(super) fn begin_walk(&mut self, message: Arc<EncodedMessage>, except: Option<SessionId>, weight: usize) {
        let channel = self.channels.find(message.content().channel());
        let mut bytes = estimated_length(message.content());
        let messages = vec![Arc::clone(&message)];
        let mut walk = SubscriberWalk { channel: 0, next: 0, messages, except, frames: Vec::new(), weight };
        while except.is_none() && bytes < BATCH_BYTES {
            let Some(entry) = self.batch.front() else { break };
            let InboxMessage::Broker(ShardMessage::Message { message: next, except: None }) = &entry.item else {
                break;
            };
            if next.content().channel() != message.content().channel() {
                break;
            }
            bytes += estimated_length(next.content());
            walk.weight += entry.weight;
            walk.messages.push(Arc::clone(next));
            self.batch.pop_front();
        }
        match channel {
            Some(channel) => self.walk = Some(SubscriberWalk { channel, ..walk }),
            None => self.done(walk.weight),
        }
    }

    /// Continues the walk for at most `steps` subscribers, and returns for how many. The caller must handle the failed
    /// writes.
    pub(super) fn continue_walk(&mut self, mut walk: SubscriberWalk, steps: usize) -> usize {
        let count = self.channels.subscribers(walk.channel).len();
        let (first, end) = (walk.next, count.min(walk.next + steps));
        let (mut reached, mut bytes, mut last) = (0, 0, 0);
        for index in first..end {
            let Some(subscriber) = self.channels.subscribers(walk.channel).get(index) else { break };
            let (slot, mode) = (subscriber.slot, subscriber.mode);
            let Some(session) = self.sessions.get_mut(slot as usize) else { continue };
            if !session.is_open() || walk.except == Some(session.id) {
                continue;
            }
            reached += 1;
            last = slot;
            match mode {
                DeliveryMode::Shared(encoding) => {
                    let (Some(queue), Some(frame)) = (&mut session.write_queue, walk.frame(encoding, &self.frames))
                    else {
                        continue;
                    };
                    session.last_write_at = self.now;
                    bytes += frame.len() as u64;
                    let outcome = queue.send(frame, self.settings.session_queue, &self.metrics);
                    if outcome != WriteOutcome::Accepted {
                        self.failed_writes.push((slot, outcome));
                    }
                }
                // In one call, so that the protocol's writes leave together.
                DeliveryMode::Session => self.act(slot, |protocol, cx| {
                    walk.messages.iter().for_each(|message| protocol.channel_message(cx, message));
                }),
            }
        }
        let messages_sent = reached * walk.messages.len() as u64;
        self.metrics.deliveries.inc_by(messages_sent);
        // All subscribers are of one app: any of them has its counters.
        if let Some(permit) =
            self.sessions.get(last as usize).and_then(|session| session.permit.as_ref()).filter(|_| reached > 0)
        {
            permit.traffic.messages_sent.inc_by(messages_sent);
            permit.traffic.bytes_sent.inc_by(bytes);
        }
        walk.next = end;
        if end < count {
            self.walk = Some(walk);
        } else {
            self.done(walk.weight);
        }
        end - first
    }
}
