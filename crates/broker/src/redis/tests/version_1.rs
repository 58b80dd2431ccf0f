//! A node of version 1 on the same Redis: its scripts, called with arguments by position, and its bytes, as both were
//! then.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use tokio::sync::mpsc;

use super::super::reply::bytes;
use super::kept::strings;
use super::{RedisFixture, settle, text};
use crate::broker::{HistoryRange, Occupancy, Since};
use crate::session_order::{SessionOrder, Who};
use crate::suite::{key, lines, session};

macro_rules! script {
    ($file:literal) => {
        concat!(include_str!("kept/v1/channel.lua"), include_str!(concat!("kept/v1/", $file)))
    };
}

const CHANNEL: &str = "tidings:{1:c}";
const CONTROL: &str = "{tidings}:control";
/// The length of a field that is not there.
const NONE: u32 = u32::MAX;

/// Bytes as version 1 wrote them.
fn written(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut all = vec![1];
    for field in fields {
        all.extend(field.map_or(NONE, |field| field.len() as u32).to_be_bytes());
        all.extend(field.unwrap_or_default());
    }
    all
}

pub(super) fn event_bytes(id: &str) -> Vec<u8> {
    let front = [Some(id.as_bytes()), Some(b"said"), Some(&[0; 8]), Some(b"\"\"")];
    written(&[&front[..], &[None; 6], &[Some(&[0; 8])]].concat())
}

/// Bytes as version 1 read them: those of another version make no sense, and what is left over is not looked at.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self(bytes.strip_prefix(&[1]).expect("version 1 reads no other"))
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>().unwrap();
        self.0 = rest;
        let length = u32::from_be_bytes(*length);
        (length != NONE).then(|| {
            let (field, rest) = self.0.split_at(length as usize);
            self.0 = rest;
            field
        })
    }
}

/// The id of an event, having read all of it.
pub(super) fn read_event(bytes: &[u8]) -> String {
    let mut fields = Fields::of(bytes);
    let (id, _name) = (text(fields.next().unwrap()), text(fields.next().unwrap()));
    let _time: [u8; 8] = fields.next().unwrap().try_into().unwrap();
    let _data = fields.next().unwrap();
    let _content_type_op_key_except = [(); 4].map(|()| fields.next().map(text));
    let (user, _except) = (fields.next(), fields.next());
    for _ in 0..u64::from_be_bytes(fields.next().unwrap().try_into().unwrap()) {
        text(fields.next().unwrap());
    }
    if user.is_some() && !fields.0.is_empty() {
        fields.next().unwrap();
    }
    id
}

/// The user of a member, and what is shown of them.
pub(super) fn read_member(bytes: &[u8]) -> String {
    let mut fields = Fields::of(bytes);
    format!("{}/{}", text(fields.next().unwrap()), fields.next().map(text).unwrap_or_default())
}

struct OldNode {
    connection: MultiplexedConnection,
    pushed: mpsc::UnboundedReceiver<PushInfo>,
    generation: String,
    /// The number of the last message.
    heard: Option<u64>,
}

impl OldNode {
    async fn on(fixture: &RedisFixture) -> Self {
        let (sender, pushed) = mpsc::unbounded_channel();
        let config = AsyncConnectionConfig::new().set_push_sender(sender);
        let client = redis::Client::open(format!("{}?protocol=resp3", fixture.server.lock().await.url())).unwrap();
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        connection.subscribe(&[CHANNEL, CONTROL]).await.unwrap();
        let generation = strings(&fixture.does(&["HGET", "{tidings}:generation", "generation"]).await).concat();
        Self { connection, pushed, generation: text(&generation), heard: None }
    }

    async fn call(&mut self, script: &str, args: &[&[u8]]) -> Vec<Value> {
        let time: (u64, u64) = redis::cmd("TIME").query_async(&mut self.connection).await.unwrap();
        let mut command = redis::cmd("EVAL");
        command.arg(script).arg(5);
        for name in ["meta", "log", "cache", "users", "here:old"] {
            command.arg(format!("{CHANNEL}:{name}"));
        }
        command.arg(&self.generation).arg(time.0 * 1000 + time.1 / 1000).arg(CHANNEL).arg("PUBLISH");
        command.arg("0123456789abcdef").arg(args);
        let Value::Array(answer) = command.query_async(&mut self.connection).await.unwrap() else { panic!() };
        answer
    }

    /// Joins, with all that the channel offers; the entries of the history that it has missed.
    async fn join(&mut self, n: u32, user: &str, since: [&str; 3]) -> (Vec<String>, Vec<String>) {
        let (place, info, session) = (format!("0.{n}.1"), n.to_string(), session(n).to_string());
        let member = written(&[Some(user.as_bytes()), Some(info.as_bytes())]);
        let [what, epoch, offset] = since;
        let options = ["1", "1", "0", "100", "10", "60000", "0", what, epoch, offset];
        let who = [place.as_bytes(), session.as_bytes(), user.as_bytes(), &member];
        let args: Vec<_> = who.into_iter().chain(options.map(str::as_bytes)).collect();
        let answer = self.call(script!("join.lua"), &args).await;
        assert_eq!(bytes(&answer[0]), Some(&b"in"[..]));
        let members = strings(&answer[6]).iter().map(|member| read_member(member)).collect();
        (members, entries(&answer[5]))
    }

    async fn leave(&mut self, n: u32) {
        self.call(script!("leave.lua"), &[format!("0.{n}.1").as_bytes()]).await;
    }

    async fn publish(&mut self, id: &str) {
        let event = event_bytes(id);
        self.call(script!("publish.lua"), &[b"0", b"10", b"60000", b"", &event]).await;
    }

