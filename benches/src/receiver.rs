//! The receiver of webhooks: a process of its own that answers 204 at once, and counts requests and their lateness.
//!
//! Requests are counted by the first segment of their path, the *tag*. The lateness of a request follows from
//! `"t":NANOSECONDS` in its body. A tag can be held: its requests are read and never answered. The parent sends
//! commands over standard input, one per line.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::clock::now_ns;
use crate::histogram::Histogram;
use crate::http1::{content_length, find, head_len};

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// How often the parent polls the count.
const LOOK: Duration = Duration::from_millis(20);

/// The counts of one tag.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Requests read, answered or not.
    pub(crate) count: u64,
    /// Their bytes, heads included.
    pub(crate) bytes: u64,
    /// When the first and the last request came.
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
    /// The lateness: from the time in the body to the arrival.
    pub(crate) late: Histogram,
    /// The bytes of the first request.
    pub(crate) sample: String,
}

impl Seen {
    /// Requests per second between the first and the last.
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / crate::clock::seconds(self.last_ns.saturating_sub(self.first_ns)).max(1e-9)
    }
}

#[derive(Default)]
struct State {
    seen: HashMap<String, Seen>,
    held: Vec<String>,
}

/// The child process: serves until standard input ends.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind("0.0.0.0:0".parse()?)?;
    let listener = socket.listen(4_096)?;
    let state = Arc::new(Mutex::new(State::default()));
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    let asked = Arc::clone(&state);
    let questions = tokio::task::spawn_blocking(move || answer_questions(&asked));
    tokio::select! {
        end = accept(listener, state) => end,
        end = questions => end?,
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let state = Arc::clone(&state);
        // A broken connection is no error here; its requests are counted already.
        tokio::spawn(async move { connection(stream, &state).await.ok() });
    }
}

async fn connection(mut stream: TcpStream, state: &Mutex<State>) -> anyhow::Result<()> {
    let mut bytes = Vec::with_capacity(4_096);
    let mut held = false;
    while stream.read_buf(&mut bytes).await? > 0 {
        while let Some(head) = head_len(&bytes) {
            let len = head + content_length(&bytes[..head]);
            if bytes.len() < len {
                break;
            }
            held |= note(&mut state.lock(), &bytes[..len], head);
            bytes.drain(..len);
            if !held {
                stream.write_all(ANSWER).await?;
            }
        }
    }
    Ok(())
}

/// Counts a request; true if its tag is held.
fn note(state: &mut State, request: &[u8], head: usize) -> bool {
    let now = now_ns();
    let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let tag = path.split(|byte| *byte == b'/').nth(1).unwrap_or_default();
    let tag = std::str::from_utf8(tag).unwrap_or_default();
    if !state.seen.contains_key(tag) {
        let sample = String::from_utf8_lossy(request).into_owned();
        state.seen.insert(tag.to_owned(), Seen { first_ns: now, sample, ..Seen::default() });
    }
    if let Some(seen) = state.seen.get_mut(tag) {
        seen.count += 1;
        seen.bytes += request.len() as u64;
        seen.last_ns = now;
        if let Some(sent) = sent_ns(&request[head..]) {
            seen.late.add(now.saturating_sub(sent));
        }
    }
    state.held.iter().any(|held| held == tag)
}

fn sent_ns(body: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"t\":";
    let digits = &body[find(body, NAME)? + NAME.len()..];
    let len = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..len]).ok()?.parse().ok()
}

fn answer_questions(state: &Mutex<State>) -> anyhow::Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (word, tag) = line.split_once(' ').unwrap_or((&line, ""));
        let mut state = state.lock();
        let answer = match word {
            "seen" => serde_json::to_string(&state.seen.get(tag).cloned().unwrap_or_default())?,
            "count" => state.seen.get(tag).map_or(0, |seen| seen.count).to_string(),
            "forget" => {
                state.seen.clear();
                String::new()
            }
            "hold" => {
                state.held.push(tag.to_owned());
                String::new()
            }
            "release" => {
                state.held.retain(|held| held != tag);
                String::new()
            }
            _ => bail!("unknown command: {line}"),
        };
        drop(state);
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// The parent's handle of a receiver. Dropped, the receiver is killed.
pub(crate) struct Receiver {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Receiver {
    /// Starts a receiver, on a free port of all loopback addresses.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.arg("receiver").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot start the receiver")?;
        let input = child.stdin.take().context("no pipe")?;
        let mut output = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        let port = output.next_line().await?.context("the receiver ended")?.parse()?;
        Ok(Self { child, input, output, port })
    }

    /// CPU time it has used.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.child.id().map_or(0, crate::cpu::cpu_ns_of)
    }

    /// The URL of a tag.
    pub(crate) fn url(&self, tag: &str) -> String {
        format!("http://127.0.0.1:{}/{tag}", self.port)
    }

    /// The URL of a tag at one of many hosts.
    pub(crate) fn url_at(&self, host: usize, tag: &str) -> String {
        format!("http://127.0.1.{}:{}/{tag}", host % 200 + 1, self.port)
    }

    /// The counts of a tag.
    pub(crate) async fn seen(&mut self, tag: &str) -> anyhow::Result<Seen> {
        Ok(serde_json::from_str(&self.ask(&format!("seen {tag}")).await?)?)
    }

    /// How many requests arrived under a tag.
    pub(crate) async fn count(&mut self, tag: &str) -> anyhow::Result<u64> {
        Ok(self.ask(&format!("count {tag}")).await?.parse()?)
    }

    /// Resets all counts.
    pub(crate) async fn forget(&mut self) -> anyhow::Result<()> {
        self.ask("forget").await.map(drop)
    }

    /// Lets a tag's requests hang from now on.
    pub(crate) async fn hold(&mut self, tag: &str) -> anyhow::Result<()> {
        self.ask(&format!("hold {tag}")).await.map(drop)
    }

    /// Answers a tag's requests from now on. Those that hang already are not answered.
    pub(crate) async fn release(&mut self, tag: &str) -> anyhow::Result<()> {
        self.ask(&format!("release {tag}")).await.map(drop)
    }

    /// Waits until `wanted` requests have arrived under a tag, for at most `patience`; returns how many have.
    pub(crate) async fn wait_for(&mut self, tag: &str, wanted: u64, patience: Duration) -> anyhow::Result<Seen> {
        let end = now_ns() + patience.as_nanos() as u64;
        while self.count(tag).await? < wanted && now_ns() < end {
            tokio::time::sleep(LOOK).await;
        }
        self.seen(tag).await
    }

    async fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        ensure!(!question.contains('\n'), "one line");
        self.input.write_all(format!("{question}\n").as_bytes()).await?;
        self.output.next_line().await?.context("the receiver ended")
    }
}
