//! The latency of a session's pings while another session of the same shard signs in again and again, with the longest
//! watchlist that is allowed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidings_model::secret::SecretString;
use tidings_model::signing;

use super::Args;
use super::crowd::dial_from_anywhere;
use super::handshake::{frame_len, masked_text};
use super::subject::{KEY, SECRET, Subject};
use crate::clock::now_ns;
use crate::cpu::Cores;
use crate::histogram::Histogram;
use crate::http1::head_len;
use crate::report::{Section, median};

pub(super) const CELL: &str = "sign-in";
/// Users on the watchlist: the most that an app can allow.
const WATCHED: u32 = 10_000;
/// The pause between an answer and the next ping.
const PAUSE: Duration = Duration::from_millis(2);

pub(super) async fn run(args: &Args, cores: Cores) -> anyhow::Result<Section> {
    eprintln!("… {CELL}");
    let pings = if args.quick { 500 } else { 2_000 };
    let mut runs = Vec::new();
    for _ in 0..args.alternations() {
        let subject = Subject::watched(cores, WATCHED).await?;
        let alone = Client::connect(&subject)?.ping(pings)?;
        let (beside, sign_ins) = ping_beside_sign_ins(&subject, pings)?;
        ensure!(sign_ins > 0, "no sign-in succeeded while {pings} pings were answered");
        runs.push((alone, beside, sign_ins));
    }
    let of = |figure: fn(&(Histogram, Histogram, u64)) -> f64| median(runs.iter().map(figure));
    let (alone, beside) = (of(|run| run.0.quantile_ms(0.99)), of(|run| run.1.quantile_ms(0.99)));
    let ratio = of(|run| run.1.quantile_ms(0.99) / run.0.quantile_ms(0.99));
    let text =
        format!("p99 {beside:.2} ms, {ratio:.1} × the {alone:.2} ms without ({:.0} sign-ins)", of(|run| run.2 as f64));
    let record = |(alone, beside, sign_ins): &(Histogram, Histogram, u64)| {
        let (alone, beside) = (alone.to_json(), beside.to_json());
        json!({"alone": alone, "beside": beside, "sign_ins": sign_ins})
    };
    Ok(Section {
        name: CELL,
        title: "From a ping to its answer, while another session signs in with 10,000 watched users",
        lines: vec![(CELL.to_owned(), text)],
        json: runs.iter().map(record).collect(),
    })
}

/// A Pusher client.
struct Client {
    stream: TcpStream,
    /// Bytes that were read and not parsed yet.
    held: Vec<u8>,
    socket_id: String,
}

impl Client {
    fn connect(subject: &Subject) -> anyhow::Result<Self> {
        let mut client =
            Self { stream: dial_from_anywhere(subject.addr())?, held: Vec::new(), socket_id: String::new() };
        client.stream.write_all(subject.subscription("").0.as_bytes())?;
        let head = loop {
            match head_len(&client.held) {
                Some(head) => break head,
                None => client.read("the head of an answer")?,
            }
        };
        client.held.drain(..head);
        let greeting: Value = serde_json::from_str(&client.wait_for("connection_established")?)?;
        let data: Value = serde_json::from_str(greeting["data"].as_str().unwrap_or_default())?;
        client.socket_id = data["socket_id"].as_str().context("no socket_id")?.to_owned();
        Ok(client)
    }

    /// Pings so many times, each after the answer to the one before.
    fn ping(&mut self, pings: u32) -> anyhow::Result<Histogram> {
        let ping = masked_text(r#"{"event":"pusher:ping","data":{}}"#);
        let mut waits = Histogram::default();
        for _ in 0..pings {
            std::thread::sleep(PAUSE);
            let sent = now_ns();
            self.stream.write_all(&ping)?;
            self.wait_for("pusher:pong")?;
            waits.add(now_ns() - sent);
        }
        Ok(waits)
    }

    /// Signs in and waits for the message with the online users.
    fn sign_in(&mut self) -> anyhow::Result<()> {
        let watchlist: Vec<u32> = (10_000..10_000 + WATCHED).collect();
        let user_data = json!({"id": "watcher", "watchlist": watchlist}).to_string();
        let signed = signing::user_string(&self.socket_id, &user_data);
        let auth = format!("{KEY}:{}", signing::sign_hex(&SecretString::from(SECRET), signed));
        let frame = json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user_data}});
        self.stream.write_all(&masked_text(&frame.to_string()))?;
        self.wait_for("watchlist_events").map(drop)
    }

    /// Reads frames until one contains this text.
    fn wait_for(&mut self, what: &str) -> anyhow::Result<String> {
        loop {
            while let Some((payload, len)) = frame_len(&self.held) {
                let text = String::from_utf8_lossy(&self.held[payload..len]).into_owned();
                self.held.drain(..len);
                ensure!(!text.contains("pusher:error"), "{text}");
                if text.contains(what) {
                    return Ok(text);
                }
            }
            self.read(what)?;
        }
    }

    fn read(&mut self, what: &str) -> anyhow::Result<()> {
        let mut piece = [0; 16 << 10];
        let len = self.stream.read(&mut piece).with_context(|| format!("waiting for {what}"))?;
        ensure!(len > 0, "closed before {what}");
        self.held.extend_from_slice(&piece[..len]);
        Ok(())
    }
}

/// Pings while another session connects, signs in, receives the online users and disconnects, in a loop. Returns how
/// often it did, too.
fn ping_beside_sign_ins(subject: &Subject, pings: u32) -> anyhow::Result<(Histogram, u64)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let signer = scope.spawn(|| -> anyhow::Result<u64> {
            let mut sign_ins = 0;
            while !stop.load(Ordering::SeqCst) {
                Client::connect(subject)?.sign_in()?;
                sign_ins += 1;
            }
            Ok(sign_ins)
        });
        let waits = Client::connect(subject).and_then(|mut client| client.ping(pings));
        stop.store(true, Ordering::SeqCst);
        let sign_ins = signer.join().map_err(|_| anyhow::anyhow!("the session that signs in broke off"))?;
        Ok((waits?, sign_ins?))
    })
}
