//! Many threads at the same time: publishers, and sessions that join, leave and recover.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_model::channel::Position;
use tidings_wire::{ChannelMessage, EncodedMessage};

use super::{BrokerFixture, RecordingShards, SHARDS, World, at, session};
use crate::broker::{Broker, BrokerError, Join, Leave, Publish, Since};
use crate::shard_message::{Recovery, ShardMessage};

const PUBLISHERS: u64 = 8;
const EVENTS: u64 = 10_000;
const SESSIONS: u32 = 12;

/// Every session receives each event once, in one order, however often it leaves and comes back meanwhile.
pub(crate) async fn check(fixture: Box<dyn BrokerFixture>) {
    let mut world = World::at(fixture).await;
    world.options.history_size = EVENTS as u32;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..SESSIONS {
        let join = world.to_join("c", n, "", None);
        world.broker.join(join.clone()).await.unwrap();
        all.spawn(come_and_go(Arc::clone(&world.broker), Arc::clone(&world.shards), join));
    }
    for n in 0..PUBLISHERS {
        let publishes = (0..EVENTS / PUBLISHERS).map(|i| world.to_publish("c", &format!("{n}.{i}"))).collect();
        all.spawn(publish_all(Arc::clone(&world.broker), publishes));
    }
    let done = async { while all.join_next().await.map(Result::unwrap).is_some() {} };
    tokio::time::timeout(Duration::from_secs(120), done).await.expect("somebody never hears the last event");
    let state = world.broker.channel(&super::key("c")).await.unwrap().unwrap();
    assert_eq!((state.occupancy.subscriptions, state.position.unwrap().offset), (0, EVENTS));
    one_order(&world.shards);
    world.ends_empty().await;
}

async fn publish_all(broker: Arc<dyn Broker>, publishes: Vec<Publish>) {
    for publish in publishes {
        let said: Result<_, BrokerError> = broker.publish(publish).await;
        said.unwrap();
        tokio::task::yield_now().await;
    }
}

/// A session's view of its shard's inbox: what it has seen, and how far it has read.
struct Seen {
    shards: Arc<RecordingShards>,
    join: Join,
    read: usize,
    is_in: bool,
    /// The newest publication that it has heard.
    at: Option<Position>,
}

/// A session that was let in already. It leaves after a while, comes back to where it was, until it has heard
/// everything.
async fn come_and_go(broker: Arc<dyn Broker>, shards: Arc<RecordingShards>, join: Join) {
    let stays = 20 + 13 * u64::from(join.at.slot);
    let mut seen = Seen { shards, join, read: 0, is_in: false, at: None };
    loop {
        seen.until(|seen| seen.is_in).await;
        let last = (seen.offset() + stays).min(EVENTS);
        seen.until(|seen| seen.offset() >= last).await;
        let Join { channel, session, at, .. } = seen.join.clone();
        broker.leave(Leave { channel, session, at, request_id: 1 }).await.unwrap();
        seen.until(|seen| !seen.is_in).await;
        if seen.offset() == EVENTS {
            return;
        }
        let join = Join { since: seen.at.clone().map(Since::Position), ..seen.join.clone() };
        broker.join(join).await.unwrap();
    }
}

impl Seen {
    fn offset(&self) -> u64 {
        self.at.as_ref().map_or(0, |at| at.offset)
    }

    async fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            for received in self.shards.since(self.join.at.shard, self.read) {
                self.read += 1;
                self.hear(received);
            }
            tokio::task::yield_now().await;
        }
    }

    fn hear(&mut self, received: ShardMessage) {
        match received {
            ShardMessage::Message { message, .. } if self.is_in => self.publication(&message),
            ShardMessage::Joined(joined) if joined.at == self.join.at => {
                assert!(!self.is_in);
                self.is_in = true;
                let welcome = joined.outcome.unwrap();
                let expected = if self.at.is_some() { Recovery::Complete } else { Recovery::NotAsked };
                assert_eq!(welcome.recovery, expected);
                welcome.publications.iter().for_each(|message| self.publication(message));
                assert_eq!(self.offset(), welcome.position.as_ref().unwrap().offset, "a gap behind the welcome");
                self.at = welcome.position;
            }
            ShardMessage::Left(left) if left.at == self.join.at => self.is_in = false,
            _ => {}
        }
    }

    fn publication(&mut self, message: &EncodedMessage) {
        let ChannelMessage::Publication(said) = message.content() else { panic!("{message:?}") };
        let at = said.position.clone().unwrap();
        assert_eq!(at.offset, self.offset() + 1, "a gap or a repeat");
        self.at = Some(at);
    }
}

/// Asserts that all shards received the same events at the same offsets, and each publisher's events in its order.
fn one_order(shards: &RecordingShards) {
    let mut by_offset = HashMap::new();
    for shard in 0..SHARDS {
        let (mut last, mut last_of) = (0, HashMap::new());
        for received in shards.take(shard) {
            let ShardMessage::Message { message, .. } = received else { continue };
            let ChannelMessage::Publication(said) = message.content() else { panic!("{message:?}") };
            let offset = said.position.as_ref().unwrap().offset;
            assert!(offset > last, "shard {shard} hears {offset} after {last}");
            last = offset;
            let id = said.event.id.clone();
            assert_eq!(by_offset.entry(offset).or_insert_with(|| id.clone()), &id);
            let (publisher, number) = id.split_once('.').unwrap();
            let number: u64 = number.parse().unwrap();
            if let Some(before) = last_of.insert(publisher.to_owned(), number) {
                assert!(number > before, "publisher {publisher} said {number} after {before}");
            }
        }
    }
    assert!(by_offset.len() as u64 > EVENTS / 2, "hardly anybody was there: {}", by_offset.len());
    assert_ne!((at(0).shard, session(0)), (at(1).shard, session(1)), "sessions are on several shards");
}
