//! The interface of live: starting it, attaching connections, stopping it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tidings_broker::Shards as _;
use tidings_model::app::App;
use tidings_model::channel::SessionId;
use tidings_model::clock::SharedClock;
use tidings_model::id::AppId;
use tidings_supervisor::Supervisor;

use crate::hijack;
use crate::inbox::{InboxMessage, Inboxes, InlineWriter};
use crate::metrics::{Metrics, Sizes};
use crate::new_session::{NewSession, Opening};
use crate::protocol::{CloseReason, SessionProtocol};
use crate::refusals::{Refusals, Refused};
use crate::requests::RequestHandler;
use crate::session_limiter::{NotAdmitted, SessionLimiter, SessionPermit};
use crate::settings::Settings;
use crate::shard::{Shard, ShardDeps};
use crate::socket::Socket;
use crate::stream::Stream;
use crate::traffic::Traffic;
use crate::transport::Transport;

/// All shards of a node. Clones share them; they end with [`Live::stop`], or when the last clone is dropped.
#[derive(Clone)]
pub struct Live(Arc<Inner>);

struct Inner {
    inboxes: Inboxes,
    settings: Arc<Settings>,
    metrics: Metrics,
    limiter: Arc<SessionLimiter>,
    refusals: Arc<Refusals>,
    /// How many connections each shard has.
    loads: Vec<Arc<AtomicUsize>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.sizes()).finish()
    }
}

