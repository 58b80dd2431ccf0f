//! Data that only a newer version can read is skipped: the connection stays, and everything else is delivered.

use tidings_model::channel::{Member, UserId};

use super::RedisFixture;
use super::kept::{full_event, strings};
use super::version_1::{event_bytes, read_event, read_member};
use crate::broker::{HistoryRange, Since};
use crate::codec::{self, PublishedEvent};
use crate::suite::{World, key, lines};

const META: &str = "tidings:{1:c}:meta";
/// Bytes of a version whose fields this one does not know.
const UNREADABLE: &str = "\u{2}\0\0\0\u{1}x";

/// Publishes a newer node's message to the channel, with the channel's next number.
async fn newer(there: &RedisFixture, kind: &str, words: &str, body: &[u8]) {
    let redis::Value::Int(number) = there.does(&["HINCRBY", META, "n", "1"]).await else { panic!() };
    let payload = [format!("{kind} {number} {words}\n").as_bytes(), body].concat();
    let client = redis::Client::open(there.server.lock().await.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("PUBLISH").arg("tidings:{1:c}").arg(payload).exec_async(&mut connection).await.unwrap();
}

async fn world() -> (RedisFixture, World) {
    let there = RedisFixture::alone().await;
    let mut world = there.world().await;
    (world.options.presence, world.options.join_leave, world.options.history_size) = (true, true, 10);
    world.join(1, "ann").await;
    world.publish("e1").await;
    world.receives(&[], &["c: s1 in, 1 here @0A {ann/1}", "c: +ann/1 first except s1", "c: e1@1A"]).await;
    (there, world)
}

#[tokio::test]
async fn messages_of_a_newer_version_are_passed_over_and_no_number_is_missing() {
    let (there, mut world) = world().await;
    let connection = there.broker().core.connection(&key("c")).unwrap().number;
    let epoch = world.epochs.position("1A").epoch;
    newer(&there, "poll", "some words", b"and bytes").await;
    newer(&there, "p", &format!("{} 2 of more words", epoch.as_str()), &event_bytes("e2")).await;
    newer(&there, "p", &format!("{} 3", epoch.as_str()), UNREADABLE.as_bytes()).await;
    newer(&there, "p", "- 0", UNREADABLE.as_bytes()).await;
    let session = crate::suite::session(1);
    newer(&there, "+", &format!("1 {session}"), UNREADABLE.as_bytes()).await;
    there.does(&["HSET", META, "o", "3"]).await;
    there.does(&["PUBLISH", "{tidings}:control", UNREADABLE]).await;
    there.does(&["PUBLISH", "{tidings}:control", "\u{1}\0\0\0\u{4}move\0\0\0\u{1}1"]).await;
    world.publish("e4").await;
    // Sessions receive `Lost` for a message that this version cannot read.
    let received = ["c: e2@2A", "c: lost publications @3A", "c: lost members @3A", "c: e4@4A"];
    world.receives(&[], &received).await;
    assert_eq!(there.broker().core.connection(&key("c")).unwrap().number, connection);
}

#[tokio::test]
async fn what_a_newer_version_keeps_is_passed_over() {
    let (there, mut world) = world().await;
    // An entry with a field more, one that cannot be read, a field of the channel, and a member.
    there.does(&["EVAL", COPY, "1", "tidings:{1:c}:log", "2-0"]).await;
    there.does(&["XADD", "tidings:{1:c}:log", "3-0", "x", "99999999999999", "d", UNREADABLE]).await;
    there.does(&["HSET", META, "o", "3", "newer", "1"]).await;
    there.does(&["EVAL", ADD_MEMBER, "1", "tidings:{1:c}:users", UNREADABLE]).await;
    world.publish("e4").await;
    world.receives(&[], &["c: e4@4A"]).await;

    assert_eq!(lines::members(&world.broker.members(&key("c")).await.unwrap()), "ann/1");
    for (since, complete) in [("0A", false), ("3A", true)] {
        let since = Some(world.epochs.position(since));
        let range = HistoryRange { since, limit: 100, reverse: false };
        assert_eq!(world.broker.history(&key("c"), range).await.unwrap().complete, complete);
    }
    world.join_since(3, Since::Position(world.epochs.position("3A"))).await;
    world.join_since(5, Since::Position(world.epochs.position("0A"))).await;
    let received =
        ["c: s3 in, 2 here @4A Complete [e4@4A] {ann/1}", "c: s5 in, 3 here @4A Lost [e1@1A e1@2A e4@4A] {ann/1}"];
    world.receives(&[], &received).await;
    assert_eq!(strings(&there.does(&["HGET", META, "newer"]).await), [b"1"]);
}

/// Adds the newest entry again, under another id and with a field more.
const COPY: &str = "local e = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][2]
redis.call('XADD', KEYS[1], ARGV[1], 'x', e[2], 'z', 'more', 'd', e[4])";
/// Adds a user with an element more than this version reads.
const ADD_MEMBER: &str = "redis.call('HSET', KEYS[1], 'new', cmsgpack.pack({1, ARGV[1], 'more'}))";

#[test]
fn version_1_reads_what_has_tagged_fields_that_it_does_not_know() {
    let added = b"\0\0\0\x02zz\0\0\0\0";
    for user in [None, Some(UserId::from("7")), Some(UserId::number("7"))] {
        let published = PublishedEvent { event: full_event(), user: user.clone(), except: None };
        assert_eq!(read_event(&[&codec::event(&published)[..], added].concat()), "e1");
        let Some(user) = user else { continue };
        let member = codec::member(&Member { user, info: Some("{}".into()) });
        assert_eq!(read_member(&[&member[..], added].concat()), "7/{}");
    }
}
