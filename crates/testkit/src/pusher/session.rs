//! A light client of Pusher's protocol. It reads only when asked, so a test that does not ask is a client that does not
//! read.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::PusherApp;

/// How long the server may take to answer a connection or a subscription.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many of the frames that did come a failed wait prints.
const PRINTED: usize = 12;

/// A message of the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The event's name.
    pub event: String,
    /// The channel, if it names one.
    pub channel: Option<String>,
    /// The data as it stands in the envelope: text, but for errors.
    pub raw_data: Value,
    /// The user whose client event it is.
    pub user_id: Option<String>,
}

impl Frame {
    /// The data, read as JSON if it is text that is JSON.
    pub fn data(&self) -> Value {
        match &self.raw_data {
            Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| self.raw_data.clone()),
            data => data.clone(),
        }
    }

    fn parse(text: &str) -> Self {
        let json: Value =
            serde_json::from_str(text).unwrap_or_else(|e| panic!("the server sent no JSON ({e}): {text}"));
        let field = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            event: field("event").unwrap_or_else(|| panic!("the server sent no event: {text}")),
            channel: field("channel"),
            raw_data: json.get("data").cloned().unwrap_or(Value::Null),
            user_id: field("user_id"),
        }
    }
}

/// What a session heard next.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A message.
    Frame(Frame),
    /// The server's close frame.
    Closed(u16, String),
    /// An end without one.
    Broken(String),
    /// Nothing within the deadline.
    Nothing,
}

/// How a connection was refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// With an HTTP answer of this status.
    Http(u16),
    /// Over the WebSocket: what was said first, if anything, and how it ended.
    Session(Option<Frame>, Heard),
    /// Without an answer.
    Broken(String),
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connected session. Dropped, it is gone without a word.
pub struct PusherSession {
    /// Its id.
    pub socket_id: String,
    /// After how many seconds of silence the server wants a ping.
    pub activity_timeout: u64,
    /// The app it belongs to.
    pub app: PusherApp,
    socket: WebSocketStream<Box<dyn Io>>,
    waiting: VecDeque<Frame>,
}

impl fmt::Debug for PusherSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PusherSession").field("socket_id", &self.socket_id).finish_non_exhaustive()
    }
}

