//! The bytes that a version of the broker publishes and stores. Files under `kept/` have them as they were written when
//! the version was current; the code of today writes the same for that version, and reads them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use tidings_model::channel::UserId;
use tidings_model::event::{Data, Event};
use tokio::sync::mpsc;

use super::super::reply::bytes;
use super::RedisFixture;
use crate::broker::Publish;
use crate::session_order::{Action, SessionOrder, Who};
use crate::suite::session;

/// As text: what is printable ASCII stands for itself, other bytes and the backslash are `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'\\' | 0..=0x1f | 0x7f.. => write!(text, "\\x{byte:02x}").unwrap(),
            _ => text.push(byte.into()),
        }
    }
    text
}

/// Of what Redis keeps by name, what is a time or random.
const RANDOM: [&str; 7] = ["ct", "cx", "f", "g", "generation", "run", "x"];

/// All strings that a value consists of.
pub(super) fn strings(value: &Value) -> Vec<Vec<u8>> {
    match value {
        Value::Array(all) => all.iter().flat_map(strings).collect(),
        Value::Map(all) => all.iter().flat_map(|(name, value)| [strings(name), strings(value)].concat()).collect(),
        other => bytes(other).map(<[u8]>::to_vec).into_iter().collect(),
    }
}

/// An event that has everything that one may have.
pub(super) fn full_event() -> Arc<Event> {
    Arc::new(Event {
        id: "e1".to_owned(),
        app: "1".into(),
        name: "said".to_owned(),
        channels: vec!["c".to_owned(), "d".to_owned()],
        data: Data { bytes: "\u{e4} {}".into(), content_type: Some("text/plain".to_owned()) },
        time: 1_763_719_000_123,
        op: Some("update".to_owned()),
        key: Some("k".to_owned()),
        except: Some("1.1".to_owned()),
    })
}

/// Lets a node do one of everything, and answers what it published and stored, a line a piece.
async fn recorded(fixture: RedisFixture) -> String {
    let mut world = fixture.world().await;
    let (sender, mut pushed) = mpsc::unbounded_channel::<PushInfo>();
    let config = AsyncConnectionConfig::new().set_push_sender(sender);
    let client = redis::Client::open(format!("{}?protocol=resp3", fixture.server.lock().await.url())).unwrap();
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    connection.subscribe("tidings:{1:c}").await.unwrap();
    connection.subscribe("{tidings}:control").await.unwrap();
    // What is random or a time otherwise.
    let generation = strings(&fixture.does(&["HGET", "{tidings}:generation", "generation"]).await).concat();
    let generation = String::from_utf8(generation).unwrap();
    let meta = ["n", "7", "tn", "3", "g", &generation, "e", "7-00000000000000aa", "o", "4", "f", "99999999999999"];
    fixture.does(&[&["HSET", "tidings:{1:c}:meta"], &meta[..]].concat()).await;

    let options = &mut world.options;
    (options.presence, options.join_leave, options.subscription_count) = (true, true, true);
    (options.history_size, options.history_ttl) = (10, Duration::from_secs(3_600));
    options.cache_ttl = Some(Duration::from_secs(3_600));
    world.join(1, "ann").await;
    let mut join = world.to_join("c", 2, "7", None);
    let member = Arc::make_mut(join.member.as_mut().unwrap());
    (member.user, member.info) = (UserId::number("7"), None);
    world.broker.join(join).await.unwrap();
    world.join(3, "ann").await;
    let published = world.to_publish("c", "e0");
    world.broker.publish(published.clone()).await.unwrap();
    let full = Publish { event: full_event(), except: Some(session(2)), user: Some(UserId::number("7")), ..published };
    world.broker.publish(full.clone()).await.unwrap();
    world.broker.publish(Publish { by_client: true, user: Some("ann".into()), ..full }).await.unwrap();
    let mut text = String::new();
    for (what, name) in [("users", "users"), ("sessions", "here")] {
        let keys = strings(&fixture.does(&["KEYS", &format!("tidings:*:{name}*")]).await);
        let [key] = keys.as_slice() else { panic!("{keys:?}") };
        let all = strings(&fixture.does(&["HGETALL", std::str::from_utf8(key).unwrap()]).await);
        let mut all: Vec<_> =
            all.chunks(2).map(|pair| format!("{} {}", escaped(&pair[0]), escaped(&pair[1]))).collect();
        all.sort();
        all.iter().for_each(|line| writeln!(text, "{what} {line}").unwrap());
    }
    for (what, key) in [("meta", "tidings:{1:c}:meta"), ("generation", "{tidings}:generation")] {
        let all = strings(&fixture.does(&["HGETALL", key]).await);
        let mut all: Vec<_> = all.chunks(2).map(|pair| [escaped(&pair[0]), escaped(&pair[1])]).collect();
        all.sort();
        for [name, value] in all {
            writeln!(text, "{what} {name} {}", if RANDOM.contains(&&*name) { "*" } else { &value }).unwrap();
        }
    }
    let index = format!("{{tidings}}:channels:{}", fixture.broker().core.name());
    for channel in strings(&fixture.does(&["ZRANGE", &index, "0", "-1"]).await) {
        writeln!(text, "index {}", escaped(&channel)).unwrap();
    }
    world.leave(1).await;
    world.leave(2).await;
    for who in [Who::User("ann".into()), Who::Session(session(1))] {
        world.broker.order(SessionOrder::disconnect("1".into(), who)).await.unwrap();
    }
    for order in [SessionOrder::to_all("1".into(), Action::Shut), SessionOrder::to_all("1".into(), Action::Renew)] {
        world.broker.order(order).await.unwrap();
    }
    for entry in strings(&fixture.does(&["XRANGE", "tidings:{1:c}:log", "-", "+"]).await).chunks(5) {
        let [id, expires, _, name, value] = entry else { panic!("{entry:?}") };
        writeln!(text, "log {} {} * {} {}", escaped(id), escaped(expires), escaped(name), escaped(value)).unwrap();
    }
    writeln!(text, "cache {}", escaped(&strings(&fixture.does(&["GET", "tidings:{1:c}:cache"]).await).concat()))
        .unwrap();
    // Published before the answer to this.
    redis::cmd("PING").exec_async(&mut connection).await.unwrap();
    while let Ok(push) = pushed.try_recv() {
        if push.kind == PushKind::Message {
            let what = if bytes(&push.data[0]) == Some(b"{tidings}:control") { "control" } else { "message" };
            writeln!(text, "{what} {}", escaped(bytes(&push.data[1]).unwrap())).unwrap();
        }
    }
    text
}

const V1: &str = include_str!("kept/v1.txt");

#[tokio::test]
async fn what_is_written_for_a_version_stays_as_it_was() {
    let written = recorded(RedisFixture::alone().await).await;
    assert_eq!(written, V1, "\n{written}");
}
