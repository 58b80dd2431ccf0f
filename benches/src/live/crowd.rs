//! Subscribers: many sockets that one thread reads, counting frames and their lateness.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use mio::{Events, Interest, Poll, Token};
use parking_lot::{Condvar, Mutex};
use socket2::{Domain, Socket, Type};

use super::handshake::frame_len;
use super::subject::Subject;
use crate::clock::now_ns;
use crate::histogram::Histogram;
use crate::http1::head_len;

/// The most connections from one source address.
const PER_SOURCE: usize = 8_000;
/// The first source port of each address. Ports are chosen here, because the kernel's search for a free one is slow
/// when thousands are taken.
const FIRST_PORT: u16 = 20_000;
const PATIENCE: Duration = Duration::from_secs(10);
/// The text before the time in a payload.
pub(crate) const MARK: u8 = b'@';
/// The number of digits of that time.
pub(crate) const DIGITS: usize = 16;

/// What the reader shares with the publisher.
#[derive(Default)]
pub(crate) struct Tally {
    delivered: AtomicU64,
    /// The frame count that the publisher waits for.
    awaited: AtomicU64,
    gate: Mutex<()>,
    reached: Condvar,
    stop: AtomicBool,
    /// Set at the end of the warm-up: the reader resets the histogram once.
    forget: AtomicBool,
    closed: AtomicU64,
}

impl Tally {
    /// How many frames have arrived.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::SeqCst)
    }

    /// How many subscribers the server has closed.
    pub(crate) fn closed(&self) -> u64 {
        self.closed.load(Ordering::SeqCst)
    }

    /// Begins to count lateness.
    pub(crate) fn forget(&self) {
        self.forget.store(true, Ordering::SeqCst);
    }

    /// Waits until so many frames have arrived; false if they do not in time.
    pub(crate) fn wait_for(&self, count: u64) -> bool {
        let mut gate = self.gate.lock();
        while self.delivered() < count {
            self.awaited.store(count, Ordering::SeqCst);
            if self.delivered() >= count {
                break;
            }
            if self.reached.wait_for(&mut gate, PATIENCE).timed_out() {
                return self.delivered() >= count;
            }
        }
        true
    }

    fn add(&self, count: u64) {
        if self.delivered.fetch_add(count, Ordering::SeqCst) + count >= self.awaited.load(Ordering::SeqCst) {
            drop(self.gate.lock());
            self.reached.notify_all();
        }
    }
}

/// Subscribed sockets and the thread that reads them.
pub(crate) struct Crowd {
    pub(crate) tally: Arc<Tally>,
    reader: JoinHandle<anyhow::Result<Histogram>>,
}

impl Crowd {
    /// Subscribes `sessions` sockets, the n-th to channel n mod `channels`, at the subjects in turn, and begins to
    /// read.
    pub(crate) fn gather(subjects: &[&Subject], sessions: usize, channels: usize) -> anyhow::Result<Self> {
        let mut streams = Vec::with_capacity(sessions);
        for n in 0..sessions {
            let subject = subjects[n % subjects.len()];
            streams.push(subscriber(subject, n, &channel(n % channels)).with_context(|| format!("subscriber {n}"))?);
        }
        let tally = Arc::new(Tally::default());
        tally.awaited.store(u64::MAX, Ordering::SeqCst);
        let shared = Arc::clone(&tally);
        let reader = std::thread::spawn(move || Reader::new(streams, shared)?.run());
        Ok(Self { tally, reader })
    }

    /// Closes all and returns the lateness of the frames.
    pub(crate) fn disperse(self) -> anyhow::Result<Histogram> {
        self.tally.stop.store(true, Ordering::SeqCst);
        self.reader.join().map_err(|_| anyhow::anyhow!("the reader broke off"))?
    }
}

/// The name of the n-th channel.
pub(crate) fn channel(n: usize) -> String {
    format!("bench-{n}")
}

/// Connects from one of many loopback addresses.
pub(crate) fn dial(n: usize, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let source = Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(n / PER_SOURCE)?);
    socket.set_reuse_address(true)?;
    let port = FIRST_PORT + u16::try_from(n % PER_SOURCE)?;
    if socket.bind(&SocketAddr::from((source, port)).into()).is_err() {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    socket.connect(&to.into())?;
    prepared(socket.into())
}

/// Connects from a port that the kernel chooses: for the few publishers.
pub(crate) fn dial_from_anywhere(to: SocketAddr) -> anyhow::Result<TcpStream> {
    prepared(TcpStream::connect(to)?)
}

