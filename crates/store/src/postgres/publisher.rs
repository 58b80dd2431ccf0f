//! Group commit: publishes that wait at the same time share one transaction, and so one synced commit.
//!
//! Each succeeds or fails alone: if a group fails for a reason that lies in one of its publishes, all of them are
//! written again, each in a transaction of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tidings_supervisor::{LogContext, Supervisor, Units, fault};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::clock::ServerClock;
use super::connect::{Connections, transact};
use super::log::{self, Numbers, Pending};
use crate::commit_span;
use crate::error::StoreError;
use crate::log::{Destination, Publish, Published};

/// How many publishes may wait; more are refused with [`StoreError::Overloaded`].
const MAX_WAITING: usize = 8_192;
/// How many bytes of publishes may wait; more are refused too.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// The most publishes that share a transaction.
const MAX_GROUP: usize = 256;
/// The most bytes of publishes that share a transaction.
const MAX_GROUP_BYTES: usize = 4 << 20;

struct Waiter {
    pending: Pending,
    weight: usize,
    reply: Reply,
}

struct Reply {
    sender: oneshot::Sender<Result<Published, StoreError>>,
    context: LogContext,
}

impl Reply {
    /// Answers a publish that shared its transaction with others, `publishes` in all. A caller that went away needs no
    /// answer; what it asked for is done all the same.
    fn send(self, answer: Result<Published, StoreError>, publishes: usize) {
        commit_span::end(&self.context, publishes, &answer);
        drop(self.sender.send(answer));
    }
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Waiter>,
    bytes: usize,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    woken: Notify,
}

/// What the task needs to write groups.
pub(super) struct Resources {
    pub(super) connections: Arc<Connections>,
    pub(super) clock: Arc<ServerClock>,
    pub(super) numbers: Numbers,
    pub(super) direct: usize,
    /// Runs groups as units: after a panic the publishes are written again, each alone.
    pub(super) units: Units,
}

/// The handle of the task that writes the groups.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Publisher {
    pub(super) fn start(resources: Resources, supervisor: &Supervisor) -> Self {
        let shared = Arc::new(Shared::default());
        let task = supervisor.service("store-publisher", run(Arc::clone(&shared), resources));
        Self { shared, task: Mutex::new(Some(task)) }
    }

    /// Writes a publish, together with others.
    pub(super) async fn publish(&self, publish: Publish) -> Result<Published, StoreError> {
        let weight = publish.event.weight() + publish.destinations.len() * size_of::<Destination>();
        let pending = Pending { digest: publish.event.digest(), publish };
        let (sender, answer) = oneshot::channel();
        let reply = Reply { sender, context: commit_span::begin() };
        {
            let mut waiting = self.shared.waiting.lock();
            if waiting.closing {
                return Err(StoreError::Closed);
            }
            if waiting.queue.len() >= MAX_WAITING || waiting.bytes.saturating_add(weight) > MAX_WAITING_BYTES {
                return Err(StoreError::Overloaded);
            }
            waiting.bytes += weight;
            waiting.queue.push_back(Waiter { pending, weight, reply });
        }
        self.shared.woken.notify_one();
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Accepts no more publishes. Those that wait are still written.
    pub(super) fn stop(&self) {
        self.shared.waiting.lock().closing = true;
        self.shared.woken.notify_one();
    }

    /// Accepts no more publishes, and returns when those that waited are written.
    pub(super) async fn close(&self) {
        self.stop();
        let task = self.task.lock().take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("the store's publisher task panicked or was cancelled");
        }
    }
}

/// Fails the waiting publishes when the task ends, however it ends.
struct FailWaiting(Arc<Shared>);

impl Drop for FailWaiting {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        waiting.closing = true;
        // The caller of a dropped waiter receives `Closed`.
        waiting.queue.clear();
    }
}

async fn run(shared: Arc<Shared>, resources: Resources) {
    let _fail_waiting = FailWaiting(Arc::clone(&shared));
    loop {
        fault::point("store-publisher");
        let (group, closing) = take(&shared);
        if group.is_empty() {
            if closing {
                return;
            }
            shared.woken.notified().await;
            continue;
        }
        write(&resources, group).await;
    }
}

/// Takes the next group. Also returns whether no more publishes will come.
fn take(shared: &Shared) -> (Vec<Waiter>, bool) {
    let mut waiting = shared.waiting.lock();
    let mut bytes = 0;
    let fits = |one: &&Waiter| {
        bytes += one.weight;
        bytes == one.weight || bytes <= MAX_GROUP_BYTES
    };
    let next: Vec<&Pending> = waiting.queue.iter().take(MAX_GROUP).take_while(fits).map(|one| &one.pending).collect();
    let count = log::distinct(&next);
    let group: Vec<Waiter> = waiting.queue.drain(..count).collect();
    waiting.bytes -= group.iter().map(|one| one.weight).sum::<usize>();
    (group, waiting.closing)
}

async fn write(resources: &Resources, group: Vec<Waiter>) {
    let (pending, replies): (Vec<_>, Vec<_>) = group.into_iter().map(|one| (one.pending, one.reply)).unzip();
    let outcome = match &replies[..] {
        [reply] => reply.context.scope(write_group(resources, &pending)).await,
        _ => write_group(resources, &pending).await,
    };
    match outcome {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                reply.send(Ok(answer), pending.len());
            }
        }
        // A temporary failure of the server would hit each publish alone too. After a lost connection the group may be
        // committed; the caller finds out by repeating its publish.
        Err(error) if error.is_temporary() || error == StoreError::Closed || pending.len() == 1 => {
            for reply in replies {
                reply.send(Err(error.clone()), pending.len());
            }
        }
        Err(_) => {
            for (one, reply) in pending.into_iter().zip(replies) {
                let answer = reply.context.scope(write_group(resources, &[one])).await;
                reply.send(answer.and_then(|mut all| all.pop().ok_or(StoreError::Closed)), 1);
            }
        }
    }
}

/// Writes a group in one transaction.
async fn write_group(resources: &Resources, group: &[Pending]) -> Result<Vec<Published>, StoreError> {
    let written = async {
        transact!(resources.connections, |db| log::publish(
            db,
            group,
            resources.direct,
            &resources.numbers,
            &resources.clock
        )
        .await)
    };
    resources.units.catch_async("", written).await?
}
