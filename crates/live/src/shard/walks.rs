//! How a shard begins a walk and goes on with it.

use std::sync::Arc;

use tidings_broker::{DeliveryMode, ShardMessage};
use tidings_model::channel::SessionId;
use tidings_wire::{ChannelMessage, EncodedMessage};

use super::Shard;
use super::subscriber_walk::SubscriberWalk;
use crate::inbox::InboxMessage;
use crate::transport::WriteOutcome;

/// About how many bytes go out together.
const TOGETHER: usize = 64 << 10;

/// About how many bytes it makes on a socket.
fn length(said: &ChannelMessage) -> usize {
    match said {
        ChannelMessage::Publication(publication) => 128 + publication.event.data.bytes.len(),
        _ => 256,
    }
}

impl Shard {
    /// Begins a walk with something that was just taken from the batch, and what follows it there in the same channel.
    pub(super) fn begin_walk(&mut self, prepared: Arc<EncodedMessage>, except: Option<SessionId>, weight: usize) {
        let channel = self.channels.find(prepared.content().channel());
        let mut bytes = length(prepared.content());
        let said = vec![Arc::clone(&prepared)];
        let mut walk = SubscriberWalk { channel: 0, next: 0, said, except, frames: Vec::new(), weight };
        while except.is_none() && bytes < TOGETHER {
            let Some(entry) = self.batch.front() else { break };
            let InboxMessage::Broker(ShardMessage::Message { message: next, except: None }) = &entry.item else {
                break;
            };
            if next.content().channel() != prepared.content().channel() {
                break;
            }
            bytes += length(next.content());
            walk.weight += entry.weight;
            walk.said.push(Arc::clone(next));
            self.batch.pop_front();
        }
        match channel {
            Some(channel) => self.walk = Some(SubscriberWalk { channel, ..walk }),
            None => self.done(walk.weight),
        }
    }

    /// Goes on with the walk for at most `steps` subscribers. How many it was. Those that are slow or gone are to be
    /// parted with.
    pub(super) fn continue_walk(&mut self, mut walk: SubscriberWalk, steps: usize) -> usize {
        let count = self.channels.subscribers(walk.channel).len();
        let (first, end) = (walk.next, count.min(walk.next + steps));
        let (mut told, mut bytes, mut last) = (0, 0, 0);
        for index in first..end {
            let Some(subscriber) = self.channels.subscribers(walk.channel).get(index) else { break };
            let (slot, mode) = (subscriber.slot, subscriber.mode);
            let Some(session) = self.sessions.get_mut(slot as usize) else { continue };
            if !session.is_open() || walk.except == Some(session.id) {
                continue;
            }
            told += 1;
            last = slot;
            match mode {
                DeliveryMode::Shared(format) => {
                    let (Some(queue), Some(frame)) = (&mut session.write_queue, walk.frame(format, &self.frames))
                    else {
                        continue;
                    };
                    session.last_write_at = self.now;
                    bytes += frame.len() as u64;
                    let outcome = queue.send(frame, self.settings.session_queue, &self.metrics);
                    if outcome != WriteOutcome::Accepted {
                        self.doomed.push((slot, outcome));
                    }
                }
                // In one call, so that what it writes leaves together.
                DeliveryMode::Session => self.act(slot, |protocol, cx| {
                    walk.said.iter().for_each(|prepared| protocol.said(cx, prepared));
                }),
            }
        }
        let messages = told * walk.said.len() as u64;
        self.metrics.deliveries.inc_by(messages);
        // All are of one app: any of them has its counters.
        if let Some(permit) =
            self.sessions.get(last as usize).and_then(|session| session.permit.as_ref()).filter(|_| told > 0)
        {
            permit.traffic.messages_sent.inc_by(messages);
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