fn prepared(stream: TcpStream) -> anyhow::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A subscribed socket.
pub(crate) fn subscriber(subject: &Subject, n: usize, channel: &str) -> anyhow::Result<TcpStream> {
    let (upgrade, subscribe) = subject.subscription(channel);
    let mut stream = dial(n, subject.addr())?;
    subscribe_on(&mut stream, &upgrade, subscribe.as_deref(), subject.greeting())?;
    Ok(stream)
}

/// Upgrades and subscribes over any transport.
pub(crate) fn subscribe_on(
    stream: &mut (impl Read + Write),
    upgrade: &str,
    subscribe: Option<&[u8]>,
    greeting: usize,
) -> anyhow::Result<()> {
    stream.write_all(upgrade.as_bytes())?;
    let mut held = Vec::new();
    let mut piece = [0; 1024];
    let mut frames = None;
    let mut seen = 0;
    if let Some(subscribe) = subscribe {
        // The server accepts frames that are sent together with the upgrade request.
        stream.write_all(subscribe)?;
    }
    while frames.is_none() || seen < greeting {
        let len = stream.read(&mut piece)?;
        ensure!(len > 0, "closed before it was subscribed: {}", String::from_utf8_lossy(&held));
        held.extend_from_slice(&piece[..len]);
        if frames.is_none() {
            frames = head_len(&held);
        }
        if let Some(mut at) = frames {
            ensure!(held.starts_with(b"HTTP/1.1 101"), "no upgrade: {}", String::from_utf8_lossy(&held));
            seen = 0;
            while let Some((_, len)) = frame_len(&held[at..]) {
                at += len;
                seen += 1;
            }
        }
    }
    let last = String::from_utf8_lossy(&held);
    ensure!(greeting == 0 || last.contains("subscription_succeeded"), "not subscribed: {last}");
    Ok(())
}

struct Member {
    stream: mio::net::TcpStream,
    /// The beginning of an incomplete frame.
    partial: Vec<u8>,
}

struct Reader {
    poll: Poll,
    members: Vec<Option<Member>>,
    tally: Arc<Tally>,
    lateness: Histogram,
}

impl Reader {
    fn new(streams: Vec<TcpStream>, tally: Arc<Tally>) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut members = Vec::with_capacity(streams.len());
        for (n, stream) in streams.into_iter().enumerate() {
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(n), Interest::READABLE)?;
            members.push(Some(Member { stream, partial: Vec::new() }));
        }
        Ok(Self { poll, members, tally, lateness: Histogram::default() })
    }

    fn run(mut self) -> anyhow::Result<Histogram> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 64 << 10];
        while !self.tally.stop.load(Ordering::SeqCst) {
            match self.poll.poll(&mut events, Some(Duration::from_millis(20))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            if self.tally.forget.swap(false, Ordering::SeqCst) {
                self.lateness = Histogram::default();
            }
            let mut arrived = 0;
            for event in &events {
                arrived += self.read(event.token().0, &mut scratch);
            }
            self.tally.add(arrived);
        }
        Ok(self.lateness)
    }

    fn read(&mut self, n: usize, scratch: &mut [u8]) -> u64 {
        let mut arrived = 0;
        loop {
            let Some(member) = self.members[n].as_mut() else { return arrived };
            let len = match member.stream.read(scratch) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return arrived,
                Ok(0) | Err(_) => {
                    self.members[n] = None;
                    self.tally.closed.fetch_add(1, Ordering::SeqCst);
                    return arrived;
                }
                Ok(len) => len,
            };
            let now = now_ns();
            let partial = std::mem::take(&mut member.partial);
            let joined = if partial.is_empty() { None } else { Some([&partial, &scratch[..len]].concat()) };
            let mut bytes = joined.as_deref().unwrap_or(&scratch[..len]);
            while let Some((header, whole)) = frame_len(bytes) {
                if let Some(sent) = time_of(&bytes[header..whole]) {
                    self.lateness.add(now.saturating_sub(sent));
                    arrived += 1;
                }
                bytes = &bytes[whole..];
            }
            if !bytes.is_empty() {
                member.partial = bytes.to_vec();
            }
            // A short read: the socket is empty.
            if len < scratch.len() {
                return arrived;
            }
        }
    }
}

/// The time in a payload; frames without one are the protocol's own.
fn time_of(payload: &[u8]) -> Option<u64> {
    let at = payload.iter().position(|byte| *byte == MARK)? + 1;
    std::str::from_utf8(payload.get(at..at + DIGITS)?).ok()?.parse().ok()
}