    async fn members(&mut self) -> Vec<String> {
        let answer = self.call(script!("members.lua"), &[]).await;
        let mut members: Vec<_> = strings(&answer[0]).iter().map(|member| read_member(member)).collect();
        members.sort();
        members
    }

    async fn history(&mut self) -> Vec<String> {
        let answer = self.call(script!("history.lua"), &[b"", b"0", b"0", b"100"]).await;
        entries(&answer[3])
    }

    /// The messages it has received since the last call, one line each.
    async fn received(&mut self) -> Vec<String> {
        redis::cmd("PING").exec_async(&mut self.connection).await.unwrap();
        let mut received = Vec::new();
        while let Ok(push) = self.pushed.try_recv() {
            if push.kind == PushKind::Message {
                let (channel, payload) = (bytes(&push.data[0]).unwrap(), bytes(&push.data[1]).unwrap());
                let line = if channel == CONTROL.as_bytes() { order(payload) } else { self.message(payload) };
                received.push(line);
            }
        }
        received
    }

    fn message(&mut self, payload: &[u8]) -> String {
        let end = payload.iter().position(|byte| *byte == b'\n').unwrap();
        let (head, body) = (text(&payload[..end]), &payload[end + 1..]);
        let words: Vec<_> = head.split(' ').collect();
        let number = words[1].parse().unwrap();
        assert!(self.heard.is_none_or(|heard| heard + 1 == number), "a message is missing before {head}");
        self.heard = Some(number);
        match words[0] {
            "p" => format!("{}@{}", read_event(body), words[3]),
            "+" => format!("+{}{}", read_member(body), if words[2] == "1" { " first" } else { "" }),
            "-" => format!("-{}{}", read_member(body), if words[2] == "1" { " last" } else { "" }),
            "#" => format!("{} are here", words[2]),
            _ => panic!("version 1 gives its connection up: {head}"),
        }
    }
}

/// The events of entries of a history, with their offsets.
fn entries(value: &Value) -> Vec<String> {
    let Value::Array(entries) = value else { panic!("{value:?}") };
    let entry = |entry: &Value| {
        let all = strings(entry);
        format!("{}@{}", read_event(&all[4]), text(&all[0]).strip_suffix("-0").unwrap())
    };
    entries.iter().map(entry).collect()
}

fn order(payload: &[u8]) -> String {
    let mut fields = Fields::of(payload);
    [(); 4].map(|()| text(fields.next().unwrap())).join(" ")
}

#[tokio::test]
async fn a_node_of_version_1_and_one_of_today_hear_each_other() {
    let there = RedisFixture::alone().await;
    let mut today = there.world().await;
    (today.options.presence, today.options.join_leave, today.options.history_size) = (true, true, 10);
    let mut old = OldNode::on(&there).await;
    let nothing = ["", "", ""];

    today.join(1, "ann").await;
    assert_eq!(old.join(3, "bob", nothing).await.0, ["ann/1", "bob/3"]);
    assert_eq!(today.publish("e1").await, Occupancy { subscriptions: 2, users: 2 });
    old.publish("e2").await;
    today.publish("e3").await;
    old.publish("e4").await;
    today.join(5, "ann").await;
    old.leave(3).await;
    let heard = ["+ann/1 first", "+bob/3 first", "e1@1", "e2@2", "e3@3", "e4@4", "+ann/5", "-bob/3 last"];
    assert_eq!(old.received().await, heard);
    let heard = [
        "c: s1 in, 1 here @0A {ann/1}",
        "c: +ann/1 first except s1",
        "c: +bob/3 first except s3",
        "c: e1@1A",
        "c: e2@2A",
        "c: e3@3A",
        "c: e4@4A",
        "c: s5 in, 3 here @4A {ann/1 bob/3}",
        "c: +ann/5 except s5",
        "c: -bob/3 last",
    ];
    today.receives(&[], &heard).await;

    // A session that recovers on either node gets the publications of both.
    let since = today.epochs.position("2A");
    let missed = old.join(7, "cid", ["position", since.epoch.as_str(), "2"]).await.1;
    assert_eq!(missed, ["e3@3", "e4@4"]);
    today.join_since(2, Since::Position(since)).await;
    today
        .receives(&["c: s2 in, 4 here @4A Complete [e3@3A e4@4A] {ann/1 cid/7}"], &["c: +cid/7 first except s7"])
        .await;

    // Both find the same members and the same history.
    assert_eq!(old.members().await, ["ann/1", "cid/7"]);
    assert_eq!(lines::members(&today.broker.members(&key("c")).await.unwrap()), "ann/1 cid/7");
    assert_eq!(old.history().await, ["e1@1", "e2@2", "e3@3", "e4@4"]);
    let range = HistoryRange { since: None, limit: 100, reverse: false };
    let history = today.broker.history(&key("c"), range).await.unwrap();
    assert_eq!(lines::publications(&history.publications, &mut today.epochs), "e1@1A e2@2A e3@3A e4@4A");

    let order = SessionOrder::disconnect("1".into(), Who::User("ann".into()));
    today.broker.order(order.clone()).await.unwrap();
    settle(&there.broker().core).await;
    today.receives(&[&format!("{order:?}")], &[&format!("{order:?}")]).await;
    assert_eq!(old.received().await, ["+cid/7 first", "disconnect 1 user ann"]);
    let bytes = written(&["disconnect", "1", "user", "bob"].map(|word| Some(word.as_bytes())));
    redis::cmd("PUBLISH").arg(CONTROL).arg(bytes).exec_async(&mut old.connection).await.unwrap();
    let order = SessionOrder::disconnect("1".into(), Who::User("bob".into()));
    today.receives(&[&format!("{order:?}")], &[&format!("{order:?}")]).await;
}
