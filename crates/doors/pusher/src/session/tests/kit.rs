//! A client on a [`ProtocolTester`]: no socket, no shard, no broker.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tidings_broker::Welcome;
use tidings_live::{CloseWith, JoinRequest, Message, ProtocolTester, SessionProtocol, SessionRequest};
use tidings_model::app::App;
use tidings_model::channel::{ChannelKey, Member};
use tidings_model::policy::canonical;
use tidings_model::secret::SecretString;
use tidings_model::signing;

use super::super::Session;
use crate::door::KeepAlive;

pub(super) const KEY: &str = "278d425bdf160c739803";
pub(super) const SECRET: &str = "7ad3773142a6692b25b8";
/// The session of Pusher's own examples of signatures.
pub(super) const SOCKET: &str = "1234.1234";
pub(super) const NOW: i64 = 1_795_255_000_000;

pub(super) fn app() -> App {
    App::new("3", KEY, SecretString::from(SECRET))
}

pub(super) fn auth(text: impl AsRef<[u8]>) -> String {
    format!("{KEY}:{}", signing::sign_hex(&SecretString::from(SECRET), text))
}

pub(super) fn member(user: &str, info: Option<&'static str>) -> Arc<Member> {
    Arc::new(Member { user: user.into(), info: info.map(|info| Bytes::from_static(info.as_bytes())) })
}

pub(super) struct Client {
    pub(super) session: Session,
    pub(super) tester: ProtocolTester,
    app: Arc<App>,
}

impl Client {
    /// A client that has connected.
    pub(super) fn new() -> Self {
        Self::of(app(), 7)
    }

    pub(super) fn of(app: App, protocol: u8) -> Self {
        let mut client = Self::before(app, protocol);
        client.session.opened(&mut client.tester.context());
        client.frames();
        client
    }

    /// A client that is about to connect.
    pub(super) fn before(app: App, protocol: u8) -> Self {
        let app = Arc::new(app);
        let mut tester = ProtocolTester::new(SOCKET.parse().unwrap());
        (tester.now, tester.last_read_at, tester.last_write_at) = (NOW, NOW, NOW);
        Self { session: Session::new(Arc::clone(&app), protocol, KeepAlive::default()), tester, app }
    }

    /// The frames written, as JSON.
    pub(super) fn frames(&mut self) -> Vec<Value> {
        self.tester.written().iter().map(|frame| payload(frame)).collect()
    }

    /// Sends a text, and returns the frames of the response.
    pub(super) fn send(&mut self, text: &str) -> Vec<Value> {
        self.session.received(&mut self.tester.context(), Message::Text(text));
        self.frames()
    }

    pub(super) fn say(&mut self, event: &str, data: Value) -> Vec<Value> {
        self.send(&json!({"event": event, "data": data}).to_string())
    }

    /// The one request that was made.
    #[track_caller]
    pub(super) fn asked(&mut self) -> (u32, SessionRequest) {
        let mut asked = self.tester.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    #[track_caller]
    pub(super) fn asked_to_join(&mut self) -> (u32, JoinRequest) {
        match self.asked() {
            (request_id, SessionRequest::Join(join)) => (request_id, join),
            (_, other) => panic!("not a join: {other:?}"),
        }
    }

    pub(super) fn key(&self, channel: &str) -> ChannelKey {
        ChannelKey::new(self.app.id.clone(), &*canonical(channel))
    }

    /// Subscribes with a valid signature, as an app's server makes it.
    pub(super) fn subscribe(&mut self, channel: &str, channel_data: Option<&str>) -> Vec<Value> {
        let auth = auth(signing::channel_string(SOCKET, channel, channel_data));
        let mut data = json!({"channel": channel, "auth": auth});
        if let Some(channel_data) = channel_data {
            data["channel_data"] = channel_data.into();
        }
        self.say("pusher:subscribe", data)
    }

    /// Answers the requested join as the broker does.
    #[track_caller]
    pub(super) fn admit(&mut self, welcome: Welcome) -> Vec<Value> {
        let (request_id, join) = self.asked_to_join();
        let channel = self.key(&join.channel);
        self.session.joined(&mut self.tester.context(), request_id, &channel, Ok(welcome));
        self.frames()
    }

    /// A client in a channel.
    #[track_caller]
    pub(super) fn join(&mut self, channel: &str, channel_data: Option<&str>) {
        assert_eq!(self.subscribe(channel, channel_data), Vec::<Value>::new());
        let frames = self.admit(Welcome::default());
        assert_eq!(frames[0]["event"], "pusher_internal:subscription_succeeded");
    }

    /// How the session was closed, with a code that clients understand.
    pub(super) fn ended(&mut self) -> Option<(u16, String)> {
        self.tester.ended().map(|end| match end {
            CloseWith::Frame(code, reason) => {
                assert!(code < 4300, "clients never come back after {code}");
                assert!(reason.len() <= 123, "{reason}");
                (code, reason)
            }
            CloseWith::EndOfStream => panic!("no close frame"),
        })
    }
}

/// The JSON in a text frame (RFC 6455 § 5.2).
pub(super) fn payload(frame: &[u8]) -> Value {
    assert_eq!(frame[0], 0x81, "a whole text frame");
    let (len, start) = match frame[1] {
        126 => (u64::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
        127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()), 10),
        short => (u64::from(short), 2),
    };
    assert_eq!(len, (frame.len() - start) as u64);
    serde_json::from_slice(&frame[start..]).unwrap_or_else(|e| panic!("{e}: {frame:?}"))
}

/// `data` of a frame, which is JSON in a string.
#[track_caller]
pub(super) fn data(frame: &Value) -> Value {
    let text = frame["data"].as_str().unwrap_or_else(|| panic!("no string: {frame}"));
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Asserts that this is a `pusher:error`, and returns its message.
#[track_caller]
pub(super) fn error(frames: &[Value], code: Value) -> String {
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(frames[0]["event"], "pusher:error", "{frames:?}");
    assert_eq!(frames[0]["data"]["code"], code, "{frames:?}");
    frames[0]["data"]["message"].as_str().unwrap().to_owned()
}

/// Asserts that a subscription was refused in both ways, and returns the type, the status and the message.
#[track_caller]
pub(super) fn refused(frames: &[Value], channel: &str) -> (String, u64, String) {
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!(frames[0]["event"], "pusher:subscription_error", "{frames:?}");
    assert_eq!(frames[0]["channel"], channel);
    let why = data(&frames[0]);
    let message = error(&frames[1..], Value::Null);
    assert_eq!(why["error"], message.as_str());
    (why["type"].as_str().unwrap().to_owned(), why["status"].as_u64().unwrap(), message)
}
