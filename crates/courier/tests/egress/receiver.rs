//! A receiver that follows a test's script, byte by byte.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A listening socket whose connections are served by a script; it ends with the value.
pub(super) struct Receiver {
    pub(super) addr: SocketAddr,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct State {
    accepted: AtomicUsize,
    ended: AtomicUsize,
    changed: Notify,
    proceed: Notify,
    requests: Mutex<Vec<Seen>>,
}

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One accepted connection, as its script sees it.
pub(super) struct Conn {
    pub(super) io: TcpStream,
    state: Arc<State>,
}

impl Receiver {
    pub(super) async fn start<F, Fut>(script: F) -> Receiver
    where
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Receiver::start_at("127.0.0.1:0", script).await
    }

    pub(super) async fn start_at<F, Fut>(at: &str, script: F) -> Receiver
    where
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(at).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let mut serving = JoinSet::new();
        let shared = state.clone();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (io, _) = listener.accept().await.unwrap();
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let conn = Conn { io, state: shared.clone() };
                let script = script(conn);
                let state = shared.clone();
                connections.spawn(async move {
                    script.await;
                    state.ended.fetch_add(1, Ordering::SeqCst);
                    state.changed.notify_waiters();
                });
            }
        });
        Receiver { addr, state, _serving: serving }
    }

    /// A receiver that answers every request on every connection with `response`.
    pub(super) async fn answering(response: impl Into<Vec<u8>>) -> Receiver {
        let response = Arc::new(response.into());
        Receiver::start(move |mut conn| {
            let response = response.clone();
            async move {
                while conn.read_request().await.is_some() {
                    if conn.io.write_all(&response).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    pub(super) fn url(&self) -> String {
        super::kit::at(self.addr)
    }

    /// `http://host:port/` for a name that a test's resolver leads here.
    pub(super) fn url_as(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.addr.port())
    }

    pub(super) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> Vec<Seen> {
        self.state.requests.lock().clone()
    }

    /// Wakes the scripts that wait in [`Conn::proceed`].
    pub(super) fn let_proceed(&self) {
        self.state.proceed.notify_waiters();
    }

    /// Returns when `count` connections have run to the end of their script.
    pub(super) async fn ended(&self, count: usize) {
        super::kit::eventually("the end of a connection", async {
            loop {
                let changed = self.state.changed.notified();
                if self.state.ended.load(Ordering::SeqCst) >= count {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}

impl Conn {
    /// The next request, or nothing if the connection ended.
    pub(super) async fn read_request(&mut self) -> Option<Seen> {
        let seen = read_request(&mut self.io).await?;
        self.state.requests.lock().push(seen.clone());
        Some(seen)
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The client may be gone already, which is what some tests are about.
        drop(self.io.write_all(bytes.as_ref()).await);
    }

    /// Waits for [`Receiver::let_proceed`].
    pub(super) async fn proceed(&self) {
        self.state.proceed.notified().await;
    }

    /// Waits until the client closes the connection, discarding what it sends.
    pub(super) async fn closed(&mut self) {
        let mut sink = [0; 1024];
        while matches!(self.io.read(&mut sink).await, Ok(read) if read > 0) {}
    }

    /// Writes `piece` again and again until the client closes the connection; returns the number of bytes written.
    pub(super) async fn flood(&mut self, piece: &[u8]) -> u64 {
        let mut written = 0;
        while self.io.write_all(piece).await.is_ok() {
            written += piece.len() as u64;
        }
        written
    }

    /// Ends the connection with a reset.
    pub(super) fn reset(self) {
        self.io.set_zero_linger().unwrap();
    }
}

/// Reads one request with a `Content-Length` body.
pub(super) async fn read_request<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    let mut seen = Seen { head: String::from_utf8(head).ok()?, body: Vec::new() };
    let length = seen.header("content-length").map_or(0, |v| v.parse().unwrap());
    seen.body.resize(length, 0);
    io.read_exact(&mut seen.body).await.ok()?;
    Some(seen)
}