impl Live {
    /// Starts one shard, a thread of the supervisor's, for each inbox. Registers its metrics in `registry`; requests
    /// that are not answered at once continue in `runtime`.
    ///
    /// # Errors
    /// When the system gives no more threads, or the inboxes have shards already.
    pub fn start(
        inboxes: Inboxes,
        settings: Settings,
        clock: SharedClock,
        handler: Arc<dyn RequestHandler>,
        runtime: tokio::runtime::Handle,
        registry: &mut Registry,
        supervisor: &Supervisor,
    ) -> io::Result<Self> {
        let polls = inboxes.take_polls();
        if polls.len() != usize::from(inboxes.count()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "these inboxes have their shards already"));
        }
        let metrics = Metrics::default();
        metrics.register(registry);
        let settings = Arc::new(settings);
        let (traffic, refusals) = (Traffic::default(), Arc::new(Refusals::default()));
        traffic.register(registry);
        refusals.register(registry);
        let limiter = SessionLimiter::new(settings.sessions, traffic);
        let loads: Vec<_> = polls.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let threads = Mutex::default();
        // From here on dropping this ends the threads that have been started.
        let live = Self(Arc::new(Inner { inboxes, settings, metrics, limiter, refusals, loads, threads }));
        let shared = ShardDeps {
            inboxes: live.0.inboxes.clone(),
            settings: Arc::clone(&live.0.settings),
            clock,
            handler,
            runtime,
            metrics: live.0.metrics.clone(),
            refusals: Arc::clone(&live.0.refusals),
            callbacks: supervisor.units("session-callback"),
            frames: supervisor.units("frame"),
            request_units: supervisor.units("session-request"),
        };
        let mut shards = Vec::with_capacity(polls.len());
        for ((number, poll), load) in (0..).zip(polls).zip(&live.0.loads) {
            let registry = poll.registry().try_clone()?;
            let shard = Arc::new(Mutex::new(Shard::new(number, registry, Arc::clone(load), shared.clone())));
            shards.push(Arc::downgrade(&shard) as Weak<dyn InlineWriter>);
            let run = move || Shard::run(&shard, poll);
            live.0.threads.lock().push(supervisor.thread(&format!("shard-{number}"), run)?);
        }
        live.0.inboxes.set_shards(shards);
        Ok(live)
    }

    /// Admits one more session of the app. A refusal because of a limit is counted and logged.
    ///
    /// # Errors
    /// Why the session is not admitted.
    pub fn admit(&self, app: &App, client: Option<IpAddr>) -> Result<SessionPermit, NotAdmitted> {
        self.0.limiter.admit(app, client).inspect_err(|no| match no {
            NotAdmitted::App => self.refused(Some(&app.id), Refused::AppFull, client),
            NotAdmitted::Node => self.refused(Some(&app.id), Refused::NodeFull, client),
            NotAdmitted::Stopping => {}
        })
    }

    /// Counts and logs a refusal to a client that has no session.
    pub fn refused(&self, app: Option<&AppId>, why: Refused, client: Option<IpAddr>) {
        self.0.refusals.note(app, why, client, self.0.inboxes.clock().steady_ms());
    }

    /// Starts a session on a connection that has become a WebSocket. `early` holds bytes that HTTP had already read.
    pub fn attach(
        &self,
        permit: SessionPermit,
        app: Arc<App>,
        socket: Socket,
        early: Bytes,
        protocol: Box<dyn SessionProtocol>,
    ) {
        self.start_socket_session(permit, app, socket, Opening::WebSocket(early), protocol);
    }

    /// Starts a session on a connection that was [taken](crate::ConnHandle::take) from HTTP. The client receives this
    /// response head, and the session's bytes as its body. Bytes from the client are ignored.
    pub fn attach_stream(
        &self,
        permit: SessionPermit,
        app: Arc<App>,
        socket: Socket,
        head: &http::response::Parts,
        protocol: Box<dyn SessionProtocol>,
    ) {
        let head = hijack::head(head, self.0.inboxes.clock().wall_ms());
        self.start_socket_session(permit, app, socket, Opening::Stream(head), protocol);
    }

    /// Starts a session whose bytes leave as the body of a response that an HTTP server sends, for requests without a
    /// connection to take over.
    pub fn open_stream(&self, permit: SessionPermit, app: Arc<App>, protocol: Box<dyn SessionProtocol>) -> Stream {
        let (writer, stream) = Stream::with_writer(self.0.inboxes.clone(), self.0.metrics.clone());
        self.start_session(permit, app, Transport::Stream(writer), Opening::Stream(Bytes::new()), protocol);
        stream
    }

    fn start_socket_session(
        &self,
        permit: SessionPermit,
        app: Arc<App>,
        socket: Socket,
        opening: Opening,
        protocol: Box<dyn SessionProtocol>,
    ) {
        let (io, guard) = socket.into_parts();
        let permit = permit.keeping(guard);
        match Transport::of(io, &self.0.settings) {
            Ok(transport) => self.start_session(permit, app, transport, opening, protocol),
            Err(error) => tracing::debug!(%error, "connection closed before its session began"),
        }
    }

    fn start_session(
        &self,
        permit: SessionPermit,
        app: Arc<App>,
        transport: Transport,
        opening: Opening,
        protocol: Box<dyn SessionProtocol>,
    ) {
        let mut bits = [0; 16];
        if let Err(error) = getrandom::fill(&mut bits) {
            tracing::error!(%error, "session dropped: reading random bytes for its id failed");
            return;
        }
        let least = (0..).zip(&self.0.loads).min_by_key(|(_, load)| load.load(Relaxed));
        let Some((shard, load)) = least else { return };
        load.fetch_add(1, Relaxed);
        let id = SessionId::from_random(bits);
        let newcomer = NewSession { id, app, permit, transport, opening, protocol };
        self.0.inboxes.put(shard, InboxMessage::NewSession(Box::new(newcomer)));
    }

    /// Current sizes.
    pub fn sizes(&self) -> Sizes {
        self.0.metrics.sizes()
    }

    /// Ends the sessions that were [opened as streams](Live::open_stream), and so their responses.
    pub fn end_streams(&self) {
        for shard in 0..self.0.inboxes.count() {
            self.0.inboxes.put(shard, InboxMessage::EndStreams);
        }
    }

    /// Orders all sessions and shards to end at once, without waiting for it.
    pub fn end(&self) {
        self.0.send_stop(Duration::ZERO, CloseReason::Restarting);
    }

    /// Admits no more sessions, and closes all of them for this reason. With [`CloseReason::GoingAway`] other nodes
    /// take over: the sessions are closed one after the other over 80 % of the grace period, so that their clients do
    /// not reconnect elsewhere all at once. Otherwise all are closed now, since clients have nowhere to reconnect
    /// before this node has gone. Returns when all connections are closed and the shards have ended: once the last
    /// client has hung up, at the latest when the grace period is over.
    pub async fn stop(&self, grace: Duration, why: CloseReason) {
        self.0.send_stop(grace, why);
        let threads = std::mem::take(&mut *self.0.threads.lock());
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // The supervisor reports how it ended.
                drop(thread.join());
            }
        });
        if joined.await.is_err() {
            tracing::error!("waiting for the shards to end failed");
        }
    }
}

impl Inner {
    fn send_stop(&self, grace: Duration, why: CloseReason) {
        self.limiter.close();
        for shard in 0..self.inboxes.count() {
            self.inboxes.put(shard, InboxMessage::Stop(grace, why));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.send_stop(Duration::ZERO, CloseReason::Restarting);
    }
}
