//! A light client of Pusher's protocol. It reads only when the test asks for a message, so that tests can be slow
//! readers.

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
/// How many of the received frames a failed wait prints.
const PRINTED: usize = 12;

/// A message of the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The event's name.
    pub event: String,
    /// The channel, if it names one.
    pub channel: Option<String>,
    /// The data as in the envelope: a string, except for errors.
    pub raw_data: Value,
    /// The user whose client event it is.
    pub user_id: Option<String>,
}

impl Frame {
    /// The data; a string that is JSON is decoded.
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

/// The next thing that a session receives.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A message.
    Frame(Frame),
    /// The server's close frame.
    Closed(u16, String),
    /// An end without a close frame.
    Broken(String),
    /// Nothing within the deadline.
    Nothing,
}

/// How a connection was refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// With an HTTP answer of this status.
    Http(u16),
    /// Over the WebSocket: the first message, if any, and then the end.
    Session(Option<Frame>, Incoming),
    /// Without an answer.
    Broken(String),
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connected session. Dropped, it closes its socket without a close frame.
pub struct PusherSession {
    /// Its id.
    pub socket_id: String,
    /// After how many seconds of silence the client has to send a ping.
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
        // The default buffer of 128 KiB per session is too large for thousands of them.
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
            Incoming::Frame(frame) if frame.event == "pusher:connection_established" => {
                let data = frame.data();
                session.socket_id = data["socket_id"].as_str().unwrap_or_default().to_owned();
                session.activity_timeout = data["activity_timeout"].as_u64().unwrap_or_default();
                Ok(session)
            }
            Incoming::Frame(frame) => Err(Refused::Session(Some(frame), session.read(PATIENCE).await)),
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

    /// Sends any text.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send_text(&mut self, text: &str) -> Result<(), Error> {
        self.socket.send(Message::text(text)).await
    }

    /// Sends a subscription, without waiting.
    pub async fn ask_to_join(&mut self, channel: &str, auth: &str, channel_data: Option<&str>) {
        let mut data = json!({"channel": channel, "auth": auth});
        if let Some(channel_data) = channel_data {
            data["channel_data"] = channel_data.into();
        }
        self.send(json!({"event": "pusher:subscribe", "data": data})).await;
    }

    /// Subscribes to a public or private channel with the right proof; returns the data of the success.
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

    /// Subscribes to a presence channel as this user; returns the data of the success.
    ///
    /// # Panics
    /// When it does not succeed.
    pub async fn subscribe_as(&mut self, channel: &str, user: &str, info: Value) -> Value {
        let channel_data = json!({"user_id": user, "user_info": info}).to_string();
        let auth = self.app.auth(&self.socket_id, channel, Some(&channel_data));
        self.ask_to_join(channel, &auth, Some(&channel_data)).await;
        self.expect_on("pusher_internal:subscription_succeeded", channel, PATIENCE).await.data()
    }

    /// Unsubscribes; the server sends no answer.
    pub async fn unsubscribe(&mut self, channel: &str) {
        self.send(json!({"event": "pusher:unsubscribe", "data": {"channel": channel}})).await;
    }

    /// Waits until the server has handled everything sent so far, by a ping: messages are handled in order.
    ///
    /// # Panics
    /// When no answer came.
    pub async fn settle(&mut self) {
        self.send(json!({"event": "pusher:ping", "data": {}})).await;
        self.expect("pusher:pong", PATIENCE).await;
    }

    /// The oldest frame that was received and not taken yet, or the next one that arrives.
    pub async fn next(&mut self, deadline: Duration) -> Incoming {
        match self.waiting.pop_front() {
            Some(frame) => Incoming::Frame(frame),
            None => self.read(deadline).await,
        }
    }

    /// Takes the first event of that name. Others stay for later.
    ///
    /// # Panics
    /// When none came within `deadline`, with what came.
    #[track_caller]
    pub fn expect(&mut self, event: &str, deadline: Duration) -> impl Future<Output = Frame> {
        self.expect_that(format!("event {event:?}"), move |frame| frame.event == event, deadline)
    }

    /// Takes the first event of that name on that channel. Others stay for later.
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
                    Incoming::Frame(frame) if fits(&frame) => return frame,
                    Incoming::Frame(frame) => self.waiting.push_back(frame),
                    end => panic!("{caller}: no {what} within {deadline:?}: {end:?}; {}", self.what_came()),
                }
            }
        }
    }

    /// Waits for the close frame, and returns its code and reason; messages before it stay for later.
    ///
    /// # Panics
    /// When the connection ends otherwise, or not within `deadline`.
    pub async fn expect_close(&mut self, deadline: Duration) -> (u16, String) {
        let end = Instant::now() + deadline;
        loop {
            match self.read(end.saturating_duration_since(Instant::now())).await {
                Incoming::Frame(frame) => self.waiting.push_back(frame),
                Incoming::Closed(code, reason) => return (code, reason),
                end => panic!("no close frame within {deadline:?}: {end:?}; {}", self.what_came()),
            }
        }
    }

    /// The frames that were received and not taken yet, for a panic message.
    pub fn waiting(&self) -> impl Iterator<Item = &Frame> {
        self.waiting.iter()
    }

    /// Closes with a close frame and waits for the server's.
    pub async fn close(mut self) {
        self.socket.close(None).await.ok();
        while let Incoming::Frame(_) = self.read(PATIENCE).await {}
    }

    /// Reads one message; answers pings of both kinds itself.
    async fn read(&mut self, deadline: Duration) -> Incoming {
        let end = Instant::now() + deadline;
        loop {
            let Ok(read) = tokio::time::timeout_at(end, self.socket.next()).await else { return Incoming::Nothing };
            match read {
                Some(Ok(Message::Text(text))) => {
                    let frame = Frame::parse(&text);
                    if frame.event != "pusher:ping" {
                        return Incoming::Frame(frame);
                    }
                    self.send_text(r#"{"event":"pusher:pong","data":{}}"#).await.ok();
                }
                Some(Ok(Message::Close(close))) => {
                    // tungstenite sends the answer with the next read.
                    tokio::time::timeout_at(end, self.socket.next()).await.ok();
                    let (code, reason) =
                        close.map_or((1005, String::new()), |close| (close.code.into(), close.reason.to_string()));
                    return Incoming::Closed(code, reason);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Incoming::Broken(error.to_string()),
                None => return Incoming::Broken("the stream ended".to_owned()),
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
