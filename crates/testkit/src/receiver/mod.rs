//! A scripted HTTP/1.1 receiver: records every request, answers by the test's script, goes down and comes back.
//!
//! It runs on threads of its own, so that a busy test does not slow it down.

mod answer;
mod record;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::SocketAddr;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use answer::Answer;
pub use record::Received;
use record::Record;

/// The default for how many requests are kept.
const KEPT_REQUESTS: usize = 200_000;
/// How many of the received requests a failed wait prints.
const PRINTED: usize = 20;

type Answering = Arc<dyn Fn(&Received) -> Answer + Send + Sync>;

/// How a path is answered.
enum Script {
    /// These answers in order; the last one is repeated.
    Sequence(VecDeque<Answer>),
    /// By a function of the test.
    By(Answering),
}

/// The state that the receiver's tasks share with the test.
struct Shared {
    record: Mutex<Record>,
    scripts: Mutex<HashMap<String, Script>>,
    otherwise: Mutex<Answer>,
    arrived: Notify,
}

/// The receiver. Stops when dropped.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Receiver {
    /// Starts on a free port of 127.0.0.1, with one thread; answers 204 to everything.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start() -> Self {
        Self::start_with_threads(1)
    }

    /// As [`Receiver::start`], with more threads: for load.
    pub fn start_with_threads(threads: usize) -> Self {
        let runtime = runtime(threads);
        let (listener, addr) = bind(&runtime, SocketAddr::from(([127, 0, 0, 1], 0)));
        let shared = Arc::new(Shared {
            record: Mutex::new(Record::new(KEPT_REQUESTS)),
            scripts: Mutex::new(HashMap::new()),
            otherwise: Mutex::new(Answer::default()),
            arrived: Notify::new(),
        });
        let accepting = runtime.spawn(serve::accept(listener, Arc::clone(&shared)));
        Self { addr, shared, runtime: Some(runtime), accepting: Mutex::new(Some(accepting)) }
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address of `path` on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Answers `path` (without its query) with `answer`, from now on.
    pub fn respond(&self, path: &str, answer: Answer) {
        self.respond_sequence(path, vec![answer]);
    }

    /// Answers `path` with these in turn, and then repeats the last one.
    pub fn respond_sequence(&self, path: &str, answers: Vec<Answer>) {
        self.shared.scripts.lock().insert(path.to_owned(), Script::Sequence(answers.into()));
    }

    /// Answers `path` with the result of `answer` for each request.
    pub fn answer_with(&self, path: &str, answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) {
        self.shared.scripts.lock().insert(path.to_owned(), Script::By(Arc::new(answer)));
    }

    /// Answers every path that has no script with `answer`.
    pub fn respond_otherwise(&self, answer: Answer) {
        *self.shared.otherwise.lock() = answer;
    }

    /// Keeps only the last `requests` requests (200,000 unless said, and 256 MiB of bodies); all are counted.
    pub fn keep(&self, requests: usize) {
        self.shared.record.lock().keep(requests);
    }

    /// The requests so far, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.shared.record.lock().after(0).map(|received| Received::clone(received)).collect()
    }

    /// The requests so far on one path, oldest first.
    pub fn received_on(&self, path: &str) -> Vec<Received> {
        let record = self.shared.record.lock();
        record.after(0).filter(|received| received.path == path).map(|received| Received::clone(received)).collect()
    }

    /// How many requests there were, kept or not.
    pub fn total(&self) -> usize {
        self.shared.record.lock().total
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.record.lock().connections
    }

    /// The most requests that were in flight on `path` at once.
    pub fn most_at_once(&self, path: &str) -> usize {
        self.shared.record.lock().most_at_once(Some(path))
    }

    /// The most requests that were in flight at once on all paths.
    pub fn most_at_once_in_all(&self) -> usize {
        self.shared.record.lock().most_at_once(None)
    }

    /// How many requests on `path` are in flight: read and not yet answered.
    pub fn under_way(&self, path: &str) -> usize {
        self.shared.record.lock().under_way(Some(path))
    }

    /// Waits until there are `count` requests that `fit`, and returns all that fit by then, oldest first. Requests from
    /// before the call count.
    ///
    /// # Panics
    /// With the received requests, when there were fewer within `deadline`.
    #[track_caller]
    pub fn wait_for(
        &self,
        count: usize,
        fits: impl Fn(&Received) -> bool,
        deadline: Duration,
    ) -> impl Future<Output = Vec<Received>> {
        let caller = Location::caller();
        async move {
            let end = Instant::now() + deadline;
            let mut found = Vec::new();
            let mut seen = 0;
            loop {
                // Subscribed before looking, so that a request between the look and the wait is not missed.
                let mut arrived = std::pin::pin!(self.shared.arrived.notified());
                arrived.as_mut().enable();
                let news: Vec<_> = self.shared.record.lock().after(seen).cloned().collect();
                seen = news.last().map_or(seen, |last| last.number);
                found.extend(news.iter().filter(|received| fits(received)).map(|received| Received::clone(received)));
                if found.len() >= count {
                    return found;
                }
                if tokio::time::timeout_at(end, arrived).await.is_err() {
                    panic!("{caller}: {} of {count} requests within {deadline:?}; {}", found.len(), self.what_came());
                }
            }
        }
    }

    /// Stops listening and breaks every connection: new ones are refused.
    pub async fn go_down(&self) {
        let accepting = self.accepting.lock().take();
        if let Some(task) = accepting {
            task.abort();
            // The end of this task closes the listener and ends every connection's task.
            task.await.ok();
        }
    }

    /// Listens again, at the same address.
    ///
    /// # Panics
    /// When another program took the port meanwhile.
    pub fn come_back(&self) {
        let mut accepting = self.accepting.lock();
        if let (None, Some(runtime)) = (accepting.as_ref(), self.runtime.as_ref()) {
            let (listener, _) = bind(runtime, self.addr);
            *accepting = Some(runtime.spawn(serve::accept(listener, Arc::clone(&self.shared))));
        }
    }

    fn what_came(&self) -> String {
        let record = self.shared.record.lock();
        let lines: Vec<_> = record.after(record.total.saturating_sub(PRINTED)).map(|r| r.summary()).collect();
        format!("{} requests came in all, the last of them:\n  {}", record.total, lines.join("\n  "))
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("addr", &self.addr).field("total", &self.total()).finish_non_exhaustive()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Most tests end on a thread of another runtime, which must not block until this one has ended.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A runtime with threads of its own.
pub(crate) fn runtime(threads: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(1))
        .thread_name("receiver")
        .enable_all()
        .build()
        .unwrap_or_else(|e| panic!("cannot start the receiver's threads: {e}"))
}

/// Listens at `addr` on `runtime`. Can be called on any thread.
pub(crate) fn bind(runtime: &Runtime, addr: SocketAddr) -> (TcpListener, SocketAddr) {
    // std sets SO_REUSEADDR, so that a receiver that comes back gets its port in spite of old connections.
    let listener = std::net::TcpListener::bind(addr)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .unwrap_or_else(|e| panic!("cannot listen at {addr}: {e}"));
    let _on_runtime = runtime.enter();
    let listener = TcpListener::from_std(listener).unwrap_or_else(|e| panic!("cannot listen at {addr}: {e}"));
    let addr = listener.local_addr().unwrap_or_else(|e| panic!("a listener without an address: {e}"));
    (listener, addr)
}
