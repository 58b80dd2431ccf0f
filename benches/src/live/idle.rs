//! Memory per idle subscribed session: the slope of the server's RSS between two numbers of sessions.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;

use super::Args;
use super::crowd::{dial, subscribe_on, subscriber};
use super::subject::Subject;
use crate::cpu::{Cores, memory_kib};
use crate::http1::find;
use crate::report::{Section, median};

/// The two numbers of sessions.
const FROM: usize = 5_000;
const TO: usize = 15_000;
/// How long sessions have been idle when memory is read.
const SETTLED: Duration = Duration::from_secs(10);
const CHANNEL: &str = "bench-0";

/// A kind of session.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Transport {
    Plain,
    Tls,
    Body,
}

/// Open sockets that are not read any more.
#[expect(dead_code, reason = "a socket is held by keeping it")]
enum Held {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

pub(super) async fn run(args: &Args, cores: Cores) -> anyhow::Result<Section> {
    let mut lines = Vec::new();
    let mut record = Vec::new();
    for (transport, name, limit) in [
        (Transport::Plain, "WebSocket", "≤ 2048, goal 1024"),
        (Transport::Tls, "WebSocket over TLS", "no target"),
        (Transport::Body, "event stream", "≤ 6144"),
    ] {
        eprintln!("… {name}");
        let mut slopes = Vec::new();
        for _ in 0..args.alternations().min(3) {
            slopes.push(slope(transport, cores).await.with_context(|| name.to_owned())?);
        }
        let bytes = median(slopes.iter().copied());
        lines.push((name.to_owned(), format!("{bytes:.0} bytes a session ({limit})")));
        record.push(json!({"transport": name, "bytes_per_session": bytes, "runs": slopes}));
    }
    Ok(Section {
        name: "idle",
        title: "Memory of an idle, subscribed session (RSS of the server, without the kernel's)",
        lines,
        json: record.into(),
    })
}

async fn slope(transport: Transport, cores: Cores) -> anyhow::Result<f64> {
    let subject = Subject::server(cores, transport == Transport::Tls).await?;
    let mut held = Vec::with_capacity(TO);
    let open = |held: &mut Vec<Held>, to: usize| -> anyhow::Result<u64> {
        while held.len() < to {
            held.push(session(&subject, transport, held.len())?);
        }
        std::thread::sleep(SETTLED);
        memory_kib(subject.pid(), "VmRSS").context("the server is gone")
    };
    let before = open(&mut held, FROM)?;
    let after = open(&mut held, TO)?;
    Ok((after as f64 - before as f64) * 1024.0 / (TO - FROM) as f64)
}

fn session(subject: &Subject, transport: Transport, n: usize) -> anyhow::Result<Held> {
    match transport {
        Transport::Plain => Ok(Held::Plain(subscriber(subject, n, CHANNEL)?)),
        Transport::Tls => {
            let name = ServerName::try_from("localhost")?;
            let client = ClientConnection::new(tidings_testkit::tls_client(), name)?;
            let mut stream = StreamOwned::new(client, dial(n, subject.addr())?);
            let (upgrade, subscribe) = subject.subscription(CHANNEL);
            subscribe_on(&mut stream, &upgrade, subscribe.as_deref(), subject.greeting())?;
            Ok(Held::Tls(Box::new(stream)))
        }
        Transport::Body => {
            let mut stream = dial(n, subject.addr())?;
            let target = format!("/v1/stream?app=bench&channels={CHANNEL}");
            stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes())?;
            let mut head = Vec::new();
            let mut piece = [0; 1024];
            while find(&head, b"tidings.open").is_none() {
                let len = stream.read(&mut piece)?;
                ensure!(len > 0 && head.len() < 16_384, "no stream: {}", String::from_utf8_lossy(&head));
                head.extend_from_slice(&piece[..len]);
            }
            Ok(Held::Plain(stream))
        }
    }
}
