//! A node with a toy protocol and a toy bus, and clients that use another WebSocket implementation.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::registry::Registry;
use tidings_live::{Inboxes, Live, Settings, Socket};
use tidings_model::app::App;
use tidings_model::channel::SessionId;
use tidings_model::clock::{SharedClock, SystemClock};
use tidings_supervisor::Supervisor;
use tokio::runtime::Runtime;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket};

use crate::toy::{Ears, Toy, ToyBus};

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "it never came true that {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) struct Node {
    pub(crate) runtime: Runtime,
    pub(crate) live: Live,
    pub(crate) bus: Arc<ToyBus>,
    pub(crate) app: Arc<App>,
    registry: Registry,
}

impl Node {
    pub(crate) fn start(shards: u16, settings: Settings) -> Self {
        Self::with_clock(shards, settings, SystemClock::shared())
    }

    pub(crate) fn with_clock(shards: u16, settings: Settings, clock: SharedClock) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let inboxes = Inboxes::new(shards, &settings, Arc::clone(&clock)).unwrap();
        let bus = ToyBus::new(inboxes.clone());
        let handler = Arc::new(Ears(Arc::clone(&bus)));
        let mut registry = Registry::default();
        let handle = runtime.handle().clone();
        let live =
            Live::start(inboxes, settings, clock, handler, handle, &mut registry, &Supervisor::default()).unwrap();
        Self { runtime, live, bus, app: Arc::new(App::new("1", "key", "secret".into())), registry }
    }

    /// The two ends of a connection: the server's for tokio, the client's blocking.
    pub(crate) fn pair(&self) -> (tokio::net::TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_nodelay(true).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let _inside = self.runtime.enter();
        (tokio::net::TcpStream::from_std(server).unwrap(), client)
    }

    pub(crate) fn attach(&self, socket: Socket, early: Bytes) {
        let permit = self.live.admit(&self.app, None).unwrap();
        let _inside = self.runtime.enter();
        let toy = Toy { bare: false, handled: Arc::clone(&self.bus.handled) };
        self.live.attach(permit, Arc::clone(&self.app), socket, early, Box::new(toy));
    }

    /// A connected client that has been greeted.
    pub(crate) fn connect(&self) -> Client<TcpStream> {
        let (server, client) = self.pair();
        self.attach(Socket::from(server), Bytes::new());
        Client::greeted(client)
    }

    /// A connected client that has joined a channel.
    pub(crate) fn member(&self, channel: &str) -> Client<TcpStream> {
        let mut client = self.connect();
        client.say(&format!("join {channel}"));
        client.hears(&format!("joined {channel}"));
        client
    }

    /// The value of a metric, by its name with labels.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse().unwrap())
    }

    /// No session, channel or queued byte is left.
    #[track_caller]
    pub(crate) fn is_empty_in_the_end(&self) {
        eventually("nothing is left", || self.live.sizes() == tidings_live::Sizes::default());
    }
}

pub(crate) struct Client<S> {
    pub(crate) socket: WebSocket<S>,
    pub(crate) id: SessionId,
}

impl<S: Read + Write> Client<S> {
    #[track_caller]
    pub(crate) fn greeted(stream: S) -> Self {
        let socket = WebSocket::from_raw_socket(stream, Role::Client, None);
        let mut client = Self { socket, id: SessionId::from_random([0; 16]) };
        let hello = client.text();
        client.id = hello.strip_prefix("hello ").unwrap().parse().unwrap();
        client
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    #[track_caller]
    pub(crate) fn text(&mut self) -> String {
        match self.socket.read().unwrap() {
            Message::Text(text) => text.to_string(),
            other => panic!("expected a text, got {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn hears(&mut self, text: &str) {
        assert_eq!(self.text(), text);
    }

    /// Reads to the end and returns how the server closed.
    #[track_caller]
    pub(crate) fn closed(&mut self) -> Option<CloseFrame> {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame,
                Ok(_) => {}
                Err(error) => panic!("the connection broke: {error}"),
            }
        }
    }
}
