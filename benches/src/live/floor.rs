//! The floor: the least work to fan out WebSocket frames. `GET /sub/CHANNEL` upgrades and subscribes, `POST
//! /pub/CHANNEL` sends the body to all subscribers: each message is encoded once, and all messages that are ready go to
//! a subscriber with one `send`. No authentication, no limits, no pings; one thread.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tidings_wire::ws;

use crate::http1::{content_length, find, head_len};
use crate::live::handshake;

const LISTENER: Token = Token(usize::MAX);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

struct Connection {
    stream: TcpStream,
    /// The bytes of an incomplete request, or, once subscribed, those that the kernel has not taken yet.
    held: Vec<u8>,
    channel: Option<Arc<str>>,
}

/// Serves until it is killed; prints its address.
pub(crate) fn serve() -> anyhow::Result<()> {
    let mut floor = Floor::new()?;
    println!("listening on {}", floor.listener.local_addr()?);
    io::stdout().flush()?;
    floor.run()
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    channels: HashMap<Arc<str>, Vec<usize>>,
    /// Frames that were published and not sent yet.
    news: Vec<(Arc<str>, Bytes)>,
}

impl Floor {
    fn new() -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        socket.listen(4096)?;
        let mut listener = TcpListener::from_std(socket.into());
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (connections, free, news) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { poll, listener, connections, free, channels: HashMap::new(), news })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 64 << 10];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.context("epoll")?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(at) => self.ready(at, event.is_writable(), &mut scratch),
                }
            }
            self.fan_out();
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        while let Ok((mut stream, _)) = self.listener.accept() {
            stream.set_nodelay(true)?;
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.poll.registry().register(&mut stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
            self.connections[at] = Some(Connection { stream, held: Vec::new(), channel: None });
        }
        Ok(())
    }

    fn close(&mut self, at: usize) {
        let Some(gone) = self.connections[at].take() else { return };
        if let Some(members) = gone.channel.and_then(|name| self.channels.get_mut(&name)) {
            members.retain(|&member| member != at);
        }
        self.free.push(at);
    }

    fn ready(&mut self, at: usize, writable: bool, scratch: &mut [u8]) {
        loop {
            let Some(connection) = self.connections[at].as_mut() else { return };
            if writable && connection.channel.is_some() && !connection.held.is_empty() {
                let written = connection.stream.write(&connection.held).unwrap_or(0);
                connection.held.drain(..written);
            }
            match connection.stream.read(scratch) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => return self.close(at),
                // Frames of subscribers are ignored.
                Ok(_) if connection.channel.is_some() => {}
                Ok(len) => {
                    connection.held.extend_from_slice(&scratch[..len]);
                    self.requests(at);
                }
            }
        }
    }

    /// Answers every complete request of a connection.
    fn requests(&mut self, at: usize) {
        loop {
            let Some(connection) = self.connections[at].as_mut() else { return };
            let Some(head) = head_len(&connection.held) else { return };
            let whole = head + content_length(&connection.held[..head]);
            if connection.held.len() < whole {
                return;
            }
            let path_from = find(&connection.held, b"/").unwrap_or(0);
            let path = connection.held[path_from..].split(|byte| *byte == b' ').next().unwrap_or_default();
            let (verb, name) = path.split_at(path.len().min(5));
            let name: Arc<str> = String::from_utf8_lossy(name).into();
            if verb == b"/sub/" {
                let answer = handshake::answer(&connection.held[..head]);
                connection.held = Vec::new();
                connection.channel = Some(Arc::clone(&name));
                if connection.stream.write(answer.as_bytes()).is_err() {
                    return self.close(at);
                }
                self.channels.entry(name).or_default().push(at);
                return;
            }
            self.news.push((name, ws::text(&connection.held[head..whole])));
            connection.held.drain(..whole);
            if connection.stream.write(ANSWER).is_err() {
                return self.close(at);
            }
        }
    }

    /// Sends the new frames of each channel, as one buffer, to each of its subscribers.
    fn fan_out(&mut self) {
        let mut batches: HashMap<Arc<str>, Vec<u8>> = HashMap::new();
        for (channel, frame) in self.news.drain(..) {
            batches.entry(channel).or_default().extend_from_slice(&frame);
        }
        for (channel, bytes) in batches {
            let Some(members) = self.channels.get(&channel) else { continue };
            for &at in members {
                let Some(connection) = self.connections[at].as_mut() else { continue };
                let sent = if connection.held.is_empty() { connection.stream.write(&bytes).unwrap_or(0) } else { 0 };
                if sent < bytes.len() {
                    connection.held.extend_from_slice(&bytes[sent..]);
                }
            }
        }
    }
}
