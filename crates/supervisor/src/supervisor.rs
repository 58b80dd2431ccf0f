//! Starts, counts and ends threads and tasks.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use futures_util::FutureExt as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::panicked::Panicked;
use crate::units::Units;

type Running = Gauge<i64, AtomicI64>;

/// Why a node has failed: a required thread or task has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The name of the thread or task.
    pub name: Arc<str>,
    /// Its panic message, or that it ended unexpectedly.
    pub reason: Arc<str>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended: {}", self.name, self.reason)
    }
}

/// Starts all threads and tasks that outlive a call, and notices their end. Clones share one supervisor.
///
/// There are three kinds of work. A [service](Self::service) and a [thread](Self::thread) must run until
/// [`stop`](Self::stop) is called; if one panics or ends before that, the supervisor has [failed](Self::failure). A
/// [task](Self::task) ends when it is done; only its panic is a failure.
#[derive(Clone, Default)]
pub struct Supervisor(Arc<Shared>);

struct Shared {
    /// Whether work may end without being a failure.
    is_stopping: AtomicBool,
    /// Cancelled when all tasks are to be dropped.
    ended: CancellationToken,
    tasks: TaskTracker,
    failure: watch::Sender<Option<Failure>>,
    running: Family<[(&'static str, String); 1], Running>,
    panics: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            is_stopping: AtomicBool::new(false),
            ended: CancellationToken::new(),
            tasks: TaskTracker::new(),
            failure: watch::Sender::new(None),
            running: Family::default(),
            panics: Family::default(),
        }
    }
}

impl Supervisor {
    /// A supervisor without work. It registers its metrics (running work, panics) in `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let supervisor = Self::default();
        registry.register("work_running", "threads and tasks that run, by name", supervisor.0.running.clone());
        registry.register("panics", "panics in units of work, by kind", supervisor.0.panics.clone());
        supervisor
    }

    /// Starts a task that must run until the supervisor stops.
    pub fn service(&self, name: &str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.start(WorkGuard::new(self, name, true), work)
    }

    /// Starts a task that ends when it is done.
    pub fn task(&self, name: &str, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.start(WorkGuard::new(self, name, false), work)
    }

    fn start(&self, guard: WorkGuard, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.0.tasks.spawn(async move {
            let ended = guard.shared.ended.clone();
            tokio::select! {
                biased;
                () = ended.cancelled() => {}
                outcome = AssertUnwindSafe(work).catch_unwind() => guard.has_ended(outcome),
            }
        })
    }

    /// Starts a thread that must run until the supervisor stops. It cannot be ended from outside, only by its own
    /// return.
    ///
    /// # Errors
    /// When the operating system has no more threads.
    pub fn thread(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
        let guard = WorkGuard::new(self, name, true);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || guard.has_ended(catch_unwind(AssertUnwindSafe(work))))
    }

    /// A kind of unit, whose panics are counted under this name.
    pub fn units(&self, kind: &'static str) -> Units {
        Units::new(kind, self.0.panics.get_or_create(&[("unit", kind)]).clone())
    }

    /// From now on work may end without being a failure.
    pub fn stop(&self) {
        self.0.is_stopping.store(true, Ordering::Release);
    }

    /// Drops all tasks at their next await. Threads end on their own, when what they serve is closed.
    pub fn end(&self) {
        self.stop();
        self.0.ended.cancel();
    }

    /// [Ends](Self::end) all tasks, and waits until they are gone.
    pub async fn join(&self) {
        self.end();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// The first failure, if there is one. Cheap enough to be called for each publish.
    pub fn failure(&self) -> Option<Failure> {
        self.0.failure.borrow().clone()
    }

    /// Waits until something fails.
    pub async fn failed(&self) -> Failure {
        let mut failure = self.0.failure.subscribe();
        match failure.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone()) {
            Some(failure) => failure,
            // The sender lives as long as this supervisor does.
            None => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("failure", &self.failure()).finish_non_exhaustive()
    }
}

/// Counts one thread or task while it runs, and reports its unexpected end.
struct WorkGuard {
    shared: Arc<Shared>,
    name: Arc<str>,
    /// Whether its end is a failure, unless the supervisor is stopping.
    must_run: bool,
    running: Running,
}

impl WorkGuard {
    fn new(supervisor: &Supervisor, name: &str, must_run: bool) -> Self {
        let running = supervisor.0.running.get_or_create(&[("work", name.to_owned())]).clone();
        running.inc();
        Self { shared: Arc::clone(&supervisor.0), name: name.into(), must_run, running }
    }

    fn has_ended(&self, outcome: thread::Result<()>) {
        let reason = match outcome {
            Err(payload) => format!("it panicked: {}", Panicked::from_payload(&*payload)),
            Ok(()) if self.must_run && !self.shared.is_stopping.load(Ordering::Acquire) => {
                "it returned unexpectedly".into()
            }
            Ok(()) => return,
        };
        let work = &*self.name;
        tracing::error!(work, reason, "required thread or task ended: this is a bug; restart the node");
        self.shared.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert_with(|| Failure { name: Arc::clone(&self.name), reason: reason.into() });
            is_first
        });
    }
}

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.running.dec();
    }
}
