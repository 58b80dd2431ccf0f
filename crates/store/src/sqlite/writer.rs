//! The one writer: a thread that owns the only connection that writes, and commits in groups.
//!
//! Whoever wants something written hands over a job and awaits its answer. The writer takes what is waiting, runs it in one
//! transaction, commits (which syncs), and only then answers: so a hundred callers share one sync, and no `Ok` leaves before
//! the disk has it.
//!
//! Each job succeeds or fails alone. Failing is rare and savepoints are not free (each copies the pages it touches), so a
//! group is first run without any. When a job fails, everything is rolled back and the same jobs run again, each in a
//! savepoint of its own: which is why a job can be run twice, and must not do anything but use its connection.
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

use super::checkpoint;
use super::file::DatabaseFile;
use crate::error::StoreError;

/// How long one class may use of a group.
const SLICE: Duration = Duration::from_millis(5);
/// A failure to write counts as present for so long: results are tried again more often than that.
const TROUBLE: Duration = Duration::from_secs(5);
/// How many acknowledgements may wait; more are refused with [`StoreError::Overloaded`].
const MAX_WAITING_ACKS: usize = 8_192;

/// How many bytes of events may wait to be acknowledged; more are refused too.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Results that nobody waits for may wait so long for a group that is begun for something else. Each group writes every page
/// it touched and syncs, so results that ride along cost a fraction of what they cost alone.
const RIDE_ALONG: Duration = Duration::from_millis(5);

/// How often the writer lets others run before it begins a group, as long as more comes in meanwhile.
const YIELDS: usize = 8;

/// What a job is for; in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Somebody outside waits for it.
    Ack,
    /// Results that other deliveries wait for.
    Result,
    /// Claims and fan-out.
    Work,
    /// Clearing up.
    Upkeep,
    /// Results that can wait for a group of others, if it comes soon.
    RideAlong,
}

const CLASSES: usize = 5;

trait Job: Send {
    /// Does the work, and keeps its value. May be called again after a rollback.
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError>;
    /// The bytes it holds while it waits.
    fn weight(&self) -> usize;
    /// Answers, after the commit or its failure.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Call<W, T> {
    weight: usize,
    work: W,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<W, T> Job for Call<W, T>
where
    W: Fn(&Connection) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), StoreError> {
        self.value = Some((self.work)(connection)?);
        Ok(())
    }

    fn weight(&self) -> usize {
        self.weight
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
    bytes: usize,
    closing: bool,
    /// The write-ahead log is to be started over before the next group.
    start_over: bool,
}

impl Waiting {
    /// Whether nothing is waiting that has to be done at once.
    fn may_wait(&self) -> bool {
        let (others, riding) = self.jobs.split_at(Class::RideAlong as usize);
        others.iter().all(VecDeque::is_empty) && (!self.closing || riding.iter().all(VecDeque::is_empty))
    }
}

struct Shared {
    waiting: Mutex<Waiting>,
    woken: Condvar,
    /// What last kept something from being written that could have been, and when.
    trouble: Mutex<Option<(StoreError, Stopwatch)>>,
}

/// The way to the writer thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread; it owns the connection from now on.
    pub(crate) fn start(connection: Connection, file: Arc<DatabaseFile>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { waiting: Mutex::default(), woken: Condvar::new(), trouble: Mutex::default() });
        let theirs = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("store-writer".into()).spawn(move || run(&theirs, &connection, &file))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Has `work` done in a transaction that others may share, and answers after its sync.
    pub(crate) async fn call<T, W>(&self, class: Class, work: W) -> Result<T, StoreError>
    where
        W: Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.call_holding(0, class, work).await
    }

    /// As [`Writer::call`], for work that holds so many bytes.
    pub(crate) async fn call_holding<T, W>(&self, weight: usize, class: Class, work: W) -> Result<T, StoreError>
    where
        W: Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Box<dyn Job> = Box::new(Call { weight, work, value: None, reply });
        let told = {
            let mut waiting = self.shared.waiting.lock();
            if waiting.closing {
                return Err(StoreError::Closed);
            }
            let count = waiting.jobs[class as usize].len();
            // A single one may be as large as it likes: whoever took it in has looked at that.
            let too_much = count >= MAX_WAITING_ACKS || (count > 0 && waiting.bytes + weight > MAX_WAITING_BYTES);
            if class == Class::Ack && too_much {
                return Err(StoreError::Overloaded);
            }
            waiting.bytes += weight;
            waiting.jobs[class as usize].push_back(job);
            // The first one starts the time that those who ride along wait; the others need not be told.
            class != Class::RideAlong || count == 0
        };
        if told {
            self.shared.woken.notify_one();
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// What has the writer start the write-ahead log over, from whatever thread.
    pub(crate) fn starter_over(&self) -> impl Fn() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.waiting.lock().start_over = true
    }

    /// What keeps jobs from being written, if something has within the last moments.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        let trouble = self.shared.trouble.lock();
        trouble.as_ref().filter(|(_, since)| since.elapsed() < TROUBLE).map(|(error, _)| error.clone())
    }

    /// How many jobs are waiting.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiting.lock().jobs.iter().map(VecDeque::len).sum()
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

/// However the thread ends, nobody is left waiting for it.
struct Ending<'s>(&'s Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        waiting.closing = true;
        // A dropped job answers `Closed`.
        waiting.jobs = Default::default();
    }
}

