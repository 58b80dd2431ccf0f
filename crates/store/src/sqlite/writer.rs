//! The one writer: a thread that owns the only connection that writes, and commits in groups.
//!
//! Whoever wants something written hands over a job and awaits its answer. The writer takes what is waiting, runs each job
//! in a savepoint of one transaction, commits (which syncs), and only then answers: so a hundred callers share one sync, each
//! still succeeds or fails alone, and no `Ok` leaves before the disk has it.
//!
//! Jobs have a class. Each group takes acknowledgements first, then results, then work, then upkeep, each for at most
//! [`SLICE`], so that none of them can make a publisher wait long nor starve for ever.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tidings_model::clock::Stopwatch;
use tokio::sync::oneshot;

use crate::error::StoreError;

/// How long one class may use of a group.
const SLICE: Duration = Duration::from_millis(5);
/// How many acknowledgements may wait; more are refused with [`StoreError::Overloaded`].
const MAX_WAITING_ACKS: usize = 8_192;

/// What a job is for; in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Somebody outside waits for it.
    Ack,
    /// Results of attempts.
    Result,
    /// Claims and fan-out.
    Work,
    /// Clearing up.
    Upkeep,
}

const CLASSES: usize = 4;

trait Job: Send {
    /// Does the work inside a savepoint, and keeps its value.
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError>;
    /// Answers, after the commit or its failure.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Call<W, T> {
    work: Option<W>,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<W, T> Job for Call<W, T>
where
    W: FnOnce(&Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(connection)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { value, reply, .. } = *self;
        // A caller that went away needs no answer; what it asked for is done all the same.
        drop(reply.send(outcome.and_then(|()| value.ok_or(StoreError::Closed))));
    }
}

#[derive(Default)]
struct Waiting {
    jobs: [VecDeque<Box<dyn Job>>; CLASSES],
    closing: bool,
}

struct Shared {
    waiting: Mutex<Waiting>,
    woken: Condvar,
}

/// The way to the writer thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread; it owns the connection from now on.
    pub(crate) fn start(connection: Connection) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { waiting: Mutex::default(), woken: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("store-writer".into()).spawn(move || run(&theirs, &connection))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Has `work` done in a transaction that others may share, and answers after its sync.
    pub(crate) async fn call<T, W>(&self, class: Class, work: W) -> Result<T, StoreError>
    where
        W: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Call { work: Some(work), value: None, reply });
        {
            let mut waiting = self.shared.waiting.lock();
            if waiting.closing {
                return Err(StoreError::Closed);
            }
            let jobs = &mut waiting.jobs[class as usize];
            if class == Class::Ack && jobs.len() >= MAX_WAITING_ACKS {
                return Err(StoreError::Overloaded);
            }
            jobs.push_back(job);
        }
        self.shared.woken.notify_one();
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Lets the thread finish what is waiting, and ends it.
    pub(crate) fn close(&self) {
        self.shared.waiting.lock().closing = true;
        self.shared.woken.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer had panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(shared: &Shared, connection: &Connection) {
    loop {
        {
            let mut waiting = shared.waiting.lock();
            while waiting.jobs.iter().all(VecDeque::is_empty) {
                if waiting.closing {
                    return;
                }
                shared.woken.wait(&mut waiting);
            }
        }
        group(shared, connection);
    }
}

/// One transaction: takes jobs class by class, commits, answers.
fn group(shared: &Shared, connection: &Connection) {
    if let Err(error) = begin(connection) {
        return refuse_all(shared, &error);
    }
    let mut done: Vec<(Box<dyn Job>, Result<(), StoreError>)> = Vec::new();
    // Some errors (a full disk) end the whole transaction: then nothing of this group is kept.
    let mut ended: Option<StoreError> = None;
    for class in 0..CLASSES {
        let slice = Stopwatch::start();
        while ended.is_none()
            && slice.elapsed() < SLICE
            && let Some(mut job) = next(shared, class)
        {
            let outcome = in_savepoint(connection, &mut *job);
            if connection.is_autocommit() {
                ended = Some(outcome.clone().err().unwrap_or(StoreError::Full));
            }
            done.push((job, outcome));
        }
    }
    let committed = ended.map_or_else(|| commit(connection), Err);
    for (job, outcome) in done {
        job.answer(committed.clone().and(outcome));
    }
}

/// No transaction can be had: nobody is left waiting for one.
fn refuse_all(shared: &Shared, error: &StoreError) {
    let waiting = std::mem::take(&mut shared.waiting.lock().jobs);
    for job in waiting.into_iter().flatten() {
        job.answer(Err(error.clone()));
    }
}

fn next(shared: &Shared, class: usize) -> Option<Box<dyn Job>> {
    shared.waiting.lock().jobs[class].pop_front()
}

fn begin(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])).map(drop)?)
}

fn commit(connection: &Connection) -> Result<(), StoreError> {
    let committed = connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).map(drop);
    if committed.is_err() && !connection.is_autocommit() {
        roll_back(connection, "ROLLBACK");
    }
    Ok(committed?)
}

fn in_savepoint(connection: &Connection, job: &mut dyn Job) -> Result<(), StoreError> {
    connection.prepare_cached("SAVEPOINT job").and_then(|mut savepoint| savepoint.execute([]))?;
    let outcome = job.run(connection);
    if outcome.is_err() && !connection.is_autocommit() {
        roll_back(connection, "ROLLBACK TO job");
    }
    if !connection.is_autocommit() {
        connection.prepare_cached("RELEASE job").and_then(|mut release| release.execute([]))?;
    }
    outcome
}

fn roll_back(connection: &Connection, how: &str) {
    if let Err(error) = connection.execute_batch(how) {
        tracing::error!(%error, how, "the store could not roll back");
    }
}
