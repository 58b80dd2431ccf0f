//! CPU time per delivery: that of a shard beside that of a bare loop of `send` calls, on this machine.
//!
//! `cargo run --release -p tidings-live --example fanout -- [sessions] [window] [rounds]`. Both write the same bytes to
//! as many sockets; only the threads that write are counted. The readers run in this process too, so do not pin it to a
//! core.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program to look at figures with")]
// The tests' toys do more than is needed here.
#![allow(dead_code, reason = "shared with the tests")]

#[path = "../tests/shards/node.rs"]
mod node;
#[path = "../tests/shards/toy.rs"]
mod toy;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use tidings_live::{Settings, Socket};
use tidings_wire::ws;

use node::{Node, eventually};

const PAYLOAD: usize = 100;
const CHANNEL: &str = "c";

fn main() {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<usize>().unwrap());
    let sessions = words.next().unwrap_or(1_000);
    let window = words.next().unwrap_or(1);
    let rounds = words.next().unwrap_or(200);
    let deliveries = (sessions * window * rounds) as f64;
    let floor = floor(sessions, window, rounds) / deliveries;
    let shard = shard(sessions, window, rounds) / deliveries;
    println!(
        "{sessions} sessions, window {window}: {:.3} µs a delivery against {:.3}: {:.2} of the floor",
        shard / 1e3,
        floor / 1e3,
        floor / shard
    );
}

fn frame() -> bytes::Bytes {
    ws::text(format!("{CHANNEL}: {}", "x".repeat(PAYLOAD)).as_bytes())
}

/// Nanoseconds that the shard's thread spends.
fn shard(sessions: usize, window: usize, rounds: usize) -> f64 {
    let node = Node::start(1, Settings { send_buffer: 0, ..Settings::default() });
    let mut clients = Vec::new();
    for _ in 0..sessions {
        let (server, mut client) = node.pair();
        node.attach(Socket::from(server), bytes::Bytes::new());
        // `join c`, masked with zeros.
        client.write_all(&[&[0x81, 0x86, 0, 0, 0, 0][..], b"join c"].concat()).unwrap();
        clients.push(client);
    }
    eventually("all have joined", || node.bus.count(CHANNEL) == sessions);
    for client in &mut clients {
        // The greeting and the answer; both are shorter than 126 bytes.
        for _ in 0..2 {
            let mut head = [0; 2];
            client.read_exact(&mut head).unwrap();
            client.read_exact(&mut vec![0; usize::from(head[1])]).unwrap();
        }
    }
    let heard = drain(clients);
    let before = cpu("shard-0");
    for round in 1..=rounds {
        // Made first, so that the shard finds them together, as the bare loop does.
        let said: Vec<_> = (0..window).map(|_| toy::prepare(CHANNEL, "x".repeat(PAYLOAD))).collect();
        node.bus.tell_all(said);
        wait(&heard, (round * window * sessions * frame().len()) as u64);
    }
    cpu("shard-0") - before
}

/// Nanoseconds that a loop of sends spends.
fn floor(sessions: usize, window: usize, rounds: usize) -> f64 {
    let node = Node::start(1, Settings::default());
    let (mut servers, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..sessions {
        let (server, client) = node.pair();
        let server = server.into_std().unwrap();
        server.set_nodelay(true).unwrap();
        servers.push(server);
        clients.push(client);
    }
    let heard = drain(clients);
    let (say, hear) = mpsc::channel::<Vec<u8>>();
    let bare = move || {
        while let Ok(mut bytes) = hear.recv() {
            hear.try_iter().for_each(|more| bytes.extend(more));
            servers.iter_mut().for_each(|server| assert_eq!(server.write(&bytes).unwrap(), bytes.len()));
        }
    };
    let thread = std::thread::Builder::new().name("bare".to_owned()).spawn(bare).unwrap();
    let before = cpu("bare");
    for round in 1..=rounds {
        (0..window).for_each(|_| say.send(frame().to_vec()).unwrap());
        wait(&heard, (round * window * sessions * frame().len()) as u64);
    }
    let spent = cpu("bare") - before;
    drop(say);
    thread.join().unwrap();
    spent
}

fn wait(heard: &AtomicU64, bytes: u64) {
    eventually("everybody has heard it", || heard.load(Ordering::Relaxed) >= bytes);
}

/// Reads everything that comes, and counts it.
fn drain(clients: Vec<TcpStream>) -> Arc<AtomicU64> {
    let heard = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&heard);
    std::thread::spawn(move || {
        let mut poll = mio::Poll::new().unwrap();
        let mut clients: Vec<_> = clients
            .into_iter()
            .map(|client| {
                client.set_nonblocking(true).unwrap();
                mio::net::TcpStream::from_std(client)
            })
            .collect();
        for (index, client) in clients.iter_mut().enumerate() {
            poll.registry().register(client, mio::Token(index), mio::Interest::READABLE).unwrap();
        }
        let mut events = mio::Events::with_capacity(1_024);
        let mut scratch = vec![0; 1 << 16];
        loop {
            poll.poll(&mut events, None).unwrap();
            for event in &events {
                loop {
                    match clients[event.token().0].read(&mut scratch) {
                        Ok(0) => return,
                        Ok(read) => _ = count.fetch_add(read as u64, Ordering::Relaxed),
                        Err(_) => break,
                    }
                }
            }
        }
    });
    heard
}

/// Nanoseconds that the thread of this name has been on a CPU.
fn cpu(name: &str) -> f64 {
    let find = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        tasks.filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name)).last()
    };
    // A thread gives itself its name.
    eventually("the thread is there", || find().is_some());
    let stat = std::fs::read_to_string(find().unwrap().join("schedstat")).unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}