fn run(shared: &Shared, connection: &Connection, file: &DatabaseFile) {
    let _ending = Ending(shared);
    loop {
        let start_over = {
            let mut waiting = shared.waiting.lock();
            while waiting.may_wait() {
                if waiting.jobs.iter().any(|jobs| !jobs.is_empty()) {
                    let waited_long = shared.woken.wait_for(&mut waiting, RIDE_ALONG).timed_out();
                    if waited_long {
                        break;
                    }
                } else if waiting.closing {
                    return;
                } else {
                    shared.woken.wait(&mut waiting);
                }
            }
            std::mem::take(&mut waiting.start_over)
        };
        if start_over {
            checkpoint::start_over(connection);
        }
        gather(shared);
        group(shared, connection, file);
    }
}

/// Lets those run who are about to hand something over: each group writes the pages it touches and syncs once, so one for
/// many costs much less than several. On a busy machine their turn comes here; on an idle one this takes no time.
fn gather(shared: &Shared) {
    let waiting = || shared.waiting.lock().jobs[Class::Ack as usize].len();
    let mut before = waiting();
    for _ in 0..YIELDS {
        std::thread::yield_now();
        let now = waiting();
        if now == before {
            return;
        }
        before = now;
    }
}

type Outcome = Result<(), StoreError>;

/// One transaction: takes jobs class by class, commits, answers.
fn group(shared: &Shared, connection: &Connection, file: &DatabaseFile) {
    if let Err(error) = begin(connection) {
        return refuse_all(shared, &error);
    }
    let mut jobs: Vec<Box<dyn Job>> = Vec::new();
    let mut spoiled = false;
    let mut serious = false;
    for class in 0..CLASSES {
        let slice = Stopwatch::start();
        while !spoiled
            && slice.elapsed() < SLICE
            && let Some(mut job) = next(shared, class)
        {
            spoiled = job.run(connection).is_err();
            serious |= class != Class::Upkeep as usize;
            jobs.push(job);
        }
    }
    let outcomes =
        if spoiled { apart(connection, file, &mut jobs) } else { vec![commit(connection, file); jobs.len()] };
    let failed = outcomes.iter().find_map(|outcome| outcome.as_ref().err().filter(|error| error.is_temporary()));
    match failed {
        Some(error) => *shared.trouble.lock() = Some((error.clone(), Stopwatch::start())),
        // What is written for upkeep, and to see whether it can be, is too small to prove anything.
        None if serious => *shared.trouble.lock() = None,
        None => {}
    }
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        job.answer(outcome);
    }
}

/// Runs the jobs again from the start, each in a savepoint, so that those that fail leave no trace. Some failures (a full
/// disk) end the whole transaction for everyone: then each runs in a transaction of its own.
fn apart(connection: &Connection, file: &DatabaseFile, jobs: &mut [Box<dyn Job>]) -> Vec<Outcome> {
    if let Err(error) = roll_back(connection).and_then(|()| begin(connection)) {
        return vec![Err(error); jobs.len()];
    }
    let outcomes: Option<Vec<Outcome>> = jobs.iter_mut().map(|job| in_savepoint(connection, &mut **job)).collect();
    match outcomes {
        Some(outcomes) => {
            let committed = commit(connection, file);
            outcomes.into_iter().map(|outcome| outcome.and_then(|()| committed.clone())).collect()
        }
        None => jobs.iter_mut().map(|job| alone(connection, file, &mut **job)).collect(),
    }
}

fn alone(connection: &Connection, file: &DatabaseFile, job: &mut dyn Job) -> Outcome {
    roll_back(connection)?;
    begin(connection)?;
    match job.run(connection) {
        Ok(()) => commit(connection, file),
        Err(error) => roll_back(connection).and(Err(error)),
    }
}

/// No transaction can be had: nobody is left waiting for one.
fn refuse_all(shared: &Shared, error: &StoreError) {
    *shared.trouble.lock() = Some((error.clone(), Stopwatch::start()));
    let waiting = {
        let mut waiting = shared.waiting.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.jobs)
    };
    for job in waiting.into_iter().flatten() {
        job.answer(Err(error.clone()));
    }
}

fn next(shared: &Shared, class: usize) -> Option<Box<dyn Job>> {
    let mut waiting = shared.waiting.lock();
    let job = waiting.jobs[class].pop_front()?;
    waiting.bytes -= job.weight();
    Some(job)
}

fn execute(connection: &Connection, sql: &str) -> Outcome {
    Ok(connection.prepare_cached(sql).and_then(|mut statement| statement.execute([])).map(drop)?)
}

fn begin(connection: &Connection) -> Outcome {
    execute(connection, "BEGIN IMMEDIATE")
}

fn commit(connection: &Connection, file: &DatabaseFile) -> Outcome {
    // What is gone when the answer leaves was there when it was checked: nobody is told of a commit to a file that was gone
    // when he asked.
    let committed = file.check().and_then(|()| execute(connection, "COMMIT"));
    if committed.is_err() {
        roll_back(connection)?;
    }
    committed
}

/// Ends the transaction with nothing kept. Some errors (a full disk) have ended it before.
fn roll_back(connection: &Connection) -> Outcome {
    if connection.is_autocommit() { Ok(()) } else { execute(connection, "ROLLBACK") }
}

/// What became of the job; `None` when the transaction around it cannot go on.
fn in_savepoint(connection: &Connection, job: &mut dyn Job) -> Option<Outcome> {
    execute(connection, "SAVEPOINT job").ok()?;
    let outcome = job.run(connection);
    if connection.is_autocommit() {
        return None;
    }
    if outcome.is_err() {
        execute(connection, "ROLLBACK TO job").ok()?;
    }
    execute(connection, "RELEASE job").ok()?;
    Some(outcome)
}