impl PusherSession {
    pub(super) async fn open(
        app: PusherApp,
        path: &str,
        via: Option<SocketAddr>,
        from: Option<IpAddr>,
    ) -> Result<Self, Refused> {
        let broken = |e: &dyn fmt::Display| Refused::Broken(e.to_string());
        let url = format!("{}{path}", app.url.replacen("http", "ws", 1));
        let request = url.as_str().into_client_request().unwrap_or_else(|e| panic!("{url}: {e}"));
        let addr = request.uri().authority().and_then(|authority| authority.as_str().parse().ok());
        let addr = via.or(addr).unwrap_or_else(|| panic!("{url} has no address"));
        let stream = connect(addr, from).await.map_err(|e| broken(&e))?;
        let io: Box<dyn Io> = if url.starts_with("wss") {
            let name = rustls::pki_types::ServerName::from(addr.ip());
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(&crate::tls::client()));
            Box::new(connector.connect(name, stream).await.map_err(|e| broken(&e))?)
        } else {
            Box::new(stream)
        };
        // The default buffer of 128 KiB a session is too much for thousands of them.
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let handshake = tokio_tungstenite::client_async_with_config(request, io, Some(config));
        let (socket, _) = match tokio::time::timeout(PATIENCE, handshake).await {
            Err(_) => return Err(broken(&"no answer to the handshake")),
            Ok(Err(Error::Http(response))) => return Err(Refused::Http(response.status().as_u16())),
            Ok(Err(error)) => return Err(broken(&error)),
            Ok(Ok(done)) => done,
        };
        let mut session = Self { socket_id: String::new(), activity_timeout: 0, app, socket, waiting: VecDeque::new() };
        match session.read(PATIENCE).await {
            Heard::Frame(frame) if frame.event == "pusher:connection_established" => {
                let data = frame.data();
                session.socket_id = data["socket_id"].as_str().unwrap_or_default().to_owned();
                session.activity_timeout = data["activity_timeout"].as_u64().unwrap_or_default();
                Ok(session)
            }
            Heard::Frame(frame) => Err(Refused::Session(Some(frame), session.read(PATIENCE).await)),
            end => Err(Refused::Session(None, end)),
        }
    }

    /// Sends a message.
    ///
    /// # Panics
    /// When the connection is gone.
    pub async fn send(&mut self, json: Value) {
        self.send_text(&json.to_string()).await.unwrap_or_else(|e| panic!("cannot send {json}: {e}"));
    }

    /// Sends text, whatever it is.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_text(&mut self, text: &str) -> Result<(), Error> {
        self.socket.send(Message::text(text)).await
    }

    /// Asks to join, and waits for nothing.
    pub async fn ask_to_join(&mut self, channel: &str, auth: &str, channel_data: Option<&str>) {
        let mut data = json!({"channel": channel, "auth": auth});
        if let Some(channel_data) = channel_data {
            data["channel_data"] = channel_data.into();
        }
        self.send(json!({"event": "pusher:subscribe", "data": data})).await;
    }

    /// Joins a public or private channel with the right proof; returns the data of the success.
    ///
    /// # Panics
    /// When it does not succeed.
    pub async fn subscribe(&mut self, channel: &str) -> Value {
        let auth = match channel.starts_with("private-") {
            true => self.app.auth(&self.socket_id, channel, None),
            false => String::new(),
        };
        self.ask_to_join(channel, &auth, None).await;
        self.expect_on("pusher_internal:subscription_succeeded", channel, PATIENCE).await.data()
    }

    /// Joins a presence channel as this user; returns the data of the success.
    ///
    /// # Panics
    /// When it does not succeed.
    pub async fn subscribe_as(&mut self, channel: &str, user: &str, info: Value) -> Value {
        let channel_data = json!({"user_id": user, "user_info": info}).to_string();
        let auth = self.app.auth(&self.socket_id, channel, Some(&channel_data));
        self.ask_to_join(channel, &auth, Some(&channel_data)).await;
        self.expect_on("pusher_internal:subscription_succeeded", channel, PATIENCE).await.data()
    }

    /// Leaves a channel; there is no answer to it.
    pub async fn unsubscribe(&mut self, channel: &str) {
        self.send(json!({"event": "pusher:unsubscribe", "data": {"channel": channel}})).await;
    }

    /// Waits until the server has handled all that was sent so far: it answers pings in turn.
    ///
    /// # Panics
    /// When no answer came.
    pub async fn settle(&mut self) {
        self.send(json!({"event": "pusher:ping", "data": {}})).await;
        self.expect("pusher:pong", PATIENCE).await;
    }

    /// What came and was not asked for by name yet, oldest first; then what comes.
    pub async fn next(&mut self, deadline: Duration) -> Heard {
        match self.waiting.pop_front() {
            Some(frame) => Heard::Frame(frame),
            None => self.read(deadline).await,
        }
    }

    /// The first event of that name that was not taken yet. Others stay for later.
    ///
    /// # Panics
    /// When none came within `deadline`, with what came.
    #[track_caller]
    pub fn expect(&mut self, event: &str, deadline: Duration) -> impl Future<Output = Frame> {
        self.expect_that(format!("event {event:?}"), move |frame| frame.event == event, deadline)
    }

    /// The first event of that name on that channel that was not taken yet. Others stay for later.
    ///
    /// # Panics
    /// When none came within `deadline`, with what came.
    #[track_caller]
    pub fn expect_on(&mut self, event: &str, channel: &str, deadline: Duration) -> impl Future<Output = Frame> {
        let fits = move |frame: &Frame| frame.event == event && frame.channel.as_deref() == Some(channel);
        self.expect_that(format!("event {event:?} on {channel:?}"), fits, deadline)
    }

    #[track_caller]
    fn expect_that(
        &mut self,
        what: String,
        fits: impl Fn(&Frame) -> bool,
        deadline: Duration,
    ) -> impl Future<Output = Frame> {
        let caller = Location::caller();
        async move {
            if let Some(place) = self.waiting.iter().position(&fits) {
                return self.waiting.remove(place).unwrap_or_else(|| unreachable!("it was just found"));
            }
            let end = Instant::now() + deadline;
            loop {
                match self.read(end.saturating_duration_since(Instant::now())).await {
                    Heard::Frame(frame) if fits(&frame) => return frame,
                    Heard::Frame(frame) => self.waiting.push_back(frame),
                    end => panic!("{caller}: no {what} within {deadline:?}: {end:?}; {}", self.what_came()),
                }
            }
        }
    }

    /// The close frame's code and reason; what comes before it stays for later.
    ///
    /// # Panics
    /// When the connection ends otherwise, or not within `deadline`.
    pub async fn expect_close(&mut self, deadline: Duration) -> (u16, String) {
        let end = Instant::now() + deadline;
        loop {
            match self.read(end.saturating_duration_since(Instant::now())).await {
                Heard::Frame(frame) => self.waiting.push_back(frame),
                Heard::Closed(code, reason) => return (code, reason),
                end => panic!("no close frame within {deadline:?}: {end:?}; {}", self.what_came()),
            }
        }
    }

    /// What came and was not taken yet.
    pub fn waiting(&self) -> impl Iterator<Item = &Frame> {
        self.waiting.iter()
    }

    /// Closes in an orderly way and waits for the other side's answer.
    pub async fn close(mut self) {
        self.socket.close(None).await.ok();
        while let Heard::Frame(_) = self.read(PATIENCE).await {}
    }

    /// Reads one message, and answers what is to be answered at once: pings of both kinds.
    async fn read(&mut self, deadline: Duration) -> Heard {
        let end = Instant::now() + deadline;
        loop {
            let Ok(read) = tokio::time::timeout_at(end, self.socket.next()).await else { return Heard::Nothing };
            match read {
                Some(Ok(Message::Text(text))) => {
                    let frame = Frame::parse(&text);
                    if frame.event != "pusher:ping" {
                        return Heard::Frame(frame);
                    }
                    self.send_text(r#"{"event":"pusher:pong","data":{}}"#).await.ok();
                }
                Some(Ok(Message::Close(close))) => {
                    // The answer to it is sent by reading on.
                    tokio::time::timeout_at(end, self.socket.next()).await.ok();
                    let (code, reason) =
                        close.map_or((1005, String::new()), |close| (close.code.into(), close.reason.to_string()));
                    return Heard::Closed(code, reason);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Heard::Broken(error.to_string()),
                None => return Heard::Broken("the stream ended".to_owned()),
            }
        }
    }

    fn what_came(&self) -> String {
        let skipped = self.waiting.len().saturating_sub(PRINTED);
        let last: Vec<_> = self.waiting.iter().skip(skipped).map(|frame| format!("{frame:?}")).collect();
        format!("{} others came, the last of them:\n  {}", self.waiting.len(), last.join("\n  "))
    }
}

async fn connect(addr: SocketAddr, from: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = match addr {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    }?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
